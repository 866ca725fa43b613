//! Where a message's body ends (RFC 9112, section 6). The scanner walks over bytes that pass by; it never holds,
//! changes or copies them, so chunk sizes, extensions and trailers reach the other side as they were sent.

/// Longest line of a chunk's size with its extensions: Go's `net/http`, hence dockerd, stops there as well.
const MAX_LINE: usize = 4096;
/// Most bytes of trailers, as for a head.
const MAX_TRAILERS: usize = 1 << 20;

/// How the end of a body is known, and how much of it is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// This many bytes are left. A message without a body has none left from the start.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked(Chunk),
    /// Until the sender closes: only answers.
    UntilClose,
}

/// Where in the chunked coding the scanner stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// In the hexadecimal size, `digits` of it seen.
    Size { digits: u8, size: u64 },
    /// After the size: white space or an extension, up to the carriage return.
    Extension { size: u64, seen: usize, semicolon: bool },
    /// The line feed that ends the size's line.
    SizeEnd { size: u64 },
    /// In a chunk's data.
    Data(u64),
    /// The carriage return after the data.
    DataReturn,
    /// The line feed after the data.
    DataEnd,
    /// In the trailers: `line` bytes of this line, `total` bytes of all, and whether a carriage return came last.
    Trailers { line: usize, total: usize, returned: bool },
    /// Everything has passed.
    Done,
}

/// A body that is not chunked as RFC 9112 says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadChunk {
    /// Not a hexadecimal number of 1 to 16 digits.
    #[error("invalid byte in chunk length")]
    Size,
    /// An endless line of extensions.
    #[error("chunk header is too long")]
    LineTooLong,
    /// Data that is not followed by an end of line, or a bare line feed.
    #[error("malformed chunked encoding")]
    LineEnd,
    /// Endless trailers.
    #[error("trailers are too long")]
    TrailersTooLong,
}

impl Body {
    /// No body at all.
    pub(crate) const NONE: Self = Self::Length(0);

    /// A chunked body of which nothing has passed yet.
    pub(crate) const CHUNKED: Self = Self::Chunked(Chunk::Size { digits: 0, size: 0 });

    /// Whether the message is whole. A body that lasts until the sender closes never knows by itself.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunk::Done))
    }

    /// Walks over `bytes` and returns how many of them belong to this message. `data` is called with the pieces that
    /// are content, without the coding around them.
    pub(crate) fn scan(&mut self, bytes: &[u8], mut data: impl FnMut(&[u8])) -> Result<usize, BadChunk> {
        match self {
            Self::Length(left) => {
                let n = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= n as u64;
                data(&bytes[..n]);
                Ok(n)
            }
            Self::UntilClose => {
                data(bytes);
                Ok(bytes.len())
            }
            Self::Chunked(chunk) => {
                let mut at = 0;
                while at < bytes.len() && *chunk != Chunk::Done {
                    if let Chunk::Data(left) = chunk {
                        let n = usize::try_from(*left)
                            .map_or(bytes.len() - at, |left| left.min(bytes.len() - at));
                        data(&bytes[at..at + n]);
                        at += n;
                        *left -= n as u64;
                        if *left == 0 {
                            *chunk = Chunk::DataReturn;
                        }
                    } else {
                        *chunk = chunk.after(bytes[at])?;
                        at += 1;
                    }
                }
                Ok(at)
            }
        }
    }
}

impl Chunk {
    /// The state after one byte that is not data.
    fn after(self, byte: u8) -> Result<Self, BadChunk> {
        Ok(match self {
            Self::Size { digits, size } => match (hex(byte), byte) {
                (Some(_), _) if digits == 16 => return Err(BadChunk::Size),
                (Some(digit), _) => Self::Size { digits: digits + 1, size: size << 4 | digit },
                (None, b'\r') if digits > 0 => Self::SizeEnd { size },
                (None, b';' | b' ' | b'\t') if digits > 0 => {
                    Self::Extension { size, seen: usize::from(digits), semicolon: byte == b';' }
                }
                _ => return Err(BadChunk::Size),
            },
            Self::Extension { size, seen, semicolon } => match byte {
                b'\r' => Self::SizeEnd { size },
                b'\n' => return Err(BadChunk::LineEnd),
                _ if seen >= MAX_LINE => return Err(BadChunk::LineTooLong),
                b' ' | b'\t' => Self::Extension { size, seen: seen + 1, semicolon },
                b';' => Self::Extension { size, seen: seen + 1, semicolon: true },
                _ if semicolon => Self::Extension { size, seen: seen + 1, semicolon },
                _ => return Err(BadChunk::Size),
            },
            Self::SizeEnd { size } if byte == b'\n' => match size {
                0 => Self::Trailers { line: 0, total: 0, returned: false },
                size => Self::Data(size),
            },
            Self::DataReturn if byte == b'\r' => Self::DataEnd,
            Self::DataEnd if byte == b'\n' => Self::Size { digits: 0, size: 0 },
            Self::Trailers { total, .. } if total >= MAX_TRAILERS => return Err(BadChunk::TrailersTooLong),
            Self::Trailers { line, total, returned } => match (byte, returned) {
                (b'\n', true) if line == 0 => Self::Done,
                (b'\n', true) => Self::Trailers { line: 0, total: total + 1, returned: false },
                (b'\n', false) | (_, true) => return Err(BadChunk::LineEnd),
                (b'\r', false) => Self::Trailers { line, total: total + 1, returned: true },
                (_, false) => Self::Trailers { line: line + 1, total: total + 1, returned: false },
            },
            Self::SizeEnd { .. } | Self::DataReturn | Self::DataEnd => return Err(BadChunk::LineEnd),
            // Taken care of by the caller: data is walked over in one step, and nothing follows the end.
            Self::Data(_) | Self::Done => self,
        })
    }
}

fn hex(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `bytes` in pieces of `step`; returns what belonged to the body and the content without its coding.
    fn feed(mut body: Body, bytes: &[u8], step: usize) -> Result<(usize, Vec<u8>, bool), BadChunk> {
        let (mut taken, mut content) = (0, Vec::new());
        for piece in bytes.chunks(step) {
            let n = body.scan(piece, |data| content.extend_from_slice(data))?;
            taken += n;
            if n < piece.len() {
                break;
            }
        }
        Ok((taken, content, body.is_done()))
    }

    /// 3.1: chunking, extensions and trailers are understood to their last byte and not one further.
    #[test]
    fn a_chunked_body_ends_after_its_trailers() {
        let body = b"5;name=\"v\"\r\nhello\r\n1 \r\n!\r\n0\r\nDigest: x\r\nOther: y\r\n\r\nGET /next";
        for step in 1..body.len() {
            let (taken, content, done) = feed(Body::CHUNKED, body, step).unwrap();
            assert_eq!(
                (taken, content.as_slice(), done),
                (body.len() - 9, b"hello!".as_slice(), true),
                "{step}"
            );
        }
    }

    /// 3.3: what Go's reader refuses is refused.
    #[test]
    fn bad_chunks_are_refused() {
        let table: [(&[u8], BadChunk); 10] = [
            (b"g\r\n", BadChunk::Size),
            (b"\r\n", BadChunk::Size),
            (b"-1\r\n", BadChunk::Size),
            (b"0x5\r\n", BadChunk::Size),
            (b"10000000000000000\r\n", BadChunk::Size),
            (b"5 5\r\n", BadChunk::Size),
            (b"5\rx", BadChunk::LineEnd),
            (b"1\r\nab\r\n", BadChunk::LineEnd),
            (b"1;a\nb\r\n", BadChunk::LineEnd),
            (b"0\r\nA: b\n\r\n", BadChunk::LineEnd),
        ];
        for (bytes, expected) in table {
            assert_eq!(feed(Body::CHUNKED, bytes, 3), Err(expected), "{:?}", String::from_utf8_lossy(bytes));
        }
        let long = [b"1;".as_slice(), &[b'x'; 5000]].concat();
        assert_eq!(feed(Body::CHUNKED, &long, 100), Err(BadChunk::LineTooLong));
    }

    proptest! {
        /// 3.1: any content in any chunks, cut anywhere, is found whole.
        #[test]
        fn any_chunking_is_followed(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 0..10),
                                    step in 1usize..300) {
            let mut coded = Vec::new();
            for chunk in &chunks {
                coded.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                coded.extend_from_slice(chunk);
                coded.extend_from_slice(b"\r\n");
            }
            coded.extend_from_slice(b"0\r\n\r\n");
            let (taken, content, done) = feed(Body::CHUNKED, &coded, step).unwrap();
            prop_assert_eq!((taken, content, done), (coded.len(), chunks.concat(), true));
        }

        /// 3.3: nothing that a client sends makes the scanner panic.
        #[test]
        fn no_bytes_break_the_scanner(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _outcome = feed(Body::CHUNKED, &bytes, 7);
        }
    }
}
