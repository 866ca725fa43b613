//! The requests of the guest's thread that makes its kernel tell of changes that the host has made ([`watch`](super::watch)): all are answered as
//! if they had been done, and **none is ever done**. So it does not matter who speaks with that thread's number: whoever does can
//! change nothing. Only the names of the batch that is being told are answered otherwise than they are:
//!
//! | told | its call | what it finds before | the answer to the change itself |
//! | --- | --- | --- | --- |
//! | made | `mknod`, `mkdir`, `symlink` | nothing, though it is there | the file that is there |
//! | removed | `unlink`, `rmdir` | the file that the guest knew, or a stand-in | done |
//! | moved | `rename` | the file at its old name, at the new one what the guest knew there | done, and it is found there from now on |
//! | written, touched | `utimensat` (the kernel tells of a change of one time as of a content, of both as of attributes) | the file | its attributes |
//! | closed | `open`, `close` | the file | a handle that is none |

use std::os::fd::AsFd as _;

use rustix::io::Errno;

use super::abi::{Answer, Body, Header, name, op};
use super::nodes::TOP;
use super::reach::as_owner;
use super::seen::Seen;
use super::server::Server;
use crate::news::{Change, Said, What};

/// The handle that is none.
const NONE: u64 = u64::MAX;
/// `struct fuse_entry_out` behind node and generation: how long it is believed.
const UNBELIEVED: [u8; 24] = [0; 24];

impl Server {
    /// What to tell now; empty: nothing, or not yet.
    pub(crate) fn tidings(&mut self) -> Vec<Change> {
        let mut batch = self.watch.next();
        if batch.is_empty() {
            return batch;
        }
        batch.retain_mut(|change| self.stands(change));
        for change in &mut batch {
            change.nodes = self.known(change);
        }
        self.watch.telling.clone_from(&batch);
        batch
    }

    /// The supervisor has said something.
    pub(crate) fn hear(&mut self, said: Said) {
        match said {
            Said::Teller(thread) => {
                self.watch.telling.clear();
                if std::mem::replace(&mut self.watch.teller, thread) == 0 && thread != 0 {
                    self.see_again();
                }
            }
            Said::Done => self.watch.telling.clear(),
        }
    }

    /// Whether a change can still be told; of what was made: what it is.
    fn stands(&mut self, change: &mut Change) -> bool {
        let hides = |server: &mut Server, dir: u64, name: &[u8]| {
            dir != TOP && server.there(dir, name).is_ok_and(|seen| server.hides(&seen.identity))
        };
        match &mut change.what {
            What::Made { kind } => match self.there(change.dir, &change.name) {
                Ok(seen) if !self.hides(&seen.identity) => {
                    *kind = seen.mode() & 0o170_000;
                    true
                }
                _ => false,
            },
            What::Moved { to, name } => !hides(self, *to, name),
            What::Removed { .. } => true,
            _ => !hides(self, change.dir, &change.name),
        }
    }

    /// What the guest knows of a change's file, and of the one that was where it is now.
    fn known(&mut self, change: &Change) -> [u64; 2] {
        let before = self.nodes.at(change.dir, &change.name).unwrap_or(0);
        match &change.what {
            What::Moved { to, name } => {
                let replaced = self.nodes.at(*to, name).unwrap_or(0);
                [if before == 0 { replaced } else { before }, replaced]
            }
            _ => [before, 0],
        }
    }

    /// An entry as it is on the host.
    fn there(&mut self, dir: u64, name: &[u8]) -> Result<Seen, Errno> {
        let dir = self.dir(dir)?;
        as_owner(&*dir, 0o100, || Seen::entry(dir.as_fd(), name))
    }

    /// Answers the teller. What it may not ask for it is refused.
    pub(super) fn answer_teller(
        &mut self,
        header: &Header,
        mut body: Body<'_>,
        answer: &mut Answer,
    ) -> Result<(), Errno> {
        let node = header.node;
        match header.opcode {
            op::LOOKUP => self.look_up_to_tell(node, body, answer),
            op::GETATTR | op::SETATTR => self.get_attributes(node, answer),
            op::MKNOD => {
                body.skip(16)?;
                self.as_made(node, name(body.text()?)?, answer)
            }
            op::MKDIR => {
                body.skip(8)?;
                self.as_made(node, name(body.text()?)?, answer)
            }
            op::SYMLINK => self.as_made(node, name(body.text()?)?, answer),
            op::UNLINK | op::RMDIR => Ok(()),
            op::RENAME | op::RENAME2 => {
                let to = body.u64()?;
                if header.opcode == op::RENAME2 {
                    body.skip(8)?;
                }
                let (_, new) = (body.text()?, name(body.text()?)?);
                self.is_at(to, new);
                Ok(())
            }
            op::OPEN => {
                if self.look(node)?.is_file() {
                    answer.u64(NONE).u32(super::abi::KEEP_CACHE).u32(0);
                    Ok(())
                } else {
                    Err(Errno::NXIO)
                }
            }
            op::OPENDIR if node == TOP => self.open_dir(node, answer),
            op::STATFS => self.file_system(node, answer),
            op::FLUSH | op::ACCESS => Err(Errno::NOSYS),
            _ => Err(Errno::PERM),
        }
    }

    /// Whether a handle is the one that is none; its release is whoever's.
    pub(super) fn is_no_handle(mut body: Body<'_>) -> bool {
        body.u64() == Ok(NONE)
    }

    fn look_up_to_tell(&mut self, dir: u64, body: Body<'_>, answer: &mut Answer) -> Result<(), Errno> {
        let entry = name({ body }.text()?)?;
        let told =
            self.watch.telling.iter().find_map(|change| told(change, dir, entry)).unwrap_or(Told::AsItIs);
        match told {
            Told::AsItIs if dir == TOP && entry.starts_with(b"moved-") => nothing(answer),
            Told::AsItIs => self.look_up(dir, body, answer),
            Told::Nothing => nothing(answer),
            Told::Gone { is_dir } => self.stand_in(dir, entry, is_dir, answer),
            Told::Moved { to: TOP, .. } => self.stand_in(dir, entry, false, answer),
            Told::Moved { to, name } => {
                let share = self.share_of(to)?;
                match (self.there(to, &name), self.nodes.at(dir, entry)) {
                    (Ok(seen), _) if self.nodes.known(share, &seen.identity).is_some() => {
                        let node = self.nodes.known(share, &seen.identity).ok_or(Errno::STALE)?;
                        self.tell_known(node, answer)
                    }
                    // It has moved on since.
                    (Err(_), Some(node)) => self.tell_known(node, answer),
                    (Ok(seen), _) => self.tell(share, dir, entry, &seen, answer),
                    (Err(error), None) => Err(error),
                }
            }
            Told::Replaced => {
                let now = self.there(dir, entry).map(|seen| seen.identity).ok();
                let before = self.nodes.at(dir, entry);
                let other =
                    before.filter(|id| self.nodes.get(*id).is_ok_and(|node| Some(node.identity) != now));
                match other {
                    Some(node) => self.tell_known(node, answer),
                    None => nothing(answer),
                }
            }
        }
    }

    /// Tells of a file that the guest knew, as it is if it is still open, and else as it may be.
    fn tell_known(&mut self, node: u64, answer: &mut Answer) -> Result<(), Errno> {
        let seen = self.look(node).ok();
        self.nodes.told_again(node)?;
        answer.u64(node).u64(0).bytes(&UNBELIEVED);
        match seen {
            Some(seen) => seen.put(self.nodes.inode(&seen.identity), answer),
            None => {
                let (inode, kind) = (self.nodes.inode_of(node)?, self.nodes.get(node)?.kind);
                put(inode, kind, answer);
            }
        }
        Ok(())
    }

    /// What is gone, and was perhaps never known.
    fn stand_in(&mut self, dir: u64, name: &[u8], is_dir: bool, answer: &mut Answer) -> Result<(), Errno> {
        let known = self.nodes.at(dir, name);
        if let Some(node) = known.filter(|id| self.nodes.get(*id).is_ok_and(|node| node.is_dir == is_dir)) {
            return self.tell_known(node, answer);
        }
        let share = self.share_of(dir)?;
        let kind = if is_dir { 0o040_000 } else { 0o100_000 };
        let node = self.nodes.stand_in(share, dir, name, kind)?;
        answer.u64(node).u64(0).bytes(&UNBELIEVED);
        put(node, kind, answer);
        Ok(())
    }

    fn as_made(&mut self, dir: u64, name: &[u8], answer: &mut Answer) -> Result<(), Errno> {
        let share = self.share_of(dir)?;
        let seen = self.there(dir, name)?;
        self.tell(share, dir, name, &seen, answer)
    }

    fn is_at(&mut self, dir: u64, name: &[u8]) {
        if dir != TOP
            && let Ok(share) = self.share_of(dir)
            && let Ok(seen) = self.there(dir, name)
        {
            self.nodes.moved(share, &seen.identity, dir, name);
            if seen.is_dir()
                && let Some(node) = self.nodes.known(share, &seen.identity)
            {
                self.see(node, share, dir, name);
            }
        }
    }
}

/// How a name of the batch is answered.
enum Told {
    AsItIs,
    Nothing,
    Gone { is_dir: bool },
    Moved { to: u64, name: Vec<u8> },
    Replaced,
}

fn told(change: &Change, dir: u64, entry: &[u8]) -> Option<Told> {
    let here = change.dir == dir && change.name == entry;
    match &change.what {
        What::Made { .. } if here => Some(Told::Nothing),
        What::Removed { is_dir } if here => Some(Told::Gone { is_dir: *is_dir }),
        What::Moved { to, name } if here => Some(Told::Moved { to: *to, name: name.clone() }),
        What::Moved { to, name } if *to == dir && name == entry => Some(Told::Replaced),
        _ => None,
    }
}

/// Believed for no time.
fn nothing(answer: &mut Answer) -> Result<(), Errno> {
    answer.bytes(&[0; 128]);
    Ok(())
}

/// `struct fuse_attr` of what nobody can look at.
fn put(inode: u64, kind: u32, answer: &mut Answer) {
    answer.u64(inode).u64(0).u64(0).bytes(&[0; 36]);
    answer.u32(kind | 0o600).u32(1).u32(0).u32(0).u32(0).u32(4096).u32(0);
}
