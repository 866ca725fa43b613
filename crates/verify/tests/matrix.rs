//! Issue 6, point 5: the matrix that is published is the one that the published reports make.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use dhow_model::translator::UNIDENTIFIED;
use dhow_verify::{Report, matrix, names};

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

fn reports() -> Vec<Report> {
    matrix::reports(&docs().join("verify")).unwrap()
}

#[test]
fn the_published_matrix_is_made_of_the_published_reports() {
    let document = std::fs::read_to_string(docs().join("translation.md")).unwrap();
    let made = matrix::placed(&document, &matrix::matrix(&reports())).unwrap();
    assert_eq!(made, document, "cargo run -p dhow-verify --example matrix");
}

/// What is published of a translator is a whole run: every check that there is was tried, and the numbers are those of the checks.
#[test]
fn what_is_published_of_a_translator_tried_every_check_and_adds_up() {
    let mut tried: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for report in reports() {
        assert_eq!(report.format, dhow_verify::FORMAT);
        let counts = report.counts;
        let sum = counts.pass + counts.fail + counts.unsupported + counts.infra + counts.skipped;
        assert_eq!(sum, report.checks.len());
        let translator = report.surroundings.translator.unwrap();
        if translator.version == UNIDENTIFIED {
            continue;
        }
        let names = report.checks.into_iter().filter(|check| check.verdict.is_some()).map(|check| check.name);
        tried.entry((translator.name, report.arch)).or_default().extend(names);
    }
    for ((name, arch), tried) in tried {
        let left: Vec<_> = names(arch).into_iter().filter(|check| !tried.contains(*check)).collect();
        assert!(left.is_empty(), "{name} for {arch}: {left:?} were never tried");
    }
}
