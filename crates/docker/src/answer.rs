//! The face's own answers, in the form in which dockerd gives them.

use crate::error::Broken;
use crate::pool::Unavailable;
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
        // The words and the form of Go's `net/http`, which answers these for dockerd before any handler runs.
        Broken::HeadTooLarge => Some(plain("431 Request Header Fields Too Large", "")),
        Broken::Malformed("unsupported Transfer-Encoding") => {
            Some(plain("501 Not Implemented", "Unsupported transfer encoding"))
        }
        Broken::Malformed(why) => Some(plain("400 Bad Request", why)),
        Broken::BadBody(_) => Some(json(400, "Bad Request", &why.to_string(), trace)),
        Broken::NoAnswer | Broken::BadAnswer(_) => {
            Some(json(502, "Bad Gateway", &format!("{why}; see `dhow logs`"), trace))
        }
        Broken::ClientGone | Broken::Truncated => None,
    }
}

fn plain(status: &str, why: &str) -> Vec<u8> {
    let separator = if why.is_empty() { "" } else { ": " };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n{status}{separator}{why}"
    )
    .into_bytes()
}
