//! Connections that stop being HTTP, with both sides played by the test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture fails its test at the first surprise"
)]

mod common;

use common::stage::{LIMIT, Peer, Stage};
use dhow_testkit::wait;

/// Bytes pass both ways, each half closes by itself.
fn is_two_way(client: &mut Peer, engine: &mut Peer) {
    client.say("to the engine");
    engine.hears("to the engine");
    engine.say("to the client");
    client.hears("to the client");
    client.end();
    assert_eq!(engine.rest(), "");
    engine.say("after your end");
    client.hears("after your end");
    engine.end();
    assert_eq!(client.rest(), "");
}

/// 3.2: `101` joins the two, whatever the endpoint and the protocol; only of `/grpc` the calls are read (`buildkit.rs`).
#[test]
fn a_101_makes_a_stream() {
    let stage = Stage::new();
    for (target, protocol) in [
        ("POST /v1.44/containers/x/attach?stream=1", "tcp"),
        ("POST /session", "h2c"),
        ("GET /containers/x/attach/ws", "websocket"),
    ] {
        let head = format!("{target} HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n");
        let mut client = stage.client_says(&head);
        let mut engine = stage.engine();
        assert_eq!(engine.head(), head);
        let answer = format!("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n");
        engine.say(format!("{answer}first"));
        assert_eq!(client.head(), answer);
        client.hears("first");
        is_two_way(&mut client, &mut engine);
    }
}

/// 3.2: the older hijack, a `200` without framing, with input that the client sent ahead.
#[test]
fn a_bare_200_on_attach_and_exec_makes_a_stream() {
    let stage = Stage::new();
    let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n";
    for (head, body) in [
        ("POST /containers/x/attach?stdin=1 HTTP/1.1\r\nContent-Type: text/plain\r\n\r\n", ""),
        ("POST /exec/x/start HTTP/1.1\r\nContent-Length: 2\r\n\r\n", "{}"),
    ] {
        let mut client = stage.client_says(&format!("{head}{body}sent ahead"));
        let mut engine = stage.engine();
        assert_eq!(engine.head(), head);
        engine.hears(body);
        engine.say(answer);
        assert_eq!(client.head(), answer);
        engine.hears("sent ahead");
        is_two_way(&mut client, &mut engine);
    }
}

/// 3.2: input and its end, both sent before the answer, arrive after it.
#[test]
fn an_end_that_was_sent_ahead_is_passed_on() {
    let stage = Stage::new();
    let mut client = stage.client_says("POST /containers/x/attach HTTP/1.1\r\n\r\nall of it");
    client.end();
    let mut engine = stage.engine();
    engine.head();
    engine.say("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\r\n");
    client.head();
    assert_eq!(engine.rest(), "all of it");
    engine.say("output");
    engine.end();
    assert_eq!(client.rest(), "output");
}

/// 3.2: an error, or an exec that is detached, is an ordinary answer on the same endpoints.
#[test]
fn a_framed_answer_on_attach_and_exec_stays_http() {
    let stage = Stage::new();
    let mut client = stage.client_says("POST /exec/x/start HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}");
    let mut engine = stage.engine();
    engine.head();
    engine.hears("{}");
    engine.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    client.head();
    client.say("POST /containers/x/attach HTTP/1.1\r\n\r\n");
    engine.head();
    engine.say("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno");
    client.head();
    client.hears("no");
    client.say("GET /_ping HTTP/1.1\r\n\r\n");
    assert_eq!(engine.head(), "GET /_ping HTTP/1.1\r\n\r\n");
}

/// 3.1: HTTP/2 without an upgrade is passed from its first byte.
#[test]
fn http_2_is_passed_as_it_is() {
    let stage = Stage::new();
    let mut client = stage.client();
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        client.say([*byte]);
    }
    let mut engine = stage.engine();
    engine.hears("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    is_two_way(&mut client, &mut engine);
}

/// 3.2: a tunnel ends when its client goes away, and when its engine does.
#[test]
fn a_tunnel_ends_with_either_side() {
    let stage = Stage::new();
    let open = || {
        let mut client = stage.client_says("POST /containers/x/attach HTTP/1.1\r\n\r\n");
        let mut engine = stage.engine();
        engine.head();
        engine.say("HTTP/1.1 200 OK\r\n\r\n");
        client.head();
        (client, engine)
    };
    let gone = || {
        wait::until("the tunnel to end", LIMIT, || (stage.serving.face.stats().in_flight == 0).then_some(()))
            .unwrap();
    };
    let (client, mut engine) = open();
    assert_eq!(stage.serving.face.stats().upgraded, 1);
    drop(client);
    assert_eq!(engine.rest(), "");
    gone();
    let (mut client, engine) = open();
    drop(engine);
    assert_eq!(client.rest(), "");
    drop(client);
    gone();
}
