//! The guest's end of the protocol.

use std::path::Path;

use rustix::io::Errno;

use crate::fs::abi::{Answer, op};
use crate::fs::server::{Answered, Server};

/// A mounted file system, spoken to as one user.
pub(super) struct Client {
    pub(super) server: Server,
    answer: Answer,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// What a file looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attr {
    pub(super) node: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) links: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) device: u32,
}

pub(super) type Result<T> = std::result::Result<T, Errno>;

pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(super) fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn attr(node: u64, bytes: &[u8]) -> Attr {
    Attr {
        node,
        inode: long(bytes, 0),
        size: long(bytes, 8),
        mode: word(bytes, 60),
        links: word(bytes, 64),
        uid: word(bytes, 68),
        gid: word(bytes, 72),
        device: word(bytes, 76),
    }
}

/// Words one after the other.
#[derive(Default)]
pub(super) struct Words(pub(super) Vec<u8>);

impl Words {
    pub(super) fn u32(mut self, word: u32) -> Self {
        self.0.extend_from_slice(&word.to_ne_bytes());
        self
    }

    pub(super) fn u64(mut self, word: u64) -> Self {
        self.0.extend_from_slice(&word.to_ne_bytes());
        self
    }

    pub(super) fn text(mut self, text: &[u8]) -> Self {
        self.0.extend_from_slice(text);
        self.0.push(0);
        self
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

pub(super) fn words() -> Words {
    Words::default()
}

impl Client {
    pub(super) fn new(shares: &[(&Path, bool)]) -> Client {
        Client::with(shares, 1 << 14)
    }

    pub(super) fn with(shares: &[(&Path, bool)], descriptors: usize) -> Client {
        let server = Server::new(shares.iter().copied(), descriptors).unwrap();
        let mut client = Client { server, answer: Answer::new(), uid: 0, gid: 0 };
        let flags = u32::MAX;
        client.ask(op::INIT, 0, &words().u32(7).u32(40).u32(1 << 17).u32(flags).bytes(&[0; 48]).0).unwrap();
        client
    }

    /// Sends a request as it is; `None`: no answer is due.
    pub(super) fn send(&mut self, request: &[u8]) -> Option<(i32, Vec<u8>)> {
        match self.server.handle(request, &mut self.answer) {
            Answered::Never => None,
            Answered::Yes => {
                let whole = self.answer.whole();
                assert_eq!(word(whole, 0) as usize, whole.len());
                Some((word(whole, 4).cast_signed(), whole[16..].to_vec()))
            }
        }
    }

    pub(super) fn request(&self, opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(40 + body.len()).unwrap();
        words().u32(length).u32(opcode).u64(77).u64(node).u32(self.uid).u32(self.gid).u64(0).bytes(body).0
    }

    pub(super) fn ask(&mut self, opcode: u32, node: u64, body: &[u8]) -> Result<Vec<u8>> {
        let (error, bytes) = self.send(&self.request(opcode, node, body)).expect("an answer");
        if error == 0 { Ok(bytes) } else { Err(Errno::from_raw_os_error(-error)) }
    }

    fn entry(&mut self, opcode: u32, node: u64, body: Words) -> Result<Attr> {
        let bytes = self.ask(opcode, node, &body.0)?;
        Ok(attr(long(&bytes, 0), &bytes[40..]))
    }

    /// The top of a share.
    pub(super) fn top(&mut self, share: usize) -> u64 {
        self.look_up(1, share.to_string().as_bytes()).unwrap().node
    }

    pub(super) fn look_up(&mut self, node: u64, name: &[u8]) -> Result<Attr> {
        let found = self.entry(op::LOOKUP, node, words().text(name))?;
        if found.node == 0 { Err(Errno::NOENT) } else { Ok(found) }
    }

    /// Goes down a path of names.
    pub(super) fn walk(&mut self, node: u64, path: &str) -> Result<Attr> {
        let mut found = self.attributes(node)?;
        for name in path.split('/') {
            found = self.look_up(found.node, name.as_bytes())?;
        }
        Ok(found)
    }

    pub(super) fn attributes(&mut self, node: u64) -> Result<Attr> {
        let bytes = self.ask(op::GETATTR, node, &[0; 16])?;
        Ok(attr(node, &bytes[16..]))
    }

    pub(super) fn create(&mut self, dir: u64, name: &[u8], mode: u32) -> Result<(Attr, u64)> {
        let bytes = self.ask(op::CREATE, dir, &words().u32(2).u32(mode).u32(0).u32(0).text(name).0)?;
        Ok((attr(long(&bytes, 0), &bytes[40..]), long(&bytes, 128)))
    }

    pub(super) fn make_dir(&mut self, dir: u64, name: &[u8], mode: u32) -> Result<Attr> {
        self.entry(op::MKDIR, dir, words().u32(mode).u32(0).text(name))
    }

    pub(super) fn make_node(&mut self, dir: u64, name: &[u8], mode: u32, device: u32) -> Result<Attr> {
        self.entry(op::MKNOD, dir, words().u32(mode).u32(device).u64(0).text(name))
    }

    pub(super) fn symlink(&mut self, dir: u64, name: &[u8], target: &[u8]) -> Result<Attr> {
        self.entry(op::SYMLINK, dir, words().text(name).text(target))
    }

    pub(super) fn link(&mut self, node: u64, dir: u64, name: &[u8]) -> Result<Attr> {
        self.entry(op::LINK, dir, words().u64(node).text(name))
    }

    pub(super) fn open(&mut self, node: u64, flags: u32) -> Result<u64> {
        Ok(long(&self.ask(op::OPEN, node, &words().u32(flags).u32(0).0)?, 0))
    }

    pub(super) fn read(&mut self, node: u64, handle: u64, offset: u64, size: u32) -> Result<Vec<u8>> {
        self.ask(op::READ, node, &words().u64(handle).u64(offset).u32(size).bytes(&[0; 20]).0)
    }

    pub(super) fn write(&mut self, node: u64, handle: u64, offset: u64, data: &[u8]) -> Result<u32> {
        let body = words().u64(handle).u64(offset).u32(u32::try_from(data.len()).unwrap()).u32(0);
        let bytes = self.ask(op::WRITE, node, &body.bytes(&[0; 16]).bytes(data).0)?;
        Ok(word(&bytes, 0))
    }

    pub(super) fn release(&mut self, node: u64, handle: u64) -> Result<()> {
        self.ask(op::RELEASE, node, &words().u64(handle).bytes(&[0; 16]).0).map(drop)
    }

    pub(super) fn unlink(&mut self, dir: u64, name: &[u8]) -> Result<()> {
        self.ask(op::UNLINK, dir, &words().text(name).0).map(drop)
    }

    pub(super) fn remove_dir(&mut self, dir: u64, name: &[u8]) -> Result<()> {
        self.ask(op::RMDIR, dir, &words().text(name).0).map(drop)
    }

    pub(super) fn rename(&mut self, from: (u64, &[u8]), to: (u64, &[u8]), how: u32) -> Result<()> {
        let body = words().u64(to.0).u32(how).u32(0).text(from.1).text(to.1);
        self.ask(op::RENAME2, from.0, &body.0).map(drop)
    }

    /// Sets what the bits say; the rest of the words counts for nothing.
    pub(super) fn set(&mut self, node: u64, valid: u32, to: (u64, u32, u32, u32)) -> Result<Attr> {
        let (size, mode, uid, gid) = to;
        let body = words().u32(valid).u32(0).u64(0).u64(size).bytes(&[0; 40]).u32(0);
        let bytes = self.ask(op::SETATTR, node, &body.u32(mode).u32(0).u32(uid).u32(gid).u32(0).0)?;
        Ok(attr(node, &bytes[16..]))
    }

    pub(super) fn set_xattr(&mut self, node: u64, name: &[u8], value: &[u8]) -> Result<()> {
        let body = words().u32(u32::try_from(value.len()).unwrap()).u32(0).text(name).bytes(value);
        self.ask(op::SETXATTR, node, &body.0).map(drop)
    }

    pub(super) fn get_xattr(&mut self, node: u64, name: &[u8]) -> Result<Vec<u8>> {
        self.ask(op::GETXATTR, node, &words().u32(1024).u32(0).text(name).0)
    }

    /// The names in a directory, read in answers of this size.
    pub(super) fn list(&mut self, node: u64, opcode: u32, size: u32) -> Result<Vec<Vec<u8>>> {
        let handle = long(&self.ask(op::OPENDIR, node, &[0; 8])?, 0);
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let body = words().u64(handle).u64(offset).u32(size).bytes(&[0; 20]);
            let bytes = self.ask(opcode, node, &body.0)?;
            assert!(bytes.len() <= size as usize);
            if bytes.is_empty() {
                break;
            }
            let mut at = 0;
            while at < bytes.len() {
                if opcode == op::READDIRPLUS {
                    at += 128;
                }
                offset = long(&bytes, at + 8);
                let length = word(&bytes, at + 16) as usize;
                names.push(bytes[at + 24..at + 24 + length].to_vec());
                at += (24 + length).next_multiple_of(8);
            }
        }
        self.ask(op::RELEASEDIR, node, &words().u64(handle).bytes(&[0; 16]).0)?;
        names.retain(|name| name != b"." && name != b"..");
        names.sort();
        Ok(names)
    }
}
