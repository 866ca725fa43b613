//! A report for people.

use std::fmt::Write as _;

use crate::judge::Verdict;
use crate::report::{CheckReport, Report};

/// The report as text. `paint` colours a verdict's word where somebody looks.
#[must_use]
pub fn table(report: &Report, paint: &dyn Fn(Option<Verdict>, &str) -> String) -> String {
    let mut out = String::new();
    let width = report.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    for (name, value) in header(report) {
        // Writing to a string does not fail.
        writeln!(out, "{name:<11} {value}").ok();
    }
    let mut gate = None;
    for check in &report.checks {
        if gate != Some(check.gate) {
            gate = Some(check.gate);
            writeln!(out, "\nGate {}", check.gate).ok();
        }
        writeln!(out, "{}", line(check, width, paint).trim_end()).ok();
    }
    writeln!(out, "\n{}: {}", word(report), report.summary).ok();
    out
}

fn header(report: &Report) -> Vec<(&'static str, String)> {
    let around = &report.surroundings;
    let translator = around.translator.as_ref().map_or_else(
        || "none that Dhow knows of".to_owned(),
        |t| format!("{} {} (SHA-256 {:.12})", t.name, t.version, t.sha256),
    );
    let engine = format!(
        "{}, {}, kernel {}{}",
        around.engine,
        around.engine_arch,
        around.engine_kernel,
        if around.accelerator.is_empty() { String::new() } else { format!(", {}", around.accelerator) }
    );
    let limits = match around.patience {
        0 | 1 => "as usual".to_owned(),
        times => format!("{times} times as long: the engine took that much longer for a program of its own"),
    };
    let binfmt = if around.binfmt.is_empty() { "not known".to_owned() } else { around.binfmt.join(", ") };
    vec![
        ("date", around.date.clone()),
        ("dhow", around.dhow.clone()),
        ("host", around.host.clone()),
        ("engine", engine),
        ("programs", report.arch.to_string()),
        ("translator", translator),
        ("binfmt", binfmt),
        ("limits", limits),
    ]
}

fn line(check: &CheckReport, width: usize, paint: &dyn Fn(Option<Verdict>, &str) -> String) -> String {
    let word = check.verdict.map_or_else(|| "skipped".to_owned(), |verdict| verdict.to_string());
    let time = if check.took_ms == 0 {
        String::new()
    } else {
        format!("{}.{} s", check.took_ms / 1000, check.took_ms % 1000 / 100)
    };
    let said = if check.reason.is_empty() { check.about.as_str() } else { check.reason.as_str() };
    format!("  {} {:<width$}  {time:>8}  {said}", paint(check.verdict, &format!("{word:<11}")), check.name)
}

fn word(report: &Report) -> &'static str {
    use crate::report::Outcome::{Blocked, Failed, Infra, Passed};
    match report.result {
        Passed => "PASSED",
        Failed => "FAILED",
        Blocked => "BLOCKED",
        Infra => "NOT TESTED",
    }
}
