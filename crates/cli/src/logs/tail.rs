//! A file that grows, is renamed when it is full, and starts anew: `NAME`, `NAME.1`, …

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Amount;

/// How much is read at once while following.
const CHUNK: u64 = 256 << 10;

/// The longest line that is kept whole; a guest that never ends its line must not fill our memory.
const LINE: usize = 64 << 10;

/// How many rotated files are looked for.
const ROTATED: u32 = 9;

/// Reads the end of a log and then whatever is added, wherever rotation puts it.
#[derive(Debug)]
pub struct Tail {
    path: PathBuf,
    file: Option<File>,
    partial: Vec<u8>,
}

impl Tail {
    /// A reader of the log at `path`, which need not exist.
    pub const fn new(path: PathBuf) -> Self {
        Self { path, file: None, partial: Vec::new() }
    }

    /// The last lines that `keep` wants, rotated files included; `None` if there is no log at all. What comes later is
    /// [`Tail::new_lines`]'s.
    pub fn last(&mut self, amount: Amount, keep: impl Fn(&str) -> bool) -> io::Result<Option<Vec<String>>> {
        let mut lines = VecDeque::new();
        let mut any = false;
        let mut push = |line: String| {
            if keep(&line) {
                lines.push_back(line);
                if matches!(amount, Amount::Last(n) if lines.len() > n) {
                    lines.pop_front();
                }
            }
        };
        for n in (1..=ROTATED).rev() {
            if let Some(file) = open(&numbered(&self.path, n))? {
                any = true;
                each_line(BufReader::new(file), &mut push)?;
            }
        }
        if let Some(file) = open(&self.path)? {
            any = true;
            let mut reader = BufReader::new(file);
            self.partial = each_line(&mut reader, &mut push)?;
            self.file = Some(reader.into_inner());
        }
        if !self.partial.is_empty() {
            // Without more to come, a line without an end is a line.
            push(String::from_utf8_lossy(&self.partial).into_owned());
            self.partial.clear();
        }
        Ok(any.then(|| lines.into()))
    }

    /// Whole lines that were added since the last call. When the log was rotated, the rest of the old file comes first.
    pub fn new_lines(&mut self) -> io::Result<Vec<String>> {
        let Some(file) = &mut self.file else {
            self.file = open(&self.path)?;
            return if self.file.is_some() { self.new_lines() } else { Ok(Vec::new()) };
        };
        let position = file.stream_position()?;
        if file.metadata()?.len() < position {
            // It was emptied in place.
            file.seek(SeekFrom::Start(0))?;
            self.partial.clear();
        }
        let read = file.take(CHUNK).read_to_end(&mut self.partial)?;
        if read == 0 && self.was_rotated()? {
            let rest = std::mem::take(&mut self.partial);
            self.file = open(&self.path)?;
            let rest = (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned());
            return Ok(rest.into_iter().collect());
        }
        Ok(self.take_lines())
    }

    fn take_lines(&mut self) -> Vec<String> {
        let end = match self.partial.iter().rposition(|b| *b == b'\n') {
            Some(last) => last + 1,
            None if self.partial.len() > LINE => self.partial.len(),
            None => return Vec::new(),
        };
        let whole: Vec<u8> = self.partial.drain(..end).collect();
        String::from_utf8_lossy(&whole).lines().map(str::to_owned).collect()
    }

    fn was_rotated(&self) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        let ours = file.metadata()?;
        match std::fs::metadata(&self.path) {
            Ok(now) => Ok((now.dev(), now.ino()) != (ours.dev(), ours.ino())),
            // Between the rename and the new file.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// Gives each whole line to `push`; the answer is what follows the last line's end.
fn each_line(mut reader: impl io::BufRead, push: &mut impl FnMut(String)) -> io::Result<Vec<u8>> {
    loop {
        let mut line = Vec::new();
        let read = (&mut reader).take(LINE as u64).read_until(b'\n', &mut line)?;
        if read == 0 || (line.last() != Some(&b'\n') && read < LINE) {
            return Ok(line);
        }
        push(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned());
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn numbered(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    PathBuf::from(name)
}

#[cfg(test)]
#[path = "tail_tests.rs"]
mod tests;
