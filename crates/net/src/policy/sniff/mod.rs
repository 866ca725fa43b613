//! Which name a connection's first bytes say. Pure over bytes; whatever they are, there is an answer after [`LIMIT`] of them.

#[cfg(test)]
pub(crate) mod hello;
mod http;
#[cfg(test)]
mod tests;
mod tls;

use std::fmt;

use dhow_model::egress::Name;

/// As many bytes are looked at: a ClientHello is at most this long here (those with post-quantum keys are 2 KB), and so is
/// the head of a request.
pub(super) const LIMIT: usize = 16 * 1024;

/// What the bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// Not enough of them yet.
    NeedMore,
    /// This name, once and for all.
    Name(Name),
    /// No name, and more bytes would not change it.
    Nothing(Unsaid),
}

/// Why no name is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Unsaid {
    /// TLS without SNI, or with an address there.
    NoServerName,
    /// HTTP without a Host, or with an address there.
    NoHost,
    /// Names in one head that differ.
    Disagree,
    /// HTTP/2 without TLS.
    Http2,
    /// It begins like TLS and goes on like nothing.
    BadTls,
    /// It begins like HTTP and goes on like nothing.
    BadHttp,
    /// Another protocol.
    Unknown,
    /// The name does not come within [`LIMIT`].
    TooLong,
    /// The guest stopped sending before its name was complete.
    Unfinished,
}

/// Looks at the first bytes of a connection, all of them from the first on.
pub(super) fn look(bytes: &[u8]) -> Seen {
    let seen = match bytes.first() {
        None => Seen::NeedMore,
        Some(&tls::HANDSHAKE) => tls::look(bytes),
        Some(_) => http::look(bytes),
    };
    match seen {
        Seen::NeedMore if bytes.len() >= LIMIT => Seen::Nothing(Unsaid::TooLong),
        seen => seen,
    }
}

/// For `fuzz/`: the first answer holds, however the bytes are cut.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let whole = look(bytes);
    for cut in [1, 2, 3, 5, 9, 40, 100, 1000, bytes.len() / 2, bytes.len().saturating_sub(1)] {
        let early = look(&bytes[..cut.min(bytes.len())]);
        assert!(early == Seen::NeedMore || early == whole, "{cut}: {early:?}, {whole:?}");
    }
}

impl fmt::Display for Unsaid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoServerName => "TLS without a server's name",
            Self::NoHost => "HTTP without a host's name",
            Self::Disagree => "HTTP whose target and Host differ, or with more than one Host",
            Self::Http2 => "HTTP/2 without TLS, whose names cannot be checked",
            Self::BadTls => "TLS that does not parse",
            Self::BadHttp => "HTTP that does not parse",
            Self::Unknown => "neither TLS nor HTTP, so that it says no name",
            Self::TooLong => "no name in the first 16 KiB",
            Self::Unfinished => "it ended before it said a name",
        })
    }
}
