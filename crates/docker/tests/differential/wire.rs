//! What is not about endpoints: requests that are odd, malformed or not HTTP at all, sent to one dockerd directly and
//! through the face. Everything is equal byte for byte, but for the trace and the date.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use dhow_testkit::{Dockerd, Image};

use crate::common::Serving;

/// Everything that comes back, without the date and the headers that the face adds.
fn ask(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap_or_else(|error| panic!("{request:?}: {error}"));
    let answer = String::from_utf8_lossy(&answer);
    let added = ["Date: ", "X-Trace-Id: ", "X-Dhow-Placement: "];
    let changing = |line: &&str| !added.iter().any(|name| line.starts_with(name));
    answer.split_inclusive("\r\n").filter(changing).collect()
}

/// A request that closes its connection.
fn call(line: &str, body: &str) -> String {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!(
        "{line} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nConnection: close\r\n{length}\r\n{body}"
    )
}

/// 3.1, 3.3: good and bad requests alike.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn answers_are_dockerds_own() {
    let dockerd = Dockerd::start().unwrap();
    let serving = Serving::in_front_of(dockerd.socket());
    let docker = dockerd.docker();
    Image::Busybox.ensure(docker).unwrap();
    docker.ok(["create", "--name", "taken", Image::Busybox.name(), "sleep", "100"]).unwrap();
    let create = format!("{{\"Image\":\"{}\"}}", Image::Busybox.name());
    let raw = |text: &str| text.to_owned();
    let table = [
        call("GET /_ping", ""),
        call("HEAD /_ping", ""),
        call("PUT /_ping", ""),
        call("OPTIONS /_ping", ""),
        call("GET /v1.24/_ping", ""),
        call("GET /v1.44/version", ""),
        call("GET /v1.1/version", ""),
        call("GET /v99.9/version", ""),
        call("GET /version", ""),
        call("GET /nothing/here", ""),
        call("GET //version", ""),
        call("GET /containers/../version", ""),
        call("GET /%zz", ""),
        call("GET /containers/json?all=1", ""),
        call("GET /containers/json?filters=not-json", ""),
        call("GET /containers/json?limit=many", ""),
        call("GET /containers/none/json", ""),
        call("GET /containers/taken/json", ""),
        call("GET /containers/none/logs?stdout=1", ""),
        call("GET /containers/taken/logs", ""),
        call("GET /containers/taken/archive", ""),
        call("HEAD /containers/taken/archive?path=/bin", ""),
        call("GET /containers/taken/archive?path=/none", ""),
        call("POST /containers/create?name=taken", &create),
        call("POST /containers/create", "{\"Image\":"),
        call("POST /containers/create", "{\"Image\":\"none\"}"),
        call("POST /containers/create", ""),
        call("POST /containers/none/start", ""),
        call("POST /containers/taken/pause", ""),
        call("POST /containers/taken/kill?signal=NONE", ""),
        call("POST /containers/taken/rename", ""),
        call("POST /containers/taken/stop", ""),
        call("POST /containers/none/wait", ""),
        call("POST /containers/none/attach?stream=1&stdout=1", ""),
        call("POST /containers/taken/exec", "{\"Cmd\":[\"true\"]}"),
        call("POST /exec/none/start", "{}"),
        call("POST /exec/none/start", ""),
        call("DELETE /containers/none", ""),
        call("GET /images/json", ""),
        call("GET /images/none/json", ""),
        call("GET /images/none/get", ""),
        call("POST /images/load", "this is no archive"),
        call("POST /images/taken/tag?repo=UPPER", ""),
        call("POST /build?dockerfile=x", ""),
        call("POST /session", ""),
        call("GET /networks", ""),
        call("POST /networks/create", "{\"Name\":\"\"}"),
        call("GET /volumes", ""),
        call("DELETE /volumes/none", ""),
        call("GET /events?since=1&until=2", ""),
        call("GET /swarm", ""),
        // Not every client is polite.
        raw("GET /_ping HTTP/1.0\r\n\r\n"),
        raw("GET /version HTTP/1.0\r\nHost: x\r\n\r\n"),
        raw("GET /_ping HTTP/1.1\r\nConnection: close\r\n\r\n"),
        raw("GET /_ping HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n"),
        raw("GET http://docker/_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"),
        raw("get /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"),
        raw("GET /_ping HTTP/1.1\r\nHost: d\r\nExpect: miracles\r\nConnection: close\r\n\r\n"),
        raw(
            "POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
        ),
        raw(
            "POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\nT: x\r\n\r\n",
        ),
        raw("POST /containers/create HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: gzip\r\n\r\n"),
        raw(
            "POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        ),
        raw("POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Length: two\r\n\r\n{}"),
        raw("GET /_ping HTTP/1.1\r\nHost: d\r\nbad name: x\r\n\r\n"),
        raw("GET /_ping HTTP/1.1\r\nHost: d\r\nNul: \0\r\n\r\n"),
        raw("GET /_ping HTTP/3.0\r\nHost: d\r\n\r\n"),
        raw("GET /_ping\r\n\r\n"),
        raw("nonsense\r\n\r\n"),
        format!(
            "GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\nX-Large: {}\r\n\r\n",
            "x".repeat(900_000)
        ),
        format!(
            "GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\nX-Large: {}\r\n\r\n",
            "x".repeat(1_200_000)
        ),
    ];
    let mut differences = Vec::new();
    for request in &table {
        let [direct, through] =
            [dockerd.socket(), serving.socket()].map(|socket| in_order(ask(socket, request)));
        if direct != through {
            differences.push(format!(
                "{}\n  dockerd: {direct:?}\n  face:    {through:?}",
                request.chars().take(120).collect::<String>().escape_debug()
            ));
        }
    }
    assert!(
        differences.is_empty(),
        "{} of {} differ:\n{}",
        differences.len(),
        table.len(),
        differences.join("\n")
    );
}

/// The answer with a list's members sorted: dockerd lists networks in another order each time.
fn in_order(answer: String) -> String {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return answer };
    let Ok(members) = serde_json::from_str::<Vec<serde_json::Value>>(body) else { return answer };
    let mut members: Vec<_> = members.iter().map(serde_json::Value::to_string).collect();
    members.sort_unstable();
    format!("{head}\r\n\r\n[{}]", members.join(","))
}

/// 3.1: what changes from call to call has the same shape.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn info_has_dockerds_fields() {
    let dockerd = Dockerd::start().unwrap();
    let serving = Serving::in_front_of(dockerd.socket());
    let fields = |socket: &Path| -> BTreeSet<String> {
        let answer = ask(socket, "GET /info HTTP/1.0\r\nHost: d\r\n\r\n");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let info: serde_json::Value = serde_json::from_str(body).unwrap();
        info.as_object().unwrap().keys().cloned().collect()
    };
    let direct = fields(dockerd.socket());
    assert!(direct.len() > 50, "{direct:?}");
    assert_eq!(direct, fields(serving.socket()));
}

/// 3.1, 3.3: where a message ends is never in doubt: what dockerd refuses is refused, and what it would take with a
/// shrug is either taken with the same meaning or refused; never is the rest of one request another one.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn shapes_that_smuggle_are_refused_as_by_dockerd_or_more_strictly() {
    /// Where the face is stricter than dockerd, or says it in other words, and why.
    const STRICTER: [(&str, &str); 16] = [
        ("an empty length", "RFC 9110, 8.6: a length has digits; dockerd takes none for zero"),
        ("both framings", AMBIGUOUS),
        ("both framings, the other way round", AMBIGUOUS),
        ("chunked on a folded line", FOLDED),
        ("a folded header", FOLDED),
        ("a header without a colon", WORDS),
        ("a header without a name", WORDS),
        ("a signed chunk size", BODY),
        ("a chunk size with 0x", BODY),
        ("a chunk size too large", BODY),
        ("no chunk size", BODY),
        ("a chunk longer than its size", BODY),
        ("chunks that end in line feeds", BODY),
        ("chunks in HTTP/1.0", "RFC 9112, 6.1: the framing is faulty; dockerd ignores the header"),
        ("version 1.2", "RFC 9112 ends at 1.1"),
        ("version 01.1", WORDS),
    ];
    const AMBIGUOUS: &str =
        "RFC 9112, 6.3: such a message ought to be handled as an error; dockerd follows the chunks";
    const FOLDED: &str = "RFC 9112, 5.2: a server must reject it or unfold it; dockerd unfolds";
    const WORDS: &str = "both refuse; the face in other words";
    const BODY: &str =
        "the face reads the framing before dockerd's handler does, which here wants no body at all";
    let dockerd = Dockerd::start().unwrap();
    let serving = Serving::in_front_of(dockerd.socket());
    // A body of two bytes, or of none with a request behind it: who disagrees answers differently often.
    let post = |headers: &str, body: &str| {
        format!(
            "POST /nowhere HTTP/1.1\r\nHost: d\r\n{headers}\r\n{body}GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"
        )
    };
    let chunks = "2\r\n{}\r\n0\r\n\r\n";
    let table = [
        ("equal lengths twice", post("Content-Length: 2\r\nContent-Length: 2\r\n", "{}")),
        ("lengths that differ", post("Content-Length: 2\r\nContent-Length: 0\r\n", "{}")),
        ("a list of equal lengths", post("Content-Length: 2, 2\r\n", "{}")),
        ("a list of lengths that differ", post("Content-Length: 2, 0\r\n", "{}")),
        ("a signed length", post("Content-Length: +2\r\n", "{}")),
        ("a negative length", post("Content-Length: -2\r\n", "{}")),
        ("a hexadecimal length", post("Content-Length: 0x2\r\n", "{}")),
        ("a length with zeros before", post("Content-Length: 0002\r\n", "{}")),
        ("a length with spaces", post("Content-Length:   2  \r\n", "{}")),
        ("a length with an underscore", post("Content-Length: 0_2\r\n", "{}")),
        ("an empty length", post("Content-Length: \r\n", "")),
        ("an empty length beside one", post("Content-Length: \r\nContent-Length: 2\r\n", "{}")),
        ("a length beyond 63 bits", post("Content-Length: 9223372036854775808\r\n", "{}")),
        ("both framings", post("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", chunks)),
        (
            "both framings, the other way round",
            post("Transfer-Encoding: chunked\r\nContent-Length: 13\r\n", chunks),
        ),
        ("chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunks)),
        ("chunked in a list", post("Transfer-Encoding: gzip, chunked\r\n", chunks)),
        ("chunked not last", post("Transfer-Encoding: chunked, gzip\r\n", chunks)),
        ("identity", post("Transfer-Encoding: identity\r\n", "")),
        (
            "identity and chunked",
            post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", chunks),
        ),
        ("chunked in capitals", post("Transfer-Encoding: CHUNKED\r\n", chunks)),
        ("chunked with a space before the colon", post("Transfer-Encoding : chunked\r\n", chunks)),
        ("chunked with a tab", post("Transfer-Encoding:\tchunked\r\n", chunks)),
        ("chunked with a vertical tab", post("Transfer-Encoding: \x0bchunked\r\n", chunks)),
        ("chunked in quotes", post("Transfer-Encoding: \"chunked\"\r\n", chunks)),
        ("chunked on a folded line", post("Transfer-Encoding:\r\n chunked\r\n", chunks)),
        ("an empty coding", post("Transfer-Encoding: \r\n", "")),
        ("a folded header", post("X: a\r\n b\r\nContent-Length: 2\r\n", "{}")),
        ("a header without a colon", post("Nothing\r\n", "")),
        ("a header without a name", post(": x\r\n", "")),
        ("a bare carriage return in a value", post("X: a\rContent-Length: 2\r\n", "")),
        ("a NUL in a value", post("X: a\0b\r\n", "")),
        ("a high byte in a value", post("X: a\u{e9}b\r\n", "")),
        (
            "bare line feeds",
            "POST /nowhere HTTP/1.1\nHost: d\nContent-Length: 2\nConnection: close\n\n{}".to_owned(),
        ),
        ("an empty line before", format!("\r\n{}", call("GET /_ping", ""))),
        ("chunk sizes with zeros", post("Transfer-Encoding: chunked\r\n", "00002\r\n{}\r\n000\r\n\r\n")),
        ("a signed chunk size", post("Transfer-Encoding: chunked\r\n", "+2\r\n{}\r\n0\r\n\r\n")),
        ("a chunk size with 0x", post("Transfer-Encoding: chunked\r\n", "0x2\r\n{}\r\n0\r\n\r\n")),
        (
            "a chunk size too large",
            post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
        ),
        ("no chunk size", post("Transfer-Encoding: chunked\r\n", "\r\n{}\r\n0\r\n\r\n")),
        ("a chunk longer than its size", post("Transfer-Encoding: chunked\r\n", "1\r\n{}\r\n0\r\n\r\n")),
        ("chunks that end in line feeds", post("Transfer-Encoding: chunked\r\n", "2\n{}\n0\n\n")),
        (
            "a framing in the trailers",
            post("Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\nContent-Length: 5\r\n\r\n"),
        ),
        (
            "chunks in HTTP/1.0",
            "POST /nowhere HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".to_owned(),
        ),
        (
            "a body of a GET",
            "GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}".to_owned(),
        ),
        ("an upgrade to nothing", post("Connection: Upgrade\r\n", "")),
        ("close beside keep-alive", post("Connection: keep-alive, close\r\n", "")),
        ("a hop-by-hop length", post("Connection: Content-Length\r\nContent-Length: 2\r\n", "{}")),
        (
            "an absolute target",
            "GET http://other:80/_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n".to_owned(),
        ),
        (
            "a target that is an authority",
            "CONNECT other:80 HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n".to_owned(),
        ),
        ("a target that is a star", "OPTIONS * HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n".to_owned()),
        ("a space in the target", call("GET /_ping HTTP/1.1 x", "")),
        ("a tab in the target", call("GET /_p\ting", "")),
        ("a high byte in the target", call("GET /_p\u{e9}ng", "")),
        ("odd characters in the target", call("GET /_ping?a={\"b\":[1]}|^`<>\\", "")),
        ("a fragment in the target", call("GET /_ping#x", "")),
        ("an empty method", call(" /_ping", "")),
        ("a method with odd characters", call("GE(T /_ping", "")),
        ("an empty Host", "GET /_ping HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n".to_owned()),
        ("a bad Host", "GET /_ping HTTP/1.1\r\nHost: a b/c\r\nConnection: close\r\n\r\n".to_owned()),
        ("version 1.2", "GET /_ping HTTP/1.2\r\nHost: d\r\nConnection: close\r\n\r\n".to_owned()),
        ("version 01.1", "GET /_ping HTTP/01.1\r\nHost: d\r\nConnection: close\r\n\r\n".to_owned()),
    ];
    let (mut wrong, mut stricter) = (Vec::new(), Vec::new());
    for (name, request) in &table {
        let [direct, through] = [dockerd.socket(), serving.socket()].map(|socket| ended(socket, request));
        if direct == through {
            continue;
        }
        let answers = |text: &str| text.matches("HTTP/1.1 ").count();
        let refused = through.starts_with("HTTP/1.1 4") || through.starts_with("HTTP/1.1 5");
        if refused && answers(&through) == 1 && through.contains("Connection: close") {
            stricter.push(*name);
        }
        if !STRICTER.iter().any(|(known, _)| known == name) || stricter.last() != Some(name) {
            wrong.push(format!("{name}:\n  dockerd: {direct:?}\n  face:    {through:?}"));
        }
    }
    let known: Vec<&str> = STRICTER.iter().map(|(name, _)| *name).collect();
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), table.len(), wrong.join("\n"));
    assert_eq!(stricter, known);
}

/// As [`ask`], for a client that says no more than this.
fn ended(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // It may be refused before it is written.
    let _sent =
        stream.write_all(request.as_bytes()).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
    let mut answer = Vec::new();
    // A connection that breaks has said what it had to say.
    let _ended = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    let added = ["Date: ", "X-Trace-Id: ", "X-Dhow-Placement: "];
    answer.split_inclusive("\r\n").filter(|line| !added.iter().any(|name| line.starts_with(name))).collect()
}
