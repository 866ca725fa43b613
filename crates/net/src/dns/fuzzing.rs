//! What a guest asks and what an upstream answers, for `fuzz/`.

use std::time::Duration;

use super::answer::{self, Answer};
use super::message::{self, Parsed};
use super::server::Over;

/// `db.example`, A, with everything in it that a question needs.
const ASKS: &[u8] = b"\x12\x67\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02db\x07example\x00\x00\x01\x00\x01";
/// Where its question begins and ends.
const QUESTION: std::ops::Range<usize> = 12..28;

/// A message of a guest: refused with its own number, or put to an upstream as one question that reads the same.
pub(crate) fn question(bytes: &[u8]) {
    for over in [Over::Udp, Over::Tcp] {
        match message::parse(bytes, over) {
            Parsed::Ask(asked) => {
                let sent = answer::question(&asked, 7, true);
                let read = match message::parse(&sent, over) {
                    Parsed::Ask(read) => Some((read.key, read.kind)),
                    Parsed::Refuse(_) | Parsed::Silence => None,
                };
                assert_eq!(read, Some((asked.key, asked.kind)));
            }
            Parsed::Refuse(answer) => assert!(answer[..2] == bytes[..2] && answer[2] & 0x80 != 0),
            Parsed::Silence => {}
        }
    }
}

/// What comes back from an upstream: as it is, and behind a header and a question that are right.
pub(crate) fn reply(bytes: &[u8]) {
    let parsed = message::parse(ASKS, Over::Udp);
    assert!(matches!(parsed, Parsed::Ask(_)), "our own question");
    let Parsed::Ask(asked) = parsed else { return };
    let sent = answer::question(&asked, 0x1267, true);
    let mut fitting = ASKS[..2].to_vec();
    fitting.push(0x81);
    fitting.extend(bytes.iter().take(1));
    fitting.extend([0, 1]);
    fitting.extend(bytes.iter().skip(1).take(6));
    fitting.resize(QUESTION.start, 0);
    fitting.extend_from_slice(&ASKS[QUESTION]);
    fitting.extend(bytes.iter().skip(7));
    for bytes in [bytes, &fitting] {
        let Ok(answer) = Answer::read(bytes, &sent) else { continue };
        for age in [0, 1, 3600] {
            let age = Duration::from_secs(age);
            let told = answer.reply(&asked, age);
            assert!(told.len() <= asked.limit() && told[..2] == ASKS[..2] && told[2] & 0x80 != 0);
            assert!(answer.addresses(age).len() <= bytes.len());
        }
    }
}
