//! The answer that the client gets in place of two.

use dhow_model::Role;
use serde_json::{Value, json};

use crate::ask::{Answer, Unanswered};
use crate::trace::{self, TraceId};

/// An answer, not yet written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    status: u16,
    /// Without those of the framing.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Reply {
    /// The status and headers of `model` over another body, which ends with a line feed as dockerd's do.
    pub(super) fn like(model: Answer, body: &Value) -> Self {
        let body = format!("{body}\n").into_bytes();
        Self { body, ..Self::as_is(model) }
    }

    /// What one engine said.
    pub(super) fn as_is(answer: Answer) -> Self {
        let framing = ["content-length", "transfer-encoding", "connection", "keep-alive", "trailer"];
        let mut headers = answer.headers;
        headers.retain(|(name, _)| !framing.iter().any(|framing| name.eq_ignore_ascii_case(framing)));
        Self { status: answer.status, headers, body: answer.body }
    }

    /// An engine that did not answer although its machine runs.
    pub(super) fn unreachable(role: Role, why: &Unanswered) -> Self {
        let message = match why {
            Unanswered::Unavailable(why) => {
                format!("the engine of machine `{role}` cannot be reached: {why}")
            }
            why => format!("the engine of machine `{role}` did not answer: {why}; run `dhow logs {role}`"),
        };
        Self::error(503, &message)
    }

    /// An engine whose answer is not JSON.
    pub(super) fn unreadable(role: Role, why: &serde_json::Error) -> Self {
        let message = format!("the answer of machine `{role}` cannot be read: {why}; run `dhow logs {role}`");
        Self::error(502, &message)
    }

    /// Docker's form of an error.
    pub(super) fn error(status: u16, message: &str) -> Self {
        let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        Self { status, headers, body: format!("{}\n", json!({ "message": message })).into_bytes() }
    }

    /// The same status with another message.
    pub(super) fn saying(self, message: String) -> Self {
        Self { body: format!("{}\n", json!({ "message": message })).into_bytes(), ..self }
    }

    /// What an error says.
    pub(super) fn message(&self) -> String {
        let read = serde_json::from_slice::<Value>(&self.body).ok();
        let message = read.as_ref().and_then(|body| body.get("message")?.as_str());
        message.map_or_else(|| String::from_utf8_lossy(&self.body).trim().to_owned(), str::to_owned)
    }

    /// The whole message.
    pub(super) fn bytes(&self, keep_alive: bool, trace: &TraceId) -> Vec<u8> {
        let mut head = self.head(trace);
        head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        if !keep_alive {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }

    /// Status line and headers, without those of the framing and without the empty line at the end.
    pub(super) fn head(&self, trace: &TraceId) -> String {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(trace::HEADER)) {
            head.push_str(&format!("{}: {trace}\r\n", trace::HEADER));
        }
        head
    }
}

/// The words that Go's `net/http` puts behind the statuses that dockerd gives to these calls.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "",
    }
}
