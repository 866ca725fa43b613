//! What a guest knows and has open, as bytes, so that another process can go on with it after a sleep: files by their place and
//! identity, never by content. What is not found again as the file that it was is stale (`ESTALE`), and never another file. It lies in
//! the hypervisor's saved state of the device, whose digest is kept with it; whatever the bytes are, reading them ends well.
//!
//! Open files are opened again by their place. One that was removed while it was open has none, and is stale.

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::abi::{Body, name};
use super::handles::Handle;
use super::nodes::{Nodes, Restored, TOP, top_of};
use super::reach::{self, as_owner};
use super::seen::Identity;
use super::server::Server;

/// The form of what follows; another one is not read.
const FORM: u32 = 1;
/// Of a handle.
const IS_DIR: u32 = 1;
const APPENDS: u32 = 2;
const WRITES: u32 = 4;

fn put(bytes: &mut Vec<u8>, words: &[u64]) {
    words.iter().for_each(|word| bytes.extend_from_slice(&word.to_ne_bytes()));
}

fn put_identity(bytes: &mut Vec<u8>, identity: &Identity) {
    let Identity { device, inode, born } = identity;
    put(bytes, &[*device, *inode, born.0.cast_unsigned(), u64::from(born.1)]);
}

fn identity(body: &mut Body<'_>) -> Result<Identity, Errno> {
    let (device, inode, seconds, nanos) = (body.u64()?, body.u64()?, body.u64()?, body.u64()?);
    let nanos = u32::try_from(nanos).map_err(|_| Errno::INVAL)?;
    Ok(Identity { device, inode, born: (seconds.cast_signed(), nanos) })
}

fn index(body: &mut Body<'_>) -> Result<usize, Errno> {
    usize::try_from(body.u64()?).map_err(|_| Errno::INVAL)
}

impl Server {
    /// What the guest knows and has open.
    pub(crate) fn save(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, &[u64::from(FORM), self.shares.len() as u64]);
        for share in &self.shares {
            put_identity(&mut bytes, &share.identity);
            put(&mut bytes, &[u64::from(share.writable)]);
        }
        self.nodes.save(&mut bytes);
        put(&mut bytes, &[self.handles.next(), self.handles.len() as u64]);
        for (id, node, handle) in self.handles.each() {
            // A stale one stays stale: it is no directory and no file that could be opened.
            let flags = handle.map_or(u32::MAX, |handle| {
                let bits = [(handle.is_dir, IS_DIR), (handle.appends, APPENDS), (handle.writes, WRITES)];
                bits.into_iter().filter(|(is, _)| *is).map(|(_, bit)| bit).sum()
            });
            put(&mut bytes, &[id, node, u64::from(flags)]);
        }
        bytes
    }

    /// Goes on with what another process has saved.
    ///
    /// # Errors
    /// When it is damaged, or was of other shares. Nothing is known then.
    pub(crate) fn restore(&mut self, saved: &[u8]) -> Result<(), Errno> {
        self.reset();
        let restored = self.take(saved);
        if restored.is_err() {
            self.reset();
        }
        restored
    }

    fn take(&mut self, saved: &[u8]) -> Result<(), Errno> {
        let mut body = Body(saved);
        if body.u64()? != u64::from(FORM) || index(&mut body)? != self.shares.len() {
            return Err(Errno::INVAL);
        }
        for share in &self.shares {
            // The guest believes its top to be the directory that it was.
            if identity(&mut body)? != share.identity || (body.u64()? != 0) != share.writable {
                return Err(Errno::STALE);
            }
        }
        self.nodes.restore(&mut body)?;
        let (next, count) = (body.u64()?, index(&mut body)?);
        for _ in 0..count {
            let (id, node, flags) = (body.u64()?, body.u64()?, body.u64()?);
            if id >= next || self.handles.has(id) || self.nodes.get(node).is_err() {
                return Err(Errno::INVAL);
            }
            let flags = u32::try_from(flags).map_err(|_| Errno::INVAL)?;
            match self.open_again(node, flags) {
                Ok(handle) => {
                    self.nodes.opened(node, &handle.fd);
                    self.handles.put(id, handle);
                }
                Err(error) => {
                    tracing::debug!(%error, "a file that was open before the sleep is stale");
                    self.nodes.opened_stale(node);
                    self.handles.put_stale(id, node);
                }
            }
        }
        self.handles.go_on_from(next);
        if body.0.is_empty() { Ok(()) } else { Err(Errno::INVAL) }
    }

    /// Opens a file as it was open, if it is still there.
    fn open_again(&mut self, node: u64, flags: u32) -> Result<Handle, Errno> {
        if flags & !(IS_DIR | APPENDS | WRITES) != 0 {
            return Err(Errno::STALE);
        }
        let (is_dir, appends, writes) = (flags & IS_DIR != 0, flags & APPENDS != 0, flags & WRITES != 0);
        if writes {
            self.writable(node)?;
        }
        self.handles.fits()?;
        let path = self.nodes.fd(node)?;
        let stat = rustix::fs::fstat(&*path)?;
        let (how, needed) = match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
            rustix::fs::FileType::Directory if is_dir => (OFlags::RDONLY | OFlags::DIRECTORY, 0o500),
            rustix::fs::FileType::RegularFile if !is_dir && writes => (OFlags::RDWR, 0o600),
            rustix::fs::FileType::RegularFile if !is_dir => (OFlags::RDONLY, 0o400),
            _ => return Err(Errno::STALE),
        };
        let fd = as_owner(&*path, needed, || reach::open(&*path, how))?;
        Ok(Handle { node, fd: fd.into(), is_dir, appends, writes, position: None })
    }

    /// Watches the directories that the guest knew before it slept.
    pub(super) fn see_again(&mut self) {
        for (node, share, parent, entry) in self.nodes.dirs() {
            self.see(node, share, parent, &entry);
        }
    }
}

impl Nodes {
    fn save(&self, bytes: &mut Vec<u8>) {
        let (next, devices) = (self.next_number(), self.devices());
        put(bytes, &[next, devices.len() as u64]);
        put(bytes, devices);
        put(bytes, &[self.len() as u64]);
        for (id, node) in self.each() {
            let Restored { share, identity, kind, parent, name, lookups } = node;
            put(bytes, &[id, share as u64, u64::from(kind), parent, lookups]);
            put_identity(bytes, &identity);
            put(bytes, &[name.len() as u64]);
            bytes.extend_from_slice(&name);
        }
    }

    fn restore(&mut self, body: &mut Body<'_>) -> Result<(), Errno> {
        let (next, count) = (body.u64()?, index(body)?);
        let mut devices = Vec::new();
        for _ in 0..count.min(0xffff + 1) {
            devices.push(body.u64()?);
        }
        self.go_on_from(next, devices);
        for _ in 0..index(body)? {
            let (id, share, kind) = (body.u64()?, index(body)?, body.u64()?);
            let (parent, lookups) = (body.u64()?, body.u64()?);
            let identity = identity(body)?;
            let length = index(body)?;
            let entry = body.bytes(length)?;
            let kind = u32::try_from(kind).map_err(|_| Errno::INVAL)?;
            // A file that was made without a name has none; all else is an entry of its directory.
            if !entry.is_empty() {
                name(entry)?;
            }
            if id == TOP || share >= self.shares() || id >= next.max(top_of(self.shares())) {
                return Err(Errno::INVAL);
            }
            let known = Restored { share, identity, kind, parent, name: entry.into(), lookups };
            self.put_back(id, known)?;
        }
        Ok(())
    }
}
