use std::time::Instant;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::*;
use crate::wire::head;

const LONG: Duration = Duration::from_secs(20);

fn uuid(uuid: &str) -> Key {
    Key::Session(uuid.to_owned())
}

/// A client and its other end.
fn client() -> (Client, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    (Client::new(near), far)
}

fn named(target: &str) -> Names {
    Names::of(target)
}

fn role(parked: &Parked) -> Option<Role> {
    match parked {
        Parked::To(role, _) => Some(*role),
        Parked::Refused(_) | Parked::Gone => None,
    }
}

/// 3.5: a parked session goes with its build, and with none of another UUID.
#[tokio::test]
async fn a_parked_session_goes_with_its_build() {
    let sessions = Sessions::default();
    let (mut client, _far) = client();
    let parked = sessions.park_for(uuid("a"), &mut client, LONG);
    let build = async {
        let _other = sessions.build(&named("/build?session=b"), Role::Native);
        sessions.build(&named("/v1.44/build?version=2&session=a&platform=linux%2Farm64"), Role::Foreign)
    };
    let (parked, building) = tokio::join!(parked, build);
    assert_eq!(role(&parked), Some(Role::Foreign));
    drop((parked, building));
    assert!(sessions.inner().table.is_empty());
}

/// 3.5: either order works: with the build there, a session does not wait.
#[tokio::test]
async fn a_session_that_comes_after_its_build_does_not_wait() {
    let sessions = Sessions::default();
    let _building = sessions.build(&named("/build?session=a"), Role::Foreign);
    let (mut client, _far) = client();
    let parked = sessions.park_for(uuid("a"), &mut client, Duration::ZERO).await;
    assert_eq!(role(&parked), Some(Role::Foreign));
}

/// 3.5: after the time limit a 400 names the UUID.
#[tokio::test]
async fn a_session_without_a_build_is_refused_by_its_uuid() {
    let sessions = Sessions::default();
    let (mut client, _far) = client();
    let parked = sessions.park_for(uuid("u3tz1"), &mut client, Duration::from_millis(20)).await;
    let Parked::Refused(refused) = parked else { panic!("it is refused") };
    assert_eq!(refused.status, 400);
    assert!(refused.message.contains("u3tz1"), "{}", refused.message);
    assert!(sessions.inner().table.is_empty());
    assert_eq!(PATIENCE, Duration::from_secs(30));
}

/// 3.5: a client that goes away is noticed, and its UUID is free again.
#[tokio::test]
async fn a_client_that_goes_away_is_dropped() {
    let sessions = Sessions::default();
    let (mut client, far) = client();
    let begun = Instant::now();
    let parked = async {
        let parked = sessions.park_for(uuid("a"), &mut client, LONG).await;
        assert!(matches!(parked, Parked::Gone));
    };
    tokio::join!(parked, async { drop(far) });
    assert!(begun.elapsed() < LONG / 2);
    assert!(sessions.inner().table.is_empty());
}

/// 3.2: what a client sends ahead while it waits is not lost.
#[tokio::test]
async fn bytes_that_come_early_are_kept() {
    let sessions = Sessions::default();
    let (mut client, mut far) = client();
    let parked = sessions.park_for(uuid("a"), &mut client, LONG);
    let build = async {
        far.write_all(b"PRI *").await.unwrap();
        sleep(Duration::from_millis(20)).await;
        sessions.build(&named("/build?session=a"), Role::Native)
    };
    let (parked, _building) = tokio::join!(parked, build);
    assert_eq!(role(&parked), Some(Role::Native));
    drop(parked);
    assert_eq!(client.buffer.filled(), b"PRI *");
}

/// 3.5: a waiting session that is given up with its task leaves nothing behind.
#[tokio::test]
async fn a_wait_that_is_cancelled_leaves_nothing() {
    let sessions = Sessions::default();
    let (mut client, _far) = client();
    let parked = sessions.park_for(uuid("a"), &mut client, LONG);
    assert!(tokio::time::timeout(Duration::from_millis(10), parked).await.is_err());
    assert!(sessions.inner().table.is_empty());
    assert!(sessions.inner().waiting.is_empty());
}

/// 3.5: the head of a session says its UUID, or it is refused: in BuildKit's words where BuildKit would refuse it.
#[test]
fn a_session_is_known_by_its_header() {
    let read = |lines: &str| {
        let head = format!("POST /session HTTP/1.1\r\nHost: docker\r\n{lines}\r\n");
        head::request(head.as_bytes()).unwrap().unwrap()
    };
    let good = read("Upgrade: h2c\r\nx-docker-expose-session-uuid:  abc \r\n");
    assert_eq!(key(&good), Ok(uuid("abc")));
    let table = [
        ("X-Docker-Expose-Session-Uuid: abc\r\n", "no upgrade proto in request"),
        ("Upgrade: tcp\r\nX-Docker-Expose-Session-Uuid: abc\r\n", "protocol tcp not supported"),
        ("Upgrade: h2c\r\n", "X-Docker-Expose-Session-Uuid"),
        ("Upgrade: h2c\r\nX-Docker-Expose-Session-Uuid: \r\n", "X-Docker-Expose-Session-Uuid"),
    ];
    for (lines, expected) in table {
        let refused = key(&read(lines)).unwrap_err();
        assert_eq!(refused.status, 400);
        assert!(refused.message.contains(expected), "{}", refused.message);
    }
}

/// 3.5: what a build names is read from its query, decoded.
#[test]
fn a_builds_names_are_in_its_query() {
    let names = |session: Option<&str>, build: Option<&str>, upload| Names {
        session: session.map(str::to_owned),
        build: build.map(str::to_owned),
        upload,
    };
    let table = [
        ("/build", names(None, None, false)),
        ("/v1.45/build?version=1&session=", names(None, None, false)),
        ("/v1.45/build?session=a%62c&version=2&buildid=i", names(Some("abc"), Some("i"), false)),
        ("/build?remote=upload-request&buildid=upload-request%3Ai", names(None, Some("i"), true)),
    ];
    for (target, expected) in table {
        assert_eq!(Names::of(target), expected, "{target}");
    }
    assert_eq!(Names::of("/build?buildid=upload-request:i").upload(), Some(Key::Build("i".to_owned())));
    assert_eq!(Names::of("/build?buildid=i").upload(), None);
}
