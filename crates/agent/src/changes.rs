//! Tells programs in the guest (`inotify`) of what programs of the host changed in shared directories: makes the change once more, through
//! this kernel, on a thread whose requests the host's file server answers and does not do (`dhow_share`, `fs::watch`).
//!
//! The thread works on the file system that holds all shares, which is mounted nowhere any more. It finds a directory by its number, so
//! that no path is walked and no container can be in the way. A change that nobody watches is left out; one that does not work out,
//! because the host has changed the file again, is left out too: that change comes next.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::thread;

use dhow_proto::agent::share_change::What;
use dhow_proto::agent::{ShareChange, TellChangesReply};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawMode, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot};

use crate::{Error, Result, console, sys, watchers};

/// The number of the directory that holds the shares, by FUSE's own rule.
const TOP: u64 = 1;

/// What came of telling: answered to whoever asked.
type Told = oneshot::Sender<TellChangesReply>;

/// Questions that wait; there is one host, which asks one at a time.
const WAITING: usize = 4;

static TELLER: OnceLock<mpsc::Sender<(Vec<ShareChange>, Told)>> = OnceLock::new();

/// Starts the thread, for the file system that is mounted at `all`.
pub fn begin(all: &Path) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(all, flags, Mode::empty()).map_err(Error::file("open", all))?;
    let stat = rustix::fs::fstat(&top).map_err(Error::file("look at", all))?;
    let device = rustix::fs::minor(stat.st_dev);
    let (sender, asked) = mpsc::channel(WAITING);
    let teller = Teller { top, device };
    thread::Builder::new()
        .name("shares".to_owned())
        .spawn(move || teller.run(asked))
        .map_err(Error::kernel("start a thread"))?;
    if TELLER.set(sender).is_err() {
        console::line("dhow: the shares were mounted twice");
    }
    Ok(())
}

/// Tells of these changes; none where nothing is shared. Without changes it only says which thread tells.
pub async fn tell(changes: Vec<ShareChange>) -> TellChangesReply {
    let (reply, told) = oneshot::channel();
    match TELLER.get() {
        Some(teller) if teller.send((changes, reply)).await.is_ok() => told.await.unwrap_or_default(),
        _ => TellChangesReply::default(),
    }
}

struct Teller {
    top: OwnedFd,
    device: u32,
}

impl Teller {
    fn run(&self, mut asked: mpsc::Receiver<(Vec<ShareChange>, Told)>) {
        let thread = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        while let Some((changes, reply)) = asked.blocking_recv() {
            let mut answer = TellChangesReply { thread, ..TellChangesReply::default() };
            if !changes.is_empty() {
                let watched = watchers::watched(self.device);
                for change in changes.iter().filter(|change| matters(change, &watched)) {
                    match self.make(change) {
                        Ok(()) => answer.told += 1,
                        Err(_) => answer.missed += 1,
                    }
                }
            }
            if reply.send(answer).is_err() {
                console::line("dhow: nobody waits any more to hear that changes were told");
            }
        }
    }

    /// A directory of the file system; the top is open.
    fn dir(&self, node: u64) -> std::result::Result<Place<'_>, Errno> {
        if node == TOP {
            return Ok(Place::Top(&self.top));
        }
        let opened = sys::open_node(&self.top, node);
        opened.map(Place::Dir).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }

    /// Makes the change once more.
    fn make(&self, change: &ShareChange) -> std::result::Result<(), Errno> {
        let dir = self.dir(change.dir)?;
        let name = change.name.as_slice();
        let times = |atime| {
            let time = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
            let times = Timestamps { last_access: time(atime), last_modification: time(UTIME_NOW) };
            rustix::fs::utimensat(&dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        };
        match change.what() {
            What::Made => made(&dir, name, change.kind),
            What::Removed if change.kind == 0 => rustix::fs::unlinkat(&dir, name, AtFlags::empty()),
            What::Removed => rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR),
            What::Moved => rustix::fs::renameat(&dir, name, &self.dir(change.to)?, change.to_name.as_slice()),
            // The kernel takes one time for a change of content, both for one of attributes.
            What::Written => times(UTIME_OMIT),
            What::Touched => times(UTIME_NOW),
            What::Closed => {
                let flags =
                    OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                rustix::fs::openat(&dir, name, flags, Mode::empty()).map(drop)
            }
            What::Unspecified => Err(Errno::INVAL),
        }
    }
}

/// An open directory.
enum Place<'a> {
    Top(&'a OwnedFd),
    Dir(OwnedFd),
}

impl AsFd for Place<'_> {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Place::Top(fd) => fd.as_fd(),
            Place::Dir(fd) => fd.as_fd(),
        }
    }
}

fn made(dir: &Place<'_>, name: &[u8], kind: u32) -> std::result::Result<(), Errno> {
    let mode = Mode::from_raw_mode(0o600);
    match FileType::from_raw_mode(RawMode::from(kind)) {
        FileType::Directory => rustix::fs::mkdirat(dir, name, mode),
        // Where it leads does not matter: nobody does it.
        FileType::Symlink => rustix::fs::symlinkat(c"/", dir, name),
        FileType::Unknown => Err(Errno::INVAL),
        kind => rustix::fs::mknodat(dir, name, kind, mode, 0),
    }
}

/// Whether somebody watches the directory, or the file itself.
fn matters(change: &ShareChange, watched: &HashSet<u64>) -> bool {
    [change.dir, change.to].iter().chain(&change.nodes).any(|node| watched.contains(node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_matters_to_who_watches_its_directory_or_its_file() {
        let change = ShareChange { dir: 7, to: 8, nodes: vec![9, 10], ..ShareChange::default() };
        for (watched, matter) in [(7, true), (8, true), (9, true), (10, true), (11, false)] {
            assert_eq!(matters(&change, &HashSet::from([watched])), matter, "{watched}");
        }
        assert!(!matters(&change, &HashSet::new()));
    }
}
