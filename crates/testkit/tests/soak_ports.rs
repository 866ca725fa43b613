//! Promise: whatever dies, and whenever, a listener of the host has a container, a container has its listeners, and
//! nothing leaks (issue 3; rules 4.1, 4.4 and 4.7). An engine of its own is used hard, from eight sides at once.

mod common;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use common::gateway::{held, supervisor, wait_flows};
use common::{PATIENCE, busybox};
use dhow_testkit::engine::signal;
use dhow_testkit::{Docker, Engine, Error, Image, Result, process, wait};

const SIDES: usize = 8;
const CALL: Duration = Duration::from_secs(150);
/// Within this everything agrees after the last change.
const SETTLED: Duration = Duration::from_secs(60);
/// Descriptors that may differ for good reasons: the daemon keeps up to 32 idle connections to dockerd, each through the
/// supervisor; and a log that was rotated.
const SLACK: usize = 32 + 8;

type Binding = (String, SocketAddr);

/// Issue 3, short: 40 cycles with a kill of dockerd and of the daemon.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn forty_cycles_with_kills_leave_no_listener_and_no_container_alone() -> Result<()> {
    soak(40, 13)
}

/// Issue 3: 1,000 cycles.
#[test]
#[ignore = "takes most of an hour: ./dev test soak"]
fn a_thousand_cycles_with_kills_leave_no_listener_and_no_container_alone() -> Result<()> {
    soak(1000, 25)
}

/// What all sides share.
struct Soak<'a> {
    engine: &'a Engine,
    docker: &'a Docker,
    cycles: usize,
    begun: AtomicUsize,
    /// Counts kills of dockerd and the daemon: odd while one is being dealt with.
    epoch: AtomicU64,
    interrupted: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

/// Starts and stops as many publishing containers, and kills something whenever `between` more have begun.
fn soak(cycles: usize, between: usize) -> Result<()> {
    let seed = seed();
    eprintln!("seed {seed}: DHOW_TEST_SEED={seed} does the same again");
    let engine = Engine::prepare()?;
    engine.dhow(["config", "set", "dns.port", "0"])?.ok()?;
    engine.up()?;
    let docker = engine.docker();
    Image::Busybox.ensure(docker)?;
    docker.ok([
        "run",
        "-d",
        "--name",
        "killer",
        "--privileged",
        "--pid=host",
        busybox(),
        "sleep",
        "100000",
    ])?;
    let pid = supervisor(&engine)?;
    let resting: BTreeSet<_> = process::listeners(pid);
    // Once around, so that what is made on first use is there.
    docker.ok([
        "run",
        "-d",
        "--name",
        "first",
        "-p",
        "127.0.0.1::80",
        busybox(),
        "httpd",
        "-f",
        "-p",
        "80",
    ])?;
    docker.ok(["rm", "-f", "first"])?;
    wait::until("the first listener to go", SETTLED, || (process::listeners(pid) == resting).then_some(()))?;
    let before = (held(pid), process::threads(pid), process::tally(&process::descriptors(pid)));

    let soak = Soak {
        engine: &engine,
        docker,
        cycles,
        begun: AtomicUsize::new(0),
        epoch: AtomicU64::new(0),
        interrupted: AtomicUsize::new(0),
        wrong: Mutex::default(),
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        for side in 0..SIDES {
            let soak = &soak;
            scope.spawn(move || soak.side(side, Random(seed ^ (side as u64 + 1))));
        }
        soak.kill_now_and_then(between, Random(seed))
    })?;
    eprintln!(
        "{cycles} cycles in {:?}, {} of them cut short by a kill",
        began.elapsed(),
        soak.interrupted.load(Ordering::Relaxed)
    );
    let wrong = soak.wrong.lock().map(|wrong| wrong.clone()).unwrap_or_default();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    assert_eq!(supervisor(&engine)?, pid, "the supervisor ended");
    docker.ok([
        "run",
        "-d",
        "--name",
        "last",
        "-p",
        "127.0.0.1::80",
        busybox(),
        "httpd",
        "-f",
        "-p",
        "80",
    ])?;
    agree(&engine, pid, &resting)?;
    let all = docker.ok(["ps", "-aq"])?;
    docker.run(["rm", "-f"]).args(all.split_whitespace()).limit(PATIENCE).ok()?;
    agree(&engine, pid, &resting)?;
    wait_flows(&engine, 0, SETTLED)?;
    let ((resident, descriptors), threads, tally) = before;
    let settled = wait::until("the descriptors to be given back", SETTLED, || {
        (held(pid).1 <= descriptors + SLACK).then_some(())
    });
    eprintln!(
        "resident {resident} before, {} after; threads {threads} and {}; descriptors {tally:?} and {:?}",
        process::resident(pid),
        process::threads(pid),
        process::tally(&process::descriptors(pid))
    );
    settled?;
    wait::until("the threads to end", SETTLED, || (process::threads(pid) <= threads + 4).then_some(()))?;
    Ok(())
}

/// The three views of what is published are one: Docker's, Dhow's and the kernel's.
fn agree(engine: &Engine, pid: u32, resting: &BTreeSet<(&'static str, SocketAddr)>) -> Result<()> {
    let mut last = String::new();
    let agreed = wait::until("listeners and containers to agree", SETTLED, || {
        let views = [published(engine.docker()), told(engine)].map(Result::ok);
        let kernel: BTreeSet<Binding> = process::listeners(pid)
            .into_iter()
            .filter(|listener| !resting.contains(listener))
            .map(|(protocol, address)| (protocol.to_owned(), address))
            .collect();
        last = format!("docker: {:?}\ndhow ports: {:?}\nlistening: {kernel:?}", views[0], views[1]);
        views.iter().all(|view| view.as_ref() == Some(&kernel)).then_some(())
    });
    agreed.map_err(|error| {
        let proxies =
            guest(engine, "ps -o pid,ppid,args | grep -E '[d]ockerd|[d]ocker-proxy|[c]ontainerd-shim'");
        let containers = engine.docker().ok(["ps", "-a", "--no-trunc"]).unwrap_or_default();
        let said = format!("{last}\n{containers}\nin the guest:\n{proxies}");
        Error::Unexpected { what: error.to_string(), said }
    })
}

/// What a shell in the guest says: which of its processes are there tells who is to blame.
fn guest(engine: &Engine, command: &str) -> String {
    let within = ["run", "--rm", "--privileged", "--pid=host", busybox(), "sh", "-c", command];
    engine.docker().ok(within).unwrap_or_else(|error| error.to_string())
}

/// What running containers publish, as Docker tells it.
fn published(docker: &Docker) -> Result<BTreeSet<Binding>> {
    let ids = docker.ok(["ps", "-q", "--no-trunc"])?;
    let format = "{{range $inner, $hosts := .NetworkSettings.Ports}}{{range $hosts}}{{$inner}} {{.HostIp}} {{.HostPort}}\n{{end}}{{end}}";
    let mut found = BTreeSet::new();
    if ids.is_empty() {
        return Ok(found);
    }
    let said = docker.run(["inspect", "-f", format]).args(ids.split_whitespace()).ok()?.text();
    for line in said.lines() {
        let mut words = line.split_whitespace();
        let (Some(inner), Some(ip), Some(port)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let protocol = inner.rsplit('/').next().unwrap_or_default().to_owned();
        found.extend(binding(protocol, ip, port));
    }
    Ok(found)
}

/// What `dhow ports --json` tells.
fn told(engine: &Engine) -> Result<BTreeSet<Binding>> {
    let said = engine.dhow(["ports", "--json"])?.limit(CALL).ok()?.text();
    let document: serde_json::Value = serde_json::from_str(&said)
        .map_err(|_| Error::Unexpected { what: "`dhow ports --json`".to_owned(), said })?;
    let ports = document["ports"].as_array().cloned().unwrap_or_default();
    let one = |port: &serde_json::Value| {
        let text = |name: &str| port[name].as_str().unwrap_or_default().to_owned();
        binding(text("protocol"), &text("host_address"), &port["host_port"].to_string())
    };
    Ok(ports.iter().filter_map(one).collect())
}

fn binding(protocol: String, ip: &str, port: &str) -> Option<Binding> {
    Some((protocol, SocketAddr::new(ip.parse().ok()?, port.parse().ok()?)))
}

impl Soak<'_> {
    /// One side: containers one after the other until enough have begun. Its last one goes on.
    fn side(&self, side: usize, mut random: Random) {
        let mut kept: Option<String> = None;
        loop {
            let number = self.begun.fetch_add(1, Ordering::Relaxed);
            if number >= self.cycles {
                return;
            }
            if let Some(name) = kept.take() {
                self.remove(&name);
            }
            let name = format!("soak-{side}-{number}");
            if self.cycle(&name, &mut random).is_err() {
                self.interrupted.fetch_add(1, Ordering::Relaxed);
            }
            kept = Some(name);
        }
    }

    /// Starts a container that publishes, sees that it listens, and ends it in some way.
    fn cycle(&self, name: &str, random: &mut Random) -> Result<()> {
        let epoch = self.epoch.load(Ordering::SeqCst);
        let port = if random.below(2) == 0 { String::new() } else { free_port()?.to_string() };
        let mut arguments = vec!["run".to_owned(), "-d".to_owned(), "--name".to_owned(), name.to_owned()];
        arguments.extend(["-p".to_owned(), format!("127.0.0.1:{port}:80")]);
        if random.below(4) == 0 {
            arguments.extend(["-p".to_owned(), "127.0.0.1::5353/udp".to_owned()]);
        }
        let again = random.below(4) == 0;
        arguments.extend(["--restart".to_owned(), if again { "on-failure" } else { "no" }.to_owned()]);
        let serve = ["httpd", "-f", "-p", "80"];
        let ran = self.docker.run(&arguments).arg(busybox()).args(serve).limit(CALL).outcome()?;
        let undisturbed = || epoch.is_multiple_of(2) && self.epoch.load(Ordering::SeqCst) == epoch;
        if ran.code() != Some(0) {
            // Somebody else on this host may have taken a fixed port between the look and the bind.
            let taken = !port.is_empty() && ran.complaint().contains("address already in use");
            if undisturbed() && !taken {
                self.complain(format!("{name} did not start: {ran}"));
            }
            return ran.ok().map(drop);
        }
        let address = self.docker.ok(["port", name, "80/tcp"])?;
        if let Err(why) = answers(&address)
            && undisturbed()
        {
            self.complain(format!("{name} runs, and {address} does not answer: {why}"));
        }
        match random.below(4) {
            0 => self.docker.ok(["stop", "-t", "0", name]).map(drop),
            1 => self.docker.ok(["kill", name]).map(drop),
            2 => {
                let pid = self.docker.ok(["inspect", "-f", "{{.State.Pid}}", name])?;
                self.docker.ok(["exec", "killer", "kill", "-9", &pid]).map(drop)
            }
            // It is removed, or goes on, as it is.
            _ => Ok(()),
        }
    }

    /// Removes a container, through however many kills.
    fn remove(&self, name: &str) {
        let gone = || self.docker.run(["rm", "-f", name]).limit(CALL).ok().ok();
        if let Err(error) = wait::until(&format!("{name} to be removed"), PATIENCE, gone) {
            self.complain(error.to_string());
        }
    }

    /// Kills dockerd or the daemon each time that `between` more containers have begun.
    fn kill_now_and_then(&self, between: usize, mut random: Random) -> Result<()> {
        let mut next = between;
        let mut daemon = random.below(2) == 0;
        while next < self.cycles {
            let begun = || (self.begun.load(Ordering::Relaxed) >= next).then_some(());
            wait::until("more containers to begin", PATIENCE, begun)?;
            self.epoch.fetch_add(1, Ordering::SeqCst);
            if daemon { self.kill_daemon() } else { self.kill_dockerd() }?;
            self.epoch.fetch_add(1, Ordering::SeqCst);
            daemon = !daemon;
            next += between + random.below(between / 2 + 1);
        }
        Ok(())
    }

    fn kill_daemon(&self) -> Result<()> {
        let found = self.engine.status()?.daemon();
        let pid =
            found.ok_or_else(|| Error::Missing { what: "the daemon".into(), hint: "dhow up".into() })?;
        eprintln!("killing the daemon, {pid}");
        signal(pid, "KILL")?;
        self.engine.up()
    }

    fn kill_dockerd(&self) -> Result<()> {
        let before = self.engine.status()?.restarts("dockerd");
        eprintln!("killing dockerd");
        // The client loses its answer with the dockerd that it asked.
        let kill = ["exec", "killer", "sh", "-c", "kill -9 $(pidof dockerd)"];
        self.docker.run(kill).limit(Duration::from_secs(30)).outcome().ok();
        self.engine.wait_status("the restart of dockerd to be counted", PATIENCE, |status| {
            status.restarts("dockerd") > before
        })?;
        wait::until("docker to answer again", PATIENCE, || self.docker.answers().then_some(()))
    }

    fn complain(&self, what: String) {
        if let Ok(mut wrong) = self.wrong.lock() {
            wrong.push(what);
        }
    }
}

/// Asks the web server behind a published port for something.
fn answers(address: &str) -> Result<(), String> {
    let address: SocketAddr = address.lines().next().unwrap_or_default().parse().map_err(|_| "no address")?;
    // The port listens before the server does.
    let mut last = String::new();
    let asked = wait::until("an answer", Duration::from_secs(30), || {
        let answered = (|| {
            let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        })();
        match answered {
            Ok(answer) if answer.starts_with("HTTP/") => Some(()),
            other => {
                last = format!("{other:?}");
                None
            }
        }
    });
    asked.map_err(|_| last)
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Error::io("listen on", "127.0.0.1"))?;
    Ok(listener.local_addr().map_err(Error::io("ask for", "127.0.0.1"))?.port())
}

fn seed() -> u64 {
    let given = std::env::var("DHOW_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    given.unwrap_or_else(|| u64::from(now().subsec_nanos()))
}

/// A few bits at a time, the same for the same seed.
struct Random(u64);

impl Random {
    /// `SplitMix64`.
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % most.max(1) as u64) as usize
    }
}
