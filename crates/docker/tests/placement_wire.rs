//! What the face holds and asks before a create goes on, byte by byte, in the default placement.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture fails its test at the first surprise"
)]

mod common;

use common::stage::{Peer, Stage};

const CREATED: &str = "HTTP/1.1 201 Created\r\nContent-Length: 13\r\n\r\n{\"Id\":\"beef\"}";

/// The engine's side of the one question: which platform the image is for.
fn says_platform(engine: &mut Peer, image: &str, architecture: &str) {
    let head = engine.head();
    assert!(head.starts_with(&format!("GET /images/{image}/json HTTP/1.1\r\n")), "{head}");
    let body = format!("{{\"Os\":\"linux\",\"Architecture\":\"{architecture}\"}}");
    engine.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
}

fn create(body: &str) -> String {
    format!("POST /v1.44/containers/create?name=a HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn native() -> &'static str {
    dhow_model::Arch::host().unwrap().debian()
}

fn other() -> &'static str {
    if native() == "amd64" { "arm64" } else { "amd64" }
}

/// 1.2, 3.1: a create costs one question, about the image, and goes on as it was sent.
#[test]
fn a_create_costs_one_question_about_its_image() {
    let stage = Stage::new();
    let text = "{ \"Image\" : \"a.example:5000/b/c:1\",\"Cmd\":[] }";
    let mut client = stage.client_says(&create(text));
    let mut engine = stage.engine();
    says_platform(&mut engine, "a.example:5000/b/c:1", native());
    assert_eq!(
        engine.head(),
        format!("POST /v1.44/containers/create?name=a HTTP/1.1\r\nContent-Length: {}\r\n\r\n", text.len())
    );
    engine.hears(text);
    engine.say(CREATED);
    let head = client.raw_head();
    let label = format!(
        "X-Dhow-Placement: role=native; translator=none; \
         why=\"no platform was asked for, and the image exists for linux/{}\"\r\n",
        native()
    );
    assert!(head.starts_with("HTTP/1.1 201 Created\r\n") && head.contains(&label), "{head}");
    client.hears("{\"Id\":\"beef\"}");
    assert!(engine.is_quiet() && stage.nobody_dialled());
}

/// 1.4: an image that is there only for an architecture that nothing serves is refused before the engine hears of it, and
/// the connection goes on.
#[test]
fn a_foreign_image_is_refused_before_the_engine_hears_of_the_create() {
    let stage = Stage::new();
    let mut client = stage.client_says(&create("{\"Image\":\"b\"}"));
    let mut engine = stage.engine();
    says_platform(&mut engine, "b", other());
    let head = client.raw_head();
    assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"), "{head}");
    assert!(head.contains("X-Dhow-Placement: role=none; translator=none; why=\""), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    let body = String::from_utf8(client.take(length.parse().unwrap())).unwrap();
    assert!(body.contains(&format!("the image exists only for linux/{}", other())), "{body}");
    client.say("GET /next HTTP/1.1\r\n\r\n");
    assert_eq!(engine.head(), "GET /next HTTP/1.1\r\n\r\n");
}

/// 1.1, 3.1: a platform that is named needs no question, and the body is not waited for.
#[test]
fn a_named_platform_needs_no_question() {
    let stage = Stage::new();
    let head = format!(
        "POST /containers/create?platform=linux%2F{} HTTP/1.1\r\nContent-Length: 13\r\n\r\n",
        native()
    );
    let _client = stage.client_says(&head);
    let mut engine = stage.engine();
    assert_eq!(engine.head(), head);
}

/// 1.2: a platform that is none is refused, and not forwarded.
#[test]
fn a_platform_that_is_none_is_refused() {
    let stage = Stage::new();
    for (call, platform) in [
        ("containers/create", "windows%2Famd64"),
        ("containers/create", "a/b/c/d"),
        ("build", "plan9"),
        ("build", "linux/riscv64"),
    ] {
        let mut client = stage.client_says(&format!(
            "POST /v1.44/{call}?platform={platform} HTTP/1.1\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"
        ));
        let said = client.rest();
        assert!(said.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{platform}: {said}");
        assert!(said.contains("{\"message\":\""), "{platform}: {said}");
    }
    assert!(stage.nobody_dialled());
}

/// 1.4, 3.2: a refused build is answered while its context is still coming.
#[test]
fn a_build_is_refused_before_its_context() {
    let stage = Stage::new();
    let mut client = stage.client_says(&format!(
        "POST /v1.44/build?platform=linux%2F{} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nmore\r\n",
        other()
    ));
    let said = client.rest();
    assert!(said.starts_with("HTTP/1.1 400 Bad Request\r\n") && said.contains("was asked for"), "{said}");
    assert!(stage.nobody_dialled());
}

/// 3.2: a client that waits for `100 Continue` gets it, once, though the face reads the body.
#[test]
fn a_held_create_continues_its_client() {
    let stage = Stage::new();
    let head = "POST /containers/create HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 13\r\n\r\n";
    let mut client = stage.client_says(head);
    client.hears("HTTP/1.1 100 Continue\r\n\r\n");
    assert!(stage.nobody_dialled());
    client.say("{\"Image\":\"b\"}");
    let mut engine = stage.engine();
    says_platform(&mut engine, "b", native());
    assert_eq!(engine.head(), head);
    engine.hears("{\"Image\":\"b\"}");
    engine.say("HTTP/1.1 100 Continue\r\n\r\n");
    engine.say(CREATED);
    assert_eq!(client.head(), "HTTP/1.1 201 Created\r\nContent-Length: 13\r\n\r\n");
}

/// 3.1: an expectation that only Go's server answers is left to it.
#[test]
fn an_unknown_expectation_is_the_engines() {
    let stage = Stage::new();
    let head = "POST /containers/create HTTP/1.1\r\nExpect: rain\r\nContent-Length: 13\r\n\r\n";
    let _client = stage.client_says(head);
    assert_eq!(stage.engine().head(), head);
}

/// 3.1, 3.2: a chunked description in pieces, with extensions and trailers, goes on as it was sent, and what the client sent
/// behind it is the next request.
#[test]
fn a_chunked_create_goes_on_as_it_was_sent() {
    let stage = Stage::new();
    let head = "POST /containers/create HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n";
    let mut client = stage.client_says(head);
    client.say("5;a=b\r\n{\"Ima\r\n");
    assert!(stage.nobody_dialled());
    client.say("8\r\nge\":\"b\"}\r\n0\r\nX: y\r\n\r\nGET /next HTTP/1.1\r\n\r\n");
    let mut engine = stage.engine();
    says_platform(&mut engine, "b", native());
    assert_eq!(engine.head(), head);
    engine.hears("5;a=b\r\n{\"Ima\r\n8\r\nge\":\"b\"}\r\n0\r\nX: y\r\n\r\n");
    engine.say(CREATED);
    client.head();
    client.hears("{\"Id\":\"beef\"}");
    assert_eq!(engine.head(), "GET /next HTTP/1.1\r\n\r\n");
}

/// 3.3: what is no description, and one that ends too early, is dockerd's to refuse.
#[test]
fn a_description_that_cannot_be_read_goes_on() {
    let stage = Stage::new();
    for body in ["{", "[]", "{\"Image\":7}", ""] {
        let mut client = stage.client_says(&create(body));
        let mut engine = stage.engine();
        assert!(engine.head().starts_with("POST /v1.44/containers/create"), "{body}");
        engine.hears(body);
        engine.say("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert!(client.head().starts_with("HTTP/1.1 400"), "{body}");
    }
    let mut client = stage.client_says("POST /containers/create HTTP/1.1\r\nContent-Length: 9\r\n\r\n{\"I");
    client.end();
    let mut engine = stage.engine();
    engine.head();
    engine.hears("{\"I");
}

/// 1.4: of a description larger than any real one it is not known what it asks for, so it is refused.
#[test]
fn a_description_that_is_too_large_is_refused() {
    let stage = Stage::new();
    let length = 9 << 20;
    let mut client =
        stage.client_says(&format!("POST /containers/create HTTP/1.1\r\nContent-Length: {length}\r\n\r\n"));
    let writer = std::thread::spawn(move || {
        client.say(vec![b' '; length]);
        client
    });
    let said = writer.join().unwrap().rest();
    assert!(said.starts_with("HTTP/1.1 400") && said.contains("more than 8 MiB"), "{said}");
    assert!(stage.nobody_dialled());
}

/// 3.2: one that names its platform in the query is streamed, not kept.
#[test]
fn a_large_description_with_a_platform_is_streamed() {
    let stage = Stage::new();
    let length = 9 << 20;
    let mut client = stage.client_says(&format!(
        "POST /containers/create?platform=linux/{} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n",
        native()
    ));
    let writer = std::thread::spawn(move || {
        client.say(vec![b' '; length]);
        client
    });
    let mut engine = stage.engine();
    engine.head();
    assert_eq!(engine.take(length).len(), length);
    writer.join().unwrap();
}

/// 1.4, 3.3: an engine that does not say for which platform the image is gets no container to start.
#[test]
fn an_engine_that_does_not_answer_the_question_gets_no_create() {
    let stage = Stage::new();
    let mut client = stage.client_says(&create("{\"Image\":\"b\"}"));
    let mut engine = stage.engine();
    engine.head();
    drop(engine);
    let said = client.rest();
    assert!(said.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{said}");
    assert!(stage.nobody_dialled());
}

/// 3.1: in the default placement nothing else is asked for.
#[test]
fn other_calls_cost_no_question() {
    let stage = Stage::new();
    for call in [
        "GET /v1.44/containers/json",
        "GET /v1.44/containers/web/json",
        "GET /v1.44/containers/web/logs",
        "POST /v1.44/containers/web/exec",
        "POST /v1.44/containers/web/wait",
        "POST /v1.44/exec/beef/start",
        "GET /v1.44/images/json",
        "GET /v1.44/images/b/json",
        "DELETE /v1.44/volumes/v",
        "POST /v1.44/networks/n/connect",
        "POST /v1.44/images/create?fromImage=b",
        "GET /v1.44/system/df",
        "POST /v1.44/containers/prune",
    ] {
        let mut client = stage.client_says(&format!("{call} HTTP/1.1\r\nContent-Length: 0\r\n\r\n"));
        let mut engine = stage.engine();
        assert_eq!(engine.head(), format!("{call} HTTP/1.1\r\nContent-Length: 0\r\n\r\n"));
        engine.say("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        assert!(!client.raw_head().contains("X-Dhow-Placement"), "{call}");
        assert!(stage.nobody_dialled(), "{call}");
    }
}
