//! What goes wrong, and what the client is told; both sides played by the test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture fails its test at the first surprise"
)]

mod common;

use std::time::Duration;

use common::Serving;
use common::stage::{LIMIT, Peer, QUIET, Stage};
use dhow_testkit::wait;

/// 3.3: an engine that cannot be reached is 503, with what failed and what to run, as JSON.
#[test]
fn an_engine_that_cannot_be_reached_is_a_503_with_advice() {
    let serving = Serving::in_front_of("/nowhere/docker.sock".as_ref());
    for request in ["GET /_ping HTTP/1.1\r\n\r\n", "POST /containers/x/start HTTP/1.1\r\n\r\n"] {
        let mut client = Peer(std::os::unix::net::UnixStream::connect(serving.socket()).unwrap());
        client.say(request);
        let head = client.head();
        assert!(
            head.starts_with("HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"),
            "{head}"
        );
        let said: serde_json::Value = serde_json::from_str(&client.rest()).unwrap();
        let message = said["message"].as_str().unwrap();
        assert!(message.contains("not running") && message.ends_with("run `dhow up`"), "{message}");
    }
}

/// 3.3: a client that is still sending when the engine cannot be reached reads the answer all the same.
#[test]
fn a_client_with_a_large_body_reads_the_503() {
    let serving = Serving::in_front_of("/nowhere/docker.sock".as_ref());
    let mut client = Peer(std::os::unix::net::UnixStream::connect(serving.socket()).unwrap());
    client.say("POST /images/load HTTP/1.1\r\nContent-Length: 3000000\r\n\r\n");
    client.say(vec![b'x'; 3_000_000]);
    assert!(client.head().starts_with("HTTP/1.1 503 "));
}

/// 3.3: a request whose end is ambiguous, or that is not HTTP, is refused as dockerd does, and never forwarded.
#[test]
fn malformed_requests_are_refused() {
    let stage = Stage::new();
    for (request, status) in [
        ("POST /x HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", "400 Bad Request"),
        ("POST /x HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", "400 Bad Request"),
        ("POST /x HTTP/1.1\r\nContent-Length: -3\r\n\r\n", "400 Bad Request"),
        ("POST /x HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", "501 Not Implemented"),
        ("POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400 Bad Request"),
        ("GET /x HTTP/1.1\r\nbad name: x\r\n\r\n", "400 Bad Request"),
        ("\x16\x03\x01\x02\x00\x01\x00", "400 Bad Request"),
        ("GET /x\r\n\r\n", "400 Bad Request"),
    ] {
        let mut client = stage.client_says(request);
        let answer = client.rest();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:?}: {answer:?}");
        assert!(answer.contains("Connection: close\r\n"), "{answer:?}");
    }
    assert!(stage.nobody_dialled());
}

/// 3.3: a chunk that turns bad on the way ends the request on both sides.
#[test]
fn a_bad_chunk_ends_the_request() {
    let stage = Stage::new();
    let mut client = stage.client_says("POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    let mut engine = stage.engine();
    engine.head();
    engine.hears("1\r\na\r\n");
    client.say("not hexadecimal\r\n");
    assert_eq!(engine.rest(), "");
    assert!(client.rest().starts_with("HTTP/1.1 400 Bad Request\r\n"));
}

/// 3.1: headers up to dockerd's own limit of 1 MiB pass; beyond it the answer is dockerd's 431.
#[test]
fn headers_are_limited_as_dockerds_are() {
    let stage = Stage::new();
    let head = format!("GET /x HTTP/1.1\r\nX-Large: {}\r\n\r\n", "y".repeat(1 << 20));
    let client = stage.client_says(&head);
    let mut engine = stage.engine();
    let passed = engine.take(head.len() - 2);
    assert!(passed == head.as_bytes()[..head.len() - 2]);
    drop(client);

    let mut client = stage.client();
    let flood = std::thread::spawn({
        let mut client = Peer(client.0.try_clone().unwrap());
        move || {
            use std::io::Write;
            let head = format!("GET /x HTTP/1.1\r\n{}\r\n", "X-Many: yes\r\n".repeat(100_000));
            client.0.write_all(head.as_bytes()).is_ok()
        }
    });
    assert!(client.rest().starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"));
    flood.join().unwrap();
}

/// 3.3: an engine that closes without an answer, or answers something else than HTTP, is a 502.
#[test]
fn an_engine_that_does_not_answer_is_a_502() {
    let stage = Stage::new();
    for answer in ["", "HTTP/1.1 200", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"]
    {
        let mut client = stage.client_says("POST /x HTTP/1.1\r\n\r\n");
        let mut engine = stage.engine();
        engine.head();
        engine.say(answer);
        drop(engine);
        let head = client.head();
        assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer:?}: {head}");
    }
}

/// 3.1: a pooled connection that the engine has closed is not used again.
#[test]
fn a_closed_idle_connection_is_replaced() {
    let stage = Stage::new();
    let (mut client, engine) = stage.warm();
    drop(engine);
    client.say("POST /x HTTP/1.1\r\nContent-Length: 2\r\n\r\nab");
    let mut engine = stage.engine();
    assert_eq!(engine.head(), "POST /x HTTP/1.1\r\nContent-Length: 2\r\n\r\n");
    engine.hears("ab");
}

/// 3.1: a pooled connection that dies as it is used again costs a client nothing, if its request may be repeated.
#[test]
fn a_request_that_may_be_repeated_is_sent_again_on_a_fresh_connection() {
    let stage = Stage::new();
    let (mut client, mut engine) = stage.warm();
    client.say("GET /x HTTP/1.1\r\n\r\n");
    assert_eq!(engine.head(), "GET /x HTTP/1.1\r\n\r\n");
    drop(engine);
    let mut engine = stage.engine();
    assert_eq!(engine.head(), "GET /x HTTP/1.1\r\n\r\n");
    engine.say("HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(client.head(), "HTTP/1.1 204 No Content\r\n\r\n");
}

/// 3.1: a request that the engine may have carried out is never sent twice.
#[test]
fn a_request_that_may_have_been_carried_out_is_not_repeated() {
    let stage = Stage::new();
    let (mut client, mut engine) = stage.warm();
    client.say("POST /x HTTP/1.1\r\n\r\n");
    engine.head();
    drop(engine);
    assert!(client.head().starts_with("HTTP/1.1 502 "));
    assert!(stage.nobody_dialled());
}

/// 3.1: a fresh connection that dies is not tried again, so that a failing engine is not flooded.
#[test]
fn a_fresh_connection_is_tried_once() {
    let stage = Stage::new();
    let mut client = stage.client_says("GET /x HTTP/1.1\r\n\r\n");
    let mut engine = stage.engine();
    engine.head();
    drop(engine);
    assert!(client.head().starts_with("HTTP/1.1 502 "));
    assert!(stage.nobody_dialled());
}

/// 3.1: what an engine sends unasked is nobody's answer.
#[test]
fn a_connection_with_unexpected_bytes_is_not_used_again() {
    let stage = Stage::new();
    let mut client = stage.client_says("GET /x HTTP/1.1\r\n\r\n");
    let mut engine = stage.engine();
    engine.head();
    engine
        .say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfake");
    client.head();
    client.hears("a");
    client.say("GET /y HTTP/1.1\r\n\r\n");
    assert_eq!(stage.engine().head(), "GET /y HTTP/1.1\r\n\r\n");
}

/// 3.4: the ID is asked for before the call is forwarded; an unknown container is left to dockerd.
#[test]
fn lifecycle_calls_are_resolved_first() {
    let stage = Stage::new();
    let (mut client, mut engine) = stage.warm();
    client.say("POST /v1.44/containers/web/start HTTP/1.1\r\n\r\n");
    let asked = engine.head();
    assert!(asked.starts_with("GET /containers/web/json HTTP/1.1\r\n"), "{asked}");
    engine.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"Id\"\r\n8\r\n:\"c0ffe\"\r\n1\r\n}\r\n0\r\n\r\n");
    assert_eq!(engine.head(), "POST /v1.44/containers/web/start HTTP/1.1\r\n\r\n");
    assert_eq!(stage.serving.hooks.lines(), ["before start c0ffe web"]);
    engine.say("HTTP/1.1 304 Not Modified\r\n\r\n");
    client.head();
    assert_eq!(stage.serving.hooks.lines()[1..], ["after start c0ffe 304"]);

    client.say("DELETE /containers/none HTTP/1.1\r\n\r\n");
    engine.head();
    engine.say("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}");
    assert_eq!(engine.head(), "DELETE /containers/none HTTP/1.1\r\n\r\n");
    engine.say("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}");
    assert_eq!(client.head(), "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n");
    client.hears("{}");
    assert_eq!(stage.serving.hooks.lines().len(), 2);
}

/// 3.4: a new container's ID is read from the answer, which passes unchanged.
#[test]
fn a_created_containers_id_is_read_on_its_way() {
    let stage = Stage::new();
    let mut client = stage.client_says("POST /containers/create HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}");
    let mut engine = stage.engine();
    engine.head();
    engine.hears("{}");
    let head = "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n";
    engine.say(format!("{head}6\r\n{{\"Id\":\r\n"));
    assert!(client.is_quiet());
    engine.say("6\r\n\"beef\"\r\n1\r\n}\r\n0\r\n\r\n");
    assert_eq!(client.head(), head);
    client.hears("6\r\n{\"Id\":\r\n6\r\n\"beef\"\r\n1\r\n}\r\n0\r\n\r\n");
    assert_eq!(stage.serving.hooks.lines(), ["after create beef 201"]);
}

/// 6.6: asked to stop, the face closes idle clients at once and lets requests end.
#[test]
fn stopping_lets_requests_end() {
    let mut stage = Stage::with_grace(LIMIT);
    let mut idle = stage.client();
    let mut client = stage.client_says("GET /x HTTP/1.1\r\n\r\n");
    let mut engine = stage.engine();
    engine.head();
    stage.serving.cancel();
    assert_eq!(idle.rest(), "");
    engine.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast");
    client.head();
    assert_eq!(client.rest(), "last");
    stage.serving.join();
    assert!(std::os::unix::net::UnixStream::connect(stage.serving.socket()).is_err());
}

/// 6.6, 16.2: what does not end within the grace period is cut off.
#[test]
fn stopping_cuts_off_what_does_not_end() {
    let mut stage = Stage::with_grace(QUIET);
    let mut client = stage.client_says("GET /events HTTP/1.1\r\n\r\n");
    let mut engine = stage.engine();
    engine.head();
    stage.serving.cancel();
    stage.serving.join();
    assert_eq!(client.rest(), "");
    assert_eq!(engine.rest(), "");
}

/// 3.1: connections are shared by clients and closed when they have been idle too often at once.
#[test]
fn clients_share_connections() {
    let stage = Stage::new();
    let (client, mut engine) = stage.warm();
    drop(client);
    let mut other = stage.client_says("GET /other HTTP/1.1\r\n\r\n");
    assert_eq!(engine.head(), "GET /other HTTP/1.1\r\n\r\n");
    engine.say("HTTP/1.1 204 No Content\r\n\r\n");
    other.head();
    wait::until("the connection to be idle", Duration::from_secs(5), || {
        (stage.serving.face.stats().pooled == 1).then_some(())
    })
    .unwrap();
    stage.serving.face.forget_idle();
    assert_eq!(engine.rest(), "");
}
