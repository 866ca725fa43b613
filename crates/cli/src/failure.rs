//! An error as it leaves Dhow: a stable code for programs and sentences for people.

use serde::{Deserialize, Serialize};

/// What happened and why, and what to type next (spec 15.1). The daemon prints one as a line of JSON when it cannot start,
/// and every command does with `--json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable, for programs: `assets-missing`, `disk-full`, …
    pub code: String,
    /// What happened; after a line break, why.
    pub message: String,
    /// What to type or do next; empty where there is nothing.
    #[serde(default)]
    pub hint: String,
}

impl Failure {
    /// A failure of these parts.
    pub fn new(code: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), hint: hint.into() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<dhow_proto::control::Failure> for Failure {
    fn from(failed: dhow_proto::control::Failure) -> Self {
        Self { code: failed.code, message: failed.message, hint: failed.hint }
    }
}
