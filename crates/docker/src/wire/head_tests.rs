use super::*;

fn parsed(text: &str) -> Request {
    request(text.as_bytes()).unwrap().unwrap()
}

/// 3.1, 3.8: one header is added, at the end; the rest stays byte by byte.
#[test]
fn a_head_passes_unchanged_but_for_the_trace() {
    let raw = "POST /v1.44/build?t=a%20b HTTP/1.1\r\nhOsT:docker\r\nX-Odd:  spaced  \r\nTransfer-Encoding: Chunked\r\n\r\nrest";
    let head = parsed(raw);
    let expected =
        raw.strip_suffix("\r\nrest").unwrap().to_owned() + &format!("X-Trace-Id: {}\r\n\r\n", head.trace);
    assert_eq!(String::from_utf8(head.forward).unwrap(), expected);
    assert_eq!((head.len, head.body, head.keep_alive), (raw.len() - 4, Body::CHUNKED, true));
}

/// 3.8: a sane trace ID is kept in its place, any other is replaced.
#[test]
fn the_trace_is_kept_or_replaced() {
    let raw = "GET / HTTP/1.1\r\nx-trace-id: abc\r\nHost: d\r\n\r\n";
    let head = parsed(raw);
    assert_eq!((head.forward.as_slice(), head.trace.as_str()), (raw.as_bytes(), "abc"));
    for bad in ["X-Trace-Id: a b\r\n", "X-Trace-Id:\r\n", "X-Trace-Id: a\r\nX-Trace-Id: b\r\n"] {
        let head = parsed(&format!("GET / HTTP/1.1\r\nA: 1\r\n{bad}B: 2\r\n\r\n"));
        let expected = format!("GET / HTTP/1.1\r\nA: 1\r\nB: 2\r\nX-Trace-Id: {}\r\n\r\n", head.trace);
        assert_eq!(String::from_utf8(head.forward).unwrap(), expected);
    }
}

/// 3.3: requests whose end two readers could see in two places are refused.
#[test]
fn shapes_for_smuggling_are_refused() {
    for headers in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: 3, 3\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length:\r\n",
        "Content-Length: 9223372036854775808\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length : 3\r\n",
        "A: b\r\n folded: c\r\n",
    ] {
        let raw = format!("POST / HTTP/1.1\r\n{headers}\r\n");
        assert!(request(raw.as_bytes()).is_err(), "{headers:?}");
    }
    assert!(request(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    assert_eq!(
        parsed("POST / HTTP/1.1\r\nContent-Length: 3\r\ncontent-length:3\r\n\r\n").body,
        Body::Length(3)
    );
}

/// 3.1: who closes the connection after the exchange.
#[test]
fn keep_alive_follows_version_and_connection_header() {
    for (version, connection, expected) in [
        ("1.1", "", true),
        ("1.1", "Connection: Close\r\n", false),
        ("1.1", "Connection: Upgrade, close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
    ] {
        let head = parsed(&format!("GET / HTTP/{version}\r\n{connection}\r\n"));
        assert_eq!(head.keep_alive, expected, "{version} {connection}");
    }
}

/// 3.1: where an answer ends (RFC 9112, 6.3).
#[test]
fn an_answers_body_follows_from_status_method_and_headers() {
    for (raw, to_head, body, keep_alive) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, Body::Length(5), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, Body::NONE, true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, Body::CHUNKED, true),
        ("HTTP/1.1 204 No Content\r\n\r\n", false, Body::NONE, true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", false, Body::NONE, true),
        ("HTTP/1.1 200 OK\r\n\r\n", false, Body::UntilClose, false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", false, Body::Length(1), false),
        (
            "HTTP/1.1 409 Conflict\r\nConnection: close\r\nContent-Length: 1\r\n\r\n",
            false,
            Body::Length(1),
            false,
        ),
    ] {
        let head = answer(raw.as_bytes(), to_head, &TraceId::random()).unwrap().unwrap();
        assert_eq!((head.body, head.keep_alive), (body, keep_alive), "{raw}");
    }
}

/// 3.8: only the final answer names the trace.
#[test]
fn informational_answers_pass_untouched() {
    let raw = b"HTTP/1.1 100 Continue\r\n\r\n";
    let head = answer(raw, false, &TraceId::random()).unwrap().unwrap();
    assert!(head.is_informational());
    assert_eq!(head.forward, raw);
}

/// 3.1: as many headers as fit into dockerd's limit.
#[test]
fn many_headers_are_read() {
    let raw = format!("GET / HTTP/1.1\r\n{}\r\n", "a:\r\n".repeat(200_000));
    assert_eq!(parsed(&raw).len, raw.len());
}

/// 3.6: a description that is replaced has a head that fits it.
#[test]
fn a_head_is_made_to_fit_another_body() {
    let head = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: y\r\nExpect: 100-continue\r\nX: z\r\n\r\n";
    let expected = b"POST /a HTTP/1.1\r\nHost: x\r\nX: z\r\nContent-Length: 2\r\n\r\n{}";
    assert_eq!(with_body(head, b"{}"), expected);
    assert_eq!(
        retargeted(b"GET /n/old HTTP/1.1\r\nX: old\r\n\r\n", "old", "newer"),
        b"GET /n/newer HTTP/1.1\r\nX: old\r\n\r\n"
    );
}
