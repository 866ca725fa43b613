//! The multiplexer's frames as bytes, only so far as to tell housekeeping from what somebody wants sent.
//!
//! A head of 12 bytes (yamux's specification): version, type, flags (16 bits), stream (32), length (32), big-endian. Only a
//! frame of type 0, data, has as many bytes after it as its length says.

/// Length of a frame's head.
const HEAD: usize = 12;
/// The type of frames that carry a stream's bytes.
const DATA: u8 = 0;
/// The flag of a stream's first frame.
const SYN: u16 = 1;

/// A place in a sequence of frames.
#[derive(Debug, Clone, Default)]
pub(super) struct Frames {
    head: [u8; HEAD],
    filled: usize,
    /// Bytes of data still to come.
    left: usize,
}

impl Frames {
    /// Goes on by these bytes. Whether they are, or announce, bytes of a stream or a new stream: credit, pings and the end of a
    /// stream that was dropped are not worth waking a machine for.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) -> bool {
        let mut matters = false;
        while !bytes.is_empty() {
            if self.left > 0 {
                let passed = self.left.min(bytes.len());
                self.left -= passed;
                bytes = &bytes[passed..];
                matters = true;
                continue;
            }
            let passed = (HEAD - self.filled).min(bytes.len());
            self.head[self.filled..self.filled + passed].copy_from_slice(&bytes[..passed]);
            self.filled += passed;
            bytes = &bytes[passed..];
            if self.filled == HEAD {
                self.filled = 0;
                let [_, kind, high, low, _, _, _, _, length @ ..] = self.head;
                if kind == DATA {
                    self.left = u32::from_be_bytes(length) as usize;
                }
                matters |= self.left > 0 || u16::from_be_bytes([high, low]) & SYN != 0;
            }
        }
        matters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u16, length: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, kind];
        bytes.extend(flags.to_be_bytes());
        bytes.extend(7u32.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(body);
        bytes
    }

    /// Spec 13.1: what wakes a machine and what does not.
    #[test]
    fn only_bytes_of_a_stream_and_new_streams_matter() {
        let table = [
            (frame(0, 0, 3, b"abc"), true),
            (frame(0, 1, 0, b""), true),
            (frame(1, 1, 1 << 20, b""), true),
            (frame(1, 0, 1 << 20, b""), false),
            (frame(1, 8, 0, b""), false),
            (frame(0, 4, 0, b""), false),
            (frame(2, 1 << 1, 0x55, b""), false),
            (frame(3, 0, 0, b""), false),
            (Vec::new(), false),
        ];
        for (bytes, expected) in table {
            assert_eq!(Frames::default().pass(&bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn the_place_is_kept_wherever_the_bytes_are_cut() {
        let mut bytes = frame(1, 0, 9, b"");
        bytes.extend(frame(0, 0, 5, b"\0\0\0\x01\0"));
        bytes.extend(frame(1, 0, 9, b""));
        for cut in 0..bytes.len() {
            let mut frames = Frames::default();
            frames.pass(&bytes[..cut]);
            // The data frame's head is whole at 24 bytes, its body at 29.
            assert_eq!(frames.clone().pass(&bytes[cut..]), cut < 29, "{cut}");
            frames.pass(&bytes[cut..]);
            assert_eq!((frames.filled, frames.left), (0, 0), "{cut}");
        }
    }
}
