//! What a service or tool prints: its lines go to the console, and the last of them are kept for error reports. It is
//! always read to the end, however fast it comes, so that no service ever waits for its reader.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

use crate::console;

/// A line is cut here, bytes.
const LINE: usize = 1024;
/// Lines that are kept.
const KEPT: usize = 40;

/// The last lines of an output.
#[derive(Debug, Clone, Default)]
pub struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The kept lines, oldest first.
    #[must_use]
    pub fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// Copies `output` to the console, each line with `prefix` before it, and to `tail`, until its end.
pub fn follow(output: impl Read, prefix: &str, tail: &Tail) {
    lines(output, |line| {
        console::line(format!("{prefix}: {line}"));
        tail.push(line);
    });
}

/// Reads `output` to its end and answers its last lines.
pub fn tail_of(output: impl Read) -> String {
    let tail = Tail::default();
    lines(output, |line| tail.push(line));
    tail.text()
}

/// Calls `each` for every line; what exceeds a line's length is dropped, bytes that are no text are replaced.
fn lines(mut output: impl Read, mut each: impl FnMut(String)) {
    let mut buffer = [0; 8192];
    let mut line = Vec::new();
    loop {
        let count = match output.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        for part in buffer[..count].split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match part.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (part, false),
            };
            let room = LINE.saturating_sub(line.len());
            line.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                each(clean(&line));
                line.clear();
            }
        }
    }
    if !line.is_empty() {
        each(clean(&line));
    }
}

/// Text without control characters: an escape sequence in an image's name must not reach a person's terminal.
fn clean(line: &[u8]) -> String {
    String::from_utf8_lossy(line).chars().filter(|c| !c.is_control() || *c == '\t').collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_cleaned_and_only_the_last_are_kept() {
        let long = "x".repeat(3000);
        let text = format!("{}{long}\n\x1b[31mred\x1b[0m\r\n\nno end", "early\n".repeat(100));
        let tail = tail_of(text.as_bytes());
        let lines: Vec<_> = tail.lines().collect();
        assert_eq!(lines.len(), KEPT);
        assert_eq!(lines[KEPT - 4].len(), LINE);
        assert_eq!(&lines[KEPT - 3..], ["[31mred[0m", "", "no end"]);
    }
}
