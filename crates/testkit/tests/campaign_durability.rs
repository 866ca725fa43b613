//! Promise: what a container was told is on the disk is there, whatever is killed, full or broken [16.1]. A container appends numbered
//! records, syncs each, and only then says its number; every number that was heard must be in the file afterwards.
//!
//! `DHOW_TEST_ROUNDS` says how often something is killed (20 if unset; the nightly run takes 300), `DHOW_TEST_SEED` from which number
//! on what and when is drawn.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::draw::{Draw, number, seed};
use common::victims::{self, Doing, Victim};
use common::{PATIENCE, busybox};
use dhow_testkit::engine::signal;
use dhow_testkit::{Engine, Error, Image, Result, Run, wait};

/// A container that writes, and what it said.
struct Writer {
    client: Child,
    reader: Option<JoinHandle<()>>,
    heard: Arc<Mutex<Vec<u64>>>,
}

impl Writer {
    /// Appends to the file in a volume from `first` on.
    fn start(engine: &Engine, name: &str, first: u64) -> Result<Self> {
        let script = format!(
            "i={first}; while true; do \
             echo $i | dd of=/data/log oflag=append conv=notrunc,fsync 2>/dev/null || exit 1; \
             echo $i; i=$((i+1)); done"
        );
        let mut command = engine.docker().command();
        command.args(["run", "--rm", "--name", name, "-v", "log:/data", busybox(), "sh", "-c", &script]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut client = command.spawn().map_err(Error::io("start", "docker"))?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let said = client.stdout.take();
        let numbers = Arc::clone(&heard);
        let reader = std::thread::spawn(move || {
            for line in said
                .into_iter()
                .flat_map(|said| BufReader::new(said).lines())
                .map_while(std::result::Result::ok)
            {
                if let Ok(number) = line.trim().parse() {
                    numbers.lock().unwrap_or_else(PoisonError::into_inner).push(number);
                }
            }
        });
        Ok(Self { client, reader: Some(reader), heard })
    }

    fn heard(&self) -> usize {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Ends the client, if it has not ended, and answers everything that it heard.
    fn end(mut self) -> Vec<u64> {
        dhow_testkit::run::kill(&mut self.client);
        if let Some(reader) = self.reader.take() {
            // What it heard before a panic counts as well.
            drop(reader.join());
        }
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.clone()
    }
}

/// Waits until the engine serves again by itself, or starts it where that was killed too.
fn recovered(engine: &Engine, victim: Victim) -> Result<()> {
    if victim.needs_up() {
        engine.up()?;
    }
    let answers = || {
        let run = ["run", "--rm", busybox(), "true"];
        engine.docker().run(run).limit(Duration::from_secs(60)).ok().ok().map(drop)
    };
    wait::until("a container to run again", PATIENCE, answers)
}

/// The records that are in the file, which must be whole lines.
fn written(engine: &Engine) -> Result<Vec<u64>> {
    let text = engine.docker().ok(["run", "--rm", "-v", "log:/data", busybox(), "cat", "/data/log"])?;
    Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect())
}

fn assert_all_there(heard: &[u64], written: &[u64], what: &str) {
    let there: std::collections::BTreeSet<u64> = written.iter().copied().collect();
    let lost: Vec<u64> = heard.iter().copied().filter(|number| !there.contains(number)).collect();
    assert!(lost.is_empty(), "{what}: {} of {} records are lost: {lost:?}", lost.len(), heard.len());
}

/// How the rounds went: for each way, how many, how many records were heard in them, and the longest time to serve again.
#[derive(Default)]
struct Table(BTreeMap<(Doing, Victim), (u64, usize, Duration)>);

impl Table {
    fn add(&mut self, way: (Doing, Victim), records: usize, took: Duration) {
        let row = self.0.entry(way).or_default();
        *row = (row.0 + 1, row.1 + records, row.2.max(took));
    }

    fn print(&self) {
        for ((doing, victim), (rounds, records, took)) in &self.0 {
            let took = took.as_secs_f64();
            eprintln!(
                "{doing:?} {victim:?}: {rounds} rounds, {records} records, served again after {took:.1} s at most"
            );
        }
    }
}

/// Every way once before any comes again, so that a short run has them all but four: the order is drawn.
fn ways(draw: &mut Draw) -> Vec<(Doing, Victim)> {
    let mut all: Vec<_> =
        Doing::ALL.iter().flat_map(|doing| Victim::ALL.iter().map(|victim| (*doing, *victim))).collect();
    for at in (1..all.len()).rev() {
        all.swap(at, usize::try_from(draw.below(at as u64 + 1)).unwrap_or(0));
    }
    all
}

/// Rule 16.1: SIGKILL of the hypervisor, the supervisor, the daemon, dockerd, the guest's process 1, or of all of the host's, at random
/// moments: while it only works, goes to sleep, wakes, or its disk grows.
#[test]
#[ignore = "boots an engine: ./dev test campaign"]
fn every_record_that_was_reported_is_there_whatever_is_killed() -> Result<()> {
    let (rounds, seed) = (number("DHOW_TEST_ROUNDS", 20), seed());
    let (mut draw, mut ahead, mut table) = (Draw(seed), Vec::new(), Table::default());
    let engine = Engine::prepare()?;
    engine.dhow(["config", "set", "dns.port", "0"])?.ok()?;
    engine.up()?;
    Image::Busybox.ensure(engine.docker())?;
    let (mut heard, mut next, mut gigabytes) = (Vec::new(), 1, 64);
    for round in 0..rounds {
        if ahead.is_empty() {
            ahead = ways(&mut draw);
        }
        let (doing, victim) = ahead.pop().unwrap_or((Doing::Writing, Victim::All));
        let moment = Duration::from_millis(draw.below(doing.lasts()));
        let writer = Writer::start(&engine, &format!("writer-{round}"), next)?;
        wait::until("the first record", PATIENCE, || (writer.heard() > 0).then_some(()))?;
        gigabytes += u64::from(doing == Doing::Growing);
        let begun = doing.begin(&engine, gigabytes)?;
        wait::nap(moment);
        victim.kill(&engine)?;
        let began = Instant::now();
        victims::end(begun)?;
        recovered(&engine, victim)?;
        let took = began.elapsed();
        // A writer that nobody killed goes on: its container is ended, and its client with it.
        engine.docker().run(["rm", "-f", &format!("writer-{round}")]).outcome()?;
        let said = writer.end();
        eprintln!(
            "round {round}: {doing:?}, {victim:?} after {} ms, {} records, served again in {:.1} s",
            moment.as_millis(),
            said.len(),
            took.as_secs_f64()
        );
        next = said.last().copied().unwrap_or(next) + 1000;
        table.add((doing, victim), said.len(), took);
        heard.extend(said);
        let what = format!("round {round}, {victim:?} while {doing:?}, seed {seed}");
        assert_all_there(&heard, &written(&engine)?, &what);
    }
    table.print();
    eprintln!("{} records in {rounds} rounds, none lost", heard.len());
    Ok(())
}

/// A file system of its own for an engine's home, taken off again at the end.
struct Mounted {
    dir: tempfile::TempDir,
    points: Vec<PathBuf>,
}

impl Mounted {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir_in("/var/tmp").map_err(Error::io("create directory in", "/var/tmp"))?;
        Ok(Self { dir, points: Vec::new() })
    }

    fn mount(&mut self, name: &str, args: &[&str]) -> Result<PathBuf> {
        let point = self.dir.path().join(name);
        std::fs::create_dir(&point).map_err(Error::io("create directory", &point))?;
        Run::new("mount").args(args).arg(&point).ok()?;
        self.points.push(point.clone());
        Ok(point)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        for point in self.points.iter().rev() {
            if let Err(error) = Run::new("umount").arg(point).ok() {
                eprintln!("{} stays mounted: {error}", point.display());
            }
        }
    }
}

fn engine_on(point: &Path) -> Result<Engine> {
    let engine = Engine::prepare_at(&point.join("home"))?;
    engine.up()?;
    Image::Busybox.ensure(engine.docker())?;
    Ok(engine)
}

/// Writes until nothing is heard any more for a while; what was heard.
fn write_until_silent(engine: &Engine, name: &str, filler: &str) -> Result<Vec<u64>> {
    let writer = Writer::start(engine, name, 1)?;
    wait::until("the first record", PATIENCE, || (writer.heard() > 0).then_some(()))?;
    let fill = ["run", "-d", "--rm", "-v", "fill:/fill", busybox(), "sh", "-c", filler];
    engine.docker().ok(fill)?;
    let (mut last, mut since) = (writer.heard(), Instant::now());
    let silent = || {
        let now = writer.heard();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() > Duration::from_secs(8)).then_some(())
    };
    wait::until("the disk to be full", PATIENCE, silent)?;
    Ok(writer.end())
}

const FILL: &str = "while true; do dd if=/dev/urandom of=/fill/$RANDOM bs=1M count=64 conv=fsync 2>/dev/null || sleep 1; done";

/// Rule 16.1: the host's disk is full. What was reported before is there when there is room again.
#[test]
#[ignore = "boots an engine and mounts file systems: ./dev test machine"]
fn every_record_is_there_after_the_hosts_disk_was_full() -> Result<()> {
    let mut mounted = Mounted::new()?;
    let point = mounted.mount("full", &["-t", "tmpfs", "-o", "size=900m", "dhow-full"])?;
    let engine = engine_on(&point)?;
    let heard = write_until_silent(&engine, "writer", FILL)?;
    eprintln!("{} records before the host's disk was full", heard.len());
    Run::new("mount").args(["-o", "remount,size=4g"]).arg(&point).ok()?;
    engine.down().or_else(|_| engine.dhow(["down", "--force"])?.limit(PATIENCE).ok().map(drop))?;
    engine.up()?;
    assert_all_there(&heard, &written(&engine)?, "a full disk");
    engine.down()
}

/// Rule 16.1: writes below the data image fail. The image lies on a file system on a loop device whose file has no room to grow,
/// which is an I/O error to whoever writes. What was reported before is there, or can be saved from a rescue.
#[test]
#[ignore = "boots an engine and mounts file systems: ./dev test machine"]
fn every_record_is_there_after_io_errors_below_the_data_image() -> Result<()> {
    let mut mounted = Mounted::new()?;
    let below = mounted.mount("below", &["-t", "tmpfs", "-o", "size=900m", "dhow-below"])?;
    let backing = below.join("disk");
    Run::new("truncate").args(["-s", "8G"]).arg(&backing).ok()?;
    Run::new("mkfs.ext4").args(["-q", "-E", "lazy_itable_init=1,nodiscard"]).arg(&backing).ok()?;
    let backing = backing.to_string_lossy().into_owned();
    let point = mounted.mount("home", &["-o", "loop", &backing])?;
    let engine = engine_on(&point)?;
    let heard = write_until_silent(&engine, "writer", FILL)?;
    eprintln!("{} records before the disk below failed", heard.len());
    // The host's own file system has met errors too: whoever owns it ends what uses it, gives it room, checks it and mounts it again.
    let status = engine.status()?;
    for victim in [status.daemon(), status.supervisor(), status.hypervisor()].into_iter().flatten() {
        signal(victim, "KILL").ok();
    }
    Run::new("mount").args(["-o", "remount,size=6g"]).arg(&below).ok()?;
    wait::until("the file system to be free", PATIENCE, || {
        Run::new("umount").arg(&point).ok().ok().map(drop)
    })?;
    // 1 and 2 stand for errors that were corrected.
    let checked = Run::new("e2fsck").args(["-f", "-y", &backing]).limit(PATIENCE).outcome()?;
    assert!(matches!(checked.code(), Some(0..=2)), "{}", checked.text());
    Run::new("mount").args(["-o", "loop", &backing]).arg(&point).ok()?;
    let up = engine.dhow(["up"])?.limit(PATIENCE).outcome()?;
    if up.code() == Some(0) {
        assert_all_there(&heard, &written(&engine)?, "I/O errors");
    } else {
        assert_eq!(engine.status()?.state(), "rescue", "{}", String::from_utf8_lossy(&up.stderr));
        let saved = mounted.dir.path().join("saved");
        engine.dhow(["rescue", "export", "--volume", "log"])?.arg(&saved).limit(PATIENCE).ok()?;
        let archive = saved.join("volume-log.tar");
        let text = Run::new("tar").arg("-xOf").arg(archive).args(["--wildcards", "*log"]).ok()?.text();
        let there: Vec<u64> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
        assert_all_there(&heard, &there, "I/O errors, saved from a rescue");
    }
    engine.down()
}
