//! The client against a peer that follows a script.

use std::io::{IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::net::UnixStream;

use super::*;

const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": "x"}, "capabilities": ["oob"]}}"#;
const LIMIT: Duration = Duration::from_secs(5);

/// QEMU's side.
struct Peer(BufReader<DuplexStream>);

impl Peer {
    async fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    /// The next command.
    async fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Answers the next command, whatever it is, and returns its name.
    async fn answer(&mut self, value: Value) -> String {
        let command = self.hear().await;
        self.say(&format!("{}\r\n", json!({"return": value, "id": command["id"]}))).await;
        command["execute"].as_str().unwrap().to_owned()
    }
}

/// A client in command mode and its peer.
async fn pair() -> (Qmp, Peer) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let mut peer = Peer(BufReader::new(theirs));
    let greet = async {
        peer.say(&format!("{GREETING}\r\n")).await;
        assert_eq!(peer.answer(json!({})).await, "qmp_capabilities");
        peer
    };
    let (qmp, peer) = tokio::join!(Qmp::new(ours, LIMIT), greet);
    (qmp.unwrap(), peer)
}

#[tokio::test]
async fn the_greeting_tells_the_version_and_command_mode_is_entered() {
    let (qmp, _peer) = pair().await;
    assert_eq!(qmp.greeting().version.to_string(), "10.0.2");
}

#[tokio::test]
async fn a_reply_in_pieces_between_events_reaches_its_command() {
    let (qmp, mut peer) = pair().await;
    let mut events = qmp.events();
    let script = async {
        let command = peer.hear().await;
        assert_eq!(command["execute"], "query-status");
        peer.say("{\"event\": \"STOP\", \"timestamp\": {}}\r\n{\"retu").await;
        tokio::task::yield_now().await;
        peer.say(&format!("rn\": {{\"status\": \"paused\"}}, \"id\": {}}}\r", command["id"])).await;
        tokio::task::yield_now().await;
        peer.say("\n{\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"guest-shutdown\"}}\r\n").await;
    };
    let (status, ()) = tokio::join!(qmp.status(), script);
    assert_eq!(status.unwrap(), "paused");
    assert_eq!(events.recv().await.unwrap(), Event { name: "STOP".into(), data: Value::Null });
    let shutdown = events.recv().await.unwrap();
    assert_eq!(shutdown.data["reason"], "guest-shutdown");
}

#[tokio::test]
async fn replies_in_another_order_reach_their_own_commands() {
    let (qmp, mut peer) = pair().await;
    let script = async {
        let (first, second) = (peer.hear().await, peer.hear().await);
        for command in [second, first] {
            let reply = json!({"return": {"echo": command["execute"]}, "id": command["id"]});
            peer.say(&format!("{reply}\n")).await;
        }
    };
    let (a, b, ()) = tokio::join!(qmp.execute("a", Map::new()), qmp.execute("b", Map::new()), script);
    assert_eq!((a.unwrap()["echo"].clone(), b.unwrap()["echo"].clone()), ("a".into(), "b".into()));
}

#[tokio::test]
async fn a_refusal_names_the_command_and_qemus_reason_and_the_connection_goes_on() {
    let (qmp, mut peer) = pair().await;
    let script = async {
        let command = peer.hear().await;
        let error = json!({"class": "GenericError", "desc": "no such thing"});
        peer.say(&format!("{}\n", json!({"error": error, "id": command["id"]}))).await;
        peer.answer(json!({"status": "running"})).await;
        peer
    };
    let asks = async {
        let error = qmp.cont().await.unwrap_err();
        assert_eq!(error.to_string(), "QEMU refused cont: no such thing (GenericError)");
        assert_eq!(qmp.status().await.unwrap(), "running");
    };
    tokio::join!(asks, script);
}

/// Spec 8.4's rule for messages, on this protocol: what is not understood is an error, never a panic or a hang.
#[tokio::test]
async fn what_is_not_qmp_ends_the_connection_and_every_waiting_command_learns_why() {
    let table = [
        ("{\"return\": {}, \"id\": 999}\n".to_owned(), "never sent"),
        ("{\"return\": {}}\n".to_owned(), "no command"),
        ("{\"id\": 1}\n".to_owned(), "neither"),
        ("{\"error\": 5, \"id\": 1}\n".to_owned(), "error object"),
        ("hello\n".to_owned(), "not a JSON object"),
        ("[1]\n".to_owned(), "not a JSON object"),
        ("x".repeat(LONGEST_MESSAGE + 1), "more than"),
    ];
    for (text, expected) in table {
        let (qmp, mut peer) = pair().await;
        let script = async {
            peer.hear().await;
            peer.say(&text).await;
            peer
        };
        let (answer, _peer) = tokio::join!(qmp.status(), script);
        let error = answer.unwrap_err();
        assert!(matches!(error, Error::QmpProtocol(_)) && error.to_string().contains(expected), "{error}");
        assert!(matches!(qmp.status().await, Err(Error::QmpClosed(_))));
    }
}

#[tokio::test]
async fn a_closed_connection_is_told_to_whoever_waits_and_is_the_end_that_quit_expects() {
    let (qmp, mut peer) = pair().await;
    let script = async move {
        peer.hear().await;
        drop(peer);
    };
    let (answer, ()) = tokio::join!(qmp.status(), script);
    assert!(matches!(answer, Err(Error::QmpClosed(_))), "{answer:?}");
    qmp.quit().await.unwrap();
}

/// Spec 16.2.
#[tokio::test]
async fn a_command_without_an_answer_ends_with_its_time_limit_and_a_late_answer_disturbs_nobody() {
    let (qmp, mut peer) = pair().await;
    let short = Duration::from_millis(50);
    let error = qmp.execute_within("query-status", Map::new(), short).await.unwrap_err();
    assert!(matches!(&error, Error::Timeout { what, .. } if what.contains("query-status")), "{error}");
    peer.answer(json!({"status": "running"})).await;
    let (status, _) = tokio::join!(qmp.status(), peer.answer(json!({"status": "paused"})));
    assert_eq!(status.unwrap(), "paused");
}

/// Spec 16.2.
#[tokio::test]
async fn a_peer_that_does_not_greet_is_given_up() {
    let (ours, _theirs) = tokio::io::duplex(64);
    let short = Duration::from_millis(50);
    assert!(matches!(Qmp::new(ours, short).await, Err(Error::Timeout { .. })));
    let (ours, mut theirs) = tokio::io::duplex(64);
    theirs.write_all(b"SSH-2.0-x\r\n").await.unwrap();
    assert!(matches!(Qmp::new(ours, LIMIT).await, Err(Error::QmpProtocol(_))));
}

#[tokio::test]
async fn a_descriptor_travels_beside_its_command() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let theirs = theirs.into_std().unwrap();
    theirs.set_nonblocking(false).unwrap();
    let peer = tokio::task::spawn_blocking(move || {
        let mut theirs = theirs;
        let mut line = [0; 4096];
        theirs.write_all(format!("{GREETING}\r\n").as_bytes()).unwrap();
        let read = theirs.read(&mut line).unwrap();
        assert!(String::from_utf8_lossy(&line[..read]).contains("qmp_capabilities"));
        theirs.write_all(b"{\"return\": {}, \"id\": 0}\r\n").unwrap();

        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = {
            let mut slices = [IoSliceMut::new(&mut line)];
            rustix::net::recvmsg(&theirs, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap()
        };
        let command: Value = serde_json::from_slice(&line[..got.bytes]).unwrap();
        assert_eq!(command["execute"], "getfd");
        assert_eq!(command["arguments"]["fdname"], "lock");
        let mut fds: Vec<OwnedFd> = control
            .drain()
            .flat_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => fds.collect::<Vec<_>>(),
                _ => Vec::new(),
            })
            .collect();
        theirs.write_all(format!("{}\r\n", json!({"return": {}, "id": command["id"]})).as_bytes()).unwrap();
        fds.pop().unwrap()
    });
    let qmp = Qmp::connect(ours, LIMIT).await.unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"the same file").unwrap();
    qmp.getfd("lock", file.into()).await.unwrap();
    let passed = std::fs::File::from(peer.await.unwrap());
    assert_eq!(passed.metadata().unwrap().len(), 13);
}

#[tokio::test]
async fn a_stream_that_carries_no_descriptors_says_so() {
    let (qmp, _peer) = pair().await;
    let file = tempfile::tempfile().unwrap();
    assert!(matches!(qmp.getfd("x", file.into()).await, Err(Error::Unsupported(_))));
}
