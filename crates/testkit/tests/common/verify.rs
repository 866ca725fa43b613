//! An engine whose translator is a test's own, and what `dhow verify` says of it.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use dhow_model::{Arch, TranslatorName};
use dhow_testkit::{Engine, Error, Outcome, Result, images, place};
use serde_json::Value;

/// For a package of 70 MB on its first use, and for every program of gate B on a busy computer.
pub const LONG: Duration = Duration::from_secs(2700);

/// The engine.
pub struct Corner {
    pub engine: Engine,
    /// Held while the engine is one that others use as well.
    alone: Option<File>,
}

impl Corner {
    /// An engine of one's own.
    pub fn own() -> Result<Self> {
        Ok(Self { engine: Engine::start()?, alone: None })
    }

    /// The shared one, whose translator is the caller's until this is dropped.
    pub fn shared() -> Result<Self> {
        let alone = place::lock("translators")?;
        Ok(Self { engine: Engine::shared()?, alone: Some(alone) })
    }

    pub fn dhow(&self, args: &[&str]) -> Result<Outcome> {
        self.engine.dhow(args)?.limit(LONG).outcome()
    }

    /// QEMU's user mode, from its package.
    pub fn provision(&self) -> Result<()> {
        self.dhow(&["translator", "provision", "qemu", "--no-progress"])?.ok().map(drop)
    }

    /// An engine of one's own whose machine is of the other architecture.
    pub fn emulated() -> Result<Self> {
        let engine = Engine::prepare()?;
        let (guest, host) = (images::foreign(), images::native());
        engine.dhow(["config", "set", "machine.arch", guest])?.ok()?;
        engine.dhow(["config", "set", &format!("translators.{host}"), "qemu"])?.ok()?;
        engine.dhow(["up", "--no-progress"])?.limit(LONG).ok()?;
        Ok(Self { engine, alone: None })
    }

    /// `dhow verify --json`: its exit status and its report.
    pub fn verify(&self, args: &[&str]) -> Result<(Option<i32>, Value)> {
        let words = ["verify", "--json", "--no-progress"];
        let outcome = self.dhow(&[&words[..], args].concat())?;
        let report = serde_json::from_str(&outcome.text())
            .map_err(|_| Error::Unexpected { what: "a report".to_owned(), said: outcome.to_string() })?;
        Ok((outcome.code(), report))
    }

    /// Has the guest run another file as its QEMU.
    pub fn lie(&self, program: &[u8]) -> Result<()> {
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

    /// The file of the real one.
    pub fn file(&self) -> PathBuf {
        let ours = Arch::host().unwrap_or(Arch::Amd64);
        let theirs = if ours == Arch::Amd64 { Arch::Arm64 } else { Arch::Amd64 };
        let row = TranslatorName::Qemu.translator(ours, theirs);
        self.engine.home().join("runtime/bin").join(row.map(|row| row.file).unwrap_or_default())
    }
}

impl Drop for Corner {
    fn drop(&mut self) {
        // Whoever comes next finds the real one.
        if self.alone.is_some()
            && let Err(error) = self.provision()
        {
            eprintln!("the translator cannot be provisioned again: {error}");
        }
    }
}

/// Leaves a report where `DHOW_VERIFY_REPORTS` says, for publication; nowhere without it.
pub fn leave(name: &str, report: &Value) -> Result<()> {
    let Some(directory) = std::env::var_os("DHOW_VERIFY_REPORTS") else { return Ok(()) };
    place::write(&PathBuf::from(directory).join(format!("{name}.json")), format!("{report:#}\n"))
}

/// One check of a report.
pub fn check<'r>(report: &'r Value, name: &str) -> &'r Value {
    let found = report["checks"].as_array().and_then(|all| all.iter().find(|check| check["name"] == name));
    found.unwrap_or(&Value::Null)
}

/// The checks with this verdict, and why they have it.
pub fn of(report: &Value, verdict: &str) -> Vec<String> {
    let all = report["checks"].as_array().cloned().unwrap_or_default();
    let those = all.iter().filter(|check| check["verdict"] == verdict);
    those.map(|check| format!("{}: {}", check["name"], check["reason"])).collect()
}
