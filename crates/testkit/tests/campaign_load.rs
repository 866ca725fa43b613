//! Promise: nobody who works with the engine notices that it slept [13.1]. Runs, builds, a database's transactions over a published port,
//! a bench in its container and an open `logs -f` go on while the machine is put to sleep at moments that are drawn, again and again.
//!
//! `DHOW_TEST_ROUNDS` says how often it sleeps (20 if unset; the nightly run takes 200), `DHOW_TEST_SEED` from which number is drawn when.

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::draw::{Draw, number, seed};
use common::load::Load;
use common::sleep::engine;
use common::{PATIENCE, busybox, ports, postgres};
use dhow_testkit::{Docker, Engine, Error, Image, Result, place, run, wait};
use postgres::Client;

/// How late the clock may be right, from the first answer of a machine that woke.
const RIGHT_WITHIN: Duration = Duration::from_secs(2);
/// How far off it may be then, seconds.
const OFF: f64 = 0.1;
/// How many accounts money is moved between.
const ACCOUNTS: u64 = 50;
const TABLES: &str = "CREATE TABLE account (id int PRIMARY KEY, balance bigint NOT NULL); \
                      INSERT INTO account SELECT n, 0 FROM generate_series(0, 49) n; \
                      CREATE TABLE moved (n bigint PRIMARY KEY)";
const COUNT: &str = "i=0; while true; do i=$((i+1)); echo $i; sleep 0.2; done";

type Numbers = Arc<Mutex<Vec<u64>>>;

fn taken(numbers: &Numbers) -> Vec<u64> {
    numbers.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Moves money in numbered transactions over a connection that is kept for 50 of them; what was confirmed is noted.
fn transactions(address: SocketAddr, confirmed: Numbers) -> impl FnMut(u64) -> Result<()> + Send + 'static {
    let mut client: Option<Client> = None;
    move |count| {
        if count % 50 == 0 {
            client = None;
        }
        let open = match client.take() {
            Some(open) => open,
            None => Client::connect(address).map_err(postgres::failed)?,
        };
        let client = client.insert(open);
        let (from, to) = (count % ACCOUNTS, (count * 7 + 1) % ACCOUNTS);
        client.query("BEGIN").map_err(postgres::failed)?;
        client
            .query(&format!("UPDATE account SET balance = balance - 1 WHERE id = {from}"))
            .and_then(|_| client.query(&format!("UPDATE account SET balance = balance + 1 WHERE id = {to}")))
            .and_then(|_| client.query(&format!("INSERT INTO moved VALUES ({count})")))
            .and_then(|_| client.query("COMMIT"))
            .map_err(postgres::failed)?;
        confirmed.lock().unwrap_or_else(PoisonError::into_inner).push(count);
        Ok(())
    }
}

/// Runs containers, which must say what they are told to.
fn runs(docker: Docker) -> impl FnMut(u64) -> Result<()> + Send + 'static {
    move |count| {
        let word = format!("run {count}");
        let said = docker.run(["run", "--rm", busybox(), "echo", &word]).limit(PATIENCE).ok()?.text();
        same("docker run", &said, &word)
    }
}

/// Builds images, in turn with the classic builder and with BuildKit, and reads what is in them.
fn builds(docker: Docker) -> Result<impl FnMut(u64) -> Result<()> + Send + 'static> {
    let dir = tempfile::tempdir_in("/var/tmp").map_err(Error::io("create directory in", "/var/tmp"))?;
    Ok(move |count: u64| {
        place::write(&dir.path().join("word"), format!("word {count}"))?;
        let steps = format!("FROM {}\nCOPY word /word\nRUN cat /word > /copy\n", busybox());
        place::write(&dir.path().join("Dockerfile"), steps)?;
        let (buildkit, command) =
            if count.is_multiple_of(2) { ("1", "buildx build --load -q") } else { ("0", "build -q") };
        let args = command.split(' ').chain(["-t", "load:1"]);
        docker.run(args).arg(dir.path()).env("DOCKER_BUILDKIT", buildkit).limit(PATIENCE).ok()?;
        let read = ["run", "--rm", "load:1", "cat", "/copy"];
        let said = docker.run(read).limit(PATIENCE).ok()?.text();
        same("what was built", &said, &format!("word {count}"))
    })
}

fn same(what: &str, said: &str, expected: &str) -> Result<()> {
    if said == expected {
        return Ok(());
    }
    Err(Error::Unexpected { what: format!("{what} instead of {expected:?}"), said: said.to_owned() })
}

/// Reads the numbers of an open `docker logs -f`, of which none may be missing.
fn logs(docker: &Docker) -> Result<impl FnMut(u64) -> Result<()> + Send + 'static> {
    let mut command = docker.command();
    command.args(["logs", "-f", "counter"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = Ended(run::spawn(&mut command)?);
    let stdout = child.0.stdout.take();
    let mut lines = stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines());
    Ok(move |count: u64| {
        // It ends with this.
        let _client = &child;
        let line = lines.next().unwrap_or_else(|| Ok("the end".to_owned()));
        let line = line.map_err(Error::io("read from", Path::new("docker logs")))?;
        same("a line of the log", &line, &(count + 1).to_string())
    })
}

/// A client that is ended with whoever reads it.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        run::kill(&mut self.0);
    }
}

/// PostgreSQL's own bench, in its container, over an `exec` that is open as long.
fn bench(docker: Docker) -> impl FnMut(u64) -> Result<()> + Send + 'static {
    move |_| {
        let said = postgres::run(&docker, "pgbench", &["-n", "-c", "1", "-R", "5", "-T", "20", "postgres"])?;
        let failed = said.lines().find(|line| line.contains("number of failed transactions"));
        same(
            "pgbench",
            failed.unwrap_or_default().split(" (").next().unwrap_or_default(),
            "number of failed transactions: 0",
        )
    }
}

/// What a machine said of its clock after it woke.
struct Clock {
    /// To the first answer.
    woke: Duration,
    /// From there until it was right.
    right: Duration,
}

/// Asks the database for the time until the answer lies within what it may be off, with what the way takes on both sides.
fn clock(client: &mut Client) -> Result<Clock> {
    let host = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let began = Instant::now();
    client.query("SELECT 1").map_err(postgres::failed)?;
    let (woke, answered) = (began.elapsed(), Instant::now());
    loop {
        let before = host();
        let said = client.one("SELECT extract(epoch FROM clock_timestamp())").map_err(postgres::failed)?;
        let (after, guest) = (host(), said.parse::<f64>().unwrap_or_default());
        // A slow way would excuse a wrong clock.
        if after - before < 1.0 && (before - OFF..=after + OFF).contains(&guest) {
            return Ok(Clock { woke, right: answered.elapsed() });
        }
        if answered.elapsed() > RIGHT_WITHIN {
            let said = format!("{guest:.3}, asked from {before:.3} to {after:.3}");
            return Err(Error::Unexpected { what: "the guest's clock".to_owned(), said });
        }
    }
}

/// Puts the machine to sleep; false if it goes on, as it says.
fn suspend(engine: &Engine) -> Result<bool> {
    let before = engine.status()?.hypervisor();
    let outcome = engine.dhow(["suspend"])?.limit(Duration::from_secs(120)).outcome()?;
    if outcome.code() == Some(0) {
        // Somebody may have woken it already: it has another hypervisor then, or none.
        assert_ne!(engine.status()?.hypervisor(), before, "it did not sleep: {outcome}");
        return Ok(true);
    }
    // On a computer that has no time left for it, dockerd may answer late; such a machine is not put to sleep.
    if outcome.complaint().contains("is not well") {
        eprintln!("called off: {}", outcome.complaint());
        return Ok(false);
    }
    Err(Error::Unexpected { what: "`dhow suspend`".to_owned(), said: outcome.to_string() })
}

/// Nothing that was confirmed is lost, and no money was made.
fn sound(client: &mut Client, confirmed: &[u64]) -> Result<()> {
    let rows = client.query("SELECT n FROM moved").map_err(postgres::failed)?;
    let there: BTreeSet<u64> = rows.iter().flatten().filter_map(|n| n.parse().ok()).collect();
    let lost: Vec<&u64> = confirmed.iter().filter(|n| !there.contains(n)).collect();
    assert!(lost.is_empty(), "{} of {} transactions are lost: {lost:?}", lost.len(), confirmed.len());
    let sum = client.one("SELECT sum(balance) FROM account").map_err(postgres::failed)?;
    assert_eq!(sum, "0", "the sum of all accounts");
    Ok(())
}

/// Rule 13.1: no request fails, no row and no line is lost, and the clock is right soon after each wake.
#[test]
#[ignore = "boots an engine: ./dev test campaign"]
fn nobody_who_works_with_it_notices_that_the_machine_sleeps_again_and_again() -> Result<()> {
    let (rounds, seed) = (number("DHOW_TEST_ROUNDS", 20), seed());
    let mut draw = Draw(seed);
    let engine = engine()?;
    let docker = engine.docker();
    let address = postgres::start(&engine, ports::free())?;
    let mut client = Client::connect(address).map_err(postgres::failed)?;
    client.query(TABLES).map_err(postgres::failed)?;
    postgres::run(docker, "pgbench", &["-i", "-q", "-s", "1", "postgres"])?;
    docker.ok(["run", "-d", "--name", "counter", Image::Busybox.name(), "sh", "-c", COUNT])?;

    let confirmed = Numbers::default();
    let mut load = Load::default();
    load.repeat("transactions", transactions(address, Arc::clone(&confirmed)));
    load.repeat("benches", bench(docker.clone()));
    load.repeat("runs", runs(docker.clone()));
    load.repeat("builds", builds(docker.clone())?);
    load.repeat("lines", logs(docker)?);

    let (mut slept, mut called_off, mut slowest) =
        (0, 0, Clock { woke: Duration::ZERO, right: Duration::ZERO });
    while slept < rounds {
        wait::nap(Duration::from_millis(draw.below(2000)));
        load.check()?;
        let began = Instant::now();
        if !suspend(&engine)? {
            called_off += 1;
            assert!(called_off <= 3 * (slept + 5), "it is hardly ever put to sleep: {}", load.done());
            continue;
        }
        slept += 1;
        let took = began.elapsed();
        let clock = clock(&mut client)?;
        eprintln!(
            "sleep {slept} (seed {seed}): suspend {:.2} s, first answer {:.2} s, clock right {:.2} s later; {}",
            took.as_secs_f64(),
            clock.woke.as_secs_f64(),
            clock.right.as_secs_f64(),
            load.done()
        );
        slowest = Clock { woke: slowest.woke.max(clock.woke), right: slowest.right.max(clock.right) };
        if slept.is_multiple_of(10) {
            sound(&mut client, &taken(&confirmed))?;
        }
    }
    let done = load.end()?;
    sound(&mut client, &taken(&confirmed))?;
    assert!(!engine.machine().join("sleep.bad").exists(), "a state was set aside");
    eprintln!(
        "{slept} sleeps, {called_off} called off; {done}; first answer after {:.2} s at most, clock right {:.2} s later at most",
        slowest.woke.as_secs_f64(),
        slowest.right.as_secs_f64()
    );
    Ok(())
}
