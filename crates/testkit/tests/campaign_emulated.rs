//! Promise: the native machine may be of the other architecture: emulated, never in silence, and from then on "native" and "foreign"
//! mean what that machine means by them [1.1 to 1.5, 1.9, 6.4]. This is the shape of the product where the host is Arm64. One engine.

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::PATIENCE;
use common::verify::leave;
use dhow_testkit::{
    Docker, Engine, Error, Image, Outcome, Result, Run, Server, debian, images, place, serve,
};
use serde_json::Value;

/// Boot assets and translators are made from packages.
const BUILD: Duration = Duration::from_secs(600);

/// A program of the guest's own architecture, and one that is foreign to it.
const OURS: Image = Image::ForeignBusybox;
const THEIRS: Image = Image::Busybox;

fn kernel_name(arch: &str) -> &'static str {
    if arch == "arm64" { "aarch64" } else { "x86_64" }
}

fn run(docker: &Docker, image: Image, arch: &str, args: &[&str]) -> Result<Outcome> {
    let run = docker.run(["run", "--rm", "--platform", &format!("linux/{arch}"), image.name()]);
    run.args(args).limit(PATIENCE).outcome()
}

/// Issue 6, point 3.
#[test]
#[ignore = "boots an engine of the other architecture: ./dev test campaign"]
fn a_native_machine_of_the_other_architecture_runs_both_and_says_that_it_is_emulated() -> Result<()> {
    let engine = Engine::prepare()?;
    let (guest, host) = (images::foreign(), images::native());
    engine.dhow(["config", "set", "machine.arch", guest])?.ok()?;
    engine.dhow(["config", "set", &format!("translators.{host}"), "qemu"])?.ok()?;
    // Without an architecture this means the machine's.
    let built = engine.dhow(["assets", "build", "--json", "--no-progress"])?.limit(BUILD).ok()?.text();
    assert!(built.contains(&format!("\"arch\":\"{guest}\"")), "{built}");
    is_said_to_be_emulated(&engine)?;
    refuses_until_there_is_a_translator_of_the_guests(&engine)?;
    runs_both(&engine)?;
    builds_for_its_own_architecture_and_the_other(&engine)?;
    if guest == "arm64" {
        refuses_the_distributions_box64(&engine)?;
        takes_a_file_from_a_locked_address(&engine)?;
    }
    keeps_its_disk_when_it_becomes_the_hosts(&engine)
}

fn is_said_to_be_emulated(engine: &Engine) -> Result<()> {
    let (guest, host) = (images::foreign(), images::native());
    let said = engine.dhow(["up", "--no-progress"])?.limit(PATIENCE).ok()?.complaint();
    let words = format!("{guest}, emulated on this {host} computer: slow");
    assert!(said.contains(&words), "{said}");
    let status = engine.status()?;
    let machine = status.machine();
    assert_eq!(
        (&machine["arch"], &machine["emulated"], &machine["accelerator"]),
        (&guest.into(), &true.into(), &"tcg".into()),
        "{machine}"
    );
    let table = engine.dhow(["status"])?.ok()?.text();
    assert!(table.contains(&format!("{guest}, emulated: slow")), "{table}");
    let doctor = engine.dhow(["doctor"])?.outcome()?.text();
    assert!(doctor.contains(&words) && doctor.contains("machine.arch host"), "{doctor}");
    let info = engine.docker().ok(["info", "--format", "{{.Architecture}}"])?;
    assert_eq!(info, kernel_name(guest));
    Ok(())
}

/// Rules 1.3 to 1.5: the list, the file and the command are those of the machine, not of the host.
fn refuses_until_there_is_a_translator_of_the_guests(engine: &Engine) -> Result<()> {
    let (guest, host, docker) = (images::foreign(), images::native(), engine.docker());
    OURS.ensure(docker)?;
    THEIRS.ensure(docker)?;
    assert_eq!(docker.ok(["run", "--rm", OURS.name(), "uname", "-m"])?, kernel_name(guest));
    let file = engine.home().join("runtime/bin").join(format!("qemu-{}", kernel_name(host)));
    for args in [&["--platform", "linux/host"][..], &[]] {
        let args = args.iter().map(|arg| arg.replace("host", host));
        let refused = docker.run(["create"]).args(args).arg(THEIRS.name()).outcome()?;
        let said = refused.complaint();
        for word in [host, "qemu", &file.display().to_string(), "dhow translator provision qemu"] {
            assert!(said.contains(word), "{word}: {refused}");
        }
    }
    let told = engine.dhow(["translator", "provision", "qemu"])?.limit(BUILD).ok()?.text();
    assert!(told.contains(&format!("for {host} in {guest} guests")), "{told}");
    assert!(file.is_file());
    Ok(())
}

/// Rules 1.1, 1.9.
fn runs_both(engine: &Engine) -> Result<()> {
    let (guest, host, docker) = (images::foreign(), images::native(), engine.docker());
    for (image, arch) in [(OURS, guest), (THEIRS, host)] {
        let outcome = run(docker, image, arch, &["uname", "-m"])?;
        assert_eq!((outcome.code(), outcome.text().as_str()), (Some(0), kernel_name(arch)), "{outcome}");
    }
    let script = "echo $0; sh -c 'kill -TERM $$'; echo $?; echo err >&2; exit 7";
    let outcome = run(docker, THEIRS, host, &["sh", "-c", script])?;
    assert_eq!((outcome.code(), outcome.text().as_str()), (Some(7), "sh\n143"), "{outcome}");
    let labels = docker.ok(["info", "--format", "{{json .Labels}}"])?;
    assert!(labels.contains(&format!("dhow.translator.{host}=qemu ")), "{labels}");
    let doctor = engine.dhow(["doctor"])?.outcome()?.text();
    assert!(doctor.contains(&format!("serves {host}: registered with flags POCF")), "{doctor}");
    Ok(())
}

/// Rule 1.2: a build that names no platform is for the machine's.
fn builds_for_its_own_architecture_and_the_other(engine: &Engine) -> Result<()> {
    let (guest, host, docker) = (images::foreign(), images::native(), engine.docker());
    let dir = tempfile::tempdir().map_err(Error::io("create directory in", "/tmp"))?;
    let other = format!("linux/{host}");
    for (image, arch, platform) in [(OURS, guest, None), (THEIRS, host, Some(&other))] {
        let steps = format!("FROM {}\nRUN uname -m > /built\n", image.name());
        place::write(&dir.path().join("Dockerfile"), steps)?;
        for (buildkit, tag) in [("1", "kit"), ("0", "classic")] {
            let tag = format!("{tag}-{arch}");
            let build = docker.run(["build", "-q", "-t", &tag]).env("DOCKER_BUILDKIT", buildkit);
            let build = platform.iter().fold(build, |build, platform| build.args(["--platform", platform]));
            build.arg(dir.path()).limit(PATIENCE).ok()?;
            let built = docker.ok(["image", "inspect", "--format", "{{.Architecture}}", &tag])?;
            assert_eq!(built, arch, "{tag}");
            assert_eq!(docker.ok(["run", "--rm", &tag, "cat", "/built"])?, kernel_name(arch), "{tag}");
        }
    }
    Ok(())
}

/// Rule 1.5: Debian's box64 asks for a loader, which a container of another architecture does not have.
fn refuses_the_distributions_box64(engine: &Engine) -> Result<()> {
    let package = debian::files_of("arm64", "box64", &["box64"])?;
    let refused = engine.dhow(["translator", "provision", "box64", "--from"])?;
    let refused = refused.arg(package.join("usr/bin/box64")).limit(PATIENCE).outcome()?;
    let said = refused.complaint();
    assert_ne!(refused.code(), Some(0), "{refused}");
    for word in ["box64", "is linked dynamically", "static build", "nothing was placed"] {
        assert!(said.contains(word), "{word}: {refused}");
    }
    assert!(!engine.home().join("runtime/bin/box64").exists());
    Ok(())
}

/// Rules 1.3 to 1.5, 1.9, for a translator without a package. FEX cannot be had here as a static build: an interpreter that keeps the same
/// contract (static, no server, flags `POCF`) stands in for it, which is QEMU's user mode made not to say its name. What is shown is the
/// way of the file into the guest's kernel, and nothing of FEX itself; and that it is not reported as FEX.
fn takes_a_file_from_a_locked_address(engine: &Engine) -> Result<()> {
    let docker = engine.docker();
    let qemu = engine.home().join("runtime/bin/qemu-x86_64");
    let content = fs::read(&qemu).map_err(Error::io("read", &qemu))?;
    refuses_another_under_its_name(engine, &qemu)?;
    let stand_in = nameless(content)?;
    let file = engine.home().join("stand-in");
    place::write(&file, &stand_in)?;
    let digest = Run::new("sha256sum").arg(&file).ok()?.text();
    let digest = digest.split_whitespace().next().unwrap_or_default();
    let server = Server::web(serve::V4, stand_in)?;
    let address = format!("http://127.0.0.1:{}/FEX", server.port());
    let provision = |sha256: &str| {
        let run = engine.dhow(["translator", "provision", "fex", "--url", &address, "--sha256", sha256])?;
        run.env("no_proxy", "127.0.0.1").limit(PATIENCE).outcome()
    };
    let wrong = provision(&"0".repeat(64))?;
    assert_ne!(wrong.code(), Some(0), "{wrong}");
    assert!(
        wrong.complaint().contains(digest) && wrong.complaint().contains("nothing was placed"),
        "{wrong}"
    );
    let place = engine.home().join("runtime/bin/FEX");
    assert!(!place.exists());
    engine.dhow(["config", "set", "translators.amd64", "qemu"])?.ok()?;
    // Nothing uses what no list names, and that is said.
    let unlisted = provision(digest)?.ok()?;
    assert!(unlisted.complaint().contains("not on the list translators.amd64"), "{unlisted}");
    engine.dhow(["config", "set", "translators.amd64", "fex"])?.ok()?;
    engine.wait_status("the translator to be another", PATIENCE, |status| {
        let one = &status.machine()["translators"][0];
        one["name"] == "fex" && one["version"] == "unidentified" && one["problem"].is_null()
    })?;
    assert_eq!(run(docker, THEIRS, "amd64", &["uname", "-m"])?.text(), "x86_64");
    let doctor = engine.dhow(["doctor"])?.outcome()?.text();
    assert!(doctor.contains("fex unidentified serves amd64: registered with flags POCF"), "{doctor}");
    let report = engine.dhow(["verify", "--gate", "a", "--json", "--no-progress"])?.limit(PATIENCE).ok()?;
    let report: Value = serde_json::from_str(&report.text()).unwrap_or_default();
    leave("stand-in-fex", &report)?;
    let told = &report["surroundings"]["translator"];
    assert_eq!((&told["name"], &told["version"]), (&"fex".into(), &"unidentified".into()), "{report:#}");
    assert_eq!((&report["result"], &report["counts"]["fail"]), (&"passed".into(), &0.into()), "{report:#}");
    engine.dhow(["translator", "remove", "fex"])?.ok()?;
    let refused = run(docker, THEIRS, "amd64", &["true"])?;
    let said = refused.complaint();
    for word in ["fex", &place.display().to_string(), "dhow translator provision fex --from FILE"] {
        assert!(said.contains(word), "{word}: {refused}");
    }
    assert!(!said.contains("qemu"), "nothing falls back to what the list does not name: {refused}");
    Ok(())
}

/// Rule 1.9: QEMU given out as FEX is found out by its own words, and nothing runs under that name.
fn refuses_another_under_its_name(engine: &Engine, qemu: &Path) -> Result<()> {
    engine.dhow(["translator", "provision", "fex", "--from"])?.arg(qemu).limit(PATIENCE).outcome()?;
    engine.dhow(["config", "set", "translators.amd64", "fex"])?.ok()?;
    let words = "its file says that it is qemu, not fex";
    engine.wait_status("the wrong name to be found out", PATIENCE, |status| {
        let one = &status.machine()["translators"][0];
        one["name"] == "fex" && one["problem"].as_str().is_some_and(|problem| problem.contains(words))
    })?;
    let refused = run(engine.docker(), THEIRS, "amd64", &["true"])?;
    assert!(refused.code() != Some(0) && refused.complaint().contains(words), "{refused}");
    let labels = engine.docker().ok(["info", "--format", "{{json .Labels}}"])?;
    assert!(!labels.contains("dhow.translator"), "{labels}");
    engine.dhow(["translator", "remove", "fex"])?.ok().map(drop)
}

/// QEMU's user mode, with other words where its answer to `--version` begins.
fn nameless(mut qemu: Vec<u8>) -> Result<Vec<u8>> {
    let (own, other) = (b"qemu-x86_64 version", b"an-interpreter that");
    let at = qemu.windows(own.len()).position(|window| window == own);
    let what = "QEMU's words for its version".to_owned();
    let at = at.ok_or(Error::Unexpected { what, said: String::new() })?;
    qemu[at..at + own.len()].copy_from_slice(other);
    Ok(qemu)
}

/// Rule 6.4: the architecture is a field; the disk is kept, with a warning of what is on it, and what is on it runs where it can.
fn keeps_its_disk_when_it_becomes_the_hosts(engine: &Engine) -> Result<()> {
    let (guest, host, docker) = (images::foreign(), images::native(), engine.docker());
    docker.ok(["volume", "create", "kept"])?;
    docker.ok([
        "run",
        "--rm",
        "-v",
        "kept:/kept",
        OURS.name(),
        "sh",
        "-c",
        "uname -m > /kept/machine; sync",
    ])?;
    engine.dhow(["config", "set", "machine.arch", "host"])?.ok()?;
    let said = engine.dhow(["up", "--no-progress"])?.limit(PATIENCE).ok()?.complaint();
    let words: Vec<&str> = said.split_whitespace().collect();
    let words = words.join(" ");
    assert!(words.contains(&format!("architecture: {guest} → {host}")), "{said}");
    assert!(words.contains("its data disk is kept") && !words.contains("emulated"), "{said}");
    assert_eq!(engine.status()?.machine()["emulated"], false);
    let kept = docker.ok(["run", "--rm", "-v", "kept:/kept", THEIRS.name(), "cat", "/kept/machine"])?;
    assert_eq!(kept, kernel_name(guest));
    let refused = run(docker, OURS, guest, &["true"])?;
    assert!(refused.complaint().contains("dhow translator provision qemu"), "{refused}");
    Ok(())
}
