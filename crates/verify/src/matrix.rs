//! The matrix of the documentation: translator by check, from reports of runs. What was not run says so.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dhow_model::translator::{TABLE, Translator};

use crate::checks::Gate;
use crate::judge::Verdict;
use crate::report::{CheckReport, Report};

/// The line before the matrix in a document.
pub const BEGIN: &str =
    "<!-- The matrix: made of docs/verify/*.json by `cargo run -p dhow-verify --example matrix`. -->";
/// The line after it.
pub const END: &str = "<!-- End of the matrix. -->";

/// The matrix as Markdown. Of several reports on one translator the last counts.
#[must_use]
pub fn matrix(reports: &[Report]) -> String {
    let columns: Vec<(&Translator, Option<&Report>)> =
        TABLE.iter().map(|row| (row, reports.iter().rev().find(|report| is(report, row)))).collect();
    let mut out = String::from("| gate | check |");
    for (row, _) in &columns {
        write(&mut out, format_args!(" {} for {} |", row.name, row.serves));
    }
    out.push_str("\n| --- | --- |");
    out.push_str(&" --- |".repeat(columns.len()));
    out.push('\n');
    for (gate, name) in names(&columns) {
        write(&mut out, format_args!("| {gate} | {name} |"));
        for (_, report) in &columns {
            write(&mut out, format_args!(" {} |", cell(*report, &name)));
        }
        out.push('\n');
    }
    for (row, report) in &columns {
        out.push('\n');
        out.push_str(&note(row, *report));
    }
    out
}

/// The document with the matrix in its place; `None` where it has no place for one.
#[must_use]
pub fn placed(document: &str, matrix: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{matrix}\n{END}{after}"))
}

fn is(report: &Report, row: &Translator) -> bool {
    let named = report.surroundings.translator.as_ref().is_some_and(|translator| translator.name == row.name);
    named && report.arch == row.serves
}

/// Every check of any report, in the order of the first that has it.
fn names(columns: &[(&Translator, Option<&Report>)]) -> Vec<(Gate, String)> {
    let mut names: Vec<(Gate, String)> = Vec::new();
    for check in columns.iter().filter_map(|(_, report)| *report).flat_map(|report| &report.checks) {
        let name = (check.gate, check.name.clone());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    // One that only some architectures have comes at the end of its gate.
    names.sort_by_key(|(gate, _)| *gate);
    names
}

fn cell(report: Option<&Report>, name: &str) -> &'static str {
    let Some(report) = report else { return "not run" };
    let Some(check) = report.checks.iter().find(|check| check.name == name) else { return "" };
    match check.verdict {
        Some(Verdict::Pass) => "pass",
        Some(Verdict::Fail) => "**fail**",
        Some(Verdict::Unsupported) => "known gap",
        Some(Verdict::Infra) => "not testable",
        None => "skipped",
    }
}

fn note(row: &Translator, report: Option<&Report>) -> String {
    let mut out = format!("**{} for {} in {} guests**: ", row.name, row.serves, row.guest);
    let Some(report) = report else {
        out.push_str("not run.\n");
        return out;
    };
    let around = &report.surroundings;
    let version = around.translator.as_ref().map(|t| t.version.as_str()).unwrap_or_default();
    let accelerator = if around.accelerator.is_empty() { "unknown" } else { &around.accelerator };
    write(
        &mut out,
        format_args!(
            "{}, version {version}, Dhow {}, {} with kernel {} (accelerator {accelerator}) on {}; {} in {} s.\n",
            around.date,
            around.dhow,
            around.engine,
            around.engine_kernel,
            around.host,
            report.summary,
            report.took_ms / 1000
        ),
    );
    let mut reasons: BTreeMap<&str, Vec<&CheckReport>> = BTreeMap::new();
    for check in &report.checks {
        let word = match check.verdict {
            Some(Verdict::Fail) => "fail",
            Some(Verdict::Unsupported) => "known gap",
            Some(Verdict::Infra) => "not testable",
            _ => continue,
        };
        reasons.entry(word).or_default().push(check);
    }
    for (word, checks) in reasons {
        out.push('\n');
        for check in checks {
            let reason = check.reason.replace('|', "\\|").replace('\n', " ");
            write(&mut out, format_args!("- {}, {word}: {reason}\n", check.name));
        }
    }
    out
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
}
