//! Terminals: sizes that change while attached, and the keys that detach.

use crate::{IMAGE, Place, plain, until};

fn attached(
    way: &crate::Way<'_>,
    container: &crate::Container<'_>,
    keys: &str,
) -> crate::common::stage::Peer {
    let mut peer = way.says(format!(
        "POST /containers/{}/attach?stream=1&stdin=1&stdout=1{keys} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        container.name
    ));
    assert!(peer.raw_head().starts_with("HTTP/1.1 101"));
    peer
}

/// 3.2: a resize on another connection reaches the terminal that is attached.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_terminal_is_resized_while_attached() {
    let place = Place::new();
    let text = place.alike(|way| {
        let container =
            way.container("sized", &["-it", IMAGE, "sh", "-c", "read x; stty size; read x; stty size"]);
        let mut peer = attached(way, &container, "");
        container.start();
        let mut text = Vec::new();
        for (h, w) in [(33, 77), (50, 132)] {
            let mut resize = way.says(format!(
                "POST /containers/{}/resize?h={h}&w={w} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n",
                container.name
            ));
            assert!(plain(&resize.rest()).starts_with("HTTP/1.1 200 OK\r\n"));
            peer.say("\n");
            text.extend(until(&mut peer, &format!("{h} {w}\r\n")));
        }
        String::from_utf8(text).unwrap()
    });
    assert!(text.contains("33 77\r\n") && text.contains("50 132\r\n"), "{text:?}");
}

/// 3.2: the default keys and keys of one's own end the stream and leave the container running; a beginning of them that
/// is not gone on with is input.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn detach_keys_end_the_stream_and_not_the_container() {
    let place = Place::new();
    for (query, begin, detach) in [("", "\x10", "\x10\x11"), ("&detachKeys=ctrl-x,x", "\x18", "\x18x")] {
        let (before, after, running) = place.alike(|way| {
            let container =
                way.container("keys", &["-it", IMAGE, "sh", "-c", "stty raw -echo; echo ready; exec cat -v"]);
            let mut peer = attached(way, &container, query);
            container.start();
            until(&mut peer, "ready");
            peer.say(format!("{begin}y.\n"));
            let before = String::from_utf8(until(&mut peer, ".")).unwrap();
            peer.say(detach);
            (before, peer.rest(), container.is_running())
        });
        assert!(before.contains("y.") && before.contains('^'), "{before:?}");
        assert!(running && !after.contains('^'), "{after:?}");
    }
}

/// 3.2: the same keys for an exec, as its own settings name them.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn detach_keys_end_an_execs_stream() {
    let place = Place::new();
    let said = place.alike(|way| {
        let container = way.container("exec-keys", &[IMAGE, "sleep", "1000"]);
        container.start();
        let body = r#"{"AttachStdin":true,"AttachStdout":true,"Tty":true,"DetachKeys":"ctrl-a","Cmd":["sh","-c","echo ready; exec cat"]}"#;
        let mut made = way.says(format!(
            "POST /containers/{}/exec HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            container.name,
            body.len()
        ));
        let id: String = made.rest().split("\"Id\":\"").nth(1).unwrap().chars().take(64).collect();
        let mut peer = way.says(format!(
            "POST /exec/{id}/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 12\r\n\r\n{{\"Tty\":true}}"
        ));
        peer.raw_head();
        until(&mut peer, "ready\r\n");
        peer.say("\x01");
        let said = peer.rest();
        (said, container.is_running())
    });
    assert!(said.0.contains("escape sequence") && said.1, "{said:?}");
}
