//! Promise: a machine that sleeps goes on where it was, whatever wakes it, and is never resumed wrongly [13.1, 13.2, 16.1].

mod common;

use std::fs;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::sleep::{SOON, engine, is_asleep, set_aside, state, suspend};
use common::{PATIENCE, busybox, ports};
use dhow_testkit::engine::{alive, signal};
use dhow_testkit::{Docker, Engine, Error, Result, wait};

/// Counts in a file, and says each number.
const COUNT: &str = "i=0; while true; do i=$((i+1)); echo $i; echo $i > /tmp/count; sleep 0.1; done";

/// A `docker …` that stays open, with its output as it comes.
fn open(engine: &Engine, args: &[&str]) -> Result<(Child, BufReader<ChildStdout>)> {
    let child = engine.docker().command().args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(Error::io("start", Path::new("docker")))?;
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| Error::Missing { what: "its output".to_owned(), hint: String::new() })?;
    Ok((child, BufReader::new(stdout)))
}

fn line(from: &mut impl std::io::BufRead) -> Result<String> {
    let mut line = String::new();
    from.read_line(&mut line).map_err(Error::io("read from", Path::new("docker")))?;
    Ok(line.trim().to_owned())
}

fn echoes(stream: &mut TcpStream, words: &[u8]) -> std::io::Result<()> {
    stream.write_all(words)?;
    let mut back = vec![0; words.len()];
    stream.read_exact(&mut back)?;
    if back == words { Ok(()) } else { Err(std::io::Error::other("something else came back")) }
}

fn connect(port: u16) -> Result<TcpStream> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    wait::until("the service behind the port", SOON, || {
        let mut stream = TcpStream::connect_timeout(&address, SOON).ok()?;
        stream.set_read_timeout(Some(SOON)).ok()?;
        echoes(&mut stream, b"hello").ok()?;
        Some(stream)
    })
}

/// The guest's time lies between the host's before and after asking, but for whole seconds and 0.1 s.
fn clock_is_right(docker: &Docker) -> Result<()> {
    let host = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let before = host();
    let guest: f64 = docker.ok(["exec", "counter", "date", "+%s"])?.parse().unwrap_or_default();
    let after = host();
    assert!((before - 1.1..=after + 0.1).contains(&guest), "{guest} is not between {before} and {after}");
    Ok(())
}

/// Rules 13.1 and 13.2, in one engine: bytes on an open `exec`, a client of a published port and a command wake it; an open
/// `logs -f`, the exec and a connection that was open go on; a container loses nothing and the clock is right. Then the supervisor is
/// killed while it sleeps, and the next goes on from the same state. Then one byte of the memory is wrong, and the request that wakes
/// the machine is answered by one that booted.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn a_machine_that_sleeps_goes_on_where_it_was_and_is_never_resumed_wrongly() -> Result<()> {
    let engine = engine()?;
    let docker = engine.docker();
    let first = ports::free();
    let serve = |port| format!("while true; do nc -l -p {port} -e cat; done");
    let work = format!("{{ {}; }} & {{ {}; }} & {COUNT}", serve(first), serve(first + 1));
    let [one, other] = [first, first + 1].map(|port| format!("127.0.0.1:{port}:{port}"));
    let publish = ["-p", &one, "-p", &other];
    docker.ok(["run", "-d", "--name", "counter"].into_iter().chain(publish).chain([
        busybox(),
        "sh",
        "-c",
        &work,
    ]))?;

    let (mut logs, mut said) = open(&engine, &["logs", "-f", "counter"])?;
    let (mut exec, mut echoed) = open(&engine, &["exec", "-i", "counter", "cat"])?;
    let mut typed = exec.stdin.take().expect("piped");
    let mut before = connect(first)?;
    let mut next: u64 = 1;
    let mut count = |numbers: u64| -> Result<()> {
        for _ in 0..numbers {
            assert_eq!(line(&mut said)?, next.to_string(), "no number is lost or doubled");
            next += 1;
        }
        Ok(())
    };
    count(3)?;

    suspend(&engine)?;
    wait::nap(Duration::from_secs(3));
    assert!(is_asleep(&engine)?, "nothing of our own wakes it");
    typed.write_all(b"typed\n").map_err(Error::io("write to", Path::new("exec")))?;
    assert_eq!(line(&mut echoed)?, "typed");
    assert!(!is_asleep(&engine)?);
    clock_is_right(docker)?;
    count(3)?;

    suspend(&engine)?;
    connect(first + 1)?;
    echoes(&mut before, b"still there").map_err(Error::io("use", Path::new("an open connection")))?;
    count(3)?;
    suspend(&engine)?;
    docker.ok(["version"])?;
    count(20)?;
    drop(typed);
    assert!(exec.wait().map_err(Error::io("wait for", Path::new("exec")))?.success());
    logs.kill().and_then(|()| logs.wait()).map_err(Error::io("end", Path::new("logs")))?;

    let process = ["inspect", "-f", "{{.State.StartedAt}} {{.State.Pid}}", "counter"];
    let counted = || docker.ok(["exec", "counter", "cat", "/tmp/count"]).ok()?.parse::<u64>().ok();
    let started = docker.ok(process)?;
    let supervisor = suspend(&engine)?.supervisor().expect("it lives while its machine sleeps");
    signal(supervisor, "KILL")?;
    wait::until("the supervisor to end", SOON, || (!alive(supervisor)).then_some(()))?;
    engine.up()?;
    assert_eq!(docker.ok(process)?, started);
    let then = counted().unwrap_or_default();
    wait::until("the container to go on counting", SOON, || counted().filter(|now| *now > then))?;
    assert!(!state(&engine, "sleep").exists() && !state(&engine, "sleep.bad").exists());

    suspend(&engine)?;
    let path = state(&engine, "sleep").join("memory");
    let file = fs::File::options().read(true).write(true).open(&path).map_err(Error::io("open", &path))?;
    let middle = file.metadata().map_err(Error::io("look at", &path))?.len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).map_err(Error::io("read", &path))?;
    byte[0] ^= 0x10;
    file.write_all_at(&byte, middle).map_err(Error::io("write", &path))?;
    docker.run(["version"]).limit(PATIENCE).ok()?;
    set_aside(&engine, "checksum")
}
