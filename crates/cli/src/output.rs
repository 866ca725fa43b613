//! Standard output and standard error: the answer goes to the first, everything else to the second. One JSON document, or
//! text with colours where a person looks at a terminal.

use std::io::{self, IsTerminal as _, Write as _};

use dhow_model::Failure;
use serde::Serialize;
use serde_json::json;

use crate::error::{Error, Result};
use crate::text;

/// How to speak, decided once from the command line and the surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// Answers are JSON documents.
    pub json: bool,
    /// Nothing but answers and errors.
    pub quiet: bool,
    /// No progress.
    pub no_progress: bool,
    /// More of what is known.
    pub verbose: bool,
    /// Colours on standard output.
    pub stdout: Style,
    /// Colours on standard error.
    pub stderr: Style,
}

/// Whether text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    coloured: bool,
}

impl Style {
    /// No colours.
    pub const PLAIN: Self = Self { coloured: false };

    /// Colours only on a terminal that can show them, and not where `NO_COLOR` is set (no-color.org).
    #[must_use]
    pub fn detect(is_terminal: bool) -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
        Self { coloured: is_terminal && set("NO_COLOR").is_none() && set("TERM").is_none_or(|t| t != "dumb") }
    }

    /// What went wrong.
    #[must_use]
    pub fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// What may go wrong.
    #[must_use]
    pub fn warning(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    /// What is well.
    #[must_use]
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// What matters less.
    #[must_use]
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// A heading.
    #[must_use]
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl Output {
    /// Prints a command's answer: `text`, or `document` with `--json`.
    ///
    /// # Errors
    /// When standard output cannot be written, or its reader has gone.
    pub fn answer(&self, text: &str, document: &impl Serialize) -> Result<()> {
        if self.json { self.line(document) } else { write_stdout(text.as_bytes()) }
    }

    /// Prints one JSON document on one line.
    ///
    /// # Errors
    /// When standard output cannot be written, or its reader has gone.
    pub fn line(&self, document: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_string(document).map_err(|e| Error::Output(e.into()))?;
        line.push('\n');
        write_stdout(line.as_bytes())
    }

    /// Tells a person something that is not the answer.
    pub fn note(&self, words: &str) {
        if !self.quiet && !self.json {
            write_stderr(&format!("{}\n", text::harmless(words)));
        }
    }

    /// Tells a person of something that may go wrong.
    pub fn warn(&self, words: &str) {
        if !self.json {
            write_stderr(&format!("{} {}\n", self.stderr.warning("warning:"), indented(words)));
        }
    }

    /// Prints an error: for people on standard error, for programs on standard output.
    pub fn failure(&self, failure: &Failure) {
        if self.json {
            // The error itself decides the exit status; that nobody reads the document changes nothing.
            self.line(&json!({ "error": failure })).ok();
        } else {
            write_stderr(&render_failure(failure, self.stderr));
        }
    }
}

/// An error as a person reads it.
#[must_use]
pub fn render_failure(failure: &Failure, style: Style) -> String {
    let mut out = format!("{} {}\n", style.bad("error:"), indented(&failure.message));
    if !failure.hint.is_empty() {
        out.push_str(&format!("  {} {}\n", style.bold("try:"), indented(&failure.hint)));
    }
    out
}

/// Bytes to standard output, at once.
///
/// # Errors
/// When it cannot be written, or its reader has gone.
pub fn write_stdout(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Error::Output)
}

/// Text to standard error. That it cannot be written has nowhere to be reported.
pub fn write_stderr(text: &str) {
    io::stderr().lock().write_all(text.as_bytes()).ok();
}

/// Whether a person looks at standard error.
#[must_use]
pub fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

fn indented(words: &str) -> String {
    text::harmless(words.trim_end()).replace('\n', "\n  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 15.1: what happened, why, and what to type next.
    #[test]
    fn an_error_says_what_happened_why_and_what_to_type() {
        let failure = Failure::new(
            "assets-missing",
            "native cannot start\nits kernel is not there",
            "dhow assets fetch",
        );
        insta::assert_snapshot!(render_failure(&failure, Style::PLAIN), @r"
        error: native cannot start
          its kernel is not there
          try: dhow assets fetch
        ");
    }

    #[test]
    fn an_error_without_a_hint_has_no_empty_line_for_it() {
        assert_eq!(render_failure(&Failure::new("x", "it broke", ""), Style::PLAIN), "error: it broke\n");
    }
}
