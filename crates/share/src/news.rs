//! What a file server tells of changes that were made on the host, and what it is told: on the socket between it and its supervisor,
//! behind the line that says that it is ready. Both sides are programs of the same executable; the server is the less trusted one,
//! and what it says is read with care.
//!
//! ```text
//!  server ── length, changes ──────────▶ supervisor ──▶ the guest's agent, whose thread makes the guest's kernel tell of them
//!  server ◀── the thread's number, done ── supervisor ◀──
//! ```

/// Changes of one message.
pub const MOST: usize = 128;
/// The longest message behind its length.
pub const LONGEST: usize = MOST * (1 + 4 + 2 * 8 + 2 * (8 + 1 + 255));
/// Bytes of a message to the server.
pub(crate) const SAID: usize = 8;

/// A change of a directory that the guest knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub what: What,
    /// The directory, by the number that the guest knows it by.
    pub dir: u64,
    /// The entry.
    pub name: Vec<u8>,
    /// The file as the guest knows it, and what the guest knew where it is now; 0: none. Whoever watches one of these is told, too.
    pub nodes: [u64; 2],
}

impl Change {
    /// A change of a file of which nothing is known yet.
    #[must_use]
    pub fn new(what: What, dir: u64, name: &[u8]) -> Change {
        Change { what, dir, name: name.to_vec(), nodes: [0; 2] }
    }
}

/// What happened to an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It is there; its type as in `st_mode`.
    Made {
        /// `S_IFREG` and the like.
        kind: u32,
    },
    /// It is gone.
    Removed {
        /// Whether it was a directory.
        is_dir: bool,
    },
    /// It is elsewhere. Of a directory that the guest does not know, in or out: by a name at the top that nobody else uses.
    Moved {
        /// The directory where it is.
        to: u64,
        /// Its name there.
        name: Vec<u8>,
    },
    /// Its content changed.
    Written,
    /// Whoever had it open for writing has closed it.
    Closed,
    /// Its attributes changed.
    Touched,
}

/// What a supervisor says to its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// The guest's thread that makes its kernel tell of changes; nothing that it asks for is ever done. 0: there is none.
    Teller(u32),
    /// The changes of the last message were told, or will not be.
    Done,
}

impl Said {
    /// As it goes over the socket.
    #[must_use]
    pub fn bytes(self) -> [u8; SAID] {
        let (tag, value) = match self {
            Said::Teller(thread) => (1_u32, thread),
            Said::Done => (2, 0),
        };
        let mut bytes = [0; SAID];
        bytes[..4].copy_from_slice(&tag.to_ne_bytes());
        bytes[4..].copy_from_slice(&value.to_ne_bytes());
        bytes
    }

    /// The other way; `None` of what is no such message.
    #[must_use]
    pub fn parse(bytes: [u8; SAID]) -> Option<Said> {
        let [a, b, c, d, value @ ..] = bytes;
        match u32::from_ne_bytes([a, b, c, d]) {
            1 => Some(Said::Teller(u32::from_ne_bytes(value))),
            2 => Some(Said::Done),
            _ => None,
        }
    }
}

/// A message: its length in four bytes, and the changes. Those beyond [`MOST`] are left out.
#[must_use]
pub fn encode(changes: &[Change]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for Change { what, dir, name, nodes } in changes.iter().take(MOST) {
        let none: (u64, &[u8]) = (0, &[]);
        let (tag, word, to): (u8, u32, _) = match what {
            What::Made { kind } => (1, *kind, none),
            What::Removed { is_dir } => (2, u32::from(*is_dir), none),
            What::Moved { to, name } => (3, 0, (*to, name.as_slice())),
            What::Written => (4, 0, none),
            What::Closed => (5, 0, none),
            What::Touched => (6, 0, none),
        };
        bytes.push(tag);
        bytes.extend_from_slice(&word.to_ne_bytes());
        nodes.iter().for_each(|node| bytes.extend_from_slice(&node.to_ne_bytes()));
        for (dir, name) in [(*dir, name.as_slice()), to] {
            let name = &name[..name.len().min(255)];
            bytes.extend_from_slice(&dir.to_ne_bytes());
            bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(name);
        }
    }
    let length = u32::try_from(bytes.len() - 4).unwrap_or(0);
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes
}

/// The changes of a message behind its length; `None` if it is none.
#[must_use]
pub fn decode(mut rest: &[u8]) -> Option<Vec<Change>> {
    fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
        let (now, later) = rest.split_at_checked(count)?;
        *rest = later;
        Some(now)
    }
    fn place(rest: &mut &[u8]) -> Option<(u64, Vec<u8>)> {
        let dir = u64::from_ne_bytes(take(rest, 8)?.try_into().ok()?);
        let length = usize::from(*take(rest, 1)?.first()?);
        Some((dir, take(rest, length)?.to_vec()))
    }
    let named = |name: &[u8]| {
        !name.is_empty() && name != b"." && name != b".." && !name.iter().any(|byte| b"/\0".contains(byte))
    };
    let mut changes = Vec::new();
    while !rest.is_empty() {
        let tag = *take(&mut rest, 1)?.first()?;
        let word = u32::from_ne_bytes(take(&mut rest, 4)?.try_into().ok()?);
        let mut node = || Some(u64::from_ne_bytes(take(&mut rest, 8)?.try_into().ok()?));
        let nodes = [node()?, node()?];
        let (dir, name) = place(&mut rest)?;
        let (to, new) = place(&mut rest)?;
        let what = match tag {
            1 => What::Made { kind: word },
            2 => What::Removed { is_dir: word != 0 },
            3 if named(&new) => What::Moved { to, name: new },
            4 => What::Written,
            5 => What::Closed,
            6 => What::Touched,
            _ => return None,
        };
        if !named(&name) || changes.len() == MOST {
            return None;
        }
        changes.push(Change { what, dir, name, nodes });
    }
    Some(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Change> {
        let name = b"na\xffme".to_vec();
        [
            What::Made { kind: 0o100_000 },
            What::Removed { is_dir: true },
            What::Moved { to: 9, name: vec![b'n'; 255] },
            What::Written,
            What::Closed,
            What::Touched,
        ]
        .map(|what| Change { nodes: [3, 4], ..Change::new(what, 7, &name) })
        .to_vec()
    }

    #[test]
    fn changes_are_read_as_they_were_written() {
        let bytes = encode(&all());
        assert_eq!(bytes[..4], u32::try_from(bytes.len() - 4).unwrap().to_ne_bytes());
        assert_eq!(decode(&bytes[4..]), Some(all()));
        for said in [Said::Teller(77), Said::Done] {
            assert_eq!(Said::parse(said.bytes()), Some(said));
        }
        assert_eq!(Said::parse([9; SAID]), None);
    }

    #[test]
    fn what_is_cut_short_or_leads_elsewhere_is_no_message() {
        let bytes = encode(&all()[..1]);
        for end in 5..bytes.len() {
            assert_eq!(decode(&bytes[4..end]), None, "{end}");
        }
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
            let change = Change::new(What::Written, 1, name);
            assert_eq!(decode(&encode(&[change])[4..]), None, "{name:?}");
        }
    }

    #[test]
    fn the_longest_message_fits() {
        let name = vec![b'n'; 255];
        let change = Change::new(What::Moved { to: 1, name: name.clone() }, 1, &name);
        let bytes = encode(&vec![change; MOST + 1]);
        assert_eq!(bytes.len(), 4 + LONGEST);
        assert_eq!(decode(&bytes[4..]).map(|changes| changes.len()), Some(MOST));
    }
}
