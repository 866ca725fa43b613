//! One message that the crate's handler refuses: QEMU enables the rings of a network device before it says which features it
//! uses, and waits for the answer.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use vhost::vhost_user::VhostUserBackendReqHandler as _;

use super::Ended;
use super::device::Device;

/// Header (request, flags, size) and body (ring, on or off), each word 32 bits in the host's order.
pub(super) const MESSAGE: usize = 20;
/// `VHOST_USER_SET_VRING_ENABLE`.
const REQUEST: u32 = 18;
/// The protocol's version, in the flags.
const VERSION: u32 = 1;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;

/// Whether these first bytes are all of such a message.
pub(super) fn is(bytes: &[u8]) -> bool {
    words(bytes).is_some_and(|[request, flags, size, ..]| {
        (request, size) == (REQUEST, 8) && flags & !NEED_REPLY == VERSION
    })
}

/// Takes the message from the socket and does what it asks for.
pub(super) fn handle(mut socket: &UnixStream, device: &Device) -> Result<(), Ended> {
    let mut message = [0; MESSAGE];
    socket.read_exact(&mut message)?;
    let Some([_, flags, _, ring, on]) = words(&message) else {
        return Err(io::Error::other("a short read").into());
    };
    let done = device.set_vring_enable(ring, on != 0);
    if flags & NEED_REPLY != 0 {
        let failed = u32::from(done.is_err());
        let reply = [REQUEST, VERSION | REPLY, 8, failed, 0].map(u32::to_ne_bytes);
        socket.write_all(reply.as_flattened())?;
    }
    done.map_err(Ended::Protocol)
}

fn words(bytes: &[u8]) -> Option<[u32; 5]> {
    let (words, rest) = bytes.as_chunks::<4>();
    let words: &[[u8; 4]; 5] = words.try_into().ok()?;
    rest.is_empty().then(|| words.map(u32::from_ne_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(words: [u32; 5]) -> Vec<u8> {
        words.map(u32::to_ne_bytes).as_flattened().to_vec()
    }

    #[test]
    fn only_a_whole_message_of_the_kind_is_taken() {
        assert!(is(&message([REQUEST, VERSION, 8, 0, 1])));
        assert!(is(&message([REQUEST, VERSION | NEED_REPLY, 8, 1, 0])));
        assert!(!is(&message([REQUEST, VERSION | REPLY, 8, 1, 0])));
        assert!(!is(&message([REQUEST, VERSION, 12, 0, 1])));
        assert!(!is(&message([17, VERSION, 8, 0, 1])));
        assert!(!is(&message([REQUEST, VERSION, 8, 0, 1])[..16]));
    }
}
