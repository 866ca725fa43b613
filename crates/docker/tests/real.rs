//! The real `docker` client through the face, in front of a real dockerd.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture fails its test at the first surprise"
)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::Serving;
use dhow_testkit::{Docker, Dockerd, Image, Run, run, wait};

/// A real dockerd, the face before it, and the client aimed at the face.
struct Place {
    // Dropped in this order: the face first.
    serving: Serving,
    docker: Docker,
    direct: Docker,
    _dockerd: Option<Dockerd>,
}

impl Place {
    /// With busybox imported. `DHOW_TEST_SOCKET` names a dockerd that is there already.
    fn new() -> Self {
        let (direct, dockerd) = match std::env::var_os("DHOW_TEST_SOCKET") {
            Some(socket) => (Docker::new(dhow_testkit::Tools::get().unwrap(), socket), None),
            None => {
                let dockerd = Dockerd::start().unwrap();
                (dockerd.docker().clone(), Some(dockerd))
            }
        };
        let serving = Serving::in_front_of(direct.socket());
        let docker = Docker::new(direct.tools().clone(), serving.socket());
        Image::Busybox.ensure(&docker).unwrap();
        Self { serving, docker, direct, _dockerd: dockerd }
    }

    fn ok<const N: usize>(&self, args: [&str; N]) -> String {
        self.docker.ok(args).unwrap()
    }

    fn spawn<const N: usize>(&self, args: [&str; N]) -> Child {
        let mut command = self.docker.command();
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        run::spawn(&mut command).unwrap()
    }
}

const IMAGE: &str = "dhow-test/busybox:1";
const LIMIT: Duration = Duration::from_secs(20);

fn ends(child: &mut Child) -> i32 {
    let status = run::wait_within(child, LIMIT);
    if status.is_none() {
        run::kill(child);
    }
    status.expect("the client ends in time").code().unwrap_or(-1)
}

/// 3.1, 3.2: exit codes, both output streams and a piped standard input, through attach with half-close.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn run_keeps_exit_codes_streams_and_standard_input() {
    let place = Place::new();
    for code in ["0", "3", "137"] {
        let ended =
            place.docker.outcome(["run", "--rm", IMAGE, "sh", "-c", &format!("exit {code}")]).unwrap();
        assert_eq!(ended.code().unwrap().to_string(), code, "{ended}");
    }
    let both = place.docker.outcome(["run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2"]).unwrap();
    assert_eq!((both.text().as_str(), both.complaint().as_str()), ("out", "err"));

    let input = vec![b'x'; 5 << 20];
    let echoed = place.docker.run(["run", "--rm", "-i", IMAGE, "cat"]).input(input.clone()).ok().unwrap();
    assert!(echoed.stdout == input, "{} bytes came back", echoed.stdout.len());
    assert_eq!(place.serving.face.stats().upgraded, 0);
}

/// 3.2: a terminal is raw in both directions.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_terminal_is_a_terminal() {
    let place = Place::new();
    let line = format!(
        "{} run --rm -it {IMAGE} sh -c 'tty; stty size; read x; echo got $x'",
        place.docker.tools().docker.display()
    );
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]);
    for (name, value) in place.docker.command().get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = run::spawn(&mut command).unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    stdout.read_line(&mut said).unwrap();
    assert!(said.contains("/dev/pts/"), "{said}");
    child.stdin.as_mut().unwrap().write_all(b"hello\n").unwrap();
    stdout.read_to_string(&mut said).unwrap();
    assert!(said.contains("got hello"), "{said}");
    assert_eq!(ends(&mut child), 0);
}

/// 3.2: exec is hijacked as attach is; its exit code is asked for afterwards.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn exec_streams_and_ends_with_its_code() {
    let place = Place::new();
    place.ok(["run", "-d", "--name", "here", IMAGE, "sleep", "1000"]);
    let ended = place
        .docker
        .run(["exec", "-i", "here", "sh", "-c", "wc -c; exit 7"])
        .input(vec![b'y'; 1 << 20])
        .outcome()
        .unwrap();
    assert_eq!((ended.code(), ended.text().as_str()), (Some(7), "1048576"));
    assert_eq!(place.ok(["exec", "-d", "here", "true"]), "");
    place.ok(["rm", "-f", "here"]);
}

/// 3.2: an attached client that closes its half still gets the output; one that goes away lets the container be.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn attach_keeps_half_close() {
    let place = Place::new();
    place.ok(["create", "-i", "--name", "sorter", IMAGE, "sh", "-c", "sort; echo end"]);
    let sorted = place.docker.run(["start", "-ai", "sorter"]).input("b\na\n").ok().unwrap();
    assert_eq!(sorted.text(), "a\nb\nend");

    place.ok(["run", "-d", "--name", "talker", IMAGE, "sh", "-c", "while :; do echo tick; sleep 0.1; done"]);
    let mut attached = place.spawn(["attach", "--sig-proxy=false", "--no-stdin", "talker"]);
    let mut line = String::new();
    BufReader::new(attached.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "tick\n");
    assert_eq!(place.serving.face.stats().upgraded, 1);
    run::kill(&mut attached);
    wait::until("the tunnel to end", LIMIT, || (place.serving.face.stats().upgraded == 0).then_some(()))
        .unwrap();
    assert_eq!(place.ok(["inspect", "-f", "{{.State.Running}}", "talker"]), "true");
    place.ok(["rm", "-f", "sorter", "talker"]);
}

/// 3.1: followed logs come as they are written; a client that goes away ends the call at dockerd.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn followed_logs_and_events_come_at_once_and_end_with_their_client() {
    let place = Place::new();
    let mut events = place.spawn(["events", "--format", "{{.Action}} {{.Actor.Attributes.name}}"]);
    let mut heard = BufReader::new(events.stdout.take().unwrap());
    wait::until("events to be asked for", LIMIT, || (place.serving.face.stats().in_flight > 0).then_some(()))
        .unwrap();
    place.ok(["run", "-d", "--name", "logger", IMAGE, "sh", "-c", "while :; do echo tick; sleep 0.2; done"]);
    let mut line = String::new();
    while !line.contains("start logger") {
        line.clear();
        assert!(heard.read_line(&mut line).unwrap() > 0);
    }
    let mut logs = place.spawn(["logs", "-f", "logger"]);
    let mut said = BufReader::new(logs.stdout.take().unwrap());
    for _ in 0..3 {
        line.clear();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "tick\n");
    }
    run::kill(&mut logs);
    run::kill(&mut events);
    wait::until("both calls to end", LIMIT, || (place.serving.face.stats().in_flight == 0).then_some(()))
        .unwrap();
    place.ok(["rm", "-f", "logger"]);
}

/// 3.2: archives flow both ways and arrive whole.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn cp_save_and_load_keep_every_byte() {
    let place = Place::new();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("random");
    Run::new("dd")
        .args(["if=/dev/urandom", &format!("of={}", file.display()), "bs=1M", "count=64", "status=none"])
        .ok()
        .unwrap();
    let digest = |path: &Path| {
        Run::new("sha256sum").arg(path).ok().unwrap().text().split_whitespace().next().unwrap().to_owned()
    };
    place.ok(["create", "--name", "copier", IMAGE, "true"]);
    place.ok(["cp", "-q", &file.to_string_lossy(), "copier:/random"]);
    let back = dir.path().join("back");
    place.ok(["cp", "-q", "copier:/random", &back.to_string_lossy()]);
    assert_eq!(digest(&file), digest(&back));

    place.ok(["commit", "copier", "dhow-test/copied"]);
    let saved = dir.path().join("saved.tar");
    place.ok(["save", "-o", &saved.to_string_lossy(), "dhow-test/copied"]);
    let before = place.ok(["inspect", "-f", "{{.Id}} {{.RootFS.Layers}}", "dhow-test/copied"]);
    place.ok(["rm", "copier"]);
    place.ok(["rmi", "dhow-test/copied"]);
    let mut load = place.docker.command();
    load.arg("load").stdin(std::fs::File::open(&saved).unwrap()).stdout(Stdio::null());
    assert_eq!(ends(&mut run::spawn(&mut load).unwrap()), 0);
    assert_eq!(place.ok(["inspect", "-f", "{{.Id}} {{.RootFS.Layers}}", "dhow-test/copied"]), before);
    place.ok(["rmi", "dhow-test/copied"]);
}

/// 3.2: a build with the classic builder, and one with BuildKit, which talks gRPC over `/session` and `/grpc`.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn both_builders_build() {
    let place = Place::new();
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        (
            "Dockerfile",
            format!(
                "FROM {IMAGE}\nCOPY . /context\nRUN ls /context | wc -l > /count\nCMD [\"cat\", \"/count\"]\n"
            ),
        ),
        ("other", "x".repeat(3 << 20)),
    ] {
        std::fs::File::create(dir.path().join(name)).unwrap().write_all(text.as_bytes()).unwrap();
    }
    for (builder, kit) in [("classic", "0"), ("buildkit", "1")] {
        let tag = format!("dhow-test/{builder}");
        place
            .docker
            .run(["build", "-t", &tag, "."])
            .dir(dir.path())
            .env("DOCKER_BUILDKIT", kit)
            .ok()
            .unwrap_or_else(|error| panic!("{builder}: {error}"));
        assert_eq!(place.ok(["run", "--rm", &tag]), "2", "{builder}");
        place.ok(["rmi", &tag]);
    }
}

/// 3.1: calls that block, and calls that stream JSON.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn wait_stats_and_top_answer() {
    let place = Place::new();
    place.ok(["run", "-d", "--name", "sleeper", IMAGE, "sh", "-c", "trap 'exit 5' TERM; sleep 1000 & wait"]);
    assert!(place.ok(["stats", "--no-stream", "--format", "{{.Name}}", "sleeper"]).contains("sleeper"));
    assert!(place.ok(["top", "sleeper"]).contains("sleep"));
    let mut waiting = place.spawn(["wait", "sleeper"]);
    place.ok(["stop", "sleeper"]);
    assert_eq!(ends(&mut waiting), 0);
    let mut code = String::new();
    waiting.stdout.take().unwrap().read_to_string(&mut code).unwrap();
    assert_eq!(code, "5\n");
    place.ok(["rm", "sleeper"]);
}

/// 3.4: hooks get the canonical ID before the call goes on, however the client named the container.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn hooks_are_told_canonical_ids() {
    let place = Place::new();
    let id = place.ok(["create", "--name", "hooked", IMAGE, "sleep", "1000"]);
    place.ok(["start", "hooked"]);
    place.ok(["kill", &id[..12]]);
    place.ok(["rename", "hooked", "renamed"]);
    let missing = place.docker.outcome(["start", "nowhere"]).unwrap();
    assert!(missing.complaint().contains("No such container: nowhere"), "{missing}");
    place.ok(["rm", "renamed"]);
    let expected = [
        format!("after create {id} 201"),
        format!("before start {id} hooked"),
        format!("after start {id} 204"),
        format!("before kill {id} {}", &id[..12]),
        format!("after kill {id} 204"),
        format!("before rename {id} hooked"),
        format!("after rename {id} 204"),
        format!("before remove {id} renamed"),
        format!("after remove {id} 204"),
    ];
    let told: Vec<String> =
        place.serving.hooks.lines().into_iter().filter(|line| line.contains(&id)).collect();
    assert_eq!(told, expected);
}

/// 3.1: many containers at once.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn ten_containers_run_at_once() {
    let place = Place::new();
    let mut clients: Vec<(usize, Child)> = (0..10)
        .map(|n| (n, place.spawn(["run", "--rm", IMAGE, "sh", "-c", &format!("echo out {n}; exit {n}")])))
        .collect();
    for (n, client) in &mut clients {
        assert_eq!(ends(client), i32::try_from(*n).unwrap());
        let mut said = String::new();
        client.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, format!("out {n}\n"));
    }
    assert_eq!(place.direct.ok(["ps", "-aq"]).unwrap(), "");
}

/// 16.5: another user is turned away even where the socket's mode would let them in.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn another_user_is_turned_away() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let serving = Serving::in_front_of(Path::new("/nowhere"));
    let dir = serving.socket().parent().unwrap();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(serving.socket(), std::fs::Permissions::from_mode(0o666)).unwrap();
    let docker = Docker::new(dhow_testkit::Tools::get().unwrap(), serving.socket());
    let complaint = |uid: u32| {
        let mut command = docker.command();
        command.arg("version").uid(uid);
        Run::from(command).outcome().unwrap().complaint()
    };
    assert!(complaint(0).contains("run `dhow up`"), "{}", complaint(0));
    let other = complaint(65534);
    assert!(!other.contains("dhow up") && !other.to_lowercase().contains("permission denied"), "{other}");
    assert!(other.contains("EOF") || other.contains("connect") || other.contains("reset"), "{other}");
}
