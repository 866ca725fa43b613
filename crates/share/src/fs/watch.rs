//! Changes that programs of the host make in directories that the guest knows, so that the guest's kernel can tell its own programs
//! of them (`inotify`).
//!
//! FUSE has no message for this. What makes a kernel tell of a change is a change that goes through it; so a thread of the guest's
//! agent, the **teller**, makes the change once more, and this server, which knows that thread by its number, answers as if it had been
//! done and does nothing ([`teller`](super::teller)).
//!
//! ```text
//!  host's kernel ── inotify ──▶ drain ──▶ queue (merged, bounded) ──▶ a batch ──▶ supervisor ──▶ agent's teller
//!                                 │ what this process did itself is left out           │ mknod, unlink, rename, utimensat …
//!                                 ▼                                                    ▼
//!                               dropped                                guest's kernel ──▶ requests, answered and not done
//! ```
//!
//! - A directory is watched from the moment at which the guest is told of it, so that whoever watches it in the guest and then
//!   lists it misses nothing, in new directories too. There is a limit, half of what the host allows its user; above it the one
//!   that was looked up least recently is given up, and that is said once.
//! - What the guest does itself shows in the host's events as well, since this process does it. Each request notes which entry
//!   it changes; at the end of its turn the events are read, and those of noted entries are dropped. A change that a host's program makes
//!   to the same entry within the same turn (microseconds) goes with them: the guest has an event of that entry in any case.
//! - One batch is under way at a time. What comes meanwhile waits, the same change of the same entry once. Beyond [`QUEUE`]
//!   changes are lost, which is logged.
//! - While nobody is there to be told (the guest boots, or sleeps) the host's kernel keeps the events, 16,384 by default.

use std::collections::{HashMap, VecDeque};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::nodes::TOP;
use crate::news::{Change, MOST, What};

/// Changes that wait at most.
const QUEUE: usize = 8192;
/// Directories that are watched at most, whatever the host allows.
const DIRS: usize = 32 << 10;
/// How far back the other half of a move, or the same change, is looked for.
const BACK: usize = 64;

struct Dir {
    wd: i32,
    recent: bool,
}

/// A change that waits, and the number by which the host's kernel joins the halves of a move.
struct Waiting {
    change: Change,
    cookie: u32,
}

/// The host's side of it.
pub(crate) struct Watch {
    inotify: Option<OwnedFd>,
    dirs: HashMap<u64, Dir>,
    nodes: HashMap<i32, u64>,
    order: VecDeque<u64>,
    most: usize,
    /// Entries that the guest changes in this turn.
    own: Vec<(u64, Box<[u8]>)>,
    queue: VecDeque<Waiting>,
    /// What is being told.
    pub(super) telling: Vec<Change>,
    /// The guest's thread that tells; 0: none.
    pub(super) teller: u32,
    moves: u64,
    /// Said once each: that there are too many directories, that changes were lost.
    full: bool,
    lost: u64,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("dirs", &self.dirs.len())
            .field("queue", &self.queue.len())
            .finish_non_exhaustive()
    }
}

fn wanted() -> WatchFlags {
    WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MODIFY
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::ATTRIB
        | WatchFlags::ONLYDIR
        | WatchFlags::EXCL_UNLINK
}

/// Half of what the host allows, so that the user's other programs have theirs.
pub(crate) fn allowed() -> usize {
    let limit = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").ok();
    limit.and_then(|text| text.trim().parse::<usize>().ok()).map_or(DIRS, |limit| (limit / 2).min(DIRS))
}

impl Watch {
    /// Watches nothing yet; at most `most` directories ever.
    pub(crate) fn new(most: usize) -> Watch {
        let able = (most > 0).then(|| inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK));
        let inotify = able.unwrap_or(Err(Errno::NOSYS));
        if most > 0
            && let Err(error) = &inotify
        {
            tracing::warn!(%error, "changes that programs of this computer make are not told to containers (inotify): the user has too many inotify instances (fs.inotify.max_user_instances)");
        }
        Watch {
            inotify: inotify.ok(),
            dirs: HashMap::new(),
            nodes: HashMap::new(),
            order: VecDeque::new(),
            most,
            own: Vec::new(),
            queue: VecDeque::new(),
            telling: Vec::new(),
            teller: 0,
            moves: 0,
            full: false,
            lost: 0,
        }
    }

    /// Readable when there are events.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// The guest was told of a directory, which is at `path`.
    pub(super) fn see(&mut self, node: u64, path: impl FnOnce() -> Vec<u8>) {
        if let Some(dir) = self.dirs.get_mut(&node) {
            dir.recent = true;
            return;
        }
        let Some(inotify) = &self.inotify else { return };
        let wd = match inotify::add_watch(inotify, path(), wanted()) {
            Ok(wd) => wd,
            Err(Errno::NOSPC) => {
                // Others of the user's programs have taken them.
                self.most = self.dirs.len();
                return self.is_full();
            }
            Err(error) => return tracing::debug!(%error, "a directory cannot be watched"),
        };
        if let Some(before) = self.nodes.insert(wd, node) {
            self.dirs.remove(&before);
        }
        self.dirs.insert(node, Dir { wd, recent: false });
        self.order.push_back(node);
        if self.dirs.len() > self.most {
            self.is_full();
            self.give_one_up();
        }
    }

    fn is_full(&mut self) {
        if !self.full {
            self.full = true;
            tracing::warn!(
                directories = self.most,
                "containers know more directories than may be watched; they are not told (inotify) of changes in those that were not used for longest: raise fs.inotify.max_user_watches"
            );
        }
    }

    fn give_one_up(&mut self) {
        for _ in 0..2 * self.order.len() {
            let Some(oldest) = self.order.pop_front() else { return };
            match self.dirs.get_mut(&oldest) {
                Some(dir) if dir.recent => {
                    dir.recent = false;
                    self.order.push_back(oldest);
                }
                Some(_) => return self.forget(oldest),
                None => {}
            }
        }
    }

    /// The guest has forgotten a directory.
    pub(super) fn forget(&mut self, node: u64) {
        let Some(dir) = self.dirs.remove(&node) else { return };
        self.nodes.remove(&dir.wd);
        if let Some(inotify) = &self.inotify
            && let Err(error) = inotify::remove_watch(inotify, dir.wd)
        {
            // Gone by itself with its directory.
            tracing::trace!(%error, "a watch");
        }
        if self.order.len() > 2 * self.dirs.len() + 64 {
            let dirs = &self.dirs;
            self.order.retain(|node| dirs.contains_key(node));
        }
    }

    /// Another guest, which knows nothing.
    pub(super) fn clear(&mut self) {
        let nodes: Vec<u64> = self.dirs.keys().copied().collect();
        nodes.into_iter().for_each(|node| self.forget(node));
        self.order.clear();
        self.own.clear();
        self.queue.clear();
        self.telling.clear();
        self.teller = 0;
    }

    /// The guest itself changes this entry in this turn.
    pub(super) fn own(&mut self, dir: u64, name: &[u8]) {
        if self.dirs.contains_key(&dir) {
            self.own.push((dir, name.into()));
        }
    }

    /// Whether the events of this turn must be read before the next one.
    pub(crate) fn is_due(&self) -> bool {
        !self.own.is_empty()
    }

    /// Reads what there is.
    pub(crate) fn drain(&mut self) {
        let Some(inotify) = self.inotify.take() else { return };
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut events = inotify::Reader::new(&inotify, &mut buffer);
        loop {
            match events.next() {
                Ok(event) => {
                    let name = event.file_name().map(std::ffi::CStr::to_bytes);
                    self.take(event.wd(), event.events(), event.cookie(), name.unwrap_or_default());
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::warn!(%error, "reading the host's events");
                    break;
                }
            }
        }
        self.inotify = Some(inotify);
        self.own.clear();
    }

    fn take(&mut self, wd: i32, events: ReadFlags, cookie: u32, name: &[u8]) {
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            return self.lose(1);
        }
        if events.contains(ReadFlags::IGNORED) {
            if let Some(node) = self.nodes.remove(&wd) {
                self.dirs.remove(&node);
            }
            return;
        }
        let Some(dir) = self.nodes.get(&wd).copied() else { return };
        if name.is_empty() || self.teller == 0 || self.own.iter().any(|own| own.0 == dir && *own.1 == *name) {
            return;
        }
        let is_dir = events.contains(ReadFlags::ISDIR);
        let what = if events.contains(ReadFlags::CREATE) {
            What::Made { kind: 0 }
        } else if events.contains(ReadFlags::DELETE) {
            What::Removed { is_dir }
        } else if events.contains(ReadFlags::MOVED_FROM) {
            What::Moved { to: TOP, name: self.elsewhere() }
        } else if events.contains(ReadFlags::MOVED_TO) {
            return self.arrived(dir, name, cookie);
        } else if events.contains(ReadFlags::MODIFY) {
            What::Written
        } else if events.contains(ReadFlags::CLOSE_WRITE) {
            What::Closed
        } else if events.contains(ReadFlags::ATTRIB) {
            What::Touched
        } else {
            return;
        };
        self.add(Change::new(what, dir, name), cookie);
    }

    /// The second half of a move, whose first may be here too.
    fn arrived(&mut self, dir: u64, name: &[u8], cookie: u32) {
        let half =
            self.queue.iter_mut().rev().take(BACK).find(|waiting| cookie != 0 && waiting.cookie == cookie);
        if let Some(waiting) = half {
            waiting.change.what = What::Moved { to: dir, name: name.to_vec() };
            waiting.cookie = 0;
            return;
        }
        let from = self.elsewhere();
        self.add(Change::new(What::Moved { to: dir, name: name.to_vec() }, TOP, &from), 0);
    }

    /// A name at the top for where something came from or went to, unlike a share's, which is a number.
    fn elsewhere(&mut self) -> Vec<u8> {
        self.moves += 1;
        format!("moved-{}", self.moves).into_bytes()
    }

    fn add(&mut self, change: Change, cookie: u32) {
        let of_it = self.queue.iter().rev().take(BACK).map(|waiting| &waiting.change);
        let mut of_it = of_it.filter(|waiting| touches(waiting, change.dir, &change.name));
        // Since it is told later than it was, one stands for all.
        let since = of_it
            .by_ref()
            .take_while(|waiting| matches!(waiting.what, What::Written | What::Closed | What::Touched));
        if since.into_iter().any(|waiting| *waiting == change) {
            return;
        }
        if self.queue.len() >= QUEUE {
            return self.lose(1);
        }
        self.queue.push_back(Waiting { change, cookie });
    }

    fn lose(&mut self, count: u64) {
        if self.lost == 0 {
            tracing::warn!(
                "programs of this computer change more files at once than containers can be told of (inotify); some changes were not told"
            );
        }
        self.lost += count;
    }

    /// The next batch, when the last one is done.
    pub(super) fn next(&mut self) -> Vec<Change> {
        if self.teller == 0 || !self.telling.is_empty() {
            return Vec::new();
        }
        let count = self.queue.len().min(MOST);
        if count == 0 {
            self.lost = 0;
        }
        self.queue.drain(..count).map(|waiting| waiting.change).collect()
    }

    /// Directories that are watched, of all that the guest knows.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.dirs.len()
    }
}

/// Whether a change is one of this entry's.
fn touches(change: &Change, dir: u64, name: &[u8]) -> bool {
    (change.dir == dir && change.name == name)
        || matches!(&change.what, What::Moved { to, name: new } if *to == dir && new == name)
}
