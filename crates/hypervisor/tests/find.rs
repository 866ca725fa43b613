//! Programs in the place of QEMU.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it fails")]

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use dhow_hypervisor::{ChannelDevice, Error, How, Hypervisor as _, Origin, Output, Qemu, Running, probe};
use dhow_model::{Arch, GuestCid};

mod common;

/// A shell script that says it is this version, has its firmware, and otherwise does what `body` says.
fn fake(directory: &Path, version: &str, body: &str) {
    let path = directory.join("qemu-system-x86_64");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n\
         --version) echo 'QEMU emulator version {version} (made for a test)'; exit;;\n\
         '-L help') echo {}; exit;;\nesac\n{body}\n",
        directory.display()
    );
    dhow_home::atomic::write(&path, script.as_bytes(), 0o700).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    for file in ["bios-256k.bin", "pvh.bin"] {
        dhow_home::atomic::write(&directory.join(file), b"", 0o600).unwrap();
    }
}

/// Issue 2: `dhow up` with no QEMU ends in one clear error with the next thing to type.
#[test]
fn no_qemu_in_the_search_path_says_what_to_install() {
    let empty = tempfile::tempdir().unwrap();
    for (arch, package) in [(Arch::Amd64, "qemu-system-x86"), (Arch::Arm64, "qemu-system-arm")] {
        let error = Qemu::find_in(arch, empty.path().as_os_str()).unwrap_err();
        assert!(matches!(error, Error::NotInstalled { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(package) || cfg!(target_os = "macos"), "{text}");
    }
    assert!(matches!(Qemu::find_in(Arch::Amd64, OsStr::new("")), Err(Error::NotInstalled { .. })));
}

/// Issue 2: … and with an old one.
#[test]
fn an_old_qemu_is_named_with_its_version_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    fake(dir.path(), "7.2.17", "exit 1");
    let error = Qemu::find_in(Arch::Amd64, dir.path().as_os_str()).unwrap_err();
    assert!(matches!(error, Error::TooOld { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("7.2.17") && text.contains("8.2.0") && text.contains("install"), "{text}");
}

#[test]
fn a_program_that_is_no_qemu_is_not_taken_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qemu-system-x86_64");
    dhow_home::atomic::write(&path, b"#!/bin/sh\necho hello\n", 0o700).unwrap();
    let error = Qemu::find_in(Arch::Amd64, dir.path().as_os_str()).unwrap_err();
    assert!(matches!(&error, Error::NoVersion { said, .. } if said == "hello"), "{error}");
}

/// Spec 9.3.
#[test]
fn a_qemu_without_its_firmware_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    fake(dir.path(), "10.0.2", "exit 1");
    std::fs::remove_file(dir.path().join("pvh.bin")).unwrap();
    let error = Qemu::find_in(Arch::Amd64, dir.path().as_os_str()).unwrap_err();
    assert!(matches!(&error, Error::FirmwareMissing { file, .. } if file == "pvh.bin"), "{error}");
}

/// Starts the fake, which is expected to fail.
async fn fails(body: &str, channel: Option<ChannelDevice>) -> Error {
    let dir = tempfile::tempdir().unwrap();
    fake(dir.path(), "10.0.2", body);
    let qemu = Qemu::find_in(Arch::Amd64, dir.path().as_os_str()).unwrap();
    let mut hardware = common::hardware(dir.path(), common::IDLE);
    if let Some(channel) = channel {
        hardware.channel = channel;
    }
    let error =
        qemu.start(&hardware, Output::discard(), Vec::new(), None, Origin::Boot).await.map(drop).unwrap_err();
    assert!(!hardware.qmp.exists(), "the control socket stays behind");
    error
}

/// Spec 8.2.
#[tokio::test]
async fn a_context_id_that_the_kernel_refuses_is_a_typed_error() {
    let cid = GuestCid::try_from(7).unwrap();
    let said = "qemu-system-x86_64: -device vhost-vsock-pci,guest-cid=7: vhost-vsock: unable to set guest cid: \
                Address already in use";
    let error = fails(&format!("echo '{said}' >&2; exit 1"), Some(ChannelDevice::Vsock(cid))).await;
    assert!(matches!(error, Error::CidTaken(taken) if taken == cid), "{error}");
}

#[tokio::test]
async fn a_qemu_that_ends_at_once_is_an_error_with_its_last_words() {
    let error = fails("echo 'no such machine' >&2; echo 'really' >&2; exit 3", None).await;
    match &error {
        Error::EndedEarly(exit) => assert_eq!((exit.how, exit.said.len()), (How::Code(3), 2)),
        other => panic!("{other}"),
    }
    assert!(error.to_string().contains("no such machine; really"), "{error}");
}

/// A machine whose QEMU is a script that greets on its control socket, says `body`, and ends.
#[cfg(target_os = "linux")]
async fn started(dir: &Path, body: &str) -> Box<dyn Running> {
    // The script cannot accept a connection on the socket it inherits, so the accepting is left to Python.
    let python = r#"
import re, socket, sys
fd = int(re.search(r"id=qmp,fd=(\d+)", " ".join(sys.argv)).group(1))
c, _ = socket.socket(fileno=fd).accept()
c.sendall(b'{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}}}}\n')
c.recv(4096)
c.sendall(b'{"return": {}, "id": 0}\n')
"#;
    let program = dir.join("greet.py");
    dhow_home::atomic::write(&program, python.as_bytes(), 0o600).unwrap();
    fake(dir, "10.0.2", &format!("python3 {} \"$@\"\n{body}", program.display()));
    let qemu = Qemu::find_in(Arch::Amd64, dir.as_os_str()).unwrap();
    let hardware = common::hardware(dir, common::IDLE);
    qemu.start(&hardware, common::logs(dir), Vec::new(), None, Origin::Boot).await.unwrap()
}

/// Spec 9.1: the logs are bounded, whatever a guest prints, and the newest lines are there.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_flood_on_the_console_is_bounded_by_rotation_and_its_end_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let body = "yes 'a guest that prints' | head -c 20000000; echo the end; echo complaint >&2";
    let mut machine = started(dir.path(), body).await;
    let exit = tokio::time::timeout(Duration::from_secs(20), machine.wait()).await.unwrap();
    assert_eq!(exit.how, How::Code(0));
    assert_eq!(exit.console.last().map(String::as_str), Some("the end"));
    assert_eq!(exit.said, ["complaint"]);
    let logs: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("console.log"))
        .map(|entry| entry.metadata().unwrap().len())
        .collect();
    assert_eq!(logs.len(), 3, "the log and two older ones");
    assert!(logs.iter().sum::<u64>() < 3 * ((1 << 20) + (1 << 17)), "{logs:?}");
}

/// The example `helper`, which stands beside the tests' executables.
fn helper() -> std::path::PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples/helper")
}

/// Spec 9.1: the probe's answer is one of its words and comes within its time, whatever `/dev/kvm` is here.
#[tokio::test]
async fn the_probe_answers_in_time_whatever_the_host_has() {
    let limit = Duration::from_secs(2);
    let program = probe::Program { path: helper(), arguments: vec![probe::SUBCOMMAND.to_owned()], limit };
    let begun = std::time::Instant::now();
    let verdict = probe::kvm_with(program).await;
    eprintln!("{verdict} (after {:?})", begun.elapsed());
    assert!(begun.elapsed() < limit + Duration::from_secs(1));
    let pvm = Path::new("/sys/module/kvm_pvm").exists();
    if pvm && Path::new("/dev/kvm").exists() {
        assert!(!matches!(verdict, probe::KvmVerdict::Usable { .. }), "{verdict}");
    }
}
