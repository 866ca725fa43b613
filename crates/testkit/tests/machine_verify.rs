//! Promise: `dhow verify` proves what works, blames a translator for what it did, and nobody for what could not be tested.

mod common;

use common::verify::{Corner, check, of};
use dhow_model::Arch;
use dhow_model::translator::elf;
use dhow_testkit::Result;

/// Spec 1.4, 10.2, 10.3: without a translator nothing was tested, and nobody is blamed.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn without_a_translator_gate_a_is_blocked_and_nothing_failed() -> Result<()> {
    let corner = Corner::shared()?;
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
    let corner = Corner::shared()?;
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
    elf::file(Arch::Amd64, &code)
}
