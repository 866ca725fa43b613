//! Promise: a machine that sleeps goes on where it was, whatever wakes it, and is never resumed wrongly [13.1, 13.2, 16.1].
//! Each test has an engine of its own.

mod common;

use std::fs;
use std::io::{BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{PATIENCE, busybox, ports};
use dhow_testkit::engine::{Status, alive, signal};
use dhow_testkit::{Engine, Error, Image, Result, place, wait};

/// Under software emulation on a busy machine.
const SOON: Duration = Duration::from_secs(30);
/// Counts in a file, and says each number.
const COUNT: &str = "i=0; while true; do i=$((i+1)); echo $i; echo $i > /tmp/count; sleep 0.1; done";

fn engine() -> Result<Engine> {
    let engine = Engine::prepare()?;
    engine.dhow(["config", "set", "dns.port", "0"])?.limit(SOON).ok()?;
    engine.dhow(["config", "set", "sleep.after", "never"])?.limit(SOON).ok()?;
    engine.up()?;
    Image::Busybox.ensure(engine.docker())?;
    Ok(engine)
}

fn suspend(engine: &Engine) -> Result<Status> {
    engine.dhow(["suspend"])?.limit(SOON).ok()?;
    let asleep = engine.status()?;
    assert_eq!(asleep.state(), "suspended");
    assert_eq!(asleep.hypervisor(), None);
    Ok(asleep)
}

fn is_asleep(engine: &Engine) -> Result<bool> {
    Ok(engine.status()?.state() == "suspended")
}

/// A `docker …` that stays open, with its output as it comes.
fn open(engine: &Engine, args: &[&str]) -> Result<(Child, BufReader<std::process::ChildStdout>)> {
    let mut child = engine
        .docker()
        .command()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Error::io("start", Path::new("docker")))?;
    let stdout = child.stdout.take().ok_or_else(|| Error::Missing {
        what: "the client's output".into(),
        hint: "look at the test".into(),
    })?;
    Ok((child, BufReader::new(stdout)))
}

fn line(from: &mut impl std::io::BufRead) -> Result<String> {
    let mut line = String::new();
    from.read_line(&mut line).map_err(Error::io("read from", Path::new("docker")))?;
    Ok(line.trim().to_owned())
}

fn state(engine: &Engine, name: &str) -> PathBuf {
    engine.machine().join(name)
}

/// Rule 13.1 and 13.2: an open `logs -f` and an open `exec` go on without their clients' noticing, the container loses nothing, and
/// the clock is right.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn streams_go_on_and_a_container_loses_nothing_and_the_clock_is_right() -> Result<()> {
    let engine = engine()?;
    let docker = engine.docker();
    docker.ok(["run", "-d", "--name", "counter", busybox(), "sh", "-c", COUNT])?;
    let (mut logs, mut said) = open(&engine, &["logs", "-f", "counter"])?;
    let (mut exec, mut echoed) = open(&engine, &["exec", "-i", "counter", "cat"])?;
    let mut next: u64 = 1;
    for round in 0..3 {
        for _ in 0..5 {
            assert_eq!(line(&mut said)?, next.to_string());
            next += 1;
        }
        suspend(&engine)?;
        assert!(is_asleep(&engine)?, "asking for the status wakes nobody");
        std::thread::sleep(Duration::from_secs(3));
        assert!(is_asleep(&engine)?);
        // What is typed into an open exec wakes the machine, and arrives.
        let typed = format!("round {round}\n");
        let stdin = exec.stdin.as_mut().expect("piped");
        stdin.write_all(typed.as_bytes()).map_err(Error::io("write to", Path::new("exec")))?;
        assert_eq!(line(&mut echoed)?, typed.trim());
        assert!(!is_asleep(&engine)?);
        // The guest's time lies between the two of the host's, whole seconds and what the clock may be off included.
        let host = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let before = host();
        let guest: f64 = docker.ok(["exec", "counter", "date", "+%s"])?.parse().unwrap_or_default();
        let after = host();
        assert!((before - 1.1..=after + 0.1).contains(&guest), "{guest} is not between {before} and {after}");
    }
    for _ in 0..20 {
        assert_eq!(line(&mut said)?, next.to_string(), "no number is lost or doubled");
        next += 1;
    }
    assert_eq!(docker.ok(["inspect", "-f", "{{.RestartCount}} {{.State.Running}}", "counter"])?, "0 true");
    drop(exec.stdin.take());
    assert!(exec.wait().map_err(Error::io("wait for", Path::new("exec")))?.success());
    logs.kill().and_then(|()| logs.wait()).map_err(Error::io("end", Path::new("logs")))?;
    Ok(())
}

/// Rule 13.1: a client of a published port wakes the machine and is served; a connection that was open goes on.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn a_published_port_wakes_the_machine_and_an_open_connection_goes_on() -> Result<()> {
    let engine = engine()?;
    let first = ports::free();
    let publish = [first, first + 1].map(|port| format!("127.0.0.1:{port}:{port}"));
    let serve = |port| format!("while true; do nc -l -p {port} -e cat; done");
    let serve = format!("{{ {}; }} & {}", serve(first), serve(first + 1));
    let [one, other] = &publish;
    engine.docker().ok(["run", "-d", "-p", one, "-p", other, busybox(), "sh", "-c", &serve])?;
    let connect = |port: u16| -> Result<TcpStream> {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        wait::until("the service behind the port", SOON, || {
            let mut stream = TcpStream::connect_timeout(&address, SOON).ok()?;
            stream.set_read_timeout(Some(SOON)).ok()?;
            echoes(&mut stream, b"hello").ok()?;
            Some(stream)
        })
    };
    let mut before = connect(first)?;
    for round in 0..2 {
        suspend(&engine)?;
        std::thread::sleep(Duration::from_secs(1));
        assert!(is_asleep(&engine)?);
        if round == 0 {
            let began = Instant::now();
            connect(first + 1)?;
            println!("a new client was served after {:?}", began.elapsed());
        }
        echoes(&mut before, b"still there").map_err(Error::io("use", Path::new("an open connection")))?;
        assert!(!is_asleep(&engine)?);
    }
    Ok(())
}

fn echoes(stream: &mut TcpStream, words: &[u8]) -> std::io::Result<()> {
    stream.write_all(words)?;
    let mut back = vec![0; words.len()];
    stream.read_exact(&mut back)?;
    if back == words { Ok(()) } else { Err(std::io::Error::other("something else came back")) }
}

/// Rule 13.2: the supervisor is killed while the machine sleeps, and the next one goes on from the same state: the container's
/// process is the same.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn a_supervisor_that_is_killed_while_its_machine_sleeps_leaves_it_to_the_next() -> Result<()> {
    let engine = engine()?;
    let docker = engine.docker();
    docker.ok(["run", "-d", "--name", "counter", busybox(), "sh", "-c", COUNT])?;
    let started = docker.ok(["inspect", "-f", "{{.State.StartedAt}} {{.State.Pid}}", "counter"])?;
    let asleep = suspend(&engine)?;
    let supervisor = asleep.supervisor().expect("it lives while its machine sleeps");
    signal(supervisor, "KILL")?;
    wait::until("the supervisor to end", SOON, || (!alive(supervisor)).then_some(()))?;
    engine.up()?;
    assert_eq!(docker.ok(["inspect", "-f", "{{.State.StartedAt}} {{.State.Pid}}", "counter"])?, started);
    let count = |_| docker.ok(["exec", "counter", "cat", "/tmp/count"]).ok()?.parse::<u64>().ok();
    let first = count(()).unwrap_or_default();
    wait::until("the container to go on counting", PATIENCE, || count(()).filter(|now| *now > first))?;
    assert!(!state(&engine, "sleep").exists() && !state(&engine, "sleep.bad").exists());
    Ok(())
}

/// Whether the machine booted anew, and why.
fn set_aside(engine: &Engine, why: &str) -> Result<()> {
    let path = state(engine, "sleep.bad").join("why");
    let told = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    assert!(told.contains(why), "{told}");
    assert!(!state(engine, "sleep").exists());
    let kept = engine.docker().ok(["run", "--rm", "-v", "kept:/data", busybox(), "cat", "/data/file"])?;
    assert_eq!(kept, "kept");
    Ok(())
}

fn keep_a_file(engine: &Engine) -> Result<()> {
    let write = "echo kept | dd of=/data/file conv=fsync 2>/dev/null";
    engine.docker().ok(["run", "--rm", "-v", "kept:/data", busybox(), "sh", "-c", write]).map(drop)
}

/// Rule 13.2: a memory with one wrong byte is never used. The request that woke the machine is answered all the same.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn a_damaged_memory_is_set_aside_and_the_request_is_answered_by_a_machine_that_booted() -> Result<()> {
    use std::os::unix::fs::FileExt as _;
    let engine = engine()?;
    keep_a_file(&engine)?;
    suspend(&engine)?;
    let path = state(&engine, "sleep").join("memory");
    let file = fs::File::options().read(true).write(true).open(&path).map_err(Error::io("open", &path))?;
    let middle = file.metadata().map_err(Error::io("look at", &path))?.len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).map_err(Error::io("read", &path))?;
    byte[0] ^= 0x10;
    file.write_all_at(&byte, middle).map_err(Error::io("write", &path))?;
    engine.docker().run(["version"]).limit(PATIENCE).ok()?;
    set_aside(&engine, "checksum")
}

/// Rule 13.2: a machine that the configuration describes otherwise boots.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn a_changed_configuration_boots_the_machine_anew_and_names_what_changed() -> Result<()> {
    let engine = engine()?;
    keep_a_file(&engine)?;
    engine.dhow(["down", "--suspend"])?.limit(PATIENCE).ok()?;
    assert!(state(&engine, "sleep").is_dir());
    engine.dhow(["config", "set", "machine.cpus", "1"])?.limit(SOON).ok()?;
    engine.up()?;
    set_aside(&engine, "cpus")
}

/// Rule 13.2: a data disk that was touched meanwhile does not fit a memory of before.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn a_data_disk_that_changed_meanwhile_boots_the_machine_anew() -> Result<()> {
    let engine = engine()?;
    keep_a_file(&engine)?;
    engine.dhow(["down", "--suspend"])?.limit(PATIENCE).ok()?;
    let path = engine.machine().join("data.img");
    let now = fs::FileTimes::new().set_modified(SystemTime::now());
    fs::File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_times(now))
        .map_err(Error::io("touch", &path))?;
    engine.up()?;
    set_aside(&engine, "data disk")
}

/// Rule 16.1: the hypervisor is killed while it is being saved, at several moments. What was synced is there, and nothing is resumed
/// that is not whole.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn a_hypervisor_that_is_killed_while_the_machine_is_saved_dies_like_any_other() -> Result<()> {
    let engine = engine()?;
    keep_a_file(&engine)?;
    for delay in [50, 250, 450, 650] {
        let hypervisor = engine.status()?.hypervisor().expect("it runs");
        let command = engine.command()?;
        let suspending = std::thread::spawn(move || {
            let mut command = command;
            command.arg("suspend").stdout(Stdio::null()).stderr(Stdio::null()).status()
        });
        std::thread::sleep(Duration::from_millis(delay));
        // It may have ended in order by now.
        signal(hypervisor, "KILL").ok();
        drop(suspending.join());
        engine.up()?;
        engine.wait_status("the machine to run", PATIENCE, |status| status.state() == "running")?;
        let kept = engine.docker().run(["run", "--rm", "-v", "kept:/data", busybox(), "cat", "/data/file"]);
        assert_eq!(kept.limit(PATIENCE).ok()?.text(), "kept");
    }
    Ok(())
}

/// Rule 16.1: a disk without room keeps the machine awake, and whoever asked is told.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn a_machine_whose_state_has_no_room_goes_on_and_says_so() -> Result<()> {
    let engine = engine()?;
    // A directory that cannot be replaced stands in the state's way, as a full disk does: with the same error's way back.
    let blocked = state(&engine, "sleep.new");
    place::write(&blocked, b"in the way".to_vec())?;
    let said = engine.dhow(["suspend"])?.limit(SOON).outcome()?;
    assert_ne!(said.code(), Some(0));
    assert_eq!(engine.status()?.state(), "running");
    engine.docker().ok(["run", "--rm", busybox(), "true"])?;
    fs::remove_file(&blocked).map_err(Error::io("remove", &blocked))?;
    suspend(&engine)?;
    engine.docker().ok(["run", "--rm", busybox(), "true"]).map(drop)
}
