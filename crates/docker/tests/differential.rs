//! The same requests to dockerd's own socket and through the face: status, headers and bodies are equal, but for the
//! trace and the date. Issue 4 widens the table to every endpoint of the API's description.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture fails its test at the first surprise"
)]

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use common::Serving;
use dhow_testkit::{Dockerd, Image};

/// Everything that comes back, without the date and the trace.
fn ask(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap_or_else(|error| panic!("{request:?}: {error}"));
    let answer = String::from_utf8_lossy(&answer);
    let changing = |line: &&str| !line.starts_with("Date: ") && !line.starts_with("X-Trace-Id: ");
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
