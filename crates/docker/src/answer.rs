//! The face's own answers, in the form in which dockerd gives them.

use crate::decisions;
use crate::engines::Unavailable;
use crate::error::Broken;
use crate::trace::{self, TraceId};

/// An error of the face's own, in Docker's form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) message: String,
    /// The value of `X-Dhow-Placement`.
    pub(crate) label: Option<String>,
}

impl Said {
    /// JSON with a message. `keep_alive`: the connection goes on.
    pub(crate) fn bytes(&self, keep_alive: bool, trace: &TraceId) -> Vec<u8> {
        let body = format!("{}\n", serde_json::json!({ "message": self.message }));
        let label = self.label.iter().map(|label| format!("{}: {label}\r\n", decisions::HEADER));
        format!(
            "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\n{}: {trace}\r\n{}Content-Length: {}\r\n{}\r\n{body}",
            self.status,
            reason(self.status),
            trace::HEADER,
            label.collect::<String>(),
            body.len(),
            if keep_alive { "" } else { "Connection: close\r\n" },
        )
        .into_bytes()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        404 => "Not Found",
        409 => "Conflict",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

/// The last answer on a connection.
fn json(status: u16, message: String, trace: &TraceId) -> Vec<u8> {
    Said { status, message, label: None }.bytes(false, trace)
}

/// The engine cannot be reached (spec 3.3).
pub(crate) fn unavailable(why: &Unavailable, trace: &TraceId) -> Vec<u8> {
    json(503, why.to_string(), trace)
}

/// What a client is told when its exchange broke before an answer began; `None` where nobody would read it.
pub(crate) fn broken(why: &Broken, trace: &TraceId) -> Option<Vec<u8>> {
    match why {
        // Word for word those of Go's `net/http`, which gives them for dockerd before any handler runs.
        Broken::HeadTooLarge => {
            Some(plain("431 Request Header Fields Too Large", "431 Request Header Fields Too Large"))
        }
        Broken::TransferEncoding => Some(plain("501 Not Implemented", "Unsupported transfer encoding")),
        Broken::Version => {
            let words = "505 HTTP Version Not Supported: unsupported protocol version";
            Some(plain(words, words))
        }
        Broken::HeaderName => {
            let words = "400 Bad Request: invalid header name";
            Some(plain(words, words))
        }
        Broken::Malformed(_) => Some(plain("400 Bad Request", "400 Bad Request")),
        Broken::BadBody(_) => Some(json(400, why.to_string(), trace)),
        Broken::NoAnswer | Broken::BadAnswer(_) => Some(json(502, format!("{why}; see `dhow logs`"), trace)),
        Broken::ClientGone | Broken::Truncated => None,
    }
}

fn plain(status: &str, words: &str) -> Vec<u8> {
    let head = "Content-Type: text/plain; charset=utf-8\r\nConnection: close";
    format!("HTTP/1.1 {status}\r\n{head}\r\n\r\n{words}").into_bytes()
}
