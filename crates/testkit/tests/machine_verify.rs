//! Promise: `dhow verify` proves what works, blames a translator for what it did, and nobody for what could not be tested.

use std::fs::File;
use std::time::Duration;

use dhow_model::Arch;
use dhow_model::translator::probe;
use dhow_testkit::{Engine, Error, Outcome, Result, place};
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
        place::write(&path, program)?;
        let path = path.display().to_string();
        let told =
            self.dhow(&["translator", "provision", "qemu", "--from", &path, "--json", "--no-progress"])?;
        let told: Value = serde_json::from_str(&told.ok()?.text()).unwrap_or_default();
        assert_eq!(told["translators"][0]["machines"][0]["serves"], true, "{told}");
        Ok(())
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
