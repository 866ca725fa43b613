//! What the face costs: the same calls on dockerd's own socket, through the face, and through forwards that others use.
//! Everything runs in one go on one dockerd, in turns, so that ratios hold on a noisy machine.
//!
//! `cargo bench -p dhow-docker`; needs root and Linux, as a dockerd does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench stops at the first surprise"
)]
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

mod aims;
mod client;
mod paths;
mod proxies;

use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use aims::{Bulk, Figures, Latency};
use client::{Client, download, upload};
use dhow_testkit::{Dockerd, Image};
use paths::Paths;

/// Enough for a sign test to tell a small difference: 16 of 21 are beyond chance, 8 of 9.
const ROUNDS: usize = 21;
const BULK_ROUNDS: usize = 9;
const PINGS: usize = 2000;
const CONNECTIONS: usize = 300;
/// How many clients ask at once, and how often each.
const CROWDS: [(usize, usize); 3] = [(1, PINGS), (8, 500), (64, 100)];
const MEGABYTES: usize = 256;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, word, listen, upstream] = arguments.as_slice()
        && word == "serve"
    {
        return paths::serve(Path::new(listen), Path::new(upstream));
    }
    if !cfg!(target_os = "linux") || !rustix::process::geteuid().is_root() {
        println!("skipped: a dockerd needs Linux and root");
        return;
    }
    println!(
        "medians of {ROUNDS} rounds ({BULK_ROUNDS} of transfers) [least to most], and the difference to or share of the direct socket\n"
    );
    let asked: Vec<&String> = arguments.iter().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wants = |what: &str| asked.is_empty() || asked.iter().any(|word| *word == what);
    if wants("latency") || wants("bulk") {
        let mut figures = Figures::default();
        let dockerd = Dockerd::start().unwrap();
        let paths = Paths::to(dockerd.socket());
        if wants("latency") {
            pings(&paths, &mut figures);
        }
        if wants("bulk") {
            in_front_of_dockerd(&dockerd, &paths, &tar(MEGABYTES), &mut figures);
        }
        println!("the face's peak memory: {}\n", paths.peak_memory());
        figures.judge();
    }
    if wants("ceiling") {
        in_front_of_nothing(&tar(MEGABYTES));
    }
}

fn pings(paths: &Paths, figures: &mut Figures) {
    for (clients, each) in CROWDS {
        crowd(paths, clients, each, figures);
    }
    latency("GET /_ping, a connection each", paths, |socket| {
        let began = Instant::now();
        let times = (0..CONNECTIONS).flat_map(|_| Client::connect(socket).pings(1)).collect();
        (times, began.elapsed())
    });
}

/// So many clients at once, each on a connection that it keeps.
fn crowd(paths: &Paths, clients: usize, each: usize, figures: &mut Figures) {
    let found = latency(&format!("GET /_ping, {clients} kept connections"), paths, |socket| {
        // The wait for the slowest belongs to the rate, the start of the threads does not.
        let ready = Barrier::new(clients + 1);
        std::thread::scope(|scope| {
            let ask = || {
                let client = Client::connect(socket);
                ready.wait();
                client.pings(each)
            };
            let asking: Vec<_> = (0..clients).map(|_| scope.spawn(ask)).collect();
            ready.wait();
            let began = Instant::now();
            let times = asking.into_iter().flat_map(|client| client.join().unwrap()).collect();
            (times, began.elapsed())
        })
    });
    figures.latency.extend(found.into_iter().map(|(path, p50, rate)| Latency { clients, path, p50, rate }));
}

fn in_front_of_dockerd(dockerd: &Dockerd, paths: &Paths, archive: &[u8], figures: &mut Figures) {
    Image::Busybox.ensure(dockerd.docker()).unwrap();
    dockerd.docker().ok(["create", "--name", "bench", Image::Busybox.name(), "true"]).unwrap();
    let mut bulk = |what: &'static str, measure: &dyn Fn(&Path) -> Duration| {
        let found = throughput(what, paths, MEGABYTES, measure);
        figures.bulk.extend(found.into_iter().map(|(path, speed)| Bulk { what, path, speed }));
    };
    bulk("docker cp to a container", &|socket| {
        upload(socket, "PUT /containers/bench/archive?path=/", archive)
    });
    bulk("docker cp from a container", &|socket| {
        download(socket, "GET /containers/bench/archive?path=/random")
    });
    dockerd.docker().ok(["commit", "bench", "bench-image"]).unwrap();
    let saved = download_whole(dockerd.socket(), "GET /images/bench-image/get");
    bulk("docker save", &|socket| download(socket, "GET /images/bench-image/get"));
    bulk("docker load", &|socket| upload(socket, "POST /images/load?quiet=1", &saved));
}

/// An engine that only swallows and pours bytes shows the ceiling of the forwards themselves.
fn in_front_of_nothing(archive: &[u8]) {
    let end = paths::end_of_pipe();
    let paths = Paths::to(end.socket());
    println!("\nin front of an engine that only swallows and pours bytes");
    let _speeds = throughput("upload", &paths, MEGABYTES, |socket| upload(socket, "POST /sink", archive));
    let _speeds = throughput("download", &paths, MEGABYTES, |socket| download(socket, "GET /source"));
}

/// Prints p50, p99 and requests per second for each path; returns p50 and rate of every round.
fn latency(
    what: &str,
    paths: &Paths,
    mut measure: impl FnMut(&Path) -> (Vec<Duration>, Duration),
) -> Vec<(&'static str, Vec<f64>, Vec<f64>)> {
    println!("{what}");
    let mut rounds = vec![Vec::new(); paths.all().len()];
    let before: Vec<f64> = paths.all().iter().map(paths::Way::cpu_seconds).collect();
    let mut requests = 0;
    for round in 0..ROUNDS {
        for (path, rounds) in in_turn(paths.all(), &mut rounds, round) {
            let (mut times, whole) = measure(&path.socket);
            requests = times.len() * ROUNDS;
            times.sort();
            let rate = times.len() as f64 / whole.as_secs_f64();
            rounds.push([micros(times[times.len() / 2]), micros(times[times.len() * 99 / 100]), rate]);
        }
    }
    let of = |rounds: &[[f64; 3]], which: usize| Spread::of(rounds.iter().map(|round| round[which]));
    let direct = [0, 1].map(|which| of(&rounds[0], which).median);
    let mut found = Vec::new();
    for ((path, rounds), before) in paths.all().iter().zip(&rounds).zip(before) {
        let cpu = (path.cpu_seconds() - before) * 1e6 / requests as f64;
        let [p50, p99, rate] = [0, 1, 2].map(|which| of(rounds, which));
        println!(
            "  {:<10} p50 {p50} µs {:+6.0}   p99 {p99} µs {:+6.0}   {:6.0} requests/s   {cpu:4.0} µs of CPU each",
            path.name,
            p50.median - direct[0],
            p99.median - direct[1],
            rate.median
        );
        let every = |which: usize| rounds.iter().map(|round| round[which]).collect();
        found.push((path.name, every(0), every(2)));
    }
    found
}

/// Every path once, each round beginning with another, so that none always follows the same one.
fn in_turn<'a, T>(
    ways: &'a [paths::Way],
    rounds: &'a mut [T],
    round: usize,
) -> impl Iterator<Item = (&'a paths::Way, &'a mut T)> {
    let mut turn: Vec<_> = ways.iter().zip(rounds).collect();
    let first = round % turn.len();
    turn.rotate_left(first);
    turn.into_iter()
}

/// Prints megabytes per second for each path; returns those of every round.
fn throughput(
    what: &str,
    paths: &Paths,
    megabytes: usize,
    measure: impl Fn(&Path) -> Duration,
) -> Vec<(&'static str, Vec<f64>)> {
    println!("{what}, {megabytes} MB");
    let mut rounds = vec![Vec::new(); paths.all().len()];
    let before: Vec<f64> = paths.all().iter().map(paths::Way::cpu_seconds).collect();
    for round in 0..BULK_ROUNDS {
        for (path, rounds) in in_turn(paths.all(), &mut rounds, round) {
            rounds.push(megabytes as f64 / measure(&path.socket).as_secs_f64());
        }
    }
    let direct = median(rounds[0].iter().copied());
    let mut found = Vec::new();
    for ((path, rounds), before) in paths.all().iter().zip(&rounds).zip(before) {
        let speed = Spread::of(rounds.iter().copied());
        let cpu = (path.cpu_seconds() - before) * 1e6 / (BULK_ROUNDS * megabytes) as f64;
        println!(
            "  {:<10} {speed} MB/s {:4.0} %   {cpu:4.0} µs of CPU per MB",
            path.name,
            speed.median / direct * 100.0
        );
        found.push((path.name, rounds.clone()));
    }
    found
}

fn download_whole(socket: &Path, call: &str) -> Vec<u8> {
    let mut whole = Vec::new();
    client::download_into(socket, call, &mut whole);
    client::without_chunks(&whole)
}

/// An archive with one file of random bytes, `random`.
fn tar(megabytes: usize) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("random");
    let mut random = std::fs::File::open("/dev/urandom").unwrap();
    let mut made = std::fs::File::create(&file).unwrap();
    std::io::copy(&mut std::io::Read::take(&mut random, (megabytes as u64) << 20), &mut made).unwrap();
    dhow_testkit::Run::new("tar").args(["-cf", "-", "-C"]).arg(dir.path()).arg("random").ok().unwrap().stdout
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    Spread::of(values).median
}

struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        Self { least: sorted[0], median: sorted[sorted.len() / 2], most: sorted[sorted.len() - 1] }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:6.0} [{:5.0} to {:5.0}]", self.median, self.least, self.most)
    }
}
