//! How large a request's head may be: exactly as large as dockerd takes it.

use std::io::Write;

use crate::{Place, Way};

/// Go's default, and what its server reads beyond it.
const MOST: usize = (1 << 20) + 4096;

/// The status of a request with this head, which may be refused before it is written.
fn status(way: &Way<'_>, head: &str) -> String {
    let mut peer = way.connect();
    let mut writer = peer.0.try_clone().unwrap();
    let head = head.to_owned();
    let writing = std::thread::spawn(move || writer.write_all(head.as_bytes()).is_ok());
    let answer = peer.rest();
    drop(peer);
    writing.join().unwrap();
    answer.split("\r\n").next().unwrap_or_default().to_owned()
}

/// A head of exactly `size` bytes, the most of it where `fill` puts it.
fn sized(size: usize, fill: fn(&str) -> String) -> String {
    let empty = fill("").len();
    let head = fill(&"x".repeat(size - empty));
    assert_eq!(head.len(), size);
    head
}

/// 3.1: to the byte, whether a header is long or the target is.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn heads_are_taken_up_to_dockerds_own_size() {
    let place = Place::new();
    let header =
        |text: &str| format!("GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\nX-Long: {text}\r\n\r\n");
    let target = |text: &str| format!("GET /_ping?{text} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");
    let told = place.alike(|way| {
        [MOST - 4096, MOST - 1, MOST, MOST + 1, MOST + 5000]
            .map(|size| (status(way, &sized(size, header)), status(way, &sized(size, target))))
    });
    let codes = told.map(|(header, target)| (header[9..12].to_owned(), target[9..12].to_owned()));
    let (ok, large) = (("200".to_owned(), "200".to_owned()), ("431".to_owned(), "431".to_owned()));
    assert_eq!(codes, [ok.clone(), ok.clone(), ok, large.clone(), large]);
}

/// 3.1: very many headers are as good as few long ones.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn very_many_headers_are_taken() {
    let place = Place::new();
    let told = place.alike(|way| {
        [100, 5_000, 60_000, 200_000].map(|count| {
            let many = "a: b\r\n".repeat(count);
            status(way, &format!("GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n{many}\r\n"))
        })
    });
    assert!(told[2].contains(" 200 ") && told[3].contains(" 431 "), "{told:?}");
}
