//! Promise: published ports belong to the machine: they outlive the daemon and dockerd, go and come with the machine, and
//! no two machines share one [4.2, 4.4, 4.6].

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use common::ports::{Listener, agreed, ask_tcp, free, gone, listening, own_address, refused};
use common::{PATIENCE, busybox};
use dhow_testkit::engine::{alive, signal};
use dhow_testkit::{Engine, Error, Image, Result, wait};
use serde_json::Value;

/// An engine of one's own, after `dhow config set` of these keys.
fn engine(keys: &[(&str, &str)]) -> Result<Engine> {
    let engine = Engine::prepare()?;
    for (key, value) in keys.iter().chain(&[("dns.port", "0")]) {
        engine.dhow(["config", "set", key, value])?.ok()?;
    }
    engine.up()?;
    Image::Busybox.ensure(engine.docker())?;
    Ok(engine)
}

/// One that other tests use, too, without what they may have left of these names.
fn shared(without: &[&str]) -> Result<Engine> {
    let engine = Engine::sturdy()?;
    Image::Busybox.ensure(engine.docker())?;
    engine.docker().run(["rm", "-f"]).args(without).ok()?;
    Ok(engine)
}

/// A container that says something to whoever connects to its port 80.
fn answering(engine: &Engine, name: &str, flags: &[&str]) -> Result<()> {
    let run = engine.docker().run(["run", "-d", "--name", name]).args(flags);
    run.args([busybox(), "nc", "-ll", "-p", "80", "-e", "echo", "here"]).ok().map(drop)
}

/// Since when `dhow ports` says that each port is published.
fn since(engine: &Engine) -> Result<Vec<Value>> {
    let said = engine.dhow(["ports", "--json"])?.limit(Duration::from_secs(20)).ok()?.text();
    let ports: Value = serde_json::from_str(&said).unwrap_or_default();
    let ports = ports["ports"].as_array().cloned().unwrap_or_default();
    Ok(ports.iter().map(|port| port["since_unix_seconds"].clone()).collect())
}

/// Rules 4.2, 4.4 and 16.3: the default address is the user's; ports end with the machine and come back with it.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn ports_go_with_their_machine_and_come_back_with_it_at_the_address_that_was_chosen() -> Result<()> {
    let engine = engine(&[("network.publish-address", "127.0.0.1")])?;
    let port = free();
    answering(&engine, "web", &["--restart", "always", "-p", &format!("{port}:80")])?;
    let ports = agreed(&engine, "web")?;
    let here = SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(ports, BTreeSet::from([("tcp".to_owned(), here)]));
    ask_tcp(here)?;
    if let Some(own) = own_address("198.51.100.1:9") {
        assert!(refused(SocketAddr::new(own, port)));
    }
    let record = engine.machine().join("ports.json");
    wait::until("the record", PATIENCE, || {
        fs::read_to_string(&record).is_ok_and(|text| text.contains("web")).then_some(())
    })?;
    engine.down()?;
    assert!(refused(here) && !record.exists());
    engine.up()?;
    wait::until("the container to run again", PATIENCE, || {
        engine
            .docker()
            .ok(["inspect", "-f", "{{.State.Running}}", "web"])
            .is_ok_and(|r| r == "true")
            .then_some(())
    })?;
    assert_eq!(agreed(&engine, "web")?, ports);
    ask_tcp(here).map(drop)
}

/// Rule 4.4: a daemon and a dockerd that are killed take no port along, not for a moment; what died meanwhile is released.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn ports_outlive_a_killed_daemon_and_a_killed_dockerd() -> Result<()> {
    let engine = shared(&["web", "dies", "killer"])?;
    let (port, other) = (free(), free());
    answering(&engine, "web", &["-p", &format!("{port}:80")])?;
    answering(&engine, "dies", &["-p", &format!("127.0.0.1:{other}:80")])?;
    let docker = engine.docker();
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
    let (ports, dying) = (agreed(&engine, "web")?, agreed(&engine, "dies")?);
    let (here, began) = (SocketAddr::from(([127, 0, 0, 1], port)), since(&engine)?);
    ask_tcp(here)?;

    let daemon = engine.status()?.daemon().ok_or_else(|| Error::Missing {
        what: "the daemon's process ID".into(),
        hint: "dhow status".into(),
    })?;
    signal(daemon, "KILL")?;
    ask_tcp(here)?;
    wait::until("the daemon to be gone", PATIENCE, || (!alive(daemon)).then_some(()))?;
    engine.up()?;
    assert_eq!(agreed(&engine, "web")?, ports);
    assert_eq!(since(&engine)?, began, "no port was bound anew");

    // The client is cut off with dockerd, so it says nothing of use.
    let pid = docker.ok(["inspect", "-f", "{{.State.Pid}}", "dies"])?;
    let kill = format!("kill -9 $(pidof dockerd) {pid}");
    docker.run(["exec", "killer", "sh", "-c", &kill]).limit(Duration::from_secs(60)).outcome()?;
    let mut asked = 0;
    wait::until("dockerd to answer again", PATIENCE, || {
        assert!(TcpStream::connect(here).is_ok(), "the port was gone after {asked} questions");
        asked += 1;
        docker.answers().then_some(())
    })?;
    wait::until("the dead container's port to go", PATIENCE, || {
        listening(&engine).is_ok_and(|now| now.is_disjoint(&dying)).then_some(())
    })?;
    assert_eq!(agreed(&engine, "web")?, ports);
    assert!(since(&engine)?.iter().all(|at| began.contains(at)), "no port was bound anew");
    ask_tcp(here)?;
    docker.ok(["rm", "-f", "web"])?;
    gone(&engine, &ports, "rm -f")?;
    docker.ok(["rm", "-f", "dies", "killer"]).map(drop)
}

/// Rule 4.6: two engines at once; the second one's conflict names the container that has the port.
#[test]
#[ignore = "boots two engines: ./dev test machine"]
fn a_conflict_with_another_engine_names_its_container() -> Result<()> {
    let (first, second) = (shared(&["web"])?, engine(&[])?);
    let port = free();
    let publish = format!("{port}:80");
    answering(&first, "web", &["-p", &publish])?;
    agreed(&first, "web")?;
    let record = first.machine().join("ports.json");
    wait::until("the name to be written down", PATIENCE, || {
        fs::read_to_string(&record).is_ok_and(|text| text.contains("web")).then_some(())
    })?;
    let run = ["run", "-d", "--name", "late", "-p", &publish, busybox(), "sleep", "1000"];
    let outcome = second.docker().outcome(run)?;
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    let words = format!(
        "listen tcp4 0.0.0.0:{port}: bind: address already in use; held by container web of machine native of the \
         engine in {}",
        first.home().display()
    );
    assert_eq!(outcome.code(), Some(125), "{outcome}");
    assert!(said.contains(&words), "{said}");
    let loopback: IpAddr = [127, 0, 0, 1].into();
    ask_tcp(SocketAddr::new(loopback, port))?;
    // When the first lets go, the second can have it.
    first.docker().ok(["stop", "-t0", "web"])?;
    second.docker().ok(["start", "late"])?;
    let ports: BTreeSet<Listener> = agreed(&second, "late")?;
    assert_eq!(ports.len(), 2);
    let outcome = first.docker().outcome(["start", "web"])?;
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert!(said.contains("held by container late of machine native of the engine in"), "{said}");
    first.docker().ok(["rm", "-f", "web"]).map(drop)
}
