//! Heads of requests and answers: read, judged, and copied byte by byte with one header added (`X-Trace-Id`). Order,
//! case and spacing of everything else stay as they were sent.

use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Status};

use crate::error::Broken;
use crate::trace::{self, TraceId};
use crate::wire::body::Body;

/// Largest head: Go's default of 1 MiB with the 4 KiB that its server allows on top; dockerd sets no other.
pub(crate) const MAX_HEAD: usize = (1 << 20) + 4096;
/// How an HTTP/2 client opens a connection without TLS (RFC 9113, 3.4).
pub(crate) const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Headers in an ordinary head; more are looked at in a second attempt.
const USUAL: usize = 64;

/// A request's head, as far as the face needs to know it.
#[derive(Debug)]
pub(crate) struct Request {
    /// How many bytes of the input it took.
    pub(crate) len: usize,
    pub(crate) method: String,
    /// Path and query as they were sent.
    pub(crate) target: String,
    /// The head as the engine gets it.
    pub(crate) forward: Vec<u8>,
    pub(crate) body: Body,
    /// The client wants to go on with this connection.
    pub(crate) keep_alive: bool,
    pub(crate) expect: Expect,
    pub(crate) trace: TraceId,
}

/// What a client wants to be told before it sends its body (RFC 9110, 10.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Expect {
    #[default]
    Nothing,
    /// `100 Continue`, which Go's server sends when a handler begins to read the body.
    Continue,
    /// Something that Go's server refuses with 417.
    Other,
}

impl Request {
    /// May be sent a second time although the first may have been carried out (RFC 9110, 9.2.2).
    pub(crate) fn is_repeatable(&self) -> bool {
        matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS" | "TRACE")
    }
}

impl Request {
    /// The first value of this header, whatever its case, before the head was given away to be forwarded.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let found = with_headers(|headers| {
            let mut parsed = httparse::Request::new(&mut []);
            let _complete = parsed.parse_with_uninit_headers(&self.forward, headers)?;
            let header = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            Ok(Ok(header.map(|header| String::from_utf8_lossy(header.value.trim_ascii()).into_owned())))
        });
        found.ok().flatten()
    }
}

/// An answer's head.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) len: usize,
    pub(crate) status: u16,
    /// The head as the client gets it.
    pub(crate) forward: Vec<u8>,
    pub(crate) body: Body,
    pub(crate) keep_alive: bool,
}

impl Answer {
    /// Adds a header as the last.
    pub(crate) fn add(&mut self, name: &str, value: &str) {
        self.forward.truncate(self.forward.trim_ascii_end().len());
        self.forward.extend_from_slice(format!("\r\n{name}: {value}\r\n\r\n").as_bytes());
    }

    /// `100 Continue` and the like: another answer follows. `101` is final, what follows it is not HTTP.
    pub(crate) fn is_informational(&self) -> bool {
        (100..200).contains(&self.status) && self.status != 101
    }
}

/// Reads a request's head; `None` while it is not whole.
pub(crate) fn request(bytes: &[u8]) -> Result<Option<Request>, Broken> {
    with_headers(|headers| {
        let mut parsed = httparse::Request::new(&mut []);
        let Status::Complete(len) = parsed.parse_with_uninit_headers(bytes, headers)? else {
            return Ok(Ok(None));
        };
        Ok(judge_request(bytes, len, &parsed).map(Some))
    })
}

fn judge_request(bytes: &[u8], len: usize, parsed: &httparse::Request<'_, '_>) -> Result<Request, Broken> {
    let facts = Facts::of(parsed.headers)?;
    let newer = parsed.version == Some(1);
    if facts.chunked && !newer {
        return Err(Broken::Malformed("Transfer-Encoding in a request of HTTP/1.0"));
    }
    let known = facts.trace.and_then(TraceId::accept);
    let trace = known.clone().unwrap_or_else(TraceId::random);
    // A head that is only just small enough for dockerd goes without the trace rather than not at all.
    let has_room = len + trace::HEADER.len() + trace.as_str().len() + 4 <= MAX_HEAD;
    let forward = match known.is_none() && has_room {
        true => traced(&bytes[..len], parsed.headers, &trace),
        false => bytes[..len].to_vec(),
    };
    Ok(Request {
        len,
        method: parsed.method.unwrap_or_default().to_owned(),
        target: parsed.path.unwrap_or_default().to_owned(),
        forward,
        body: if facts.chunked { Body::CHUNKED } else { Body::Length(facts.length.unwrap_or(0)) },
        keep_alive: facts.keeps_alive(newer),
        expect: facts.expect(newer),
        trace,
    })
}

/// Reads an answer's head; `None` while it is not whole. `to_head`: it answers a HEAD request.
pub(crate) fn answer(bytes: &[u8], to_head: bool, trace: &TraceId) -> Result<Option<Answer>, Broken> {
    with_headers(|headers| {
        let mut parsed = httparse::Response::new(&mut []);
        let config = ParserConfig::default();
        let Status::Complete(len) = config.parse_response_with_uninit_headers(&mut parsed, bytes, headers)?
        else {
            return Ok(Ok(None));
        };
        Ok(judge_answer(bytes, len, &parsed, to_head, trace).map(Some))
    })
    .map_err(|broken| match broken {
        Broken::Malformed(why) => Broken::BadAnswer(why),
        Broken::HeaderName => Broken::BadAnswer("invalid header name"),
        Broken::TransferEncoding => Broken::BadAnswer("unsupported transfer encoding"),
        Broken::Version => Broken::BadAnswer("unsupported HTTP version"),
        other => other,
    })
}

fn judge_answer(
    bytes: &[u8],
    len: usize,
    parsed: &httparse::Response<'_, '_>,
    to_head: bool,
    trace: &TraceId,
) -> Result<Answer, Broken> {
    let facts = Facts::of(parsed.headers)?;
    let status = parsed.code.unwrap_or_default();
    let newer = parsed.version == Some(1);
    // RFC 9112, 6.3.
    let body = if to_head || matches!(status, 100..=199 | 204 | 304) {
        Body::NONE
    } else if facts.chunked {
        Body::CHUNKED
    } else {
        facts.length.map_or(Body::UntilClose, Body::Length)
    };
    let informational = (100..200).contains(&status) && status != 101;
    let raw = &bytes[..len];
    let forward = if informational { raw.to_vec() } else { traced(raw, parsed.headers, trace) };
    let keep_alive = facts.keeps_alive(newer) && body != Body::UntilClose;
    Ok(Answer { len, status, forward, body, keep_alive })
}

/// A request's head that was judged already, made to fit this body, with the body behind it.
pub(crate) fn with_body(head: &[u8], body: &[u8]) -> Vec<u8> {
    const FRAMING: [&str; 4] = ["content-length", "transfer-encoding", "trailer", "expect"];
    let framing = |line: &[u8]| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing.as_bytes()))
    };
    let lines = head.trim_ascii_end().split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let mut out = Vec::with_capacity(head.len() + body.len() + 32);
    for (_, line) in lines.enumerate().filter(|(at, line)| *at == 0 || !framing(line)) {
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    out
}

/// A request's head with another word in its target.
pub(crate) fn retargeted(head: &[u8], old: &str, new: &str) -> Vec<u8> {
    let line = head.iter().position(|byte| *byte == b'\n').unwrap_or(head.len());
    match head[..line].windows(old.len().max(1)).position(|word| word == old.as_bytes()) {
        Some(at) => [&head[..at], new.as_bytes(), &head[at + old.len()..]].concat(),
        None => head.to_vec(),
    }
}

/// The headers of an answer's head that was judged already.
pub(crate) fn headers(head: &[u8]) -> Vec<(String, String)> {
    let text = |value: &[u8]| String::from_utf8_lossy(value.trim_ascii()).into_owned();
    let parsed = with_headers(|headers| {
        let mut parsed = httparse::Response::new(&mut []);
        let config = ParserConfig::default();
        let _complete = config.parse_response_with_uninit_headers(&mut parsed, head, headers)?;
        Ok(Ok(parsed.headers.iter().map(|header| (header.name.to_owned(), text(header.value))).collect()))
    });
    parsed.unwrap_or_default()
}

/// What the headers say about the message's framing and the connection.
#[derive(Default)]
struct Facts<'a> {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    trace: Option<&'a [u8]>,
    expect: Option<&'a [u8]>,
}

impl<'a> Facts<'a> {
    fn of(headers: &[Header<'a>]) -> Result<Self, Broken> {
        let mut facts = Self::default();
        let mut length: Option<&[u8]> = None;
        for header in headers {
            let value = header.value.trim_ascii();
            match header.name.len() {
                14 if header.name.eq_ignore_ascii_case("content-length") => match length {
                    // Go takes a repeated, equal length; so does the engine behind us, with the same meaning.
                    Some(first) if first != value => {
                        return Err(Broken::Malformed("several Content-Length headers"));
                    }
                    _ => length = Some(value),
                },
                17 if header.name.eq_ignore_ascii_case("transfer-encoding") => {
                    if facts.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Broken::TransferEncoding);
                    }
                    facts.chunked = true;
                }
                10 if header.name.eq_ignore_ascii_case("connection") => {
                    for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                        facts.close |= token.eq_ignore_ascii_case(b"close");
                        facts.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                10 if header.name.eq_ignore_ascii_case(trace::HEADER) => {
                    // Two of them are as good as none: neither side could tell which one counts.
                    facts.trace = if facts.trace.is_none() { Some(value) } else { Some(b"") };
                }
                6 if header.name.eq_ignore_ascii_case("expect") && facts.expect.is_none() => {
                    facts.expect = Some(value);
                }
                _ => {}
            }
        }
        if facts.chunked && length.is_some() {
            return Err(Broken::Malformed("both Content-Length and Transfer-Encoding"));
        }
        facts.length = length.map(decimal).transpose()?;
        Ok(facts)
    }

    /// As Go's server takes it: only of HTTP/1.1, and only where a body is to come.
    fn expect(&self, newer: bool) -> Expect {
        let asked = |value: &[u8]| {
            value
                .split(|byte| matches!(byte, b',' | b' '))
                .any(|word| word.eq_ignore_ascii_case(b"100-continue"))
        };
        match self.expect {
            Some(value) if !asked(value) => {
                if value.is_empty() {
                    Expect::Nothing
                } else {
                    Expect::Other
                }
            }
            Some(_) if newer && (self.chunked || self.length.is_some_and(|length| length > 0)) => {
                Expect::Continue
            }
            _ => Expect::Nothing,
        }
    }

    fn keeps_alive(&self, newer: bool) -> bool {
        !self.close && (newer || self.keep_alive)
    }
}

fn decimal(value: &[u8]) -> Result<u64, Broken> {
    let digits =
        std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    // Go keeps lengths in 63 bits.
    let number = digits.and_then(|text| text.parse::<u64>().ok()).filter(|n| i64::try_from(*n).is_ok());
    number.ok_or(Broken::Malformed("bad Content-Length"))
}

/// Copies a head without its trace headers, and with ours as the last.
fn traced(raw: &[u8], headers: &[Header<'_>], trace: &TraceId) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() + trace::HEADER.len() + trace.as_str().len() + 4);
    let offset = |name: &str| name.as_ptr() as usize - raw.as_ptr() as usize;
    let end = raw.len() - if raw.ends_with(b"\r\n") { 2 } else { 1 };
    let mut copied = 0;
    for (index, header) in headers.iter().enumerate() {
        if header.name.eq_ignore_ascii_case(trace::HEADER) {
            out.extend_from_slice(&raw[copied..offset(header.name)]);
            copied = headers.get(index + 1).map_or(end, |next| offset(next.name));
        }
    }
    out.extend_from_slice(&raw[copied..end]);
    out.extend_from_slice(trace::HEADER.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(trace.as_str().as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
    out
}

/// Parses with room for the usual number of headers, and for as many as 1 MiB can hold if that is too few.
fn with_headers<'b, T>(
    mut parse: impl FnMut(&mut [MaybeUninit<Header<'b>>]) -> Result<Result<T, Broken>, httparse::Error>,
) -> Result<T, Broken> {
    let mut outcome = parse(&mut [const { MaybeUninit::uninit() }; USUAL]);
    let mut room = USUAL;
    while matches!(outcome, Err(httparse::Error::TooManyHeaders)) && room <= MAX_HEAD / 4 {
        room *= 16;
        outcome = parse(&mut vec![MaybeUninit::uninit(); room]);
    }
    outcome.map_err(broken)?
}

fn broken(error: httparse::Error) -> Broken {
    Broken::Malformed(match error {
        httparse::Error::HeaderName => return Broken::HeaderName,
        httparse::Error::Version => return Broken::Version,
        httparse::Error::HeaderValue => "invalid header value",
        httparse::Error::NewLine => "invalid new line",
        httparse::Error::Status => "invalid status",
        httparse::Error::Token => "invalid token",
        httparse::Error::TooManyHeaders => "too many headers",
    })
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
