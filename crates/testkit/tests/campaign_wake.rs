//! Promise: a machine that wakes lives in the world as it is then, not as it was [13.2].

mod common;

use std::fs;
use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use common::sleep::{SOON, suspend};
use common::{PATIENCE, busybox};
use dhow_testkit::{Engine, Error, Image, Result, place, run, wait};

/// A view of this computer in which `/etc/resolv.conf` is a file of the test's. Needs root.
struct View {
    holder: Child,
    dir: tempfile::TempDir,
}

impl View {
    fn new(resolver: &str) -> Result<Self> {
        let dir = tempfile::tempdir_in("/var/tmp").map_err(Error::io("create directory in", "/var/tmp"))?;
        let file = dir.path().join("resolv.conf");
        place::write(&file, resolver)?;
        let script = "mount --bind \"$0\" /etc/resolv.conf && exec sleep 100000";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", script]).arg(&file);
        let holder = run::spawn(&mut command)?;
        let view = Self { holder, dir };
        wait::until("the resolver's file to be ours", SOON, || {
            let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", view.holder.id())).ok()?;
            mounts.contains("/etc/resolv.conf").then_some(())
        })?;
        Ok(view)
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("resolv.conf")
    }
}

impl Drop for View {
    fn drop(&mut self) {
        run::kill(&mut self.holder);
    }
}

/// A resolver at an address of this computer's that knows one address for every name, for no time at all.
fn resolver(at: &str, answer: [u8; 4]) -> Result<()> {
    let socket = UdpSocket::bind((at, 53)).map_err(Error::io("listen at", Path::new(at)))?;
    std::thread::spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            let reply = answered(&question[..length], answer);
            if reply.is_some_and(|reply| socket.send_to(&reply, from).is_err()) {
                return;
            }
        }
    });
    Ok(())
}

/// The reply to a question (RFC 1035, section 4): an address where one is asked for, and nothing for other types.
fn answered(question: &[u8], address: [u8; 4]) -> Option<Vec<u8>> {
    let name = question.get(12..)?;
    let end = 12 + name.iter().position(|byte| *byte == 0)? + 1;
    let asks_address = question.get(end..end + 2)? == [0, 1];
    let mut reply = question.get(..2)?.to_vec();
    reply.extend([0x81, 0x80, 0, 1, 0, u8::from(asks_address), 0, 0, 0, 0]);
    reply.extend(question.get(12..end + 4)?);
    if asks_address {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        reply.extend(address);
    }
    Some(reply)
}

/// Rule 13.2: names are asked of the resolvers that the host has now, a peer that went away in the sleep is told of as a closed
/// connection, and the guest took its new seed.
#[test]
#[ignore = "boots an engine: ./dev test campaign"]
fn a_machine_that_wakes_asks_new_resolvers_and_leaves_no_dead_connection_hanging() -> Result<()> {
    resolver("127.77.0.1", [192, 0, 2, 1])?;
    resolver("127.77.0.2", [192, 0, 2, 2])?;
    let view = View::new("nameserver 127.77.0.1\n")?;
    let namespace = format!("--mount=/proc/{}/ns/mnt", view.holder.id());
    let engine = Engine::prepare()?.through(&["nsenter", &namespace, "--"]);
    for (key, value) in [("dns.port", "0"), ("sleep.after", "never"), ("network.host-loopback", "true")] {
        engine.dhow(["config", "set", key, value])?.limit(SOON).ok()?;
    }
    engine.up()?;
    let docker = engine.docker();
    Image::Busybox.ensure(docker)?;
    let looked_up = |address: &str| -> Result<()> {
        let look = ["run", "--rm", busybox(), "nslookup", "somewhere.example"];
        wait::until(&format!("the name to be {address}"), SOON, || {
            let said = docker.run(look).limit(PATIENCE).outcome().ok()?.text();
            said.contains(address).then_some(())
        })
    };
    looked_up("192.0.2.1")?;

    let listener = TcpListener::bind("127.0.0.1:0").map_err(Error::io("listen on", "127.0.0.1"))?;
    let port = listener.local_addr().map_err(Error::io("look at", "a socket"))?.port();
    let peer = format!("sleep 100000 | (nc host.docker.internal {port}; echo ended)");
    docker.ok(["run", "-d", "--name", "peer", busybox(), "sh", "-c", &peer])?;
    let (mut stream, _) = listener.accept().map_err(Error::io("accept on", "127.0.0.1"))?;

    suspend(&engine)?;
    place::write(&view.file(), "nameserver 127.77.0.2\n")?;
    looked_up("192.0.2.2")?;

    suspend(&engine)?;
    stream.set_nonblocking(true).map_err(Error::io("look at", "a connection"))?;
    assert!(stream.read(&mut [0]).is_err(), "nothing came, and it is not closed");
    drop(stream);
    wait::until("the container to learn that its peer is gone", SOON, || {
        docker.ok(["logs", "peer"]).ok().filter(|said| said.contains("ended")).map(drop)
    })?;
    let log = engine.machine().join("supervisor.log");
    let told = fs::read_to_string(&log).map_err(Error::io("read", &log))?;
    assert_eq!(told.matches("the machine is awake").count(), 2);
    assert!(
        !told.contains("the guest after its sleep"),
        "its clock, its random generator or its neighbours failed"
    );
    Ok(())
}
