//! Writes the matrix of docs/translation.md from the reports in docs/verify.

use std::path::Path;
use std::process::ExitCode;

use dhow_verify::matrix;

fn main() -> ExitCode {
    match write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write() -> Result<(), Box<dyn std::error::Error>> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let reports = matrix::reports(&docs.join("verify"))?;
    let document = docs.join("translation.md");
    let text = std::fs::read_to_string(&document)?;
    let placed =
        matrix::placed(&text, &matrix::matrix(&reports)).ok_or("docs/translation.md has no marks")?;
    dhow_home::atomic::write(&document, placed.as_bytes(), 0o644)?;
    println!("{} reports", reports.len());
    Ok(())
}
