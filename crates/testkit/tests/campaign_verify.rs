//! Promise: `dhow verify` passes every gate with a translator that works, finds one that crashes now and then, and blames nobody for an engine that
//! dies. It takes minutes: every program of gate B, in a machine of its own.

mod common;

use common::verify::{Corner, LONG, check, leave, of};
use common::{PATIENCE, busybox};
use dhow_model::Arch;
use dhow_testkit::{Engine, Error, Image, Result, Scene, engine, images, place, run, wait};
use serde_json::Value;

/// Spec 10.1 to 10.4: every gate, with the real translator; nothing is left in the engine.
#[test]
#[ignore = "boots an engine of its own, takes minutes: ./dev test campaign"]
fn every_gate_is_passed_with_qemu_and_nothing_is_left() -> Result<()> {
    passes_every_gate(&Corner::own()?, images::native(), images::foreign())
}

/// Issue 6: the same in an engine of the other architecture, which is emulated: the shape of the product where the host is Arm64.
#[test]
#[ignore = "boots an engine of the other architecture, takes minutes: ./dev test campaign"]
fn every_gate_is_passed_in_an_engine_of_the_other_architecture() -> Result<()> {
    passes_every_gate(&Corner::emulated()?, images::foreign(), images::native())
}

fn passes_every_gate(corner: &Corner, guest: &str, programs: &str) -> Result<()> {
    corner.provision()?;
    let (code, report) = corner.verify(&[])?;
    leave(&format!("{programs}-on-{guest}-qemu"), &report)?;
    assert_eq!((code, report["result"].as_str()), (Some(0), Some("passed")), "{report:#}");
    assert!(of(&report, "infra").is_empty(), "{:?}", of(&report, "infra"));
    assert_eq!(check(&report, "ptrace")["verdict"], "unsupported", "{report:#}");
    assert_eq!(
        (&report["surroundings"]["translator"]["name"], &report["arch"]),
        (&"qemu".into(), &programs.into())
    );
    let docker = corner.engine.docker();
    assert_eq!(docker.ok(["ps", "-aq", "--filter", "label=dhow.verify"])?, "");
    assert_eq!(docker.ok(["network", "ls", "-q", "--filter", "label=dhow.verify"])?, "");
    assert_eq!(docker.ok(["images", "-q", "--filter", "reference=dhow-verify/*"])?, "");
    Ok(())
}

/// Issue 6: a translator that crashes at random is a failure, and whatever it brings down is not taken for infrastructure.
#[cfg(target_arch = "x86_64")]
#[test]
#[ignore = "boots an engine of its own, takes minutes: ./dev test campaign"]
fn a_translator_that_crashes_at_random_fails() -> Result<()> {
    let corner = Corner::own()?;
    corner.provision()?;
    let real = corner.file();
    let honest = std::fs::read(&real).map_err(Error::io("read", &real))?;
    corner.lie(&crashing(honest))?;
    let (code, report) = corner.verify(&["--gate", "b"])?;
    assert_eq!(code, Some(1), "{report:#}");
    let failed = of(&report, "fail");
    assert!(!failed.is_empty(), "{report:#}");
    assert!(of(&report, "infra").is_empty(), "{:?}", of(&report, "infra"));
    Ok(())
}

/// Issue 6, gate C with the client that people use: one project, two architectures, one machine.
#[test]
#[ignore = "boots an engine of its own: ./dev test campaign"]
fn a_compose_project_mixes_architectures_in_one_machine() -> Result<()> {
    let corner = Corner::own()?;
    corner.provision()?;
    let scene = Scene::new(corner.engine.docker().clone(), &[Image::Busybox, Image::ForeignBusybox])?;
    let dir = tempfile::tempdir().map_err(Error::io("create directory in", std::env::temp_dir()))?;
    let serve = "mkdir -p /w; uname -m >/w/index.html; exec httpd -f -p 80 -h /w";
    let service = |name: &str, image: &str, platform: &str| {
        format!(
            "  {name}:\n    image: {image}\n    platform: linux/{platform}\n    pull_policy: never\n    \
             command: [\"sh\", \"-c\", \"{serve}\"]\n    stop_signal: SIGKILL\n"
        )
    };
    let ours = Arch::host().unwrap_or(Arch::Amd64);
    let file = dir.path().join("compose.yaml");
    let text = format!(
        "services:\n{}{}",
        service("ours", busybox(), ours.debian()),
        service("theirs", Image::ForeignBusybox.name(), images::foreign())
    );
    place::write(&file, text)?;
    let name = scene.name("mixed");
    let compose = |args: &[&str]| {
        let run = corner.engine.docker().run(["compose", "-p", &name, "--progress", "plain", "-f"]);
        run.arg(&file).args(args).limit(PATIENCE).ok().map(|outcome| outcome.text())
    };
    let talk = || {
        compose(&["up", "-d"])?;
        let mut pages = Vec::new();
        for (client, server) in [("ours", "theirs"), ("theirs", "ours")] {
            let url = format!("http://{server}/");
            pages.push(wait::until("the other service's page", PATIENCE, || {
                compose(&["exec", "-T", client, "wget", "-q", "-O", "-", &url]).ok()
            })?);
        }
        let native = ours.kernel();
        assert_eq!(pages[1], native);
        assert_ne!(pages[0], native);
        Ok(())
    };
    let talked = talk();
    compose(&["down", "-v", "-t", "0"])?;
    talked
}

/// Issue 6: the machine is killed in the middle of gate B. What could not be tested is INFRA, nothing is FAIL, and the command ends.
#[test]
#[ignore = "boots an engine of its own and kills it: ./dev test campaign"]
fn an_engine_that_is_killed_in_the_middle_of_a_gate_fails_nothing() -> Result<()> {
    let engine = Engine::start()?;
    engine.dhow(["translator", "provision", "qemu", "--no-progress"])?.limit(LONG).ok()?;
    let log = engine.home().join("progress");
    let file = std::fs::File::create(&log).map_err(Error::io("create", &log))?;
    let mut command = engine.command()?;
    // With --json, progress and the report are documents, one a line.
    command.args(["verify", "--gate", "b", "--json"]).stdout(file);
    let mut child = run::spawn(&mut command)?;
    let killed = wait::until("gate B to begin", LONG, || {
        let told = std::fs::read_to_string(&log).unwrap_or_default();
        told.contains("B: busybox").then_some(())
    })
    .and_then(|()| {
        let hypervisor = engine.status()?.hypervisor();
        engine::signal(hypervisor.unwrap_or_default(), "KILL")
    });
    let status = child.wait().map_err(Error::io("wait for", "dhow verify"))?;
    killed?;
    let said = std::fs::read_to_string(&log).map_err(Error::io("read", &log))?;
    let report: Value = serde_json::from_str(said.lines().last().unwrap_or_default())
        .map_err(|_| Error::Unexpected { what: "a report".to_owned(), said })?;
    assert_eq!(report["counts"]["fail"], 0, "{report:#}");
    assert!(report["counts"]["infra"].as_u64() > Some(0), "{report:#}");
    assert_ne!(status.code(), Some(1));
    Ok(())
}

/// The real translator with a few instructions before its first one: one start in eight dies of an undefined instruction, told by the
/// processor's counter, unless it has no more arguments than the agent's test program. They stand in the zeros that fill the last page of the
/// segment with instructions.
///
/// ```text
/// cmp qword ptr [rsp], 3; jbe 1f; mov r8, rdx; rdtsc; mov rdx, r8; xor al, ah; test al, 7; jnz 1f; ud2
/// 1: jmp ENTRY
/// ```
#[cfg(target_arch = "x86_64")]
fn crashing(mut file: Vec<u8>) -> Vec<u8> {
    let word = |file: &[u8], at: usize| {
        let bytes: [u8; 8] = file.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
        usize::try_from(u64::from_le_bytes(bytes)).unwrap_or_default()
    };
    // Program headers of 56 bytes: p_type and p_flags, p_offset, p_vaddr, p_paddr, p_filesz (System V ABI, chapter 5).
    let headers = word(&file, 32);
    let executable = (0..20)
        .map(|index| headers + index * 56)
        .find(|at| file[*at..*at + 8] == [1, 0, 0, 0, 5, 0, 0, 0])
        .unwrap_or_default();
    let (offset, address, length) =
        (word(&file, executable + 8), word(&file, executable + 16), word(&file, executable + 32));
    let place = (offset + length).next_multiple_of(16);
    let mut hook = vec![
        0x48, 0x83, 0x3c, 0x24, 0x03, 0x76, 0x10, 0x49, 0x89, 0xd0, 0x0f, 0x31, 0x4c, 0x89, 0xc2, 0x30, 0xe0,
        0xa8, 0x07, 0x75, 0x02, 0x0f, 0x0b,
    ];
    let here = address + (place - offset);
    let entry = word(&file, 24);
    let after = here + hook.len() + 5;
    let jump = i32::try_from(entry as i64 - after as i64).unwrap_or_default();
    hook.push(0xe9);
    hook.extend(jump.to_le_bytes());
    assert!(place + hook.len() <= (offset + length).next_multiple_of(4096), "no room in the last page");
    file[place..place + hook.len()].copy_from_slice(&hook);
    file[24..32].copy_from_slice(&(here as u64).to_le_bytes());
    file
}
