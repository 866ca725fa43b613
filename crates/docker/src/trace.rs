//! The trace ID that every request carries (spec 3.8).

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The header that carries it, on requests and on answers.
pub const HEADER: &str = "X-Trace-Id";

/// Longest ID that is taken over from a client.
const MAX: usize = 128;

/// What ties together the log lines of one request in the daemon, the supervisor and the agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TraceId(String);

impl TraceId {
    /// A new one: 128 bits, 32 hexadecimal digits. Unique and not guessable from outside the process; not a secret.
    #[must_use]
    pub fn random() -> Self {
        // The standard library's keyed hash, with keys from the system, over a counter: no system call per request.
        static KEYS: LazyLock<(RandomState, RandomState)> =
            LazyLock::new(|| (RandomState::new(), RandomState::new()));
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let halves = [KEYS.0.hash_one(n), KEYS.1.hash_one(n)];
        // Every request has one: formatting would be a tenth of what the face does for a small request.
        let digits: [u8; 32] = std::array::from_fn(|at| {
            let digit = (halves[at / 16] >> (60 - 4 * (at % 16))) & 0xf;
            b"0123456789abcdef"[digit as usize]
        });
        Self(std::str::from_utf8(&digits).unwrap_or_default().to_owned())
    }

    /// The client's own, if it is sane: 1 to 128 visible ASCII characters. It is written to logs and sent on as it is.
    #[must_use]
    pub fn accept(value: &[u8]) -> Option<Self> {
        let sane = !value.is_empty() && value.len() <= MAX && value.iter().all(u8::is_ascii_graphic);
        if sane { String::from_utf8(value.to_vec()).ok().map(Self) } else { None }
    }

    /// The ID as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3.8: made where there is none.
    #[test]
    fn made_ids_differ_and_have_128_bits() {
        let (one, two) = (TraceId::random(), TraceId::random());
        assert_ne!(one, two);
        assert_eq!(one.as_str().len(), 32);
    }

    /// 3.8: kept, unless it could not stand in a log or a header.
    #[test]
    fn only_short_visible_ids_are_kept() {
        assert_eq!(TraceId::accept(b"build-7/a").unwrap().as_str(), "build-7/a");
        for bad in [b"".as_slice(), b"a b", b"a\x1b[2J", "é".as_bytes(), &[b'a'; 129]] {
            assert_eq!(TraceId::accept(bad), None);
        }
    }
}
