//! Issue 6, point 5: the matrix that is published is the one that the published reports make.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use dhow_verify::{Report, matrix};

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

fn reports() -> Vec<Report> {
    let mut files: Vec<PathBuf> =
        docs().join("verify").read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    files.iter().map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()).collect()
}

#[test]
fn the_published_matrix_is_made_of_the_published_reports() {
    let document = std::fs::read_to_string(docs().join("translation.md")).unwrap();
    let made = matrix::placed(&document, &matrix::matrix(&reports())).unwrap();
    assert_eq!(made, document, "cargo run -p dhow-verify --example matrix");
}

/// What is published is a whole run: no gate is left out, and its numbers are those of its checks.
#[test]
fn every_published_report_is_of_all_gates_and_adds_up() {
    for report in reports() {
        assert_eq!(report.format, dhow_verify::FORMAT);
        let counts = report.counts;
        let sum = counts.pass + counts.fail + counts.unsupported + counts.infra + counts.skipped;
        assert_eq!(sum, report.checks.len());
        let gates: std::collections::BTreeSet<_> = report.checks.iter().map(|check| check.gate).collect();
        assert_eq!(gates.len(), 3, "{}", report.summary);
    }
}
