//! gRPC errors of the face's own (PROTOCOL-HTTP2.md, "Trailers-Only": a head with the status, and nothing after it).

use std::fmt::Write as _;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderValue, Response};

/// Why a call is not carried out, in gRPC's codes (`google.golang.org/grpc/codes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidArgument = 3,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Unimplemented = 12,
    Unavailable = 14,
}

/// An answer that is only an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn unavailable(why: impl std::fmt::Display) -> Self {
        Self::new(Code::Unavailable, why.to_string())
    }

    /// Sends it as the whole answer.
    pub(crate) fn send(&self, respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
        tracing::info!(code = self.code as u8, why = %self.message, "a call of BuildKit's was refused");
        let mut answer = Response::new(());
        let headers = answer.headers_mut();
        headers.insert("content-type", HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(self.code as u16));
        if let Ok(message) = HeaderValue::from_str(&encoded(&self.message)) {
            headers.insert("grpc-message", message);
        }
        respond.send_response(answer, true).map(drop)
    }
}

/// "Status-Message → Percent-Encoded": everything but printable ASCII, and the percent sign itself.
fn encoded(message: &str) -> String {
    message.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b' '..=b'~' if byte != b'%' => text.push(byte.into()),
            // Writing to a string cannot fail.
            _ => drop(write!(text, "%{byte:02X}")),
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_percent_encoded() {
        assert_eq!(encoded("100 % of “x”\n"), "100 %25 of %E2%80%9Cx%E2%80%9D%0A");
    }
}
