//! Promise: `dhow verify` proves what works, blames a translator for what it did, and nobody for what could not be tested.

mod common;

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use common::{PATIENCE, busybox};
use dhow_model::translator::probe;
use dhow_model::{Arch, TranslatorName};
use dhow_testkit::{Engine, Error, Image, Outcome, Result, Scene, images, place, wait};
use serde_json::Value;

/// For a package of 70 MB on its first use, and for every program of gate B.
const LONG: Duration = Duration::from_secs(1500);

/// An engine whose translator is ours for the time of one test.
struct Corner {
    engine: Engine,
    _alone: File,
}

impl Corner {
    fn new() -> Result<Self> {
        let alone = place::lock("translators")?;
        Ok(Self { engine: Engine::shared()?, _alone: alone })
    }

    fn dhow(&self, args: &[&str]) -> Result<Outcome> {
        self.engine.dhow(args)?.limit(LONG).outcome()
    }

    fn provision(&self) -> Result<()> {
        self.dhow(&["translator", "provision", "qemu", "--no-progress"])?.ok().map(drop)
    }

    /// `dhow verify --json`: its exit status and its report.
    fn verify(&self, args: &[&str]) -> Result<(Option<i32>, Value)> {
        let words = ["verify", "--json", "--no-progress"];
        let outcome = self.dhow(&[&words[..], args].concat())?;
        let report = serde_json::from_str(&outcome.text())
            .map_err(|_| Error::Unexpected { what: "a report".to_owned(), said: outcome.to_string() })?;
        Ok((outcome.code(), report))
    }

    /// Has the guest run another file as its QEMU.
    fn lie(&self, program: &[u8]) -> Result<()> {
        let dir = tempfile::tempdir().map_err(Error::io("create directory in", std::env::temp_dir()))?;
        let path = dir.path().join("liar");
        std::fs::write(&path, program).map_err(Error::io("write", &path))?;
        let path = path.display().to_string();
        let told =
            self.dhow(&["translator", "provision", "qemu", "--from", &path, "--json", "--no-progress"])?;
        let told: Value = serde_json::from_str(&told.ok()?.text()).unwrap_or_default();
        assert_eq!(told["translators"][0]["machines"][0]["serves"], true, "{told}");
        Ok(())
    }

    /// The file of the real one.
    fn file(&self) -> PathBuf {
        let ours = Arch::host().unwrap_or(Arch::Amd64);
        let theirs = if ours == Arch::Amd64 { Arch::Arm64 } else { Arch::Amd64 };
        let row = TranslatorName::Qemu.translator(ours, theirs);
        self.engine.home().join("runtime/bin").join(row.map(|row| row.file).unwrap_or_default())
    }
}

impl Drop for Corner {
    fn drop(&mut self) {
        // Whoever comes next finds the real one.
        if let Err(error) = self.provision() {
            eprintln!("the translator cannot be provisioned again: {error}");
        }
    }
}

fn check<'r>(report: &'r Value, name: &str) -> &'r Value {
    let found = report["checks"].as_array().and_then(|all| all.iter().find(|check| check["name"] == name));
    found.unwrap_or(&Value::Null)
}

fn of(report: &Value, verdict: &str) -> Vec<String> {
    let all = report["checks"].as_array().cloned().unwrap_or_default();
    let those = all.iter().filter(|check| check["verdict"] == verdict);
    those.map(|check| format!("{}: {}", check["name"], check["reason"])).collect()
}

/// Spec 10.1 to 10.4: every gate, with the real translator; nothing is left in the engine.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn every_gate_is_passed_with_qemu_and_nothing_is_left() -> Result<()> {
    let corner = Corner::new()?;
    corner.provision()?;
    let (code, report) = corner.verify(&[])?;
    assert_eq!((code, report["result"].as_str()), (Some(0), Some("passed")), "{report:#}");
    assert!(of(&report, "infra").is_empty(), "{:?}", of(&report, "infra"));
    assert_eq!(check(&report, "ptrace")["verdict"], "unsupported", "{report:#}");
    assert_eq!(report["surroundings"]["translator"]["name"], "qemu");
    let docker = corner.engine.docker();
    assert_eq!(docker.ok(["ps", "-aq", "--filter", "label=dhow.verify"])?, "");
    assert_eq!(docker.ok(["network", "ls", "-q", "--filter", "label=dhow.verify"])?, "");
    assert_eq!(docker.ok(["images", "-q", "--filter", "reference=dhow-verify/*"])?, "");
    Ok(())
}

/// Spec 1.4, 10.2, 10.3: without a translator nothing was tested, and nobody is blamed.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn without_a_translator_gate_a_is_blocked_and_nothing_failed() -> Result<()> {
    let corner = Corner::new()?;
    corner.dhow(&["translator", "remove", "qemu"])?.ok()?;
    let (code, report) = corner.verify(&[])?;
    assert_eq!((code, report["result"].as_str()), (Some(2), Some("blocked")), "{report:#}");
    assert!(of(&report, "fail").is_empty(), "{report:#}");
    let why = check(&report, "registered")["reason"].as_str().unwrap_or_default();
    assert!(why.contains("dhow translator provision qemu"), "{why}");
    Ok(())
}

/// Issue 6: a translator that prints the wrong machine, and one that returns wrong exit codes. Both pass the agent's test program.
#[cfg(target_arch = "x86_64")]
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_translator_that_lies_fails_at_gate_a() -> Result<()> {
    let corner = Corner::new()?;
    for (machine, status, words) in
        [(b"x86_64\n\n", 23, "not `aarch64`"), (b"aarch64\n", 1, "ended with 1, not 23")]
    {
        corner.lie(&liar(machine, status))?;
        let (code, report) = corner.verify(&["--gate", "a"])?;
        assert_eq!(code, Some(1), "{report:#}");
        let foreign = check(&report, "foreign machine");
        assert_eq!(foreign["verdict"], "fail", "{report:#}");
        assert!(foreign["reason"].as_str().unwrap_or_default().contains(words), "{foreign}");
        assert_eq!(check(&report, "native machine")["verdict"], "pass", "{report:#}");
    }
    Ok(())
}

/// Issue 6: a translator that crashes at random is a failure, and whatever it brings down is not taken for infrastructure.
#[cfg(target_arch = "x86_64")]
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_translator_that_crashes_at_random_fails() -> Result<()> {
    let corner = Corner::new()?;
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
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_compose_project_mixes_architectures_in_one_machine() -> Result<()> {
    let corner = Corner::new()?;
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

/// A translator of a few instructions. With no more than the agent's test program has it ends with 42, as that would. Otherwise it writes these
/// eight bytes and `static`, and ends with this status.
///
/// ```text
/// cmp qword ptr [rsp], 3; ja 1f; mov edi, 42; jmp 2f
/// 1: lea rsi, [rip+3f]; mov edx, 8; mov eax, 1; mov edi, 1; syscall
///    lea rsi, [rip+4f]; mov edx, 7; mov eax, 1; mov edi, 2; syscall; mov edi, STATUS
/// 2: mov eax, 60; syscall
/// ```
#[cfg(target_arch = "x86_64")]
fn liar(machine: &[u8; 8], status: u8) -> Vec<u8> {
    let mut code = vec![
        0x48, 0x83, 0x3c, 0x24, 0x03, 0x77, 0x07, 0xbf, 0x2a, 0x00, 0x00, 0x00, 0xeb, 0x35, 0x48, 0x8d, 0x35,
        0x35, 0x00, 0x00, 0x00, 0xba, 0x08, 0x00, 0x00, 0x00, 0xb8, 0x01, 0x00, 0x00, 0x00, 0xbf, 0x01, 0x00,
        0x00, 0x00, 0x0f, 0x05, 0x48, 0x8d, 0x35, 0x25, 0x00, 0x00, 0x00, 0xba, 0x07, 0x00, 0x00, 0x00, 0xb8,
        0x01, 0x00, 0x00, 0x00, 0xbf, 0x02, 0x00, 0x00, 0x00, 0x0f, 0x05, 0xbf, status, 0x00, 0x00, 0x00,
        0xb8, 0x3c, 0x00, 0x00, 0x00, 0x0f, 0x05,
    ];
    code.extend_from_slice(machine);
    code.extend_from_slice(b"static\n");
    // The test program's headers, with the lengths of this one.
    let mut file = probe::program(Arch::Amd64)[..120].to_vec();
    file.extend(code);
    let length = (file.len() as u64).to_le_bytes();
    file[96..104].copy_from_slice(&length);
    file[104..112].copy_from_slice(&length);
    file
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
