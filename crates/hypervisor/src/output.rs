//! What a hypervisor and its guest print: read for as long as they print it, cleaned of control characters, appended to
//! the machine's logs, and the last lines kept for error reports (spec 9.1).
//!
//! The readers never stop: when a log cannot be written (a full disk), what was read is dropped, so that neither a guest
//! nor QEMU ever waits for our disk for long.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where lines go, such as a `dhow_home::rotating::Rotating`.
pub type Sink = Box<dyn Write + Send>;

/// The logs of one machine.
pub struct Output {
    /// The guest's console (`console.log`).
    pub console: Sink,
    /// The hypervisor's own messages, and a header for each start (`hypervisor.log`).
    pub log: Sink,
}

impl Output {
    /// Drops everything; the last lines are still in [`Exit`](crate::Exit).
    #[must_use]
    pub fn discard() -> Self {
        Self { console: Box::new(std::io::sink()), log: Box::new(std::io::sink()) }
    }
}

/// Lines kept of each output.
const KEPT_LINES: usize = 40;
/// A longer line is cut into several.
const LONGEST_LINE: usize = 4096;

/// The last lines of an output, shared between its reader and whoever reports an error.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// Reads until the end, line by line into the sink and the tail. Returns when the writer's last descriptor is closed.
pub(crate) fn pump(mut from: impl Read, mut to: Sink, tail: &Tail) {
    let mut lines = Lines::default();
    let mut failed = false;
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let whole = lines.take(&buffer[..read]);
        append(&mut to, whole, tail, &mut failed);
    }
    append(&mut to, lines.rest(), tail, &mut failed);
}

fn append(to: &mut Sink, lines: Vec<String>, tail: &Tail, failed: &mut bool) {
    if lines.is_empty() {
        return;
    }
    let mut text = lines.join("\n");
    text.push('\n');
    // Lines that were lost are worth one warning, not one each.
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if !*failed => {
            tracing::warn!(%error, "a log of the hypervisor cannot be written; its output is dropped");
            *failed = true;
        }
        Err(_) => {}
        Ok(()) => *failed = false,
    }
    for line in lines.into_iter().filter(|line| !line.trim().is_empty()) {
        tail.push(line);
    }
}

/// Cuts bytes into lines, of bounded length and without control characters: a guest must not drive the terminal of
/// whoever reads its console's log.
#[derive(Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut whole = Vec::new();
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            for piece in piece.chunks(LONGEST_LINE) {
                if self.partial.len() + piece.len() > LONGEST_LINE {
                    whole.push(clean(&std::mem::take(&mut self.partial)));
                }
                self.partial.extend_from_slice(piece);
            }
            if self.partial.last() == Some(&b'\n') {
                whole.push(clean(&std::mem::take(&mut self.partial)));
            }
        }
        whole
    }

    fn rest(&mut self) -> Vec<String> {
        if self.partial.is_empty() { Vec::new() } else { vec![clean(&std::mem::take(&mut self.partial))] }
    }
}

/// Text without escape sequences (ECMA-48: `ESC [ … final`, and `ESC` with one more) and other control characters.
fn clean(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut kept = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.next_if_eq(&'[').is_some() => {
                while chars.next_if(|c| !('\u{40}'..='\u{7e}').contains(c)).is_some() {}
                chars.next();
            }
            '\u{1b}' => {
                chars.next();
            }
            '\t' => kept.push('\t'),
            c if c.is_control() => {}
            c => kept.push(c),
        }
    }
    kept
}

/// `2026-11-22T03:10:00Z` for a moment after 1970.
pub(crate) fn timestamp(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Civil date from a day count, by years that start in March, so that the leap day is a year's last.
    let day_of_era = days + 719_468;
    let era = day_of_era / 146_097;
    let doe = day_of_era % 146_097;
    let year_of_era = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let day_of_year = doe - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_date_is_written_as_people_read_it() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_316_645, "2026-11-22T03:04:05Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn escape_sequences_of_a_guest_do_not_reach_the_log() {
        assert_eq!(clean(b"\x1b[31mred\x1b[0m\x07 \x1b]0;title\x07\tend\r\n"), "red 0;title\tend");
    }

    #[test]
    fn lines_split_over_reads_are_joined_and_endless_ones_are_cut() {
        let mut lines = Lines::default();
        assert!(lines.take(b"one ").is_empty());
        assert_eq!(lines.take(b"line\ntwo\nrest"), ["one line", "two"]);
        assert_eq!(lines.rest(), ["rest"]);
        let cut = lines.take(&vec![b'x'; 10 * LONGEST_LINE]);
        assert!(cut.len() >= 9 && cut.iter().all(|l| l.len() <= LONGEST_LINE));
    }

    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Spec 9.1, 16.1: a full host disk must not stop the hypervisor.
    #[test]
    fn output_is_read_to_its_end_and_the_tail_kept_when_the_log_cannot_be_written() {
        let text: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
        let tail = Tail::default();
        pump(text.as_bytes(), Box::new(Full), &tail);
        assert_eq!(tail.lines().len(), KEPT_LINES);
        assert_eq!(tail.lines().last().unwrap(), "line 99999");
    }
}
