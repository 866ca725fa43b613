//! Promise: a publish does not lie [4.1 to 4.7]. What Docker says is published, the host listens on, exactly there, for as
//! long as the container runs.

mod common;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use common::ports::{
    ANSWERS, Listener, agreed, ask_tcp, ask_udp, free, gone, listening, own_address, refused, told,
};
use common::{PATIENCE, busybox, debian, debian_scene, scene};
use dhow_testkit::{Engine, Result, Scene, wait};

/// A container that answers on TCP 80 and UDP 53, published as the flags say.
fn answering(scene: &Scene, word: &str, flags: &[&str]) -> Result<String> {
    let name = scene.name(word);
    scene.run(["-d", "--name", &name]).args(flags).args([debian(), "sh", "-c", ANSWERS]).ok()?;
    Ok(name)
}

/// A container that does nothing for a long time.
fn idle(scene: &Scene, word: &str, flags: &[&str]) -> Result<String> {
    let name = scene.name(word);
    scene.run(["-d", "--name", &name]).args(flags).args([busybox(), "sleep", "100000"]).ok()?;
    Ok(name)
}

/// Rules 4.1 to 4.3: address by family by protocol by kind of port. Each row is reached from outside where it was asked for
/// and nowhere else; `docker port`, `docker inspect`, `dhow ports` and the kernel agree.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn every_kind_of_binding_is_reached_where_docker_says_and_nowhere_else() -> Result<()> {
    let (engine, scene) = (Engine::shared()?, debian_scene()?);
    let mut rows: Vec<(&str, Vec<IpAddr>)> = Vec::new();
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let (four, six) = (own_address("198.51.100.1:9"), own_address("[2001:db8::1]:9"));
    // Where each address is reached. What is not in the list must refuse.
    let all: Vec<IpAddr> =
        [Some(ip("127.0.0.1")), Some(ip("::1")), four, six].into_iter().flatten().collect();
    let fours = |ip: &&IpAddr| ip.is_ipv4();
    rows.push(("", all.clone()));
    rows.push(("0.0.0.0:", all.iter().filter(fours).copied().collect()));
    rows.push(("127.0.0.1:", vec![ip("127.0.0.1")]));
    rows.push(("[::]:", all.iter().filter(|ip| ip.is_ipv6()).copied().collect()));
    rows.push(("[::1]:", vec![ip("::1")]));
    let (own_four, own_six) = (four.map(|ip| format!("{ip}:")), six.map(|ip| format!("[{ip}]:")));
    rows.extend(own_four.iter().zip(four).map(|(at, ip)| (at.as_str(), vec![ip])));
    rows.extend(own_six.iter().zip(six).map(|(at, ip)| (at.as_str(), vec![ip])));

    for (index, (at, reached)) in rows.iter().enumerate() {
        let (fixed, from) = (free(), free());
        let to = from + 2;
        let flags = [
            format!("{at}{fixed}:80"),
            format!("{at}{fixed}:53/udp"),
            format!("{at}:80"),
            format!("{at}:53/udp"),
            format!("{at}{from}-{to}:80"),
        ];
        let flags: Vec<String> = flags.map(|flag| flag.trim_start_matches(':').to_owned()).into();
        let flags: Vec<&str> = flags.iter().flat_map(|flag| ["-p", flag.as_str()]).collect();
        let name = answering(&scene, &format!("row{index}"), &flags)?;
        let told = agreed(&engine, &name)?;
        let families = if at.is_empty() { 2 } else { 1 };
        assert_eq!(told.len(), 5 * families, "{at:?}: {told:?}");
        assert!(told.iter().any(|(_, address)| address.port() == fixed));
        assert!(told.iter().any(|(_, address)| (from..=to).contains(&address.port())));
        for (protocol, listener) in &told {
            for target in &all {
                let address = SocketAddr::new(*target, listener.port());
                let covered = |known: &Listener| {
                    known.0 == *protocol
                        && known.1.port() == listener.port()
                        && known.1.is_ipv4() == target.is_ipv4()
                };
                let expected = reached.contains(target) && told.iter().any(covered);
                match (protocol.as_str(), expected) {
                    ("tcp", true) => drop(ask_tcp(address)?),
                    ("tcp", false) => assert!(refused(address), "{at:?} is reached at {address}"),
                    (_, true) => ask_udp(address, &[1])?,
                    (_, false) => assert!(UdpSocket::bind(address).is_ok(), "{at:?} takes {address}"),
                }
            }
        }
        scene.docker().ok(["rm", "-f", &name])?;
        gone(&engine, &told, "rm -f")?;
    }
    Ok(())
}

/// Rule 4.5: a client that is not on loopback is seen with its own address; one on loopback comes from the gateway.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_container_sees_its_clients_own_address() -> Result<()> {
    let scene = debian_scene()?;
    let port = free();
    answering(&scene, "web", &["-p", &format!("{port}:80")])?;
    assert_eq!(ask_tcp(([127, 0, 0, 1], port).into())?, common::gateway::GATEWAY);
    if let Some(own) = own_address("198.51.100.1:9") {
        // To its own address the host speaks from it.
        assert_eq!(ask_tcp(SocketAddr::new(own, port))?, own.to_string());
    }
    Ok(())
}

/// Issue 3: UDP at 1, 1,400 and 8,000 bytes, in both families.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn datagrams_of_every_size_come_back_through_a_published_port() -> Result<()> {
    let scene = debian_scene()?;
    let port = free();
    answering(&scene, "dns", &["-p", &format!("{port}:53/udp")])?;
    for address in ["127.0.0.1", "::1"] {
        let ip: IpAddr = address.parse().expect("an address");
        ask_udp(SocketAddr::new(ip, port), &[1, 1_400, 8_000])?;
    }
    Ok(())
}

/// Rule 4.7 and issue 3: every way in which a container can end, and every way back.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn ports_go_when_their_container_ends_and_come_back_with_it() -> Result<()> {
    let (engine, scene) = (Engine::shared()?, debian_scene()?);
    let docker = scene.docker();
    let port = free();
    let web = answering(&scene, "web", &["-p", &format!("{port}:80")])?;
    let ports = agreed(&engine, &web)?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    // What Docker waits for itself has ended when it answers.
    for (end, back) in [(["stop", "-t0"], "start"), (["restart", "-t0"], "")] {
        docker.run(end).arg(&web).ok()?;
        if !back.is_empty() {
            gone(&engine, &ports, end[0])?;
            docker.ok([back, &web])?;
        }
        assert_eq!(agreed(&engine, &web)?, ports, "after {end:?} {back}");
        ask_tcp(address)?;
    }
    let renamed = scene.name("renamed");
    docker.ok(["rename", &web, &renamed])?;
    assert_eq!(agreed(&engine, &renamed)?, ports);
    ask_tcp(address)?;
    // By itself, seen from outside: dockerd hears of it a moment later.
    docker.ok(["kill", &renamed])?;
    released(&engine, &ports)?;
    docker.ok(["start", &renamed])?;
    assert_eq!(agreed(&engine, &renamed)?, ports);
    docker.ok(["rm", "-f", &renamed])?;
    gone(&engine, &ports, "rm -f")?;
    // With --rm, and with a process that ends.
    scene.run(["--rm", "-p", &format!("{port}:80"), busybox(), "true"]).ok()?;
    released(&engine, &ports)
}

/// Rule 4.4: ports come back with restart policies.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_container_that_dies_has_its_port_again_with_its_restart() -> Result<()> {
    let (engine, scene) = (Engine::shared()?, scene()?);
    let publish = format!("127.0.0.1:{}:80", free());
    let name = scene.name("restless");
    let web = "mkdir /w; echo $$ > /w/index.html; httpd -p 80 -h /w; sleep 2; exit 1";
    let place = ["--restart", "always", "-p", &publish, busybox(), "sh", "-c", web];
    scene.run(["-d", "--name", &name]).args(place).ok()?;
    wait::until("three lives", PATIENCE, || {
        let count = scene.docker().ok(["inspect", "-f", "{{.RestartCount}}", &name]).ok()?;
        (count.parse::<u32>().ok()? >= 2).then_some(())
    })?;
    wait::until("the port to be there", PATIENCE, || {
        let told = told(scene.docker(), &name).ok().filter(|told| !told.is_empty())?;
        told.is_subset(&listening(&engine).ok()?).then_some(())
    })
}

/// Issue 3: `docker network disconnect` takes the ports of that network along; connecting brings them back.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_network_that_is_taken_away_takes_its_ports_along() -> Result<()> {
    let (engine, scene) = (Engine::shared()?, debian_scene()?);
    let (network, port) = (scene.network("net")?, free());
    let web = answering(&scene, "web", &["--network", &network, "-p", &format!("{port}:80")])?;
    let ports = agreed(&engine, &web)?;
    scene.docker().ok(["network", "disconnect", &network, &web])?;
    gone(&engine, &ports, "network disconnect")?;
    scene.docker().ok(["network", "connect", &network, &web])?;
    assert_eq!(agreed(&engine, &web)?, ports);
    ask_tcp(([127, 0, 0, 1], port).into())?;
    Ok(())
}

/// Rules 4.1 and 4.6: a process of the host, another container, SCTP: Docker's own words and status, and what was bound is
/// released. (That the words are dockerd's own is shown against an unchanged dockerd in the agent's tests.)
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_port_that_cannot_be_had_fails_the_start_and_leaves_nothing() -> Result<()> {
    let (engine, scene) = (Engine::shared()?, scene()?);
    let (port, other, sctp) = (free(), free(), free());
    let process = TcpListener::bind(("127.0.0.1", port)).expect("a listener");
    let datagrams = UdpSocket::bind(("0.0.0.0", port)).expect("a socket");
    let container = idle(&scene, "holder", &["-p", &format!("{other}:80")])?;
    let in_use = |network: &str, address: &str| {
        format!("Error starting userland proxy: listen {network} {address}: bind: address already in use.")
    };
    let table = [
        (format!("{port}:80"), in_use("tcp4", &format!("0.0.0.0:{port}"))),
        (format!("127.0.0.1:{port}:80"), in_use("tcp4", &format!("127.0.0.1:{port}"))),
        (format!("127.0.0.1:{port}:53/udp"), in_use("udp4", &format!("127.0.0.1:{port}"))),
        (format!("{other}:80"), format!("Bind for 0.0.0.0:{other} failed: port is already allocated.")),
        (format!("{sctp}:80/sctp"), "SCTP is not supported".to_owned()),
        ("203.0.113.77:8080:80".to_owned(), "cannot assign requested address".to_owned()),
    ];
    for (publish, words) in table {
        let name = scene.name("loser");
        let before = listening(&engine)?;
        // One that can be had comes first, and is given back.
        let flags = ["-d", "--name", &name, "-p", "127.0.0.1::81", "-p", &publish];
        let outcome = scene.run(flags).args([busybox(), "sleep", "1000"]).outcome()?;
        let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
        assert_eq!(outcome.code(), Some(125), "{publish}: {outcome}");
        assert!(said.contains(&words), "{publish}: {said}");
        let state = scene.docker().ok(["inspect", "-f", "{{.State.Status}}", &name])?;
        assert_eq!(state, "created");
        let ours = |(_, address): &&Listener| [port, sctp, 8080].contains(&address.port());
        let now = listening(&engine)?;
        let left: Vec<_> = now.difference(&before).filter(ours).collect();
        assert!(left.is_empty(), "{publish} leaves {left:?}");
        assert_eq!(told(scene.docker(), &name)?, BTreeSet::new());
        // The same start works once the port is free.
        scene.docker().ok(["rm", "-f", &name])?;
    }
    drop((process, datagrams));
    idle(&scene, "winner", &["-p", &format!("{port}:80"), "-p", &format!("127.0.0.1:{port}:53/udp")])?;
    scene.docker().ok(["rm", "-f", &container])?;
    idle(&scene, "heir", &["-p", &format!("{other}:80")])?;
    Ok(())
}

/// Issue 3, bad input: clear errors, nothing half-applied.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn impossible_ports_are_refused_in_words() -> Result<()> {
    let scene = scene()?;
    let table = [
        ("70000:80", "Invalid hostPort: 70000"),
        ("8080:70000", "Invalid containerPort: 70000"),
        ("8000-8002:80-81", "Invalid ranges specified for container and host Ports"),
        ("300.0.0.1:8080:80", "Invalid ip address: 300.0.0.1"),
        ("8080:80/quic", "Invalid proto: quic"),
    ];
    for (publish, words) in table {
        let outcome = scene.run(["-d", "-p", publish, busybox(), "true"]).outcome()?;
        assert_eq!(outcome.code(), Some(125), "{publish}: {outcome}");
        let said = String::from_utf8_lossy(&outcome.stderr).to_lowercase();
        assert!(said.contains(&words.to_lowercase()), "{publish}: {said}");
    }
    Ok(())
}

/// A published port is reached from inside the guest as well: from a neighbour, and from the container itself.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn containers_reach_published_ports_through_the_engines_address() -> Result<()> {
    let scene = debian_scene()?;
    let port = free();
    let web = answering(&scene, "web", &["-p", &format!("{port}:80")])?;
    ask_tcp(([127, 0, 0, 1], port).into())?;
    let network = "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}";
    let gateway = scene.docker().ok(["inspect", "-f", network, &web])?;
    let ask = format!("socat -T 5 - TCP:{gateway}:{port},connect-timeout=10 </dev/null");
    for said in [
        scene.run(["--rm", debian(), "sh", "-c", &ask]).ok()?.text(),
        scene.docker().ok(["exec", &web, "sh", "-c", &ask])?,
    ] {
        assert!(said.parse::<IpAddr>().is_ok(), "{said:?}");
    }
    Ok(())
}

fn released(engine: &Engine, ports: &BTreeSet<Listener>) -> Result<()> {
    wait::until("the ports to be released", PATIENCE, || {
        listening(engine).is_ok_and(|now| now.is_disjoint(ports)).then_some(())
    })
}
