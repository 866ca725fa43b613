//! The real QEMU, with guests of a few bytes.

mod common;

use std::time::{Duration, Instant};

use dhow_hypervisor::{How, Hypervisor as _};

/// Spec 9.1: started, answering, ended on request, with nothing left behind.
#[tokio::test]
async fn a_machine_starts_and_quits_and_leaves_no_socket() {
    let Some(qemu) = common::qemu() else { return };
    let dir = tempfile::tempdir().unwrap();
    let hardware = common::hardware(dir.path(), common::IDLE);
    let begun = Instant::now();
    let mut machine = qemu.start(&hardware, common::logs(dir.path()), Vec::new()).await.unwrap();
    eprintln!("started in {:?}", begun.elapsed());
    assert!(hardware.qmp.exists());
    drop(machine.serial().await.unwrap());
    machine.quit(Duration::from_secs(5)).await.unwrap();
    let exit = machine.wait().await;
    assert_eq!(exit.how, How::Code(0));
    assert_eq!(exit.cause.as_deref(), Some("host-qmp-quit"));
    assert!(!hardware.qmp.exists() && !dir.path().join("channel.sock").exists());
    let log = std::fs::read_to_string(dir.path().join("hypervisor.log")).unwrap();
    assert!(
        log.starts_with("--- 20") && log.contains("start of QEMU") && log.contains("-nodefaults"),
        "{log}"
    );
}
