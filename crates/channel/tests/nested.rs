//! `AF_VSOCK` for real: no development machine has vhost-vsock, so a guest loads it and boots another guest.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: a panic is its report")]
#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod boot;

use std::time::Duration;

/// Spec 8.1, 8.2, 8.3: dialling a guest over the kernel's vhost driver. What is tried stands in the example
/// `vsock_probe`.
#[test]
#[ignore = "boots a guest in a guest: ./dev test vsock"]
fn a_guest_is_dialled_over_the_kernels_vsock() {
    let kit = boot::Kit::make();
    let inner = boot::pack(&kit.initrd(&["vmw_vsock_virtio_transport"]));
    let mut outer = kit.initrd(&["vhost_vsock"]);
    boot::add_qemu(&mut outer);
    outer.file("inner/kernel", kit.kernel.as_slice());
    outer.file("inner/initrd", inner);
    let mut machine = boot::Machine::boot(&kit.kernel, &boot::pack(&outer), "probe=outer", "2048", &[]);
    let said = machine.listen("DONE", Duration::from_secs(3000));
    let passed = said.iter().filter(|line| line.starts_with("PASS ")).count();
    assert_eq!(said.last().map(String::as_str), Some("DONE"), "it did not come to its end");
    assert!(!said.iter().any(|line| line.starts_with("FAIL ")), "something failed");
    assert_eq!(passed, 14);
}
