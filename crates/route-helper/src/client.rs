//! The supervisor's end of the socket. Its calls block, for 10 s at most.

use std::io::{self, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::protocol::{MOST_DEVICES, Reply, Request, encode, read_body};
use crate::rules::Refusal;
use crate::{Error, Network, Result};

const PATIENCE: Duration = Duration::from_secs(10);

/// A running program and the socket to it. Dropped, the program ends and its device is gone.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    child: Child,
}

/// A device that is up.
#[derive(Debug)]
pub struct Opened {
    /// What packets are read from and written to, one at a time; does not block.
    pub tun: OwnedFd,
    /// Its name.
    pub name: String,
    /// Whether it has an IPv6 address.
    pub ipv6: bool,
}

/// What became of the routes that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routed {
    /// Set.
    pub set: Vec<Network>,
    /// Not set, and why.
    pub refused: Vec<(Network, Refusal)>,
}

impl Client {
    /// Starts the program.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(program: &Path) -> Result<Self> {
        let pair = || -> io::Result<_> {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_read_timeout(Some(PATIENCE))?;
            ours.set_write_timeout(Some(PATIENCE))?;
            Ok((ours, theirs))
        };
        let (stream, theirs) = pair().map_err(Error::Conversation)?;
        let child = Command::new(program)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| Error::Io { path: program.to_owned(), done: "started", source })?;
        Ok(Self { stream, child })
    }

    /// The program's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes the first device that is free.
    ///
    /// # Errors
    /// When none is free, or the program refuses.
    pub fn open(&mut self) -> Result<Opened> {
        for number in 0..MOST_DEVICES {
            match self.ask(&Request::Open { number })? {
                (Reply::Opened { device, ipv6 }, Some(tun)) => {
                    return Ok(Opened { tun, name: device, ipv6 });
                }
                (Reply::Busy, None) => {}
                (reply, _) => return Err(unexpected(reply)),
            }
        }
        Err(Error::NoDeviceLeft)
    }

    /// Makes the device's routes these.
    ///
    /// # Errors
    /// When the program refuses, or is gone.
    pub fn routes(&mut self, networks: &[Network]) -> Result<Routed> {
        match self.ask(&Request::Routes { networks: networks.to_vec() })? {
            (Reply::Routed { set, refused }, _) => Ok(Routed { set, refused }),
            (reply, _) => Err(unexpected(reply)),
        }
    }

    fn ask(&mut self, request: &Request) -> Result<(Reply, Option<OwnedFd>)> {
        let asked = encode(request).and_then(|bytes| self.stream.write_all(&bytes));
        asked.and_then(|()| receive(&mut self.stream)).map_err(|error| self.gone(error))
    }

    /// Why the program is gone, in its own words if it left any.
    fn gone(&mut self, error: io::Error) -> Error {
        let words = self.end();
        if words.is_empty() { Error::Conversation(error) } else { Error::Refused(words) }
    }

    /// Ends the program: by closing the socket, and by force when that does not help.
    fn end(&mut self) -> String {
        self.stream.shutdown(std::net::Shutdown::Both).ok();
        let mut words = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            // Its end is the program's end.
            let mut bytes = [0; 4096];
            let mut length = 0;
            let wait = Timespec { tv_sec: 5, tv_nsec: 0 };
            while length < bytes.len()
                && rustix::event::poll(&mut [PollFd::new(&stderr, PollFlags::IN)], Some(&wait))
                    .is_ok_and(|n| n > 0)
            {
                match stderr.read(&mut bytes[length..]) {
                    Ok(more) if more > 0 => length += more,
                    _ => break,
                }
            }
            words = String::from_utf8_lossy(&bytes[..length]).trim().to_owned();
        }
        self.child.kill().ok();
        self.child.wait().ok();
        words
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end();
    }
}

fn unexpected(reply: Reply) -> Error {
    match reply {
        Reply::Failed { message } => Error::Refused(message),
        other => Error::Conversation(io::Error::other(format!("not an answer: {other:?}"))),
    }
}

fn receive(stream: &mut UnixStream) -> io::Result<(Reply, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut length = [0; 4];
    let first = &mut length[..1];
    let got = rustix::net::recvmsg(
        &*stream,
        &mut [IoSliceMut::new(first)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if got.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    stream.read_exact(&mut length[1..])?;
    Ok((read_body(stream, length)?, descriptor))
}
