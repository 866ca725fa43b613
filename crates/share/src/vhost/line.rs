//! The socket to the supervisor: as long as its other end is open somebody wants this process. Changes go out on it (`news`), and what is
//! to become of them comes in.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use super::device::Device;
use crate::news::{self, Said};

/// Our end.
pub(super) struct Line<'a> {
    pub(super) socket: &'a UnixStream,
    /// A message that came in part.
    part: Vec<u8>,
}

/// Whether whoever started us is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alive {
    Yes,
    No,
}

impl<'a> Line<'a> {
    pub(super) fn new(socket: &'a UnixStream) -> io::Result<Line<'a>> {
        socket.set_nonblocking(true)?;
        Ok(Line { socket, part: Vec::new() })
    }

    /// Takes what has come.
    pub(super) fn hear(&mut self, device: &Device) -> Alive {
        let mut bytes = [0; 256];
        match self.socket.read(&mut bytes) {
            Ok(0) => return Alive::No,
            Ok(count) => self.part.extend_from_slice(&bytes[..count]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => return Alive::No,
        }
        while let Some((now, later)) = self.part.split_first_chunk() {
            match Said::parse(*now) {
                Some(said) => device.hear(said),
                None => tracing::warn!("the supervisor said what is no message"),
            }
            self.part = later.to_vec();
        }
        Alive::Yes
    }

    /// Says what the host has changed, if there is something and somebody to be told.
    pub(super) fn tell(&mut self, device: &Device) {
        let changes = device.tidings();
        if changes.is_empty() {
            return;
        }
        let message = news::encode(&changes);
        // One is under way at a time, and the socket has room for it.
        if self.socket.write(&message).ok() != Some(message.len()) {
            tracing::warn!("changes of the host are not told any more: the supervisor does not listen");
            device.hear(Said::Teller(0));
        }
    }
}
