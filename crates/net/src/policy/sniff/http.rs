//! The host's name in the head of an HTTP/1 request (RFC 9112, 3.2): target and Host must say the same.

use dhow_model::egress::Name;

use super::{Seen, Unsaid};

/// What HTTP/2 begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest method; those that are registered have at most 17 letters.
const METHOD: usize = 24;
/// Empty lines before a request, which servers skip.
const BLANK: usize = 8;
const HEADERS: usize = 128;

/// What the beginning of a connection that is not TLS says.
pub(super) fn look(bytes: &[u8]) -> Seen {
    if bytes.starts_with(PREFACE) {
        return Seen::Nothing(Unsaid::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return Seen::NeedMore;
    }
    match begins_like_a_request(bytes) {
        Some(true) => {}
        Some(false) => return Seen::Nothing(Unsaid::Unknown),
        None => return Seen::NeedMore,
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => name(&request),
        Ok(httparse::Status::Partial) => Seen::NeedMore,
        Err(_) => Seen::Nothing(Unsaid::BadHttp),
    }
}

/// Whether a method and a space stand at the beginning; nothing while that is open. Without this a protocol whose first
/// message could become a method would wait for an answer that never comes.
fn begins_like_a_request(bytes: &[u8]) -> Option<bool> {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
    if start > BLANK {
        return Some(false);
    }
    for (index, byte) in bytes[start..].iter().enumerate() {
        match byte {
            b' ' => return Some(index > 0),
            b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_' if index < METHOD => {}
            _ => return Some(false),
        }
    }
    None
}

/// What a host's place in the head says.
enum Host {
    Name(Name),
    Address,
}

fn name(request: &httparse::Request<'_, '_>) -> Seen {
    let mut found: Option<Host> = None;
    let mut hosts = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host"));
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Seen::Nothing(Unsaid::Disagree);
    }
    let target = match (request.method, request.path) {
        (Some("CONNECT"), Some(target)) => Some(target),
        (Some(_), Some("*")) => None,
        (Some(_), Some(target)) if target.starts_with('/') => None,
        (Some(_), Some(target)) => match absolute(target) {
            Some(authority) => Some(authority),
            None => return Seen::Nothing(Unsaid::BadHttp),
        },
        _ => return Seen::Nothing(Unsaid::BadHttp),
    };
    let header = match first.map(|header| std::str::from_utf8(header.value)) {
        None => None,
        Some(Ok(value)) => Some(value.trim_matches([' ', '\t'])),
        Some(Err(_)) => return Seen::Nothing(Unsaid::BadHttp),
    };
    for authority in [header, target].into_iter().flatten() {
        let Some(host) = host(authority) else { return Seen::Nothing(Unsaid::BadHttp) };
        let agrees = match (&found, &host) {
            (None, _) | (Some(Host::Address), Host::Address) => true,
            (Some(Host::Name(one)), Host::Name(other)) => one == other,
            _ => false,
        };
        if !agrees {
            return Seen::Nothing(Unsaid::Disagree);
        }
        found = Some(host);
    }
    match found {
        Some(Host::Name(name)) => Seen::Name(name),
        Some(Host::Address) | None => Seen::Nothing(Unsaid::NoHost),
    }
}

/// The authority of `http://authority/…`.
fn absolute(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_once("://")?;
    let plain = !scheme.is_empty()
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    plain.then(|| rest.split(['/', '?', '#']).next().unwrap_or(rest))
}

/// The host of an authority without user information, in which another name could hide.
fn host(authority: &str) -> Option<Host> {
    if authority.is_empty() || authority.starts_with('[') {
        return Some(Host::Address);
    }
    let host = match authority.split_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        Some(_) => return None,
        None => authority,
    };
    match host.parse::<Name>() {
        Ok(name) => Some(Host::Name(name)),
        Err(_) if host.parse::<std::net::Ipv4Addr>().is_ok() => Some(Host::Address),
        Err(_) => None,
    }
}
