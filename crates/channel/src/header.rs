//! The first bytes of every stream: what the dialler asks for, and what it is told (spec 8.4).
//!
//! ```text
//! request  d4 version kind 00 port(4, big-endian)  then the token (32) when kind is 1
//! answer   d5 version code length                  then a reason of that length, in UTF-8
//! ```
//!
//! One round trip: the dialler waits for the answer before it hands the stream out, so a refusal is an error of the
//! dial and not an early end of the stream.

use dhow_model::Port;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{Error, Result, Token};

/// The protocol's version.
pub const VERSION: u8 = 1;

/// Length of a request without its token.
pub const REQUEST_LENGTH: usize = 8;

/// Length of an answer without its reason.
pub const ANSWER_LENGTH: usize = 4;

const REQUEST_MAGIC: u8 = 0xd4;
const ANSWER_MAGIC: u8 = 0xd5;
const PLAIN: u8 = 0;
const WITH_TOKEN: u8 = 1;

/// What a dialler asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The service.
    pub port: Port,
    /// The machine's secret, over vsock.
    pub token: Option<Token>,
}

/// What it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The stream is open.
    Accepted,
    /// Nobody serves that port.
    NotServed,
    /// The token is wrong or missing.
    TokenRefused,
    /// The request's version is unknown; this one is spoken here.
    Version(u8),
    /// Too many streams are open.
    TooManyStreams,
    /// Another reason, in words.
    Refused(String),
}

/// Bytes that are no request or no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// Not the protocol's first byte.
    #[error("a stream began with byte {0:#04x}, which is not this protocol")]
    Magic(u8),
    /// A version that is not spoken here.
    #[error("version {0} is not spoken here")]
    Version(u8),
    /// A kind of request that this version has not.
    #[error("unknown kind of request {0}")]
    Kind(u8),
    /// A code of an answer that this version has not.
    #[error("unknown answer {0}")]
    Code(u8),
}

impl Request {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let kind = if self.token.is_some() { WITH_TOKEN } else { PLAIN };
        let mut bytes = vec![REQUEST_MAGIC, VERSION, kind, 0];
        bytes.extend(self.port.0.to_be_bytes());
        bytes.extend(self.token.iter().flat_map(|token| *token.as_bytes()));
        bytes
    }

    /// Reads the fixed part: the port, and whether a token follows.
    ///
    /// # Errors
    /// When the bytes are no request of this version.
    pub fn decode(bytes: [u8; REQUEST_LENGTH]) -> Result<(Port, bool), BadHeader> {
        let [magic, version, kind, _, port @ ..] = bytes;
        check(magic, REQUEST_MAGIC, version)?;
        let token = match kind {
            PLAIN => false,
            WITH_TOKEN => true,
            other => return Err(BadHeader::Kind(other)),
        };
        Ok((Port(u32::from_be_bytes(port)), token))
    }

    /// Reads a request off a stream. It takes no byte more than the request has.
    ///
    /// # Errors
    /// When the stream ends or fails, or the bytes are no request. The caller sets the time limit.
    pub async fn read<R: AsyncRead + Unpin>(from: &mut R) -> Result<std::result::Result<Self, BadHeader>> {
        let mut fixed = [0; REQUEST_LENGTH];
        from.read_exact(&mut fixed).await.map_err(reading)?;
        let (port, has_token) = match Self::decode(fixed) {
            Ok(decoded) => decoded,
            Err(bad) => return Ok(Err(bad)),
        };
        let mut token = None;
        if has_token {
            let mut bytes = [0; Token::LENGTH];
            from.read_exact(&mut bytes).await.map_err(reading)?;
            token = Some(Token::from_bytes(bytes));
        }
        Ok(Ok(Self { port, token }))
    }

    /// Asks on a fresh stream, and waits for the answer.
    ///
    /// # Errors
    /// The refusal, or why there was no answer. The caller sets the time limit.
    pub async fn ask<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut S) -> Result<()> {
        stream.write_all(&self.encode()).await.map_err(writing)?;
        stream.flush().await.map_err(writing)?;
        match Answer::read(stream).await? {
            Answer::Accepted => Ok(()),
            refusal => Err(refusal.into_error(self.port)),
        }
    }
}

impl Answer {
    /// Its bytes. A reason is cut to 255 bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (code, reason) = match self {
            Self::Accepted => (0, ""),
            Self::NotServed => (1, ""),
            Self::TokenRefused => (2, ""),
            Self::Version(_) => (3, ""),
            Self::TooManyStreams => (4, ""),
            Self::Refused(reason) => (5, reason.as_str()),
        };
        let reason = &reason[..reason.floor_char_boundary(usize::from(u8::MAX))];
        let version = if let Self::Version(version) = self { *version } else { VERSION };
        let length = u8::try_from(reason.len()).unwrap_or(u8::MAX);
        let mut bytes = vec![ANSWER_MAGIC, version, code, length];
        bytes.extend(reason.as_bytes());
        bytes
    }

    /// Reads an answer from its fixed part and its reason.
    ///
    /// # Errors
    /// When the bytes are no answer of this version.
    pub fn decode(fixed: [u8; ANSWER_LENGTH], reason: &[u8]) -> Result<Self, BadHeader> {
        let [magic, version, code, _] = fixed;
        if magic != ANSWER_MAGIC {
            return Err(BadHeader::Magic(magic));
        }
        if code == 3 {
            return Ok(Self::Version(version));
        }
        check(magic, ANSWER_MAGIC, version)?;
        match code {
            0 => Ok(Self::Accepted),
            1 => Ok(Self::NotServed),
            2 => Ok(Self::TokenRefused),
            4 => Ok(Self::TooManyStreams),
            5 => Ok(Self::Refused(printable(reason))),
            other => Err(BadHeader::Code(other)),
        }
    }

    /// Reads an answer off a stream. It takes no byte more than the answer has.
    ///
    /// # Errors
    /// When the stream ends or fails, or the bytes are no answer. The caller sets the time limit.
    pub async fn read<R: AsyncRead + Unpin>(from: &mut R) -> Result<Self> {
        let mut fixed = [0; ANSWER_LENGTH];
        from.read_exact(&mut fixed).await.map_err(reading)?;
        let mut reason = [0; u8::MAX as usize];
        let reason = &mut reason[..usize::from(fixed[3])];
        from.read_exact(reason).await.map_err(reading)?;
        Self::decode(fixed, reason).map_err(|bad| Error::Protocol(bad.to_string()))
    }

    /// Sends it.
    ///
    /// # Errors
    /// When the stream fails.
    pub async fn write<W: AsyncWrite + Unpin>(&self, to: &mut W) -> Result<()> {
        to.write_all(&self.encode()).await.map_err(writing)?;
        to.flush().await.map_err(writing)
    }

    /// The error of a dial to `port` that got this answer.
    pub(crate) fn into_error(self, port: Port) -> Error {
        match self {
            Self::NotServed => Error::NotServed { port },
            Self::TokenRefused => Error::TokenRefused,
            Self::Version(theirs) => Error::Version { theirs, ours: VERSION },
            Self::TooManyStreams => Error::TooManyStreams { limit: crate::MAX_STREAMS },
            Self::Refused(message) => Error::Refused { port, message },
            Self::Accepted => Error::Protocol("an acceptance was taken for a refusal".into()),
        }
    }

    /// The answer that carries `error` to a dialler in another process.
    pub(crate) fn from_error(error: &Error) -> Self {
        match error {
            Error::NotServed { .. } => Self::NotServed,
            Error::TokenRefused => Self::TokenRefused,
            Error::TooManyStreams { .. } => Self::TooManyStreams,
            Error::Refused { message, .. } => Self::Refused(message.clone()),
            other => Self::Refused(other.to_string()),
        }
    }
}

impl BadHeader {
    /// What the dialler is told, if there is anything that it can understand.
    pub(crate) fn answer(self) -> Option<Answer> {
        match self {
            Self::Version(_) => Some(Answer::Version(VERSION)),
            Self::Kind(_) => Some(Answer::Refused(self.to_string())),
            Self::Magic(_) | Self::Code(_) => None,
        }
    }
}

fn check(magic: u8, expected: u8, version: u8) -> Result<(), BadHeader> {
    match (magic == expected, version) {
        (false, _) => Err(BadHeader::Magic(magic)),
        (true, VERSION) => Ok(()),
        (true, other) => Err(BadHeader::Version(other)),
    }
}

/// The other side's words, fit for a terminal: a guest is hostile until shown otherwise.
fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn reading(source: std::io::Error) -> Error {
    Error::Io { doing: "cannot read the first bytes of a channel stream", source }
}

fn writing(source: std::io::Error) -> Error {
    Error::Io { doing: "cannot write the first bytes of a channel stream", source }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn requests() -> impl Strategy<Value = Request> {
        (any::<u32>(), proptest::option::of(any::<[u8; 32]>()))
            .prop_map(|(port, token)| Request { port: Port(port), token: token.map(Token::from_bytes) })
    }

    fn answers() -> impl Strategy<Value = Answer> {
        prop_oneof![
            Just(Answer::Accepted),
            Just(Answer::NotServed),
            Just(Answer::TokenRefused),
            any::<u8>().prop_map(Answer::Version),
            Just(Answer::TooManyStreams),
            "[a-zäöü ]{0,120}".prop_map(Answer::Refused),
        ]
    }

    fn now<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    proptest! {
        /// Spec 8.4.
        #[test]
        fn a_request_is_read_as_it_was_written_and_no_byte_after_it_is_taken(request in requests(), rest: Vec<u8>) {
            let mut bytes = request.encode();
            bytes.extend(&rest);
            let mut from = bytes.as_slice();
            prop_assert_eq!(now(Request::read(&mut from)).unwrap().unwrap(), request);
            prop_assert_eq!(from, rest);
        }

        /// Spec 8.4.
        #[test]
        fn an_answer_is_read_as_it_was_written_and_no_byte_after_it_is_taken(answer in answers(), rest: Vec<u8>) {
            let mut bytes = answer.encode();
            bytes.extend(&rest);
            let mut from = bytes.as_slice();
            prop_assert_eq!(now(Answer::read(&mut from)).unwrap(), answer);
            prop_assert_eq!(from, rest);
        }

        /// Spec 8.4: unknown messages are errors, not panics.
        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes: Vec<u8>) {
            now(async {
                drop(Request::read(&mut bytes.as_slice()).await);
                drop(Answer::read(&mut bytes.as_slice()).await);
            });
        }
    }

    /// Spec 8.4: a reason has a size limit on both sides.
    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let bytes = Answer::Refused("ä".repeat(200)).encode();
        assert_eq!(now(Answer::read(&mut bytes.as_slice())).unwrap(), Answer::Refused("ä".repeat(127)));
    }

    /// Spec 8.4: what a hostile guest says cannot command the user's terminal.
    #[test]
    fn control_characters_of_a_reason_become_spaces() {
        let bytes = Answer::Refused("a\x1b[2Jb\n".into()).encode();
        assert_eq!(now(Answer::read(&mut bytes.as_slice())).unwrap(), Answer::Refused("a [2Jb ".into()));
    }

    /// Spec 8.4: each side states its version.
    #[test]
    fn a_request_of_another_version_is_told_the_one_spoken_here() {
        let bad = Request::decode([REQUEST_MAGIC, 9, 0, 0, 0, 0, 0, 1]).unwrap_err();
        let answer = bad.answer().unwrap().encode();
        let read = now(Answer::read(&mut answer.as_slice())).unwrap();
        assert!(matches!(read.into_error(Port::ECHO), Error::Version { theirs: VERSION, .. }));
    }
}
