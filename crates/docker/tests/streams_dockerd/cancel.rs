//! A client that goes away ends its call at dockerd.

use dhow_testkit::wait;

use crate::common::stage::Peer;
use crate::{IMAGE, LIMIT, Place, Way};

/// How many of one kind are opened: more than dockerd's own coming and going.
const MANY: usize = 30;

fn field(way: &Way<'_>, name: &str) -> usize {
    way.docker.ok(["info", "-f", &format!("{{{{.{name}}}}}")]).unwrap().parse().unwrap()
}

/// 3.2: followed logs, waits, events and statistics: dockerd lets go of what it did for them.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn calls_that_go_on_for_ever_end_with_their_client() {
    let place = Place::new();
    place.alike(|way| {
        let container = way.container("sleeper", &[IMAGE, "sleep", "100000"]);
        container.start();
        let name = &container.name;
        for call in [
            format!("GET /containers/{name}/logs?stdout=1&follow=1"),
            format!("POST /containers/{name}/wait"),
            "GET /events".to_owned(),
            format!("GET /containers/{name}/stats"),
        ] {
            let before = field(way, "NGoroutines");
            let clients: Vec<Peer> = (0..MANY)
                .map(|_| {
                    let mut peer = way.says(format!("{call} HTTP/1.1\r\nHost: d\r\n\r\n"));
                    assert!(peer.raw_head().starts_with("HTTP/1.1 200 OK\r\n"));
                    peer
                })
                .collect();
            let during = field(way, "NGoroutines");
            assert!(during >= before + MANY, "{}: {call}: {before} goroutines, then {during}", way.name);
            drop(clients);
            wait::until(&format!("{}: dockerd to end {MANY} times {call}", way.name), LIMIT, || {
                (field(way, "NGoroutines") < before + MANY / 2).then_some(())
            })
            .unwrap();
        }
        assert!(container.is_running());
    });
    wait::until("the face to be idle", LIMIT, || (place.serving.face.stats().in_flight == 0).then_some(()))
        .unwrap();
}

/// 3.2: a build whose client goes away is cancelled: its container is gone.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_build_ends_with_its_client() {
    let place = Place::new();
    place.alike(|way| {
        let file = format!("FROM {IMAGE}\nRUN echo {} && sleep 100000\n", way.name);
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(file.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, "Dockerfile", file.as_bytes()).unwrap();
        let context = builder.into_inner().unwrap();
        let mut peer = way.says(format!(
            "POST /build?rm=1&forcerm=1 HTTP/1.1\r\nHost: d\r\nContent-Type: application/x-tar\r\nContent-Length: {}\r\n\r\n",
            context.len()
        ));
        peer.say(&context);
        crate::until(&mut peer, "Running in");
        let containers = || way.ok(["ps", "-q"]).lines().count();
        wait::until("the build's container", LIMIT, || (containers() == 1).then_some(())).unwrap();
        drop(peer);
        wait::until(&format!("{}: the build to end", way.name), LIMIT, || (containers() == 0).then_some(())).unwrap();
    });
}

/// 3.2: an upload that breaks off is seen by dockerd as broken off, never as whole.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn an_upload_that_breaks_off_is_not_taken_for_whole() {
    let place = Place::new();
    place.alike(|way| {
        let container = way.container("target", &[IMAGE, "true"]);
        for framing in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
            let mut peer = way.says(format!(
                "PUT /containers/{}/archive?path=/ HTTP/1.1\r\nHost: d\r\n{framing}\r\n\r\n",
                container.name
            ));
            if framing.starts_with("Transfer") {
                peer.say("186a0\r\n");
            }
            let mut header = tar::Header::new_ustar();
            header.set_path("part").unwrap();
            header.set_size(90_000);
            header.set_mode(0o644);
            header.set_cksum();
            peer.say(header.as_bytes());
            peer.say(vec![b'x'; 20_000]);
            peer.end();
            let answer = peer.rest();
            let status = answer.split("\r\n").next().unwrap_or_default().to_owned();
            assert!(!status.contains(" 200 "), "{}: {framing}: {answer}", way.name);
        }
    });
}
