//! The server's name in a TLS ClientHello (RFC 8446, 4.1.2; RFC 6066, 3), which may be cut into records at any byte.
//!
//! A walk of our own: the published parsers bring a parser framework for one message of which one extension counts, and
//! whatever they are lenient about would be a way around the policy.

use std::borrow::Cow;

use super::{LIMIT, Seen, Unsaid};

/// The type of a record that holds handshake messages.
pub(super) const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// The longest record's content (RFC 8446, 5.1).
const RECORD: usize = 1 << 14;

/// What the beginning of a TLS connection says.
pub(super) fn look(bytes: &[u8]) -> Seen {
    let message = match gather(bytes) {
        Ok(message) => message,
        Err(Stop::More) => return Seen::NeedMore,
        Err(Stop::Bad) => return Seen::Nothing(Unsaid::BadTls),
        Err(Stop::Long) => return Seen::Nothing(Unsaid::TooLong),
    };
    match server_name(&mut Bytes(&message)) {
        None => Seen::Nothing(Unsaid::BadTls),
        Some(None) => Seen::Nothing(Unsaid::NoServerName),
        Some(Some(name)) => match name.parse() {
            Ok(name) => Seen::Name(name),
            Err(_) if is_address(name) => Seen::Nothing(Unsaid::NoServerName),
            Err(_) => Seen::Nothing(Unsaid::BadTls),
        },
    }
}

fn is_address(name: &str) -> bool {
    name.parse::<std::net::IpAddr>().is_ok()
}

enum Stop {
    More,
    Bad,
    Long,
}

/// The ClientHello's body, put together from its records.
fn gather(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Stop> {
    let mut rest = bytes;
    let mut message: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    loop {
        // Each byte is judged as soon as it is there: the answer must not depend on how the bytes were cut.
        if rest.first().is_some_and(|kind| *kind != HANDSHAKE) || rest.get(1).is_some_and(|major| *major != 3)
        {
            return Err(Stop::Bad);
        }
        let Some((header, content)) = rest.split_first_chunk::<5>() else { return Err(Stop::More) };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 || length > RECORD {
            return Err(Stop::Bad);
        }
        let part = &content[..length.min(content.len())];
        if message.is_empty() {
            message = Cow::Borrowed(part);
        } else {
            message.to_mut().extend_from_slice(part);
        }
        if let Some(body) = complete(&message)? {
            return Ok(match message {
                Cow::Borrowed(message) => Cow::Borrowed(&message[4..body]),
                Cow::Owned(mut message) => {
                    message.truncate(body);
                    message.drain(..4);
                    Cow::Owned(message)
                }
            });
        }
        rest = content.get(length..).ok_or(Stop::More)?;
    }
}

/// Where the ClientHello ends, if it is all there.
fn complete(message: &[u8]) -> Result<Option<usize>, Stop> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(Stop::Bad);
    }
    let Some(header) = message.first_chunk::<4>() else { return Ok(None) };
    let length = usize::from(header[1]) << 16 | usize::from(header[2]) << 8 | usize::from(header[3]);
    if length > LIMIT {
        return Err(Stop::Long);
    }
    Ok((message.len() >= 4 + length).then_some(4 + length))
}

/// The name in a ClientHello's body; none if it has none, nothing if it does not parse.
#[expect(clippy::option_option, reason = "no name and no message are two things")]
fn server_name<'a>(hello: &mut Bytes<'a>) -> Option<Option<&'a str>> {
    // Version and random.
    hello.take(2 + 32)?;
    let session = hello.sized(1)?;
    let ciphers = hello.sized(2)?;
    let compressions = hello.sized(1)?;
    if session.0.len() > 32 || ciphers.0.len() < 2 || ciphers.0.len() % 2 != 0 || compressions.0.is_empty() {
        return None;
    }
    if hello.0.is_empty() {
        return Some(None);
    }
    let mut extensions = hello.sized(2)?;
    if !hello.0.is_empty() {
        return None;
    }
    let mut found = None;
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let mut content = extensions.sized(2)?;
        if kind == usize::from(SERVER_NAME) {
            let name = host_name(&mut content)?;
            // Which of two would the server take?
            if found.replace(name).is_some() {
                return None;
            }
        }
    }
    Some(found)
}

/// The one name in the extension; other kinds of names than hosts' have never been defined.
fn host_name<'a>(content: &mut Bytes<'a>) -> Option<&'a str> {
    let mut list = content.sized(2)?;
    let kind = list.take(1)?;
    let name = list.sized(2)?;
    let one = kind == [HOST_NAME] && list.0.is_empty() && content.0.is_empty() && name.0.is_ascii();
    std::str::from_utf8(name.0).ok().filter(|_| one)
}

/// Bytes that are taken from the front, or not at all.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A big-endian number of one or two bytes.
    fn number(&mut self, bytes: usize) -> Option<usize> {
        Some(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// What a length of `bytes` bytes stands before.
    fn sized(&mut self, bytes: usize) -> Option<Bytes<'a>> {
        let length = self.number(bytes)?;
        self.take(length).map(Bytes)
    }
}
