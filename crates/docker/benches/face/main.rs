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

mod client;
mod paths;

use std::path::Path;
use std::time::Duration;

use client::{Client, download, upload};
use dhow_testkit::{Dockerd, Image};
use paths::Paths;

const ROUNDS: usize = 5;
const PINGS: usize = 2000;
const CONNECTIONS: usize = 300;
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
        "medians of {ROUNDS} rounds [least to most], and the difference to or share of the direct socket\n"
    );
    let asked: Vec<&String> = arguments.iter().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wants = |what: &str| asked.is_empty() || asked.iter().any(|word| *word == what);
    if wants("latency") || wants("bulk") {
        let dockerd = Dockerd::start().unwrap();
        let paths = Paths::to(dockerd.socket());
        if wants("latency") {
            pings(&paths);
        }
        if wants("bulk") {
            in_front_of_dockerd(&dockerd, &paths, &tar(MEGABYTES));
        }
        println!("the face's peak memory: {}", paths.peak_memory());
    }
    if wants("ceiling") {
        in_front_of_nothing(&tar(MEGABYTES));
    }
}

fn pings(paths: &Paths) {
    latency("GET /_ping, one connection", paths, |socket| Client::connect(socket).pings(PINGS));
    latency("GET /_ping, a connection each", paths, |socket| {
        (0..CONNECTIONS).flat_map(|_| Client::connect(socket).pings(1)).collect()
    });
}

fn in_front_of_dockerd(dockerd: &Dockerd, paths: &Paths, archive: &[u8]) {
    Image::Busybox.ensure(dockerd.docker()).unwrap();
    dockerd.docker().ok(["create", "--name", "bench", Image::Busybox.name(), "true"]).unwrap();
    throughput("docker cp to a container", paths, MEGABYTES, |socket| {
        upload(socket, "PUT /containers/bench/archive?path=/", archive)
    });
    throughput("docker cp from a container", paths, MEGABYTES, |socket| {
        download(socket, "GET /containers/bench/archive?path=/random")
    });
    dockerd.docker().ok(["commit", "bench", "bench-image"]).unwrap();
    let saved = download_whole(dockerd.socket(), "GET /images/bench-image/get");
    throughput("docker save", paths, MEGABYTES, |socket| download(socket, "GET /images/bench-image/get"));
    throughput("docker load", paths, MEGABYTES, |socket| upload(socket, "POST /images/load?quiet=1", &saved));
}

/// An engine that only swallows and pours bytes shows the ceiling of the forwards themselves.
fn in_front_of_nothing(archive: &[u8]) {
    let end = paths::end_of_pipe();
    let paths = Paths::to(end.socket());
    println!("\nin front of an engine that only swallows and pours bytes");
    throughput("upload", &paths, MEGABYTES, |socket| upload(socket, "POST /sink", archive));
    throughput("download", &paths, MEGABYTES, |socket| download(socket, "GET /source"));
}

/// Prints p50 and p99 for each path.
fn latency(what: &str, paths: &Paths, mut measure: impl FnMut(&Path) -> Vec<Duration>) {
    println!("{what}");
    let mut rounds = vec![Vec::new(); paths.all().len()];
    for _ in 0..ROUNDS {
        for (path, rounds) in paths.all().iter().zip(&mut rounds) {
            let mut times = measure(&path.socket);
            times.sort();
            rounds.push((micros(times[times.len() / 2]), micros(times[times.len() * 99 / 100])));
        }
    }
    let (direct50, direct99) = (median(rounds[0].iter().map(|r| r.0)), median(rounds[0].iter().map(|r| r.1)));
    for (path, rounds) in paths.all().iter().zip(&rounds) {
        let p50 = Spread::of(rounds.iter().map(|r| r.0));
        let p99 = Spread::of(rounds.iter().map(|r| r.1));
        println!(
            "  {:<10} p50 {p50} µs {:+6.0}   p99 {p99} µs {:+6.0}",
            path.name,
            p50.median - direct50,
            p99.median - direct99
        );
    }
}

/// Prints megabytes per second for each path.
fn throughput(what: &str, paths: &Paths, megabytes: usize, mut measure: impl FnMut(&Path) -> Duration) {
    println!("{what}, {megabytes} MB");
    let mut rounds = vec![Vec::new(); paths.all().len()];
    let before: Vec<f64> = paths.all().iter().map(paths::Way::cpu_seconds).collect();
    for _ in 0..ROUNDS {
        for (path, rounds) in paths.all().iter().zip(&mut rounds) {
            rounds.push(megabytes as f64 / measure(&path.socket).as_secs_f64());
        }
    }
    let direct = median(rounds[0].iter().copied());
    for ((path, rounds), before) in paths.all().iter().zip(&rounds).zip(before) {
        let speed = Spread::of(rounds.iter().copied());
        let cpu = (path.cpu_seconds() - before) * 1e6 / (ROUNDS * megabytes) as f64;
        println!(
            "  {:<10} {speed} MB/s {:4.0} %   {cpu:4.0} µs of CPU per MB",
            path.name,
            speed.median / direct * 100.0
        );
    }
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
