//! What the tests of published ports share: a container that answers, and what host, Docker and Dhow say of its ports.
#![allow(clippy::expect_used, clippy::panic, reason = "a fixture fails its test at the first surprise")]

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use dhow_testkit::{Docker, Engine, Error, Result, process, wait};
use serde_json::Value;

use super::PATIENCE;
use super::gateway::supervisor;

/// A listener: protocol and address.
pub type Listener = (String, SocketAddr);

/// Answers with the client's address on port 80, and sends datagrams back on port 53.
pub const ANSWERS: &str = "socat UDP-LISTEN:53,fork,reuseaddr PIPE & \
                           exec socat TCP-LISTEN:80,fork,reuseaddr SYSTEM:'echo $SOCAT_PEERADDR'";
/// For one question to a container.
const QUESTION: Duration = Duration::from_secs(20);

/// A port that is free now, with the next seven: below those that the kernel gives to anybody's connections, and far from
/// what a test in another process takes.
pub fn free() -> u16 {
    let both = |port| TcpListener::bind(("::", port)).is_ok() && UdpSocket::bind(("0.0.0.0", port)).is_ok();
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    for _ in 0..500 {
        let next = first.wrapping_add(TAKEN.fetch_add(8, Ordering::Relaxed));
        let port = 10_000 + u16::try_from(next % 22_000).expect("a small number");
        if (port..port + 8).all(both) {
            return port;
        }
    }
    panic!("no port is free");
}

/// An address of this host's that is not its loopback, of the family of `towards`, which is never spoken to.
pub fn own_address(towards: &str) -> Option<IpAddr> {
    let any = if towards.contains("::") { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(towards).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// What a service behind a port says to a connection, once it runs in the container.
pub fn ask_tcp(address: SocketAddr) -> Result<String> {
    wait::until(&format!("an answer from {address}/tcp"), QUESTION, || {
        let mut stream = TcpStream::connect_timeout(&address, QUESTION).ok()?;
        stream.set_read_timeout(Some(QUESTION)).ok()?;
        let mut said = String::new();
        stream.read_to_string(&mut said).ok()?;
        (!said.is_empty()).then(|| said.trim().to_owned())
    })
}

/// Whether datagrams of these sizes come back from there as they went.
pub fn ask_udp(address: SocketAddr, sizes: &[usize]) -> Result<()> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    for size in sizes {
        let sent: Vec<u8> = (0..*size).map(|at| u8::try_from(at % 251).unwrap_or(0)).collect();
        wait::until(&format!("{size} bytes back from {address}/udp"), QUESTION, || {
            let socket = UdpSocket::bind(any).ok()?;
            socket.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
            socket.connect(address).ok()?;
            socket.send(&sent).ok()?;
            let mut got = vec![0; 65_536];
            let count = socket.recv(&mut got).ok()?;
            (got[..count] == sent[..]).then_some(())
        })?;
    }
    Ok(())
}

/// Whether nobody listens there.
pub fn refused(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, QUESTION).is_err()
}

/// What `docker port` says of a container.
pub fn told(docker: &Docker, container: &str) -> Result<BTreeSet<Listener>> {
    let text = docker.ok(["port", container])?;
    let listener = |line: &str| {
        let (inside, outside) = line.split_once(" -> ")?;
        Some((inside.split_once('/')?.1.to_owned(), outside.parse().ok()?))
    };
    text.lines()
        .map(|line| {
            listener(line)
                .ok_or_else(|| Error::Unexpected { what: "`docker port`".into(), said: line.into() })
        })
        .collect()
}

/// The ports that `docker inspect` says are published.
pub fn inspected(docker: &Docker, container: &str) -> Result<BTreeSet<Listener>> {
    let text = docker.ok(["inspect", "-f", "{{json .NetworkSettings.Ports}}", container])?;
    let ports: Value = serde_json::from_str(&text).unwrap_or_default();
    let mut found = BTreeSet::new();
    for (inside, bindings) in ports.as_object().into_iter().flatten() {
        let protocol = inside.split_once('/').map_or("", |(_, protocol)| protocol);
        for binding in bindings.as_array().into_iter().flatten() {
            let word = |key: &str| binding[key].as_str().unwrap_or_default().to_owned();
            if let (Ok(ip), Ok(port)) = (word("HostIp").parse::<IpAddr>(), word("HostPort").parse()) {
                found.insert((protocol.to_owned(), SocketAddr::new(ip, port)));
            }
        }
    }
    Ok(found)
}

/// What `dhow ports` says of a container, whose name may take a moment to be known.
pub fn shown(engine: &Engine, container: &str) -> Result<BTreeSet<Listener>> {
    let outcome = engine.dhow(["ports", "--json"])?.limit(QUESTION).ok()?;
    let ports: Value = serde_json::from_str(&outcome.text()).unwrap_or_default();
    let mut found = BTreeSet::new();
    for port in ports["ports"].as_array().into_iter().flatten() {
        let word = |key: &str| port[key].as_str().unwrap_or_default();
        let number = port["host_port"].as_u64().and_then(|port| u16::try_from(port).ok());
        if let (true, Ok(ip), Some(port)) =
            (word("container_name") == container, word("host_address").parse(), number)
        {
            found.insert((word("protocol").to_owned(), SocketAddr::new(ip, port)));
        }
    }
    Ok(found)
}

/// What the machine's supervisor listens on now.
pub fn listening(engine: &Engine) -> Result<BTreeSet<Listener>> {
    let all = process::listeners(supervisor(engine)?);
    Ok(all.into_iter().map(|(protocol, address)| (protocol.to_owned(), address)).collect())
}

/// Checks that host, Docker and Dhow agree on a container's ports: its listeners.
pub fn agreed(engine: &Engine, container: &str) -> Result<BTreeSet<Listener>> {
    let (docker, listening) = (engine.docker(), listening(engine)?);
    let told = told(docker, container)?;
    assert!(!told.is_empty(), "{container} publishes nothing");
    assert_eq!(told, inspected(docker, container)?, "`docker port` and `docker inspect` of {container}");
    assert!(told.is_subset(&listening), "Docker says {told:?}, the host listens on {listening:?}");
    let mut last = BTreeSet::new();
    let same = wait::until("`dhow ports` to name the container", PATIENCE, || {
        last = shown(engine, container).unwrap_or_default();
        (last == told).then_some(())
    });
    same.map_err(|error| Error::Unexpected { what: error.to_string(), said: format!("{last:?}") })?;
    Ok(told)
}

/// Checks that the supervisor listens on none of these any more, now.
pub fn gone(engine: &Engine, ports: &BTreeSet<Listener>, after: &str) -> Result<()> {
    let left: Vec<_> = listening(engine)?.intersection(ports).cloned().collect();
    assert!(left.is_empty(), "after {after} the host still listens on {left:?}");
    Ok(())
}
