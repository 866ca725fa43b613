//! Listings, plain or with attributes, from wherever the guest says it stopped.

use std::os::fd::AsFd as _;
use std::rc::Rc;

use rustix::fs::{FileType, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use super::abi::{Answer, Body};
use super::handles::Handle;
use super::nodes::{TOP, top_of};
use super::reach::{self, as_owner};
use super::seen::{Identity, Seen};
use super::server::Server;
use super::tree::put_no_entry;

/// `struct fuse_dirent` without its name, and `struct fuse_entry_out`, which stands before it where attributes are asked for.
const ENTRY: usize = 24;
const ATTRIBUTES: usize = 128;

impl Server {
    pub(super) fn open_dir(&mut self, node: u64, answer: &mut Answer) -> Result<(), Errno> {
        if node == TOP {
            answer.u64(0).u64(0);
            return Ok(());
        }
        self.share_of(node)?;
        self.handles.fits()?;
        let path = self.dir(node)?;
        let fd = as_owner(&*path, 0o500, || reach::open(&*path, OFlags::RDONLY | OFlags::DIRECTORY))?;
        let fd = Rc::new(fd);
        self.nodes.opened(node, &fd);
        let handle = Handle { node, fd, is_dir: true, appends: false, writes: false, position: Some(0) };
        answer.u64(self.handles.add(handle)).u64(0);
        Ok(())
    }

    pub(super) fn list(
        &mut self,
        node: u64,
        mut body: Body<'_>,
        answer: &mut Answer,
        whole: bool,
    ) -> Result<(), Errno> {
        let (id, offset, size) = (body.u64()?, body.u64()?, body.u32()? as usize);
        if node == TOP {
            return self.list_top(offset, size, answer, whole);
        }
        let share = self.share_of(node)?;
        let device = self.nodes.get(node)?.identity.device;
        let handle = self.handles.dir(node, id)?;
        let fd = Rc::clone(&handle.fd);
        if handle.position != Some(offset) {
            rustix::fs::seek(&*fd, SeekFrom::Start(offset))?;
        }
        handle.position = None;
        // What is read and does not fit is read again.
        let each = if whole { 5 } else { 1 };
        let mut entries = std::mem::take(&mut self.entries);
        let length = (size / each).clamp(1024, entries.len());
        let listed = self.fill(share, node, device, &fd, &mut entries[..length], size, answer, whole);
        self.entries = entries;
        let position = listed?;
        if let Ok(handle) = self.handles.dir(node, id) {
            handle.position = position;
        }
        Ok(())
    }

    /// Adds entries until the buffer is used up or the answer full; where the descriptor stands then, if that is known.
    #[expect(clippy::too_many_arguments, reason = "a loop's body with what it works on")]
    fn fill(
        &mut self,
        share: usize,
        node: u64,
        device: u64,
        fd: &Rc<std::os::fd::OwnedFd>,
        buffer: &mut [std::mem::MaybeUninit<u8>],
        size: usize,
        answer: &mut Answer,
        whole: bool,
    ) -> Result<Option<u64>, Errno> {
        let mut entries = RawDir::new(&**fd, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let (name, next, kind) =
                (entry.file_name().to_bytes(), entry.next_entry_cookie(), entry.file_type());
            let padded = (ENTRY + name.len()).next_multiple_of(8);
            let needed = padded + if whole { ATTRIBUTES } else { 0 };
            if answer.len() + needed > size {
                return Ok(None);
            }
            let mut inode = Identity { device, inode: entry.ino(), born: (0, 0) };
            if self.hides(&inode) {
                continue;
            }
            if whole {
                if name == b"." || name == b".." {
                    put_no_entry(answer);
                } else {
                    match as_owner(&**fd, 0o100, || Seen::entry(fd.as_fd(), name)) {
                        Ok(seen) => {
                            self.tell(share, node, name, &seen, answer)?;
                            inode = seen.identity;
                        }
                        // Gone since the directory was read.
                        Err(Errno::NOENT) => continue,
                        Err(_) => put_no_entry(answer),
                    }
                }
            }
            put(answer, self.nodes.inode(&inode), next, kind, name);
            if entries.is_buffer_empty() {
                return Ok(Some(next));
            }
        }
        Ok(None)
    }

    fn list_top(&mut self, offset: u64, size: usize, answer: &mut Answer, whole: bool) -> Result<(), Errno> {
        let from = usize::try_from(offset).map_err(|_| Errno::INVAL)?;
        for share in from..self.shares.len() {
            let name = share.to_string();
            let needed = (ENTRY + name.len()).next_multiple_of(8) + if whole { ATTRIBUTES } else { 0 };
            if answer.len() + needed > size {
                break;
            }
            if whole {
                put_no_entry(answer);
            }
            put(answer, top_of(share), share as u64 + 1, FileType::Directory, name.as_bytes());
        }
        Ok(())
    }
}

fn put(answer: &mut Answer, inode: u64, next: u64, kind: FileType, name: &[u8]) {
    let number = match kind {
        FileType::Unknown => 0,
        kind => kind.as_raw_mode() >> 12,
    };
    let length = u32::try_from(name.len()).unwrap_or(0);
    answer.u64(inode).u64(next).u32(length).u32(number).bytes(name);
    let padding = name.len().next_multiple_of(8) - name.len();
    answer.bytes(&[0; 8][..padding]);
}
