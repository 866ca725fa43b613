//! The real QEMU, with guests of a few bytes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where it fails")]

mod common;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dhow_home::lock::FileLock;
use dhow_hypervisor::{Error, How, Hypervisor as _, Origin, Output};

/// Waits for a fact, with a limit.
async fn until(limit: Duration, mut fact: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !fact() {
        if Instant::now() > end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    true
}

/// What the kernel says of a process, unless it has ended. Its parent may be slow to reap it.
fn process(pid: u32) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    (!status.contains("State:\tZ")).then_some(status)
}

/// Spec 9.1: started, answering, ended on request, with nothing left behind; appended logs with a header.
#[tokio::test]
async fn a_machine_starts_and_quits_and_leaves_no_socket() {
    let Some(qemu) = common::qemu() else { return };
    let dir = tempfile::tempdir().unwrap();
    let hardware = common::hardware(dir.path(), common::IDLE);
    for _ in 0..2 {
        let mut machine =
            qemu.start(&hardware, common::logs(dir.path()), Vec::new(), None, Origin::Boot).await.unwrap();
        assert!(hardware.qmp.exists());
        drop(machine.serial().await.unwrap());
        machine.pause().await.unwrap();
        machine.resume().await.unwrap();
        machine.power_button().await.unwrap();
        machine.quit(Duration::from_secs(5)).await.unwrap();
        let exit = machine.wait().await;
        assert_eq!((exit.how, exit.cause.as_deref()), (How::Code(0), Some("host-qmp-quit")));
        assert!(exit.is_clean());
        assert!(!hardware.qmp.exists() && !dir.path().join("channel.sock").exists());
    }
    let log = std::fs::read_to_string(dir.path().join("hypervisor.log")).unwrap();
    assert_eq!(log.matches("start of QEMU").count(), 2, "{log}");
    assert!(log.contains("-nodefaults") && log.starts_with("--- 20"), "{log}");
}

/// Spec 9.4.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn qemu_runs_in_its_sandbox_with_nothing_but_the_descriptors_it_was_given() {
    let Some(qemu) = common::qemu() else { return };
    let dir = tempfile::tempdir().unwrap();
    let hardware = common::hardware(dir.path(), common::IDLE);
    let unrelated = tempfile::tempfile_in(dir.path()).unwrap();
    let machine = qemu.start(&hardware, Output::discard(), Vec::new(), None, Origin::Boot).await.unwrap();
    let status = process(machine.pid()).unwrap();
    assert!(status.contains("Seccomp:\t2"), "{status}");
    let open: Vec<_> = std::fs::read_dir(format!("/proc/{}/fd", machine.pid()))
        .unwrap()
        .filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok())
        .collect();
    let ours = open.iter().filter(|path| path.starts_with(dir.path())).count();
    assert_eq!(ours, 2, "the two disks: {open:?}");
    drop(unrelated);
}

/// Spec 9.4, 16.5.
#[tokio::test]
async fn only_its_user_can_reach_the_sockets_of_a_machine() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(qemu) = common::qemu() else { return };
    let dir = tempfile::tempdir().unwrap();
    let hardware = common::hardware(dir.path(), common::IDLE);
    let _machine = qemu.start(&hardware, Output::discard(), Vec::new(), None, Origin::Boot).await.unwrap();
    for socket in [hardware.qmp, dir.path().join("channel.sock")] {
        assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

/// Spec 16.3.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_machine_that_is_killed_or_dropped_is_gone_with_its_sockets() {
    let Some(qemu) = common::qemu() else { return };
    let dir = tempfile::tempdir().unwrap();
    let hardware = common::hardware(dir.path(), common::IDLE);
    let mut machine = qemu.start(&hardware, Output::discard(), Vec::new(), None, Origin::Boot).await.unwrap();
    machine.kill().await.unwrap();
    assert_eq!(machine.wait().await.how, How::Signal(9));
    machine.kill().await.unwrap();
    assert!(!hardware.qmp.exists());

    let machine = qemu.start(&hardware, Output::discard(), Vec::new(), None, Origin::Boot).await.unwrap();
    let pid = machine.pid();
    drop(machine);
    assert!(until(Duration::from_secs(2), || process(pid).is_none() && !hardware.qmp.exists()).await);
}

/// Waiting is cancel safe: a `select!` in a supervisor drops and repeats it.
#[tokio::test]
async fn a_guest_that_resets_ends_its_machine_with_the_cause() {
    let Some(qemu) = common::qemu() else { return };
    let dir = tempfile::tempdir().unwrap();
    let hardware = common::hardware(dir.path(), common::RESET);
    match qemu.start(&hardware, Output::discard(), Vec::new(), None, Origin::Boot).await {
        Ok(mut machine) => {
            for _ in 0..3 {
                drop(tokio::time::timeout(Duration::from_millis(1), machine.wait()).await);
            }
            let exit = tokio::time::timeout(Duration::from_secs(10), machine.wait()).await.unwrap();
            assert_eq!(exit.how, How::Code(0));
            assert!(exit.cause.is_none_or(|cause| cause == "guest-reset"));
        }
        // It may be over before QEMU has greeted.
        Err(Error::EndedEarly(exit)) => assert_eq!(exit.how, How::Code(0)),
        Err(other) => panic!("{other}"),
    }
}

/// Spec 6.8, 16.1: two machines never write to one image.
#[tokio::test]
async fn a_data_image_in_use_is_a_typed_error_and_a_root_image_is_shared() {
    let Some(qemu) = common::qemu() else { return };
    let dir = tempfile::tempdir().unwrap();
    let first = common::hardware(dir.path(), common::IDLE);
    let _machine = qemu.start(&first, Output::discard(), Vec::new(), None, Origin::Boot).await.unwrap();

    let mut second = first.clone();
    second.qmp = dir.path().join("second.qmp");
    second.channel = dhow_hypervisor::ChannelDevice::Serial(dir.path().join("second.sock"));
    let error =
        qemu.start(&second, Output::discard(), Vec::new(), None, Origin::Boot).await.map(drop).unwrap_err();
    assert!(matches!(&error, Error::DiskInUse { path } if path.ends_with("data.img")), "{error}");

    second.disks.pop();
    qemu.start(&second, Output::discard(), Vec::new(), None, Origin::Boot).await.unwrap();
}

/// Spec 6.8: a lock that the hypervisor inherits holds as long as it lives, although its first owner has let go.
#[tokio::test]
async fn an_inherited_lock_is_held_until_the_hypervisor_has_ended() {
    let Some(qemu) = common::qemu() else { return };
    let dir = tempfile::tempdir().unwrap();
    let hardware = common::hardware(dir.path(), common::IDLE);
    let path = dir.path().join("data.lock");
    let file = std::fs::File::create(&path).unwrap();
    file.try_lock().unwrap();
    let mut machine =
        qemu.start(&hardware, Output::discard(), vec![file.into()], None, Origin::Boot).await.unwrap();
    assert!(FileLock::try_exclusive(&path).unwrap().is_none());
    machine.kill().await.unwrap();
    assert!(FileLock::try_exclusive(&path).unwrap().is_some());
}

/// Design: a supervisor that dies takes its hypervisor with it, also when the thread that asked for the start is gone.
#[tokio::test]
#[cfg(target_os = "linux")]
async fn the_hypervisor_dies_with_the_process_that_started_it() {
    if common::qemu().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let test = std::env::current_exe().unwrap();
    let helper = test.parent().and_then(Path::parent).unwrap().join("examples/helper");
    let mut holder = Command::new(helper)
        .args(["hold".as_ref(), dir.path().as_os_str()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pid: u32 = line.trim().parse().unwrap();
    // Longer than an idle thread of the runtime would need to be noticed missing; the guest lives on.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(process(pid).is_some());
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(until(Duration::from_secs(1), || process(pid).is_none()).await, "QEMU {pid} outlives its owner");
}
