//! One call to one socket, and everything that came back.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest time for one call.
const LIMIT: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Default)]
pub struct Call {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The answer may go on for ever: its head is enough, unless it is an error.
    pub streams: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// `200 OK`
    pub status: String,
    pub headers: Vec<(String, String)>,
    /// Without its chunks.
    pub body: Vec<u8>,
    /// It ended where its head said.
    pub whole: bool,
}

impl Call {
    /// `POST /containers/create?name=x {"Image":"y"}`
    pub fn parse(line: &str) -> Self {
        let mut words = line.splitn(3, ' ');
        let mut next = || words.next().unwrap_or_default().to_owned();
        let (method, target, body) = (next(), next(), next().into_bytes());
        if body == b"@plugin" {
            let call = Self { method, target, body: crate::plans::plugin(), ..Self::default() };
            return call.with_header("Content-Type", "application/x-tar");
        }
        let mut headers = Vec::new();
        if !body.is_empty() {
            headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
        }
        Self { method, target, headers, body, streams: false }
    }

    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nHost: docker\r\n", self.method, self.target);
        let upgrades = self.headers.iter().any(|(name, _)| name == "Upgrade");
        text += if upgrades { "Connection: Upgrade\r\n" } else { "Connection: close\r\n" };
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !self.body.is_empty() || matches!(self.method.as_str(), "POST" | "PUT") {
            text += &format!("Content-Length: {}\r\n", self.body.len());
        }
        [text.as_bytes(), b"\r\n", &self.body].concat()
    }

    /// Sends it and reads the answer. An answer that does not come is one without a status.
    pub fn send(&self, socket: &Path) -> Answer {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        // It may be refused before it is read.
        let _sent = stream.write_all(&self.bytes());
        let began = Instant::now();
        let mut raw = Vec::new();
        let mut piece = vec![0; 64 * 1024];
        loop {
            if raw.len() < 1 << 20 && self.is_enough(&raw) {
                return self.answered(&raw);
            }
            match stream.read(&mut piece) {
                Ok(0) => return self.answered(&raw),
                Ok(n) => raw.extend_from_slice(&piece[..n]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return self.answered(&raw);
                }
                Err(_) if began.elapsed() < LIMIT => {}
                Err(error) => {
                    let status =
                        format!("{error} after {:?}", String::from_utf8_lossy(&raw[..raw.len().min(500)]));
                    return Answer { status, ..Answer::default() };
                }
            }
        }
    }

    /// The answer is whole, or its head is all that is wanted of it.
    fn is_enough(&self, raw: &[u8]) -> bool {
        let answer = Answer::parse(raw, &self.method);
        let goes_on = self.goes_on(&answer);
        let framed = answer.header("Content-Length").or(answer.header("Transfer-Encoding")).is_some();
        answer.code() > 0 && (goes_on || (answer.whole && (framed || self.method == "HEAD")))
    }

    fn goes_on(&self, answer: &Answer) -> bool {
        let endless = self.streams && (200..300).contains(&answer.code());
        answer.code() == 101 || (endless && answer.header("Content-Length").is_none())
    }

    /// Without what came of a body that is not waited for.
    fn answered(&self, raw: &[u8]) -> Answer {
        let mut answer = Answer::parse(raw, &self.method);
        if self.goes_on(&answer) {
            answer.body.clear();
            answer.whole = true;
        }
        answer
    }
}

impl Answer {
    pub fn code(&self) -> u16 {
        self.status.split(' ').next().and_then(|code| code.parse().ok()).unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn parse(raw: &[u8], method: &str) -> Self {
        let Some(end) = raw.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Self {
                status: format!("nothing but {:?}", String::from_utf8_lossy(raw)),
                ..Self::default()
            };
        };
        let head = String::from_utf8_lossy(&raw[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first.strip_prefix("HTTP/1.1 ").unwrap_or(first).to_owned();
        let pair = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap_or((line, ""));
            (name.to_owned(), value.to_owned())
        };
        let mut answer = Self { status, headers: lines.map(pair).collect(), ..Self::default() };
        let rest = &raw[end + 4..];
        let length = answer.header("Content-Length").and_then(|length| length.parse::<usize>().ok());
        (answer.body, answer.whole) = match (answer.header("Transfer-Encoding"), length) {
            _ if method == "HEAD" => (rest.to_vec(), rest.is_empty()),
            (Some(_), _) => without_chunks(rest),
            (None, Some(length)) => (rest.to_vec(), rest.len() == length),
            (None, None) => (rest.to_vec(), true),
        };
        answer
    }
}

fn without_chunks(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut content = Vec::new();
    loop {
        let Some(line) = rest.windows(2).position(|two| two == b"\r\n") else { return (content, false) };
        let size =
            std::str::from_utf8(&rest[..line]).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
        let Some(size) = size else { return (content, false) };
        if size == 0 {
            return (content, &rest[line..] == b"\r\n\r\n");
        }
        let (from, to) = (line + 2, line + 2 + size);
        if rest.len() < to + 2 {
            content.extend_from_slice(&rest[from.min(rest.len())..]);
            return (content, false);
        }
        content.extend_from_slice(&rest[from..to]);
        rest = &rest[to + 2..];
    }
}
