//! What a run came to: stable as JSON, the source of the matrix in the documentation.

use std::collections::BTreeMap;

use dhow_model::{Arch, TranslatorName};
use serde::{Deserialize, Serialize};

use crate::checks::Gate;
use crate::judge::Verdict;

/// Version of the form; raised when a reader of the last one would misunderstand.
pub const FORMAT: u32 = 1;

/// Everything about one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Version of this form.
    pub format: u32,
    /// What it came to.
    pub result: Outcome,
    /// One sentence on that.
    pub summary: String,
    /// The architecture of the programs that were translated.
    pub arch: Arch,
    /// Where it ran.
    pub surroundings: Surroundings,
    /// How many checks had which verdict.
    pub counts: Counts,
    /// The checks, in the order in which they ran.
    pub checks: Vec<CheckReport>,
    /// What they ran in.
    pub images: Vec<ImageReport>,
    /// How long it took.
    pub took_ms: u64,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nothing failed.
    Passed,
    /// Something failed.
    Failed,
    /// Gate A was not passed, and the rest was not tried.
    Blocked,
    /// Nothing could be tested.
    Infra,
}

/// Where a run took place (spec 10.4). What is not known is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    /// Day of the run, UTC: `2026-11-22`.
    pub date: String,
    /// Dhow's version.
    pub dhow: String,
    /// The host: operating system, kernel, architecture.
    pub host: String,
    /// The engine: version, architecture.
    pub engine: String,
    /// Its kernel.
    pub engine_kernel: String,
    /// The engine's architecture, as it tells.
    pub engine_arch: String,
    /// What runs the machine: `kvm`, `tcg`.
    pub accelerator: String,
    /// How many times their time the checks were given, by how long the engine took for a program of its own; 0: not known.
    #[serde(default)]
    pub patience: u32,
    /// Who translates; none where Dhow knows of none.
    pub translator: Option<TranslatorReport>,
    /// `binfmt_misc` entries of the guest: interpreter, flags.
    pub binfmt: Vec<String>,
}

/// A translator, as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranslatorReport {
    /// Which.
    pub name: TranslatorName,
    /// As it says itself.
    pub version: String,
    /// Its file's digest.
    pub sha256: String,
    /// What is known not to work under it.
    pub gaps: Vec<String>,
}

/// How many checks had which verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Passed.
    pub pass: usize,
    /// Failed.
    pub fail: usize,
    /// Known gaps.
    pub unsupported: usize,
    /// Not testable.
    pub infra: usize,
    /// Not tried, since gate A was not passed.
    pub skipped: usize,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Which gate.
    pub gate: Gate,
    /// Its name, which stays the same.
    pub name: String,
    /// What it proves.
    pub about: String,
    /// The verdict; null when it was not tried.
    pub verdict: Option<Verdict>,
    /// Why; empty for a plain pass.
    pub reason: String,
    /// How long it took, in its container.
    pub took_ms: u64,
    /// Exit status, where there was one.
    pub exit: Option<i64>,
    /// The end of its standard output.
    pub stdout: String,
    /// The end of its standard error.
    pub stderr: String,
    /// What the same check came to without translation, where that was tried, because it failed.
    pub native: Option<Verdict>,
}

/// An image that checks ran in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageReport {
    /// Its name in the engine.
    pub name: String,
    /// Its architecture.
    pub arch: Arch,
    /// Packages and versions, of one that was made from them.
    pub packages: BTreeMap<String, String>,
}

impl Report {
    /// The exit status (spec 10.3): 1 where something failed, 2 where nothing was tested or gate A could not be, 0 otherwise.
    #[must_use]
    pub const fn exit(&self) -> u8 {
        match self.result {
            Outcome::Passed => 0,
            Outcome::Failed => 1,
            Outcome::Blocked if self.counts.fail > 0 => 1,
            Outcome::Blocked | Outcome::Infra => 2,
        }
    }

    /// Counts verdicts and says what the run came to.
    pub(crate) fn conclude(&mut self, blocked: bool) {
        let mut counts = Counts::default();
        for check in &self.checks {
            *match check.verdict {
                Some(Verdict::Pass) => &mut counts.pass,
                Some(Verdict::Fail) => &mut counts.fail,
                Some(Verdict::Unsupported) => &mut counts.unsupported,
                Some(Verdict::Infra) => &mut counts.infra,
                None => &mut counts.skipped,
            } += 1;
        }
        self.counts = counts;
        self.result = outcome(blocked, counts);
        let Counts { pass, fail, unsupported, infra, skipped } = counts;
        let said = format!("{pass} passed, {fail} failed, {unsupported} known gaps, {infra} not testable");
        self.summary = match self.result {
            Outcome::Blocked => {
                let first = self.checks.iter().find(|c| !matches!(c.verdict, None | Some(Verdict::Pass)));
                let why = first.map(|c| format!("{}: {}", c.name, c.reason)).unwrap_or_default();
                format!("blocked at gate A ({why}); {said}, {skipped} skipped")
            }
            _ => said,
        };
    }
}

/// What counts come to (spec 10.3).
#[must_use]
fn outcome(blocked: bool, counts: Counts) -> Outcome {
    match counts {
        _ if blocked => Outcome::Blocked,
        Counts { fail: 1.., .. } => Outcome::Failed,
        Counts { pass: 0, unsupported: 0, .. } => Outcome::Infra,
        _ => Outcome::Passed,
    }
}

/// The end of an output, harmless and short.
pub(crate) fn tail(bytes: &[u8]) -> String {
    const LONGEST: usize = 600;
    let start = bytes.len().saturating_sub(LONGEST);
    let text = String::from_utf8_lossy(&bytes[start..]);
    let clean: String = text.chars().filter(|c| !c.is_control() || *c == '\n').collect();
    let clean = clean.trim_end();
    if start > 0 { format!("…{clean}") } else { clean.to_owned() }
}

/// A day, from seconds since 1970 (the proleptic Gregorian calendar, counted from a first of March).
pub(crate) fn day(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", year + era * 400 + next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(verdicts: &[Option<Verdict>], blocked: bool) -> Report {
        let check = |verdict: &Option<Verdict>| CheckReport {
            gate: Gate::A,
            name: "x".to_owned(),
            about: String::new(),
            verdict: *verdict,
            reason: "why".to_owned(),
            took_ms: 0,
            exit: None,
            stdout: String::new(),
            stderr: String::new(),
            native: None,
        };
        let mut report = Report {
            format: FORMAT,
            result: Outcome::Infra,
            summary: String::new(),
            arch: Arch::Arm64,
            surroundings: Surroundings::default(),
            counts: Counts::default(),
            checks: verdicts.iter().map(check).collect(),
            images: Vec::new(),
            took_ms: 0,
        };
        report.conclude(blocked);
        report
    }

    /// Spec 10.3.
    #[test]
    fn the_exit_status_tells_failures_from_what_could_not_be_tested() {
        use Verdict::{Fail, Infra, Pass, Unsupported};
        let table: &[(&[Option<Verdict>], bool, Outcome, u8)] = &[
            (&[Some(Pass)], false, Outcome::Passed, 0),
            (&[Some(Pass), Some(Unsupported)], false, Outcome::Passed, 0),
            (&[Some(Pass), Some(Infra)], false, Outcome::Passed, 0),
            (&[Some(Unsupported)], false, Outcome::Passed, 0),
            (&[Some(Pass), Some(Fail), Some(Infra)], false, Outcome::Failed, 1),
            (&[Some(Infra), Some(Infra)], false, Outcome::Infra, 2),
            (&[], false, Outcome::Infra, 2),
            (&[Some(Pass), Some(Fail), None], true, Outcome::Blocked, 1),
            (&[Some(Pass), Some(Infra), None], true, Outcome::Blocked, 2),
            (&[Some(Infra), None], true, Outcome::Blocked, 2),
        ];
        for (verdicts, blocked, result, exit) in table {
            let report = run(verdicts, *blocked);
            assert_eq!((report.result, report.exit()), (*result, *exit), "{verdicts:?}");
        }
        let words = run(&[Some(Pass), Some(Infra), None], true).summary;
        assert_eq!(
            words,
            "blocked at gate A (x: why); 1 passed, 0 failed, 0 known gaps, 1 not testable, 1 skipped"
        );
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_709_164_800, "2024-02-29"),
            (1_795_305_600, "2026-11-22"),
            (4_102_444_799, "2099-12-31"),
        ] {
            assert_eq!(day(seconds), expected);
        }
    }

    #[test]
    fn a_report_is_read_back_as_it_was_written() {
        let report = run(&[Some(Verdict::Pass), None], true);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
        assert_eq!(tail(&[b'x'; 5000]).chars().count(), 601);
    }
}
