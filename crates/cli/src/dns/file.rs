//! A file of ours among somebody else's: its first line says so, with the digest of all that follows. One that does not, or
//! not any more, is never overwritten or removed.

use std::io;
use std::path::{Path, PathBuf};

use dhow_home::atomic;

use super::{Error, Result};
use crate::owned::{self, Owner};

const MARK: &str =
    "# Written by `dhow dns install`, which `dhow dns uninstall` undoes; sha256 of what follows: ";
/// Says that the directory was made for the file and goes with it.
const MADE: &str = "# Its directory was made with it.\n";
/// Whose a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// There is none.
    Absent,
    /// We wrote this, and nobody changed it.
    Ours(Ours),
    /// It is somebody else's, and why we think so.
    Foreign(&'static str),
}

/// What we wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ours {
    /// What the resolver reads.
    pub body: String,
    /// Whether its directory was made for it.
    made_dir: bool,
}

/// Looks at a file.
///
/// # Errors
/// When it cannot be read.
pub fn state(path: &Path) -> Result<State> {
    let looked = owned::look(path, MARK);
    Ok(match looked.map_err(|source| Error::Io { path: path.to_owned(), done: "read", source })? {
        Owner::Nobody => State::Absent,
        Owner::Other(why) => State::Foreign(why),
        Owner::Us(text) => {
            let (made_dir, body) = text.strip_prefix(MADE).map_or((false, &*text), |body| (true, body));
            State::Ours(Ours { body: body.to_owned(), made_dir })
        }
    })
}

fn render(body: &str, made_dir: bool) -> String {
    owned::render(MARK, &format!("{}{body}", if made_dir { MADE } else { "" }))
}

/// What `put` would write where nothing is yet, for people.
pub fn preview(body: &str) -> String {
    render(body, false)
}

/// Puts a file with this body there, if it is ours or absent. Says whether anything changed; `command` is what root would
/// type.
///
/// # Errors
/// When the file is not ours, or cannot be written; then nothing changed.
pub fn put(path: &Path, body: &str, command: &str) -> Result<bool> {
    let before = match state(path)? {
        State::Foreign(why) => return Err(Error::Foreign { path: path.to_owned(), why }),
        State::Ours(ours) if ours.body == body => return Ok(false),
        State::Ours(ours) => Some(ours),
        State::Absent => None,
    };
    let dir = parent(path);
    let made = match std::fs::create_dir(dir) {
        Ok(()) => true,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => before.is_some_and(|ours| ours.made_dir),
        Err(source) => return Err(failed(path, "written", command, source)),
    };
    atomic::write(path, render(body, made).as_bytes(), 0o644).map_err(|source| {
        if made {
            std::fs::remove_dir(dir).ok();
        }
        failed(path, "written", command, source)
    })?;
    Ok(true)
}

/// Removes our file, and its directory where that was made for it and holds nothing else. Says whether there was one.
///
/// # Errors
/// When the file is not ours, or cannot be removed; then nothing changed.
pub fn take_away(path: &Path, command: &str) -> Result<bool> {
    let ours = match state(path)? {
        State::Absent => return Ok(false),
        State::Foreign(why) => return Err(Error::Foreign { path: path.to_owned(), why }),
        State::Ours(ours) => ours,
    };
    atomic::remove(path).map_err(|source| failed(path, "removed", command, source))?;
    if ours.made_dir {
        // Somebody may have put a file of theirs beside ours: then it stays.
        std::fs::remove_dir(parent(path)).ok();
    }
    Ok(true)
}

fn failed(path: &Path, done: &'static str, command: &str, source: io::Error) -> Error {
    let path = PathBuf::from(path);
    if matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) {
        Error::NeedsRoot { path, done, command: command.to_owned(), source }
    } else {
        Error::Io { path, done, source }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
