//! Promise: a guest that floods its gateway harms neither the host nor the other containers (issue 3). The floods go to
//! the address that stands for this host's loopback, for seconds, and end by themselves.

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::gateway::{HOST, held, supervisor, tcp_flows, wait_flows};
use common::{PATIENCE, debian, debian_scene};
use dhow_testkit::{Engine, Image, Result, Scene, Server, serve, wait};

/// When a flood ends that nobody has ended.
const SECONDS: &str = "300";
/// How much the supervisor may grow: its flows' buffers, and some.
const GROWTH: u64 = 320 << 20;
/// What all its flows may hold, TCP and UDP, and its own.
const DESCRIPTORS: usize = 4096 + 2048 + 512;

/// Floods with `hping3 arguments…` while another container's requests go on, and looks at the supervisor all the while.
fn flooded(arguments: &[&str]) -> Result<()> {
    let (engine, scene) = (Engine::shared()?, debian_scene()?);
    Image::Flood.ensure(scene.docker())?;
    let (flows, pid) = (tcp_flows(&engine)?, supervisor(&engine)?);
    let before = held(pid);
    let server = Server::pong(serve::V4)?;
    let other = scene.name("other");
    scene.run(["-d", "--name", &other, debian(), "sleep", "1000"]).ok()?;
    let (ended, most) = (AtomicBool::new(false), Mutex::new(before));
    std::thread::scope(|scope| {
        scope.spawn(|| watch(pid, &ended, &most));
        let result = alive_in_flood(&scene, &other, &server, arguments);
        ended.store(true, Ordering::Relaxed);
        result
    })?;
    let most = most.lock().map(|most| *most).unwrap_or_default();
    eprintln!("before {before:?}, at most {most:?}, after {:?}", held(pid));
    assert!(most.0 < before.0 + GROWTH, "grew from {} to {} bytes", before.0, most.0);
    assert!(most.1 < DESCRIPTORS, "{} descriptors", most.1);
    assert_eq!(supervisor(&engine)?, pid, "the supervisor ended");
    wait_flows(&engine, flows, Duration::from_secs(150))?;
    ask(&scene, &other, &server)
}

fn alive_in_flood(scene: &Scene, other: &str, server: &Server, arguments: &[&str]) -> Result<()> {
    let flood = [
        "-d",
        "--network",
        "host",
        "--cap-add",
        "NET_RAW",
        Image::Flood.name(),
        "timeout",
        SECONDS,
        "hping3",
    ];
    let flood = scene.run(flood).args(["-q", "--flood"]).args(arguments).arg(HOST).ok()?.text();
    let asked = ask(scene, other, server);
    let running = scene.docker().ok(["inspect", "-f", "{{.State.Running}}", &flood])?;
    scene.docker().ok(["kill", "-s", "INT", &flood])?;
    scene.docker().run(["wait", &flood]).limit(PATIENCE).ok()?;
    eprintln!("{}", scene.docker().run(["logs", &flood]).ok()?.complaint());
    assert_eq!(running, "true", "the flood had ended before the other container was served");
    asked
}

/// Keeps the most that the supervisor held.
fn watch(pid: u32, ended: &AtomicBool, most: &Mutex<(u64, usize)>) {
    while !ended.load(Ordering::Relaxed) {
        let now = held(pid);
        if let Ok(mut most) = most.lock() {
            *most = (most.0.max(now.0), most.1.max(now.1));
        }
        wait::nap(Duration::from_millis(100));
    }
}

fn ask(scene: &Scene, container: &str, server: &Server) -> Result<()> {
    let port = server.port().to_string();
    let bench =
        ["redis-benchmark", "-h", HOST, "-p", &port, "-c", "1", "-n", "50", "-t", "ping_mbulk", "--csv"];
    let outcome = scene.docker().run(["exec", container]).args(bench).limit(PATIENCE).ok()?;
    assert!(outcome.text().contains("\"PING"), "{outcome}");
    Ok(())
}

/// Issue 3: SYNs to a port that accepts. The guest's own kernel resets what it did not ask for.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_flood_of_syns_to_an_open_port_leaves_other_flows_alive() -> Result<()> {
    let server = Server::echo(serve::V4)?;
    flooded(&["--syn", "--destport", &server.port().to_string()])
}

/// Issue 3: SYNs to a port where nobody listens.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_flood_of_syns_to_a_closed_port_leaves_other_flows_alive() -> Result<()> {
    let server = Server::echo(serve::V4)?;
    let port = server.port().to_string();
    drop(server);
    flooded(&["--syn", "--destport", &port])
}

/// Issue 3: SYNs of addresses that are not the guest's.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_flood_of_syns_from_invented_addresses_leaves_other_flows_alive() -> Result<()> {
    let server = Server::echo(serve::V4)?;
    flooded(&["--syn", "--rand-source", "--destport", &server.port().to_string()])
}

/// Issue 3: datagrams, each from another port: each would be a flow of its own.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_flood_of_datagrams_leaves_other_flows_alive() -> Result<()> {
    let server = Server::udp_echo(serve::V4)?;
    flooded(&["--udp", "--data", "100", "--destport", &server.port().to_string()])
}

/// Issue 3: fragments whose rest never comes.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_flood_of_fragments_leaves_other_flows_alive() -> Result<()> {
    flooded(&["--udp", "--data", "600", "--frag", "--mtu", "256", "--morefrag", "--destport", "9"])
}
