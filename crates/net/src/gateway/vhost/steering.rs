//! Which pair of queues carries a frame to the guest.
//!
//! The guest has a pair for each of its processors, and what a program sends leaves by the pair of the processor that it runs on. An
//! answer that comes by the same pair wakes no other processor, which in an emulated guest is much of a small question's round trip.
//! Where more is under way, program and packets would share that processor while the others rest. So one conversation that has the
//! line to itself is answered where it was asked, and all else goes by the first pair. While it is brisk ([`Pace`]), what the guest
//! says next is looked for there.

use std::net::IpAddr;
use std::time::Instant;

use super::pace::Pace;
use crate::gateway::ip::{IpPacket, protocol};
use crate::gateway::outbound::{ETHERNET, PREFIX};
use crate::packet::word;

/// The largest frames of a conversation of questions and answers, bytes.
const SMALL: usize = 2048;
/// After so many of its frames in a row, both ways, a conversation has the line to itself.
const ALONE: u8 = 8;

/// An end of a conversation; without ports, 0.
type End = (IpAddr, u16);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Conversation {
    protocol: u8,
    guest: End,
    other: End,
}

#[derive(Clone, Copy)]
enum Way {
    ToGuest,
    FromGuest,
}

/// What was under way last.
#[derive(Debug, Default)]
pub(super) struct Steering {
    last: Option<Conversation>,
    /// How many frames in a row were the last conversation's, up to [`ALONE`].
    row: u8,
    /// How briskly they came.
    pace: Pace,
    /// Where the guest sent the last of them.
    pair: usize,
}

impl Steering {
    /// Whether to look for the guest's next frame on this pair, instead of waiting to be told of it.
    pub(super) fn expects(&self, pair: usize, now: Instant) -> bool {
        self.pair == pair && self.pace.expects(now)
    }

    /// The guest sent this frame by that pair.
    pub(super) fn sent(&mut self, frame: &[u8], pair: usize, now: Instant) {
        self.note(conversation(frame, Way::FromGuest), now);
        self.pair = pair;
    }

    /// The pair by which these frames, each behind its length, go to the guest together.
    pub(super) fn pair(&mut self, mut frames: &[u8], now: Instant) -> usize {
        if frames.len() > SMALL {
            self.note(None, now);
            return 0;
        }
        let mut alone = true;
        while let Some((prefix, rest)) = frames.split_first_chunk::<PREFIX>() {
            let (frame, rest) = rest.split_at(rest.len().min(u32::from_be_bytes(*prefix) as usize));
            self.note(conversation(frame, Way::ToGuest), now);
            alone &= self.row == ALONE;
            frames = rest;
        }
        if alone { self.pair } else { 0 }
    }

    fn note(&mut self, whose: Option<Conversation>, now: Instant) {
        if whose.is_some() && whose == self.last {
            self.row = (self.row + 1).min(ALONE);
            self.pace.note(now);
        } else {
            (self.last, self.row) = (whose, 0);
            self.pace.reset();
        }
    }
}

/// Whose a frame is; nobody's if it is large, or no packet.
fn conversation(frame: &[u8], way: Way) -> Option<Conversation> {
    if frame.len() > SMALL {
        return None;
    }
    let packet = IpPacket::parse(frame.get(ETHERNET..)?).ok()?;
    let ports = match packet.protocol {
        protocol::TCP | protocol::UDP if !packet.fragment => {
            (word(packet.payload, 0)?, word(packet.payload, 2)?)
        }
        _ => (0, 0),
    };
    let (from, to) = ((packet.source, ports.0), (packet.destination, ports.1));
    let (guest, other) = match way {
        Way::ToGuest => (to, from),
        Way::FromGuest => (from, to),
    };
    Some(Conversation { protocol: packet.protocol, guest, other })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const GUEST: [u8; 4] = [198, 19, 68, 2];
    const OTHER: [u8; 4] = [198, 19, 68, 1];

    fn now() -> Instant {
        Instant::now()
    }

    /// A TCP frame with so many bytes behind its ports.
    fn frame(from: ([u8; 4], u16), to: ([u8; 4], u16), bytes: usize) -> Vec<u8> {
        let mut frame = vec![0; ETHERNET];
        let length = u16::try_from(24 + bytes).unwrap();
        frame.extend([0x45, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, protocol::TCP, 0, 0]);
        frame.extend(from.0);
        frame.extend(to.0);
        frame.extend(from.1.to_be_bytes());
        frame.extend(to.1.to_be_bytes());
        frame.extend(vec![0; bytes]);
        frame
    }

    fn question(port: u16, bytes: usize) -> Vec<u8> {
        let frame = frame((OTHER, port), (GUEST, 80), bytes);
        [&u32::try_from(frame.len()).unwrap().to_be_bytes()[..], &frame].concat()
    }

    fn answer(port: u16, bytes: usize) -> Vec<u8> {
        frame((GUEST, 80), (OTHER, port), bytes)
    }

    /// A steering that has seen this conversation alone, which the guest has by this pair.
    fn talked(port: u16, pair: usize) -> Steering {
        let mut steering = Steering::default();
        for _ in 0..ALONE {
            steering.pair(&question(port, 10), now());
            steering.sent(&answer(port, 10), pair, now());
        }
        steering
    }

    /// Issue 3: "round trip not above QEMU's".
    #[test]
    fn a_conversation_that_has_the_line_to_itself_is_answered_where_it_was_asked() {
        let mut steering = talked(1000, 1);
        assert_eq!(steering.pair(&question(1000, 10), now()), 1);
        // The guest's program moved to another processor.
        steering.sent(&answer(1000, 10), 0, now());
        assert_eq!(steering.pair(&question(1000, 10), now()), 0);
    }

    #[test]
    fn a_conversation_that_began_just_now_goes_by_the_first_pair() {
        let mut steering = Steering::default();
        for row in 0..ALONE {
            assert_eq!(steering.pair(&question(1000, 10), now()), 0, "{row}");
            steering.row = row;
            steering.sent(&[0; 60], 1, now());
        }
    }

    #[test]
    fn conversations_side_by_side_go_by_the_first_pair() {
        let mut steering = talked(1000, 1);
        assert_eq!(steering.pair(&[question(1000, 10), question(1001, 10)].concat(), now()), 0);
        for _ in 0..20 {
            for port in [1000, 1001] {
                assert_eq!(steering.pair(&question(port, 10), now()), 0);
                steering.sent(&answer(port, 10), 1, now());
            }
        }
    }

    #[test]
    fn much_at_once_goes_by_the_first_pair_whichever_way_it_goes() {
        let mut steering = talked(1000, 1);
        assert_eq!(steering.pair(&question(1000, 4000), now()), 0);
        assert_eq!(steering.pair(&question(1000, 10), now()), 0);
        let mut steering = talked(1000, 1);
        steering.sent(&answer(1000, 4000), 1, now());
        assert_eq!(steering.pair(&question(1000, 10), now()), 0);
    }

    /// Issue 3: "round trip not above QEMU's".
    #[test]
    fn what_a_brisk_conversation_says_next_is_looked_for_on_its_pair() {
        let mut steering = Steering::default();
        let mut now = now();
        for _ in 0..ALONE {
            now += Duration::from_micros(100);
            steering.pair(&question(1000, 10), now);
            steering.sent(&answer(1000, 10), 1, now);
        }
        assert!(steering.expects(1, now) && !steering.expects(0, now));
        steering.pair(&question(1000, 10), now);
        assert!(steering.expects(1, now));
        // Nobody's line any more.
        steering.pair(&question(1001, 10), now);
        assert!(!steering.expects(1, now));
    }

    #[test]
    fn whatever_is_no_packet_goes_by_the_first_pair() {
        let mut steering = talked(1000, 1);
        for bytes in [&[0, 0, 0, 60][..], &[0, 0, 0, 3, 1, 2, 3], &[0, 0, 0, 0], &[9]] {
            steering.pair(bytes, now());
        }
        assert_eq!(steering.pair(&[0, 0, 0, 20, 1, 2, 3], now()), 0);
    }
}
