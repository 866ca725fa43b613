//! Bodies as HTTP frames them: expectations, chunks with extensions and trailers, requests sent ahead.

use crate::{IMAGE, Place, all_of, plain};

/// An archive with one small file.
fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(5);
    header.set_mode(0o644);
    builder.append_data(&mut header, "hello", b"hello".as_slice()).unwrap();
    builder.into_inner().unwrap()
}

/// 3.1: `Expect: 100-continue`: dockerd says when it wants the body, and refuses without it.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_body_is_sent_when_dockerd_asks_for_it() {
    let place = Place::new();
    let body = archive();
    let told = place.alike(|way| {
        let container = way.container("expects", &[IMAGE, "true"]);
        let name = &container.name;
        let calls = [
            format!("PUT /containers/{name}/archive?path=/"),
            format!("PUT /containers/{name}/archive?path=/none"),
            format!("PUT /containers/{name}/archive"),
            "PUT /containers/none/archive?path=/".to_owned(),
            "POST /build?version=9".to_owned(),
            "POST /build?dockerfile=hello".to_owned(),
            "POST /nowhere".to_owned(),
        ];
        calls.map(|call| {
            let mut peer = way.says(format!(
                "{call} HTTP/1.1\r\nHost: d\r\nContent-Type: application/x-tar\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
                body.len()
            ));
            let first = plain(&peer.raw_head());
            let wanted = first == "HTTP/1.1 100 Continue\r\n\r\n";
            if wanted {
                peer.say(&body);
            }
            peer.end();
            (first, all_of(&mut peer).replace(&format!("-{}", way.name), ""))
        })
    });
    assert!(told[0].0.contains(" 100 ") && told[0].1.starts_with("HTTP/1.1 200 OK\r\n"), "{told:?}");
    assert!(told[3].0.contains(" 404 ") && told[6].0.contains(" 404 "), "refused before a body: {told:?}");
}

/// 3.1: chunks of any size, with extensions and trailers, are one body to dockerd; the connection goes on after it.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn chunks_with_extensions_and_trailers_are_taken() {
    let place = Place::new();
    let told = place.alike(|way| {
        let container = way.container("chunks", &[IMAGE, "true"]);
        let mut peer = way.says(format!(
            "PUT /containers/{}/archive?path=/ HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\nTrailer: Digest\r\n\r\n",
            container.name
        ));
        let body = archive();
        for (turn, piece) in body.chunks(700).enumerate() {
            let (zeros, extension) = [("", ""), ("000", ";a=b"), ("", ";sig=\"x y\""), ("", " ")][turn % 4];
            peer.say(format!("{zeros}{:X}{extension}\r\n", piece.len()));
            peer.say(piece);
            peer.say("\r\n");
        }
        peer.say("0\r\nDigest: sha-256=x\r\nOther: y\r\n\r\nGET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");
        let said = all_of(&mut peer);
        (said, way.ok(["diff", &container.name]))
    });
    assert!(
        told.0.starts_with("HTTP/1.1 200 OK\r\n")
            && told.0.ends_with("\r\n\r\nOK")
            && told.1.contains("/hello"),
        "{told:?}"
    );
}

/// 3.1: requests sent ahead are carried out in their order, whatever their kind, until one closes the connection.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn pipelined_requests_are_answered_as_by_dockerd() {
    let place = Place::new();
    let told = place.alike(|way| {
        let container = way.container("piped", &[IMAGE, "sleep", "1000"]);
        let name = &container.name;
        let create = format!("{{\"Image\":\"{IMAGE}\"}}");
        let mut peer = way.says(
            [
                "GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n".to_owned(),
                "HEAD /_ping HTTP/1.1\r\nHost: d\r\n\r\n".to_owned(),
                format!("POST /containers/{name}/start HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n"),
                format!("POST /containers/{name}/start HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n"),
                "GET /containers/none/json HTTP/1.1\r\nHost: d\r\n\r\n".to_owned(),
                format!(
                    "POST /containers/create?name={name} HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{create}",
                    create.len()
                ),
                "POST /nowhere HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_owned(),
                "GET /v1.45/version HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n".to_owned(),
                "GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n".to_owned(),
            ]
            .concat(),
        );
        let id = way.ok(["inspect", "-f", "{{.Id}}", name]);
        all_of(&mut peer).replace(&id, "ID").replace(&format!("-{}", way.name), "")
            .lines().filter(|line| !line.starts_with("Content-Length")).collect::<Vec<_>>().join("\n")
    });
    for status in ["200 OK", "204 No Content", "304 Not Modified", "404 Not Found", "409 Conflict"] {
        assert!(told.contains(&format!("HTTP/1.1 {status}")), "{status}: {told}");
    }
    assert_eq!(told.matches("HTTP/1.1 ").count(), 8, "{told}");
}

/// 3.1: HTTP/1.0, kept alive and not.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn http_1_0_is_spoken_as_dockerd_speaks_it() {
    let place = Place::new();
    let told = place.alike(|way| {
        let mut peer = way.says("GET /_ping HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let first = plain(&peer.raw_head());
        peer.hears("OK");
        peer.say("GET /containers/json HTTP/1.0\r\n\r\n");
        (first, all_of(&mut peer))
    });
    assert!(told.0.contains("Connection: keep-alive\r\n"), "{told:?}");
}
