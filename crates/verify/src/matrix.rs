//! The matrix of the documentation: translator by check, from reports of runs. What was not run says so.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use dhow_model::TranslatorName;
use dhow_model::translator::{Source, TABLE, Translator, UNIDENTIFIED};

use crate::checks::Gate;
use crate::error::{Error, Result};
use crate::judge::Verdict;
use crate::report::{CheckReport, Report};

/// The line before the matrix in a document.
pub const BEGIN: &str =
    "<!-- The matrix: made of docs/verify/*.json by `cargo run -p dhow-verify --example matrix`. -->";
/// The line after it.
pub const END: &str = "<!-- End of the matrix. -->";

/// The published reports of a directory: its `*.json`, by name without the extension, so that a later run of the same name and a number
/// comes after the earlier one.
///
/// # Errors
/// When one cannot be read.
pub fn reports(directory: &Path) -> Result<Vec<Report>> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { path, source }
    };
    let entries = directory.read_dir().map_err(unreadable(directory))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort_by_key(|file| file.file_stem().map(std::ffi::OsStr::to_owned));
    let read = |file: &PathBuf| {
        let content = std::fs::read(file).map_err(unreadable(file))?;
        serde_json::from_slice(&content).map_err(|error| Error::Answer {
            what: format!("the report {}", file.display()),
            cause: error.to_string(),
        })
    };
    files.iter().map(read).collect()
}

/// The matrix as Markdown. Of several reports on one translator the last one that tried a check counts for it.
#[must_use]
pub fn matrix(reports: &[Report]) -> String {
    let of = |row: &Translator| reports.iter().filter(|report| is(report, row)).collect();
    let columns: Vec<Column<'_>> = TABLE.iter().map(|row| Column { row, reports: of(row) }).collect();
    let mut out = String::from("| gate | check |");
    for Column { row, .. } in &columns {
        write(&mut out, format_args!(" {} for {} |", row.name, row.serves));
    }
    out.push_str("\n| --- | --- |");
    out.push_str(&" --- |".repeat(columns.len()));
    out.push('\n');
    for (gate, name) in names(&columns) {
        write(&mut out, format_args!("| {gate} | {name} |"));
        for column in &columns {
            write(&mut out, format_args!(" {} |", column.cell(&name)));
        }
        out.push('\n');
    }
    for column in &columns {
        out.push('\n');
        out.push_str(&column.note());
    }
    for report in reports.iter().filter(|report| stands_in(report)) {
        out.push('\n');
        out.push_str(&stand_in(report));
    }
    out
}

/// One translator, and what was run with it.
struct Column<'r> {
    row: &'r Translator,
    reports: Vec<&'r Report>,
}

/// The document with the matrix in its place; `None` where it has no place for one.
#[must_use]
pub fn placed(document: &str, matrix: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{matrix}\n{END}{after}"))
}

/// Whether a report is on this translator: it says so, and its file said so as well (spec 1.9).
fn is(report: &Report, row: &Translator) -> bool {
    named(report).is_some_and(|name| name == row.name) && report.arch == row.serves && !stands_in(report)
}

fn named(report: &Report) -> Option<TranslatorName> {
    report.surroundings.translator.as_ref().map(|translator| translator.name)
}

/// Whether something ran under a translator's name that does not say that it is that.
fn stands_in(report: &Report) -> bool {
    report.surroundings.translator.as_ref().is_some_and(|translator| translator.version == UNIDENTIFIED)
}

/// Every check of any report, in the order of the first that has it.
fn names(columns: &[Column<'_>]) -> Vec<(Gate, String)> {
    let mut names: Vec<(Gate, String)> = Vec::new();
    for check in columns.iter().flat_map(|column| &column.reports).flat_map(|report| &report.checks) {
        let name = (check.gate, check.name.clone());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    // One that only some architectures have comes at the end of its gate.
    names.sort_by_key(|(gate, _)| *gate);
    names
}

impl Column<'_> {
    fn cell(&self, name: &str) -> &'static str {
        let mut found = "";
        for report in &self.reports {
            match report.checks.iter().find(|check| check.name == name).map(|check| check.verdict) {
                Some(Some(verdict)) => found = word(verdict),
                Some(None) if found.is_empty() => found = "skipped",
                _ => {}
            }
        }
        if self.reports.is_empty() { "not run" } else { found }
    }

    fn note(&self) -> String {
        let Translator { name, serves, guest, source, .. } = self.row;
        let mut out = format!("**{name} for {serves} in {guest} guests**: ");
        if self.reports.is_empty() {
            out.push_str(match source {
                Source::Package { .. } => "not run.\n",
                Source::User => "not run. No package has a static build of it, and none could be made.\n",
                Source::MacOs => "not run. It is part of macOS.\n",
            });
        }
        for (at, report) in self.reports.iter().enumerate() {
            if at > 0 {
                out.push_str("\nAgain, ");
            }
            out.push_str(&told(report));
            reasons(&mut out, report);
        }
        out
    }
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "**fail**",
        Verdict::Unsupported => "known gap",
        Verdict::Infra => "not testable",
    }
}

/// When, with what and where, and what came of it.
fn told(report: &Report) -> String {
    let around = &report.surroundings;
    let version = around.translator.as_ref().map(|t| t.version.as_str()).unwrap_or_default();
    let accelerator = if around.accelerator.is_empty() { "unknown" } else { &around.accelerator };
    format!(
        "{}, version {version}, Dhow {}, {} with kernel {} (accelerator {accelerator}) on {}; {} in {} s.\n",
        around.date,
        around.dhow,
        around.engine,
        around.engine_kernel,
        around.host,
        report.summary,
        report.took_ms / 1000
    )
}

/// Something that kept a translator's contract in its place: what it shows of the way into the guest, and that it shows nothing of the
/// translator.
fn stand_in(report: &Report) -> String {
    let name = named(report).map(|name| name.to_string()).unwrap_or_default();
    let sha256 = report.surroundings.translator.as_ref().map(|t| t.sha256.as_str()).unwrap_or_default();
    format!(
        "**In {name}'s place, and no proof of {name}**: an interpreter that keeps the same contract (static, no server, flags as {name}'s) and \
         does not say what it is (SHA-256 {sha256:.12}). {}",
        told(report)
    )
}

fn reasons(out: &mut String, report: &Report) {
    let mut reasons: BTreeMap<&str, Vec<&CheckReport>> = BTreeMap::new();
    for check in &report.checks {
        if let Some(verdict) = check.verdict.filter(|verdict| *verdict != Verdict::Pass) {
            reasons.entry(word(verdict)).or_default().push(check);
        }
    }
    for (word, checks) in reasons {
        out.push('\n');
        for check in checks {
            let reason = check.reason.replace('|', "\\|").replace('\n', " ");
            write(out, format_args!("- {}, {word}: {reason}\n", check.name));
        }
    }
}

/// Writing to a string does not fail.
fn write(out: &mut String, words: std::fmt::Arguments<'_>) {
    out.write_fmt(words).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_goes_where_its_marks_are_and_nowhere_else() {
        let document = format!("# T\n\n{BEGIN}\nold\n{END}\n\nmore\n");
        let new = placed(&document, "new\n").unwrap();
        assert_eq!(new, format!("# T\n\n{BEGIN}\n\nnew\n\n{END}\n\nmore\n"));
        assert_eq!(placed(&new, "new\n").unwrap(), new);
        assert_eq!(placed("# T\n", "new"), None);
    }

    /// Issue 6, point 5: what was not run says so.
    #[test]
    fn what_was_not_run_says_so() {
        let text = matrix(&[]);
        for row in &TABLE {
            assert!(
                text.contains(&format!(
                    "**{} for {} in {} guests**: not run.",
                    row.name, row.serves, row.guest
                ))
            );
        }
    }

    fn report(name: TranslatorName, version: &str, checks: &[(&str, Option<Verdict>)]) -> Report {
        let translator = serde_json::json!({ "name": name, "version": version, "sha256": "ab", "gaps": [] });
        let check = |(name, verdict): &(&str, Option<Verdict>)| {
            serde_json::json!({
                "gate": "b", "name": name, "about": "", "verdict": verdict, "reason": "why", "took_ms": 1,
                "exit": null, "stdout": "", "stderr": "", "native": null
            })
        };
        let checks: Vec<_> = checks.iter().map(check).collect();
        serde_json::from_value(serde_json::json!({
            "format": 1, "result": "passed", "summary": "so many passed", "arch": "amd64",
            "surroundings": {
                "date": "2026-11-22", "dhow": "0", "host": "h", "engine": "e", "engine_kernel": "k",
                "engine_arch": "aarch64", "accelerator": "tcg", "translator": translator, "binfmt": []
            },
            "counts": { "pass": 0, "fail": 0, "unsupported": 0, "infra": 0, "skipped": 0 },
            "checks": checks, "images": [], "took_ms": 1000
        }))
        .unwrap()
    }

    /// Issue 6: FEX is never said to have been run where something stood in for it.
    #[test]
    fn what_stands_in_for_a_translator_is_not_reported_as_it() {
        let pass = [("busybox", Some(Verdict::Pass))];
        let text = matrix(&[report(TranslatorName::Fex, UNIDENTIFIED, &pass)]);
        assert!(text.contains("**fex for amd64 in arm64 guests**: not run."), "{text}");
        assert!(text.contains("**In fex's place, and no proof of fex**"), "{text}");
        assert!(!text.contains("| pass |"), "{text}");
        let text = matrix(&[report(TranslatorName::Fex, "2511", &pass)]);
        assert!(text.contains("| B | busybox | pass | not run | not run | not run | not run |"), "{text}");
    }

    /// Issue 6: a second run of some checks does not hide the first.
    #[test]
    fn of_several_reports_the_last_that_tried_a_check_counts_and_all_are_told() {
        let qemu = |checks: &[_]| report(TranslatorName::Qemu, "10", checks);
        let first = qemu(&[("one", Some(Verdict::Infra)), ("two", Some(Verdict::Pass)), ("three", None)]);
        let second = qemu(&[("one", Some(Verdict::Pass)), ("two", None)]);
        let text = matrix(&[first, second]);
        for row in
            ["| one | not run | not run | not run | pass |", "| two | not run | not run | not run | pass |"]
        {
            assert!(text.contains(row), "{text}");
        }
        assert!(text.contains("| three | not run | not run | not run | skipped |"), "{text}");
        assert!(text.contains("- one, not testable: why") && text.contains("\nAgain, 2026-11-22"), "{text}");
    }
}
