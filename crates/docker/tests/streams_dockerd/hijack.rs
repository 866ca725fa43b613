//! Attach, exec start and WebSockets: two-way streams with ends of their own.

use crate::common::stage::Peer;
use crate::{Container, IMAGE, Place, Way, demultiplexed, plain, rest, until};

/// The two ways to ask for a stream: `101`, and the older plain `200`.
const STYLES: [&str; 2] = ["Connection: Upgrade\r\nUpgrade: tcp\r\n", ""];
const TALKER: &str =
    "echo ready; while read line; do echo \"got $line\"; echo \"err $line\" >&2; done; echo end";

fn attach(way: &Way<'_>, container: &Container<'_>, query: &str, style: &str) -> (String, Peer) {
    let mut peer = way.says(format!(
        "POST /v1.45/containers/{}/attach?{query} HTTP/1.1\r\nHost: d\r\nContent-Type: text/plain\r\n{style}\r\n",
        container.name
    ));
    (plain(&peer.raw_head()), peer)
}

/// 3.2: attach, upgraded and hijacked: input, both outputs apart, our end passed on, theirs received.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn attach_is_a_two_way_stream_in_both_styles() {
    let place = Place::new();
    for style in STYLES {
        let (head, (out, err)) = place.alike(|way| {
            let container = way.container("talker", &["-i", IMAGE, "sh", "-c", TALKER]);
            let (head, mut peer) = attach(way, &container, "stream=1&stdin=1&stdout=1&stderr=1", style);
            container.start();
            let mut bytes = until(&mut peer, "ready");
            peer.say("one\ntwo\n");
            peer.end();
            bytes.extend(rest(&mut peer));
            container.ends();
            (head, demultiplexed(&bytes))
        });
        let code = if style.is_empty() { "200 OK" } else { "101 UPGRADED" };
        assert!(head.starts_with(&format!("HTTP/1.1 {code}\r\n")), "{head}");
        assert_eq!((out.as_str(), err.as_str()), ("ready\ngot one\ngot two\nend\n", "err one\nerr two\n"));
    }
}

/// 3.2: a terminal's stream is raw; what was written before is replayed on demand.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn attach_to_a_terminal_is_raw_in_both_styles() {
    let place = Place::new();
    for style in STYLES {
        let (head, text) = place.alike(|way| {
            let container =
                way.container("tty", &["-it", IMAGE, "sh", "-c", "echo ready; read x; echo got $x"]);
            container.start();
            let (head, mut peer) = attach(way, &container, "stream=1&stdin=1&stdout=1&logs=1", style);
            let mut text = until(&mut peer, "ready\r\n");
            peer.say("one\n");
            text.extend(rest(&mut peer));
            (head, String::from_utf8(text).unwrap())
        });
        assert!(head.contains("application/vnd.docker.raw-stream"), "{head}");
        assert_eq!(text, "ready\r\none\r\ngot one\r\n");
    }
}

/// 3.2: exec, upgraded and hijacked, with a megabyte through it and the end of input passed on.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn exec_is_a_two_way_stream_in_both_styles() {
    let place = Place::new();
    for style in STYLES {
        for tty in [false, true] {
            place.alike(|way| {
                let container = way.container("host", &[IMAGE, "sleep", "1000"]);
                container.start();
                let command = if tty { r#"["sh","-c","read x; echo got $x"]"# } else { r#"["sh","-c","cat; echo end >&2; exit 4"]"# };
                let exec = made_exec(way, &container, &format!(
                    r#"{{"AttachStdin":true,"AttachStdout":true,"AttachStderr":true,"Tty":{tty},"Cmd":{command}}}"#
                ));
                let body = format!(r#"{{"Detach":false,"Tty":{tty}}}"#);
                let mut peer = way.says(format!(
                    "POST /exec/{exec}/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n{style}Content-Length: {}\r\n\r\n{body}",
                    body.len()
                ));
                let head = plain(&peer.raw_head());
                let said = if tty {
                    peer.say("one\n");
                    peer.rest()
                } else {
                    let mut writer = Peer(peer.0.try_clone().unwrap());
                    let feeding = std::thread::spawn(move || {
                        writer.say("0123456789abcde\n".repeat(1 << 16));
                        writer.end();
                    });
                    let (out, err) = demultiplexed(&rest(&mut peer));
                    feeding.join().unwrap();
                    assert_eq!((out.len(), err.as_str()), (1 << 20, "end\n"));
                    out
                };
                let mut asked = way.says(format!("GET /exec/{exec}/json HTTP/1.0\r\n\r\n"));
                let code = asked.rest().split("\"ExitCode\":").nth(1).unwrap().split(',').next().unwrap().to_owned();
                (head, said, code)
            });
        }
    }
}

fn made_exec(way: &Way<'_>, container: &Container<'_>, body: &str) -> String {
    let mut peer = way.says(format!(
        "POST /containers/{}/exec HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        container.name,
        body.len()
    ));
    let answer = peer.rest();
    answer.split("\"Id\":\"").nth(1).unwrap_or_else(|| panic!("{answer}")).chars().take(64).collect()
}

/// 3.2: a container that closes its outputs ends the stream while the client could still write.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn the_engines_end_comes_while_the_client_still_writes() {
    let place = Place::new();
    for style in STYLES {
        let said = place.alike(|way| {
            let container = way.container("brief", &["-i", IMAGE, "sh", "-c", "read x; echo bye"]);
            let (_, mut peer) = attach(way, &container, "stream=1&stdin=1&stdout=1", style);
            container.start();
            peer.say("one\nnever read\n");
            demultiplexed(&rest(&mut peer)).0
        });
        assert_eq!(said, "bye\n");
    }
}

/// 3.2: attach over a WebSocket: the handshake, a message each way, the closing.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn attach_over_a_websocket_carries_frames_both_ways() {
    let place = Place::new();
    let (head, said) = place.alike(|way| {
        let container = way.container("ws", &["-i", IMAGE, "sh", "-c", "read x; echo got $x"]);
        container.start();
        let mut peer = way.says(format!(
            "GET /containers/{}/attach/ws?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: d\r\nOrigin: http://d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            container.name
        ));
        let head = plain(&peer.raw_head());
        // A text frame of four bytes; the mask of zeros leaves them readable.
        peer.say([0x81, 0x84, 0, 0, 0, 0, b'o', b'n', b'e', b'\n']);
        let mut said = Vec::new();
        loop {
            let start = peer.take(2);
            let [kind, size] = start[..] else { break };
            let content = peer.take(usize::from(size));
            said.push((kind, String::from_utf8_lossy(&content).into_owned()));
            if kind == 0x88 {
                break;
            }
        }
        (head, said)
    });
    // What RFC 6455 gives as its example.
    assert!(head.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    assert!(said.iter().any(|(_, text)| text.contains("got one")), "{said:?}");
}

/// 3.2: `/grpc` and `/session` become HTTP/2 that BuildKit speaks; HTTP/2 from the first byte is dockerd's to judge.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn http_2_reaches_buildkit() {
    let place = Place::new();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let (head, first) = place.alike(|way| {
        let mut peer =
            way.says("POST /grpc HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
        let head = plain(&peer.raw_head());
        peer.say(preface);
        // The face reads builds on this stream (1.4), so its settings are its own; that they come first is the protocol's.
        let kind = peer.take(9)[3];
        (head, kind)
    });
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert_eq!(first, 4, "a SETTINGS frame");
    let session = place.alike(|way| {
        let mut peer = way.says(format!(
            "POST /session HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nX-Docker-Expose-Session-Uuid: {}\r\nX-Docker-Expose-Session-Name: x\r\n\r\n",
            way.name
        ));
        // The engine is the client of a session.
        (plain(&peer.raw_head()), String::from_utf8_lossy(&peer.take(24)).into_owned())
    });
    assert!(session.1.starts_with("PRI * HTTP/2.0"), "{session:?}");
    place.alike(|way| {
        let mut peer = way.says(preface);
        peer.end();
        crate::all_of(&mut peer)
    });
}
