//! Bodies, framing and the ends of connections, with both sides played by the test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture fails its test at the first surprise"
)]

mod common;

use common::stage::{LIMIT, Stage};
use dhow_testkit::wait;

/// 3.1: requests sent ahead are answered in order, over one connection to the engine.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let stage = Stage::new();
    let mut client = stage.client_says(
        "POST /1 HTTP/1.1\r\nContent-Length: 3\r\n\r\noneGET /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.1\r\nConnection: close\r\n\r\n",
    );
    let mut engine = stage.engine();
    assert_eq!(engine.head(), "POST /1 HTTP/1.1\r\nContent-Length: 3\r\n\r\n");
    engine.hears("one");
    assert!(engine.is_quiet(), "the second request was sent before the first was answered");
    engine.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
    assert_eq!(engine.head(), "GET /2 HTTP/1.1\r\n\r\n");
    engine.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb");
    assert_eq!(engine.head(), "GET /3 HTTP/1.1\r\nConnection: close\r\n\r\n");
    engine.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nc");
    for body in ["a", "b"] {
        assert_eq!(client.head(), "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n");
        client.hears(body);
    }
    assert!(client.rest().ends_with("\r\n\r\nc"));
    assert!(stage.nobody_dialled());
}

/// 3.1: chunk extensions and trailers pass as they were sent, both ways, and the connection goes on.
#[test]
fn chunking_and_trailers_pass_unchanged() {
    let stage = Stage::new();
    let body = "5;sig=\"a b\"\r\nhello\r\n0A \r\n0123456789\r\n000\r\nDigest: sha-256=x\r\nother:y\r\n\r\n";
    let mut client = stage.client();
    let head = "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: Digest\r\n\r\n";
    for _ in 0..2 {
        client.say(format!("{head}{body}"));
    }
    let mut engine = stage.engine();
    let answer = "HTTP/1.1 200 Fine With Me\r\ntransfer-encoding: chunked\r\nX-a:  b \r\n\r\n";
    for _ in 0..2 {
        assert_eq!(engine.head(), head);
        engine.hears(body);
        engine.say(format!("{answer}{body}"));
        assert_eq!(client.head(), answer);
        client.hears(body);
    }
}

/// 3.2: an answer that comes before the end of the request reaches the client, which is still sending.
#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let stage = Stage::new();
    let mut client =
        stage.client_says("POST /build HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmore\r\n");
    let mut engine = stage.engine();
    engine.head();
    engine.hears("4\r\nmore\r\n");
    engine.say("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbad");
    drop(engine);
    client.say("4\r\nmore\r\n");
    assert_eq!(client.head(), "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(client.rest(), "bad");
}

/// 3.2: an early answer does not end a request that the engine still wants.
#[test]
fn a_request_goes_on_after_an_early_answer() {
    let stage = Stage::new();
    let mut client = stage.client_says("POST /x HTTP/1.1\r\nContent-Length: 8\r\n\r\nhalf");
    let mut engine = stage.engine();
    engine.head();
    engine.hears("half");
    engine.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    client.head();
    client.say("restGET /next HTTP/1.1\r\n\r\n");
    engine.hears("rest");
    assert_eq!(engine.head(), "GET /next HTTP/1.1\r\n\r\n");
}

/// 3.1: `100 Continue` comes from the engine, and the body only after it.
#[test]
fn expect_continue_passes() {
    let stage = Stage::new();
    let head = "POST /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let mut client = stage.client_says(head);
    let mut engine = stage.engine();
    assert_eq!(engine.head(), head);
    assert!(client.is_quiet());
    engine.say("HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.raw_head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.say("body");
    engine.hears("body");
    engine
        .say("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.raw_head(), "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
    assert_eq!(client.head(), "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
}

/// 3.1: answers without a body leave the connection where the next one begins.
#[test]
fn answers_without_a_body_end_with_their_head() {
    let stage = Stage::new();
    let mut client = stage.client();
    let mut engine = None;
    for (method, answer) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ] {
        client.say(format!("{method} /x HTTP/1.1\r\n\r\n"));
        let engine = engine.get_or_insert_with(|| stage.engine());
        engine.head();
        engine.say(answer);
        assert_eq!(client.head(), answer);
    }
}

/// 3.1: an answer without a length lasts until the engine closes, and so does the client's connection.
#[test]
fn an_answer_without_length_ends_with_the_connection() {
    let stage = Stage::new();
    for version in ["1.0", "1.1"] {
        let mut client = stage.client_says(&format!("GET /x HTTP/{version}\r\n\r\n"));
        let mut engine = stage.engine();
        assert_eq!(engine.head(), format!("GET /x HTTP/{version}\r\n\r\n"));
        engine.say(format!("HTTP/{version} 200 OK\r\n\r\n"));
        client.head();
        engine.say("some ");
        client.hears("some ");
        assert!(client.is_quiet());
        engine.say("more");
        drop(engine);
        assert_eq!(client.rest(), "more");
    }
}

/// 3.1: a client of HTTP/1.0 keeps its connection only if both sides say so.
#[test]
fn http_1_0_closes_unless_kept_alive() {
    let stage = Stage::new();
    let mut client = stage.client_says("GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let mut engine = stage.engine();
    engine.head();
    engine.say("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na");
    client.head();
    client.hears("a");
    client.say("GET /y HTTP/1.0\r\n\r\n");
    engine.head();
    engine.say("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nb");
    client.head();
    assert_eq!(client.rest(), "b");
}

/// 3.1: an engine that dies in the middle of an answer never looks like an answer that ended.
#[test]
fn a_truncated_answer_stays_truncated() {
    let stage = Stage::new();
    for (head, part) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "half"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\nhalf\r\n"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\nhalf\r\n0\r\nTrail: x\r\n"),
    ] {
        let mut client = stage.client_says("GET /x HTTP/1.1\r\n\r\n");
        let mut engine = stage.engine();
        engine.head();
        engine.say(format!("{head}{part}"));
        drop(engine);
        assert_eq!(client.head(), head);
        assert_eq!(client.rest(), part);
    }
}

/// 3.1: a client that closes while it waits, or while an answer streams, ends the call at the engine.
#[test]
fn a_client_that_goes_away_cancels_its_request() {
    let stage = Stage::new();
    let client = stage.client_says("GET /events HTTP/1.1\r\n\r\n");
    let mut engine = stage.engine();
    engine.head();
    assert!(engine.is_quiet());
    drop(client);
    assert_eq!(engine.rest(), "");

    let mut client = stage.client_says("GET /logs HTTP/1.1\r\n\r\n");
    let mut engine = stage.engine();
    engine.head();
    engine.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    client.head();
    client.hears("1\r\na\r\n");
    drop(client);
    assert_eq!(engine.rest(), "");

    let client = stage.client_says("POST /build HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n");
    let mut engine = stage.engine();
    engine.head();
    engine.hears("4\r\npart\r\n");
    drop(client);
    assert_eq!(engine.rest(), "");
    wait::until("no request to be left", LIMIT, || (stage.serving.face.stats().in_flight == 0).then_some(()))
        .unwrap();
}

/// 3.2: a client that closes its half after a request is seen so by the engine, and still gets the answer.
#[test]
fn half_close_passes_during_a_request() {
    let stage = Stage::new();
    let mut client = stage.client_says("GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\n");
    client.end();
    let mut engine = stage.engine();
    assert_eq!(engine.head(), "GET /1 HTTP/1.1\r\n\r\n");
    assert!(engine.is_quiet(), "a request that was sent ahead keeps the first from being cancelled");
    engine.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
    assert_eq!(engine.head(), "GET /2 HTTP/1.1\r\n\r\n");
    assert_eq!(engine.rest(), "");
    engine.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb");
    client.head();
    client.hears("a");
    client.head();
    assert_eq!(client.rest(), "b");
}

/// 3.2: neither direction is read further than the other side takes.
#[test]
fn a_slow_reader_holds_its_writer_back() {
    const MOST: usize = 3 << 20;
    let stage = Stage::new();
    let mut client = stage.client_says("POST /images/load HTTP/1.1\r\nContent-Length: 10000000000\r\n\r\n");
    let mut engine = stage.engine();
    engine.head();
    let taken = client.fill();
    assert!(taken < MOST, "the face took {taken} bytes of a request that the engine does not read");

    let client = stage.client_says("GET /images/x/get HTTP/1.1\r\n\r\n");
    let mut engine = stage.engine();
    engine.head();
    engine.say("HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n");
    let taken = engine.fill();
    assert!(taken < MOST, "the face took {taken} bytes of an answer that the client does not read");
    drop(client);
}

/// 3.8: the trace goes to the engine and comes back.
#[test]
fn the_trace_goes_both_ways() {
    let stage = Stage::new();
    let mut client = stage.client_says("GET /x HTTP/1.1\r\nX-Trace-Id: mine-7\r\nHost: d\r\n\r\n");
    let mut engine = stage.engine();
    assert_eq!(engine.raw_head(), "GET /x HTTP/1.1\r\nX-Trace-Id: mine-7\r\nHost: d\r\n\r\n");
    engine.say("HTTP/1.1 204 No Content\r\nServer: Docker\r\n\r\n");
    assert_eq!(client.raw_head(), "HTTP/1.1 204 No Content\r\nServer: Docker\r\nX-Trace-Id: mine-7\r\n\r\n");
}
