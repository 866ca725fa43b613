use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use dhow_model::Role;
use dhow_testkit::{place, wait};

use crate::common::pair::{IMAGE, LIMIT, Pair, other};

/// Opens `/session` and sends its head.
fn open(socket: &Path, uuid: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let head = format!(
        "POST /session HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\
         X-Docker-Expose-Session-Uuid: {uuid}\r\nX-Docker-Expose-Session-Name: test\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// The first bytes that come back, as far as they have come.
fn said(stream: &mut UnixStream) -> String {
    let mut bytes = [0; 4096];
    match stream.read(&mut bytes) {
        Ok(n) => String::from_utf8_lossy(&bytes[..n]).into_owned(),
        Err(_) => String::new(),
    }
}

/// Asks for a build by BuildKit that names a session; the answer is not waited for.
fn build(socket: &Path, uuid: &str, platform: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    let head = format!(
        "POST /v1.44/build?version=2&remote=client-session&session={uuid}&platform={platform} HTTP/1.1\r\n\
         Host: docker\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// Whether this engine has the session: it refuses a second one.
fn has(pair: &Pair, role: Role, uuid: &str) -> bool {
    said(&mut open(pair.engine(role).socket(), uuid)).contains("already exists")
}

/// 3.5: a session that comes first waits, and goes where its build goes; one that comes later goes there at once.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_session_goes_where_its_build_goes() {
    let pair = Pair::new();
    let socket = pair.serving.socket();
    let platform = format!("linux/{}", other());

    let mut session = open(socket, "first");
    session.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert_eq!(said(&mut session), "", "nothing is known yet");
    session.set_read_timeout(Some(LIMIT)).unwrap();
    let first = build(socket, "first", &platform);
    let answer = said(&mut session);
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    assert!(has(&pair, Role::Foreign, "first") && !has(&pair, Role::Native, "first"));
    let second = said(&mut open(socket, "first"));
    assert!(
        second.starts_with("HTTP/1.1 400 ") && second.contains("session first already exists"),
        "{second}"
    );

    drop((session, first));
    let in_flight = |count| (pair.serving.face.stats().in_flight == count).then_some(());
    wait::until("the first build to end", LIMIT, || in_flight(0)).unwrap();
    let _later = build(socket, "later", &platform);
    wait::until("the build to be asked for", LIMIT, || in_flight(1)).unwrap();
    let mut session = open(socket, "later");
    assert!(said(&mut session).starts_with("HTTP/1.1 101 "));
    assert!(has(&pair, Role::Foreign, "later"));
}

/// 3.5: Buildx tells the platform where nobody reads it; its sessions go where its channel to BuildKit went, at once.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn buildx_builds_in_the_native_machine() {
    let pair = Pair::new();
    let dir = tempfile::tempdir().unwrap();
    place::write(&dir.path().join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /here\n").unwrap();
    let begun = std::time::Instant::now();
    let args = ["buildx", "build", "-t", "dhow-test/built", "."];
    pair.docker.run(args).dir(dir.path()).limit(Duration::from_secs(60)).ok().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(25), "no session has waited for its time limit");
    assert!(pair.engine(Role::Native).ok(["image", "inspect", "dhow-test/built"]).is_ok());
    assert!(pair.ok(["images", "--format", "{{.Repository}}"]).contains("dhow-test/built"));
    assert!(pair.ok(["run", "--rm", IMAGE, "echo", "hello"]).contains("hello"));
}
