//! Any sequence of valid requests and answers, cut into any pieces, passes byte by byte.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture fails its test at the first surprise"
)]

mod common;

use std::io::Write;

use common::stage::{Peer, Stage};
use proptest::prelude::*;

/// One request and what the engine answers, both with the trace already where the face puts it.
#[derive(Debug, Clone)]
struct Turn {
    request: Vec<u8>,
    answer: Vec<u8>,
}

const TRACE: &str = "X-Trace-Id: 0123456789abcdef\r\n";

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..2000),
        1 => (any::<u8>(), 50_000..600_000usize).prop_map(|(byte, n)| vec![byte; n]),
    ]
}

/// Headers that say how the body is framed, and the body with its coding.
fn body() -> impl Strategy<Value = (String, Vec<u8>)> {
    let chunked =
        (content(), 1..5000usize, prop::sample::select(vec!["", ";a=b", " ; c=\"d\""]), any::<bool>());
    prop_oneof![
        Just((String::new(), Vec::new())),
        content().prop_map(|content| (format!("Content-Length: {}\r\n", content.len()), content)),
        chunked.prop_map(|(content, size, extension, trailer)| {
            let mut coded = Vec::new();
            for chunk in content.chunks(size) {
                coded.extend(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
                coded.extend(chunk);
                coded.extend(b"\r\n");
            }
            coded.extend(if trailer { b"0\r\nDigest: x\r\n\r\n".as_slice() } else { b"0\r\n\r\n" });
            ("tRansfer-Encoding:chunked\r\n".to_owned(), coded)
        }),
    ]
}

fn headers() -> impl Strategy<Value = String> {
    prop::collection::vec("[A-Za-z][A-Za-z0-9-]{0,20}: {0,2}[ -~]{0,30}", 0..8).prop_map(|lines| {
        let harmless = |line: &&String| {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            !["connection", "content-length", "transfer-encoding", "x-trace-id"].contains(&&*name)
        };
        lines.iter().filter(harmless).map(|line| format!("{line}\r\n")).collect()
    })
}

fn turn() -> impl Strategy<Value = Turn> {
    let request = (
        prop::sample::select(vec!["GET", "POST", "PUT", "DELETE", "OPTIONS"]),
        "(/[a-z0-9]{1,9}){1,3}",
        headers(),
        body(),
    );
    let informational =
        prop::sample::select(vec!["", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Hints\r\nA: b\r\n\r\n"]);
    let status = prop::sample::select(vec!["200 OK", "201 Created", "404 Nichts da", "500 "]);
    (request, informational, status, headers(), body()).prop_map(
        |((method, path, asked, (framing, sent)), informational, status, told, (answered, back))| {
            let mut request = format!("{method} {path} HTTP/1.1\r\n{asked}{framing}{TRACE}\r\n").into_bytes();
            request.extend(sent);
            // An answer without framing would last until the end of the connection.
            let framed = if answered.is_empty() { "Content-Length: 0\r\n" } else { &answered };
            let mut answer =
                format!("{informational}HTTP/1.1 {status}\r\n{told}{framed}{TRACE}\r\n").into_bytes();
            answer.extend(back);
            Turn { request, answer }
        },
    )
}

/// Writes in pieces of these sizes, again and again.
fn write_in_pieces(peer: &mut Peer, bytes: &[u8], sizes: &[usize]) {
    let mut rest = bytes;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            return;
        }
        // Large bodies in tiny pieces would only take long.
        let n = (*size).max(bytes.len() / 200).clamp(1, rest.len());
        peer.0.write_all(&rest[..n]).unwrap();
        rest = &rest[n..];
    }
}

/// 3.1: requests sent ahead in any pieces, answered in any pieces, arrive as they were sent.
#[test]
fn any_exchange_passes_unchanged() {
    let stage = Stage::new();
    let turns = prop::collection::vec(turn(), 1..6);
    let pieces = prop::collection::vec(1..3000usize, 1..6);
    let config = ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(turns in turns, asked in pieces.clone(), answered in pieces)| {
        let mut client = stage.client();
        std::thread::scope(|scope| {
            let mut writing = Peer(client.0.try_clone().unwrap());
            let (turns, asked, stage) = (&turns, &asked, &stage);
            scope.spawn(move || {
                for turn in turns {
                    write_in_pieces(&mut writing, &turn.request, asked);
                }
            });
            scope.spawn(move || {
                let mut engine = stage.engine();
                for turn in turns {
                    engine.hears(&turn.request);
                    write_in_pieces(&mut engine, &turn.answer, &answered);
                }
            });
            for turn in turns {
                client.hears(&turn.answer);
            }
        });
        drop(client);
        stage.serving.face.forget_idle();
    });
}
