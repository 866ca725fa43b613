//! An error as it leaves Dhow: a stable code for programs and sentences for people.

use serde::{Deserialize, Serialize};

/// What happened and why, and what to type next (spec 15.1). A background process that cannot start prints one as a line
/// of JSON to whoever launched it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Stable, for programs: `assets-missing`, `disk-full`, …
    pub code: String,
    /// What happened and why.
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
