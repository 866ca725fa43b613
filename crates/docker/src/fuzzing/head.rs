//! Heads and the ends of bodies: what is forwarded means what was sent.

use httparse::{EMPTY_HEADER, Status};

use crate::error::Broken;
use crate::trace::{self, TraceId};
use crate::wire::body::{BadChunk, Body};
use crate::wire::head::{self, Answer, Request};

/// Headers that the oracle has room for; heads with more are not compared.
const ROOM: usize = 256;
/// Bodies up to this many bytes are compared with the grammar: no limit on the length of a line counts.
const SHORT: usize = 4000;

type Headers = Vec<(String, Vec<u8>)>;

/// A request's head, whole and as it grows.
pub fn request(bytes: &[u8]) {
    let whole = head::request(bytes);
    growing(bytes, &whole, head::request, |request| request.len);
    let Ok(Some(request)) = whole else { return };
    let (Some(sent), Some(forwarded)) = (headers(&bytes[..request.len]), headers(&request.forward)) else {
        return;
    };
    traced(sent, forwarded, &request.trace);
    let again = head::request(&request.forward);
    let same = again.as_ref().is_ok_and(|again| again.as_ref().is_some_and(|again| means(again, &request)));
    assert!(same, "{request:?} is forwarded as {again:?}");
}

/// The head of an engine's answer, to a HEAD request if the first byte is odd.
pub fn answer(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let trace = TraceId::random();
    let read = |bytes: &[u8]| head::answer(bytes, first & 1 == 1, &trace);
    let whole = read(bytes);
    growing(bytes, &whole, read, |answer| answer.len);
    let Ok(Some(mut answer)) = whole else { return };
    let (Some(sent), Some(forwarded)) =
        (answer_headers(&bytes[..answer.len]), answer_headers(&answer.forward))
    else {
        return;
    };
    if !answer.is_informational() {
        traced(sent, forwarded.clone(), &trace);
    }
    let same = |answer: &Answer| {
        let again = read(&answer.forward);
        let means = |again: &Answer| {
            (again.status, again.body, again.keep_alive) == (answer.status, answer.body, answer.keep_alive)
                && again.len == answer.forward.len()
        };
        again.is_ok_and(|again| again.is_some_and(|again| means(&again)))
    };
    assert!(same(&answer), "{answer:?}");
    answer.add("X-Added", "a b");
    assert!(same(&answer), "{answer:?}");
    let mut expected = forwarded;
    expected.push(("x-added".to_owned(), b"a b".to_vec()));
    assert_eq!(answer_headers(&answer.forward), Some(expected));
}

/// A chunked body, at once and in pieces as large as the first byte says.
pub fn body(bytes: &[u8]) {
    let Some((step, bytes)) = bytes.split_first() else { return };
    let at_once = scan(Body::CHUNKED, bytes, bytes.len().max(1));
    let in_pieces = scan(Body::CHUNKED, bytes, usize::from(*step).max(1));
    assert_eq!(at_once, in_pieces);
    if bytes.len() > SHORT {
        return;
    }
    let whole = at_once.ok().filter(|(_, _, done)| *done).map(|(taken, content, _)| (taken, content));
    assert_eq!(whole, decoded(bytes));
    let length = u64::from(*step) * 7;
    let by_length = scan(Body::Length(length), bytes, usize::from(*step).max(1));
    let expected = usize::try_from(length).map_or(bytes.len(), |length| length.min(bytes.len()));
    let whole = expected as u64 == length;
    assert_eq!(by_length, Ok((expected, bytes[..expected].to_vec(), whole)));
}

/// What was taken, its content, and whether that is all.
fn scan(mut body: Body, bytes: &[u8], step: usize) -> Result<(usize, Vec<u8>, bool), BadChunk> {
    let (mut taken, mut content) = (0, Vec::new());
    while taken < bytes.len() && !body.is_done() {
        let piece = &bytes[taken..bytes.len().min(taken + step)];
        taken += body.scan(piece, |data| content.extend_from_slice(data))?;
    }
    Ok((taken, content, body.is_done()))
}

/// A whole chunked body at the front, by the grammar of RFC 9112, 7.1: its length and content.
fn decoded(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let (mut at, mut content) = (0, Vec::new());
    loop {
        let line = line(&bytes[at..])?;
        at += line.len() + 2;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, extension) = line.split_at(digits);
        let gap = extension.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        if digits > 16 || !matches!(extension.get(gap), None | Some(b';')) {
            return None;
        }
        let size = u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        let end = at.checked_add(usize::try_from(size).ok()?)?;
        content.extend_from_slice(bytes.get(at..end)?);
        at = end + 2;
        if bytes.get(end..at)? != b"\r\n" {
            return None;
        }
    }
    loop {
        let trailer = line(&bytes[at..])?;
        at += trailer.len() + 2;
        if trailer.is_empty() {
            return Some((at, content));
        }
    }
}

/// What stands before the first end of line, which must be one of two bytes.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
    bytes[end..].starts_with(b"\r\n").then(|| &bytes[..end])
}

/// While a head grows nothing is taken back: it is unfinished, then what it stays.
fn growing<T>(
    bytes: &[u8],
    whole: &Result<Option<T>, Broken>,
    read: impl Fn(&[u8]) -> Result<Option<T>, Broken>,
    len: impl Fn(&T) -> usize,
) {
    let every = (bytes.len() / 64).max(1);
    for cut in (0..bytes.len()).step_by(every) {
        match read(&bytes[..cut]) {
            Ok(None) => {}
            Ok(Some(early)) => {
                let same =
                    matches!(whole, Ok(Some(whole)) if len(whole) == len(&early) && len(&early) <= cut);
                assert!(same, "whole at {cut} bytes");
            }
            Err(_) => assert!(whole.is_err(), "refused at {cut} bytes and taken later"),
        }
    }
}

/// What is forwarded has the headers that were sent, but for the trace ID, of which there is one.
fn traced(sent: Headers, forwarded: Headers, trace: &TraceId) {
    let is_trace = |(name, _): &(String, Vec<u8>)| name.eq_ignore_ascii_case(trace::HEADER);
    let (ids, others): (Headers, Headers) = forwarded.into_iter().partition(is_trace);
    let expected: Headers = sent.into_iter().filter(|header| !is_trace(header)).collect();
    assert_eq!(others, expected);
    assert!(matches!(ids.as_slice(), [(_, id)] if id == trace.as_str().as_bytes()), "{ids:?}");
}

fn means(one: &Request, other: &Request) -> bool {
    let facts = |request: &Request| {
        let Request { method, target, body, keep_alive, expect, trace, .. } = request;
        (method.clone(), target.clone(), *body, *keep_alive, *expect, trace.clone())
    };
    facts(one) == facts(other) && one.forward == other.forward && one.len == other.forward.len()
}

fn headers(bytes: &[u8]) -> Option<Headers> {
    let mut room = [EMPTY_HEADER; ROOM];
    let mut parsed = httparse::Request::new(&mut room);
    matches!(parsed.parse(bytes), Ok(Status::Complete(_))).then(|| owned(parsed.headers))
}

fn answer_headers(bytes: &[u8]) -> Option<Headers> {
    let mut room = [EMPTY_HEADER; ROOM];
    let mut parsed = httparse::Response::new(&mut room);
    matches!(parsed.parse(bytes), Ok(Status::Complete(_))).then(|| owned(parsed.headers))
}

fn owned(headers: &[httparse::Header<'_>]) -> Headers {
    let one = |header: &httparse::Header<'_>| {
        (header.name.to_ascii_lowercase(), header.value.trim_ascii().to_vec())
    };
    headers.iter().map(one).collect()
}
