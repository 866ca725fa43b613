//! The face's own answers, in the form in which dockerd gives them.

use crate::engines::Unavailable;
use crate::error::Broken;
use crate::trace::{self, TraceId};

/// Docker's error: JSON with a message.
pub(crate) fn json(status: u16, reason: &str, message: &str, trace: &TraceId) -> Vec<u8> {
    let body = format!("{}\n", serde_json::json!({ "message": message }));
    format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\n{}: {trace}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        trace::HEADER,
        body.len()
    )
    .into_bytes()
}

/// The engine cannot be reached (spec 3.3).
pub(crate) fn unavailable(why: &Unavailable, trace: &TraceId) -> Vec<u8> {
    json(503, "Service Unavailable", &format!("{}; run `{}`", why.what, why.run), trace)
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
        Broken::BadBody(_) => Some(json(400, "Bad Request", &why.to_string(), trace)),
        Broken::NoAnswer | Broken::BadAnswer(_) => {
            Some(json(502, "Bad Gateway", &format!("{why}; see `dhow logs`"), trace))
        }
        Broken::ClientGone | Broken::Truncated => None,
    }
}

fn plain(status: &str, words: &str) -> Vec<u8> {
    let head = "Content-Type: text/plain; charset=utf-8\r\nConnection: close";
    format!("HTTP/1.1 {status}\r\n{head}\r\n\r\n{words}").into_bytes()
}
