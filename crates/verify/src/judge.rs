//! The verdict on what was observed: pure, so that every combination stands in a table test.
//!
//! ```text
//!  image absent, engine refused, engine gone, out of memory ── INFRA
//!  "exec format error" ── no translator took the program ───── INFRA
//!  as expected ─────────────────────────────────────────────── PASS
//!  as a gap of this translator is known to look ────────────── UNSUPPORTED
//!  anything else: status, signal, output, a hang ── natively the same? ── yes: INFRA, no: FAIL
//! ```

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::seen::{End, Seen};

/// What a check came to (spec 10.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It works.
    Pass,
    /// A known gap of the translator, named.
    Unsupported,
    /// It could not be tested.
    Infra,
    /// The translator ran and misbehaved.
    Fail,
}

/// A verdict with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The verdict.
    pub verdict: Verdict,
    /// Why, one sentence; for a pass, what was seen where that tells something.
    pub reason: String,
}

/// What a right program does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// Its exit statuses; most programs have one.
    pub exit: Vec<i64>,
    /// Its standard output.
    pub stdout: Text,
    /// Its standard error.
    pub stderr: Text,
}

/// What an output must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// This, without white space at the end.
    Is(String),
    /// It has this somewhere.
    Has(String),
    /// So many bytes with this digest.
    Digest {
        /// Bytes.
        length: usize,
        /// SHA-256, hexadecimal.
        sha256: String,
    },
    /// Seconds since 1970, no further than this from the time that `from` names.
    Clock {
        /// What it should be.
        from: u64,
        /// How far it may be away.
        within: u64,
    },
    /// Whatever it is.
    Any,
}

/// A known gap, and how it looks when it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// As the table of translators names it.
    pub name: String,
    /// What the program does then.
    pub looks: Expect,
}

impl Expect {
    /// A program that ends with 0 and says exactly this, and nothing on standard error.
    #[must_use]
    pub fn says(stdout: impl Into<String>) -> Self {
        Self { exit: vec![0], stdout: Text::Is(stdout.into()), stderr: Text::Is(String::new()) }
    }

    /// With other statuses.
    #[must_use]
    pub fn exits(mut self, with: &[i64]) -> Self {
        self.exit = with.to_vec();
        self
    }

    /// With a standard error.
    #[must_use]
    pub fn complains(mut self, stderr: Text) -> Self {
        self.stderr = stderr;
        self
    }

    /// The first thing that is otherwise; `None` where all is as expected.
    fn differs(&self, exit: i64, seen: &Seen) -> Option<String> {
        if !self.exit.contains(&exit) {
            return Some(ended(exit, &self.exit));
        }
        let of = |text: &Text, bytes: &[u8], stream: &str| {
            text.differs(bytes).map(|words| format!("standard {stream} {words}"))
        };
        of(&self.stdout, &seen.stdout, "output").or_else(|| of(&self.stderr, &seen.stderr, "error"))
    }
}

impl Text {
    fn differs(&self, bytes: &[u8]) -> Option<String> {
        let said = String::from_utf8_lossy(bytes);
        let said = said.trim_end();
        match self {
            Self::Any => None,
            Self::Is(wanted) => {
                let differs = said != wanted.trim_end();
                differs.then(|| format!("is {}, not {}", quoted(said), quoted(wanted)))
            }
            Self::Has(wanted) => {
                (!said.contains(wanted)).then(|| format!("is {}, without {}", quoted(said), quoted(wanted)))
            }
            Self::Digest { length, sha256 } => {
                if bytes.len() != *length {
                    return Some(format!("has {} bytes, not {length}", bytes.len()));
                }
                let found = digest(bytes);
                (found != *sha256)
                    .then(|| format!("has the SHA-256 {found:.12}…, not {:.12}…", sha256.as_str()))
            }
            Self::Clock { from, within } => match said.parse::<u64>() {
                Ok(seconds) if seconds.abs_diff(*from) <= *within => None,
                Ok(seconds) => {
                    Some(format!("is {} s away from this computer's clock", seconds.abs_diff(*from)))
                }
                Err(_) => Some(format!("is {}, and no time", quoted(said))),
            },
        }
    }
}

/// SHA-256 in hexadecimal.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Judges one observation. A `FAIL` is not final: see [`compared`].
#[must_use]
pub fn judge(expect: &Expect, gap: Option<&Gap>, seen: &Seen) -> Judged {
    let infra = |reason: String| Judged { verdict: Verdict::Infra, reason };
    let fail = |reason: String| Judged { verdict: Verdict::Fail, reason };
    let exit = match &seen.end {
        End::NoImage(why) | End::Refused(why) | End::Lost(why) => return infra(why.clone()),
        End::OutOfMemory => return infra("the machine has not enough memory for it".to_owned()),
        End::TimedOut(limit) => {
            return fail(format!("it was still running after {} s, and the engine is well", limit.as_secs()));
        }
        End::Exited(exit) => *exit,
    };
    if let Some(words) = untranslated(exit, &seen.stderr) {
        return infra(words);
    }
    let Some(differs) = expect.differs(exit, seen) else {
        return Judged { verdict: Verdict::Pass, reason: String::new() };
    };
    match gap {
        Some(gap) if gap.looks.differs(exit, seen).is_none() => {
            Judged { verdict: Verdict::Unsupported, reason: gap.name.clone() }
        }
        _ => fail(differs),
    }
}

/// A failure, beside what the same check came to in a container of the engine's own architecture, where no translator takes part: what
/// fails there as well, or could not be tried there, is not known to be the translator's.
#[must_use]
pub fn compared(judged: Judged, native: Option<&Judged>) -> Judged {
    let (Verdict::Fail, Some(native)) = (judged.verdict, native) else { return judged };
    match native.verdict {
        Verdict::Pass | Verdict::Unsupported => judged,
        Verdict::Fail => Judged {
            verdict: Verdict::Infra,
            reason: format!("it fails without translation, too ({}): {}", native.reason, judged.reason),
        },
        Verdict::Infra => Judged {
            verdict: Verdict::Infra,
            reason: format!(
                "it failed, and could not be tried without translation ({}): {}",
                native.reason, judged.reason
            ),
        },
    }
}

/// How many times slower than without translation a program may be before the translator counts as hanging: QEMU's user mode takes up to 30
/// times as long for what computes.
const SLOWER: u32 = 60;

/// A program that was not done in its time, beside how long the same took without translation: where that is no small part of the time that it
/// had, the computer is too busy to tell a hang from patience.
#[must_use]
pub fn in_time(judged: Judged, limit: Duration, native: Duration) -> Judged {
    if native.saturating_mul(SLOWER) <= limit {
        return judged;
    }
    let (limit, native) = (limit.as_secs(), native.as_secs());
    let reason =
        format!("not done within {limit} s on a computer that takes {native} s for it without translation");
    Judged { verdict: Verdict::Infra, reason }
}

/// Words of runc and of shells when the kernel knows no way to run a program (`ENOEXEC`): then no translator ran, right or wrong.
fn untranslated(exit: i64, stderr: &[u8]) -> Option<String> {
    let said = String::from_utf8_lossy(stderr).to_lowercase();
    let refused = matches!(exit, 1 | 126 | 127 | 255) && said.contains("exec format error");
    refused.then(|| "no translator took the program (exec format error)".to_owned())
}

fn ended(exit: i64, wanted: &[i64]) -> String {
    let wanted: Vec<String> = wanted.iter().map(i64::to_string).collect();
    let wanted = wanted.join(" or ");
    match signal(exit) {
        Some(signal) => format!("it was killed by {signal} (exit status {exit}), not ended with {wanted}"),
        None => format!("it ended with {exit}, not {wanted}"),
    }
}

/// The signals that a program dies of by its own or its translator's fault, or that somebody sends.
fn signal(exit: i64) -> Option<&'static str> {
    Some(match exit - 128 {
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        31 => "SIGSYS",
        _ => return None,
    })
}

/// An output in a sentence: one line, short, harmless on a terminal.
fn quoted(text: &str) -> String {
    const LONGEST: usize = 120;
    let line = text.trim_end().replace('\n', " | ");
    let mut short: String = line.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    format!("`{short}`")
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pass => "PASS",
            Self::Unsupported => "UNSUPPORTED",
            Self::Infra => "INFRA",
            Self::Fail => "FAIL",
        })
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
