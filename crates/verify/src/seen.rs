//! What was observed of one check.

use std::time::Duration;

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The program ended, with this status as Docker tells it: 128 and the signal's number where one killed it.
    Exited(i64),
    /// It was still running after its time, and the engine is well.
    TimedOut(Duration),
    /// The kernel killed it for want of memory.
    OutOfMemory,
    /// What it runs in is not there, and why.
    NoImage(String),
    /// The engine would not create or start it.
    Refused(String),
    /// The engine went away, or did not answer.
    Lost(String),
}

/// Everything that was observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// How it ended.
    pub end: End,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error, apart from the above (spec 10.2).
    pub stderr: Vec<u8>,
}

impl Seen {
    /// One of which nothing was read.
    #[must_use]
    pub const fn nothing(end: End) -> Self {
        Self { end, stdout: Vec::new(), stderr: Vec::new() }
    }

    /// Why it could not be observed.
    #[must_use]
    pub fn error(error: &crate::Error) -> Self {
        let words = error.to_string();
        Self::nothing(match error {
            crate::Error::Refused { .. } => End::Refused(words),
            crate::Error::Assets(_) | crate::Error::File { .. } => End::NoImage(words),
            _ => End::Lost(words),
        })
    }
}
