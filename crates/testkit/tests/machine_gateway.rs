//! Promise: what passes between a container and the host passes whole, ends as it was ended, and holds nothing of the
//! host longer than it lasts (issue 3).

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use common::gateway::{
    GATEWAY, GATEWAY6, HOST, HOST6, held, nightly, send_noise, supervisor, take_noise, tcp_flows, wait_flows,
};
use common::{debian, debian_scene};
use dhow_testkit::{Engine, Error, Outcome, Result, Scene, Server, serve, wait};

/// How long a single thing may take in an emulated guest on a busy host.
const SOON: Duration = Duration::from_secs(60);

/// A shell script in a container of the bridge network.
fn bridged(scene: &Scene, script: &str) -> Result<Outcome> {
    scene.run(["--rm", debian(), "bash", "-c", script]).outcome()
}

/// The same on the guest's own network, which has IPv6.
fn on_the_guests(scene: &Scene, script: &str) -> Result<Outcome> {
    scene.run(["--rm", "--network", "host", debian(), "bash", "-c", script]).outcome()
}

/// A server that sends noise and one that takes it, joined by a container: what the one sent is what the other took.
fn carried_whole(scene: &Scene, ip: IpAddr, host: &str, network: &str) -> Result<()> {
    let length = if nightly() { 1 << 30 } else { 256 << 20 };
    let (sent, received) = (mpsc::channel(), mpsc::channel());
    let down = Server::tcp(ip, move |mut stream| {
        let digest = send_noise(&mut stream, length)?;
        sent.0.send((length, digest)).unwrap_or_default();
        Ok(())
    })?;
    let up = Server::tcp(ip, move |mut stream| {
        received.0.send(take_noise(&mut stream)?).unwrap_or_default();
        Ok(())
    })?;
    let script = format!(
        "socat -u -b 262144 TCP:{host}:{},connect-timeout=10 - | socat -u -b 262144 - TCP:{host}:{},connect-timeout=10",
        down.port(),
        up.port()
    );
    scene
        .run(["--rm", "--network", network, debian(), "bash", "-c", &script])
        .limit(common::PATIENCE)
        .ok()?;
    let missing = |_| Error::NeverCame { what: "the other end".to_owned(), limit: SOON };
    let sent = sent.1.recv_timeout(SOON).map_err(missing)?;
    let received = received.1.recv_timeout(SOON).map_err(missing)?;
    assert_eq!(received, sent);
    Ok(())
}

/// Issue 3: a download and an upload, digests compared, by IPv4 from the bridge.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_download_and_an_upload_of_256_mb_arrive_whole() -> Result<()> {
    carried_whole(&debian_scene()?, serve::V4, "host.docker.internal", "bridge")
}

/// Issue 3: the same by IPv6.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_download_and_an_upload_of_256_mb_arrive_whole_by_ipv6() -> Result<()> {
    carried_whole(&debian_scene()?, serve::V6, &format!("[{HOST6}]"), "host")
}

/// Issue 3: curl and its own digest.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn curl_downloads_what_the_host_serves() -> Result<()> {
    let scene = debian_scene()?;
    let body: Vec<u8> = (0..32_u32 << 20).map(|at| (at ^ (at >> 9)) as u8).collect();
    let server = Server::web(serve::V4, body.clone())?;
    let script = format!("curl -sSf http://host.docker.internal:{}/ | sha256sum", server.port());
    let outcome = bridged(&scene, &script)?.ok()?;
    let expected: String =
        <sha2::Sha256 as sha2::Digest>::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(outcome.text().starts_with(&expected), "{outcome}");
    Ok(())
}

/// Issue 3: short connections, 2,000 here and 10,000 in a nightly run; each is served, and none stays.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn two_thousand_short_connections_are_served_and_leave_nothing() -> Result<()> {
    let (engine, scene) = (Engine::shared()?, debian_scene()?);
    let (flows, pid) = (tcp_flows(&engine)?, supervisor(&engine)?);
    let (_, before) = held(pid);
    let server = Server::pong(serve::V4)?;
    let count = if nightly() { 10_000 } else { 2_000 };
    let script = format!(
        "redis-benchmark -h host.docker.internal -p {} -c 8 -n {count} -k 0 -t ping_mbulk --csv",
        server.port()
    );
    let outcome = bridged(&scene, &script)?.ok()?;
    assert!(outcome.text().contains("\"PING"), "{outcome}");
    assert!(server.accepted() >= count, "{} connections reached the server", server.accepted());
    wait_flows(&engine, flows, SOON)?;
    wait::until("the descriptors to be given back", SOON, || (held(pid).1 <= before + 16).then_some(()))?;
    Ok(())
}

/// Issue 3: 200 connections that nobody uses for a while still carry bytes after it.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn two_hundred_idle_connections_still_work_after_a_while() -> Result<()> {
    let scene = debian_scene()?;
    let server = Server::echo(serve::V4)?;
    let script = format!(
        "for i in $(seq 200); do exec {{fd}}<>/dev/tcp/{HOST}/{} || exit 1; all+=($fd); done; sleep {}; \
         for fd in ${{all[@]}}; do echo $fd >&$fd; read -r -t 20 -u $fd said && [ $said = $fd ] && good=$((good+1)); done; \
         echo $good",
        server.port(),
        if nightly() { 600 } else { 15 }
    );
    let outcome = bridged(&scene, &script)?;
    assert_eq!((outcome.text().as_str(), server.accepted()), ("200", 200), "{outcome}");
    Ok(())
}

/// Issue 3: a container that has ended its own stream still reads the whole answer.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_container_that_ends_its_stream_first_still_reads_the_answer() -> Result<()> {
    let scene = debian_scene()?;
    let server = Server::tcp(serve::V4, |mut stream| {
        let (length, _) = take_noise(&mut stream)?;
        stream.write_all(format!("{length} bytes and an end").as_bytes())
    })?;
    let script = format!("head -c 300000 /dev/zero | socat -t 30 - TCP:{HOST}:{}", server.port());
    let outcome = bridged(&scene, &script)?;
    assert_eq!(outcome.text(), "300000 bytes and an end", "{outcome}");
    Ok(())
}

/// Issue 3: a host that has ended its own stream still reads what the container sends.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_host_that_ends_its_stream_first_still_reads_what_comes() -> Result<()> {
    let scene = debian_scene()?;
    let (said, heard) = mpsc::channel();
    let server = Server::tcp(serve::V4, move |mut stream| {
        stream.write_all(b"the end")?;
        stream.shutdown(Shutdown::Write)?;
        let mut after = String::new();
        stream.read_to_string(&mut after)?;
        said.send(after).unwrap_or_default();
        Ok(())
    })?;
    let script = format!("exec 3<>/dev/tcp/{HOST}/{}; cat <&3; echo after it >&3", server.port());
    let outcome = bridged(&scene, &script)?;
    assert_eq!(outcome.text(), "the end", "{outcome}");
    assert_eq!(heard.recv_timeout(SOON).ok().as_deref(), Some("after it\n"));
    Ok(())
}

/// Issue 3: a reset by the container is a reset for the host's program.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_reset_by_a_container_reaches_the_host() -> Result<()> {
    let scene = debian_scene()?;
    let (said, heard) = mpsc::channel();
    let server = Server::tcp(serve::V4, move |mut stream| {
        stream.write_all(&[b'x'; 1000])?;
        said.send(std::io::copy(&mut stream, &mut std::io::sink()).map_err(|error| error.kind()))
            .unwrap_or_default();
        Ok(())
    })?;
    // It takes one byte of a thousand and goes: the kernel resets what nobody will read.
    let script = format!("exec 3<>/dev/tcp/{HOST}/{}; read -r -n 1 -u 3", server.port());
    let outcome = bridged(&scene, &script)?.ok()?;
    let end =
        heard.recv_timeout(SOON).map_err(|_| Error::NeverCame { what: "an end".into(), limit: SOON })?;
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset), "{outcome}");
    Ok(())
}

/// Issue 3: a reset by the host is a reset for the container's program.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_reset_by_the_host_reaches_the_container() -> Result<()> {
    let scene = debian_scene()?;
    let server = Server::tcp(serve::V4, |mut stream| {
        stream.read_exact(&mut [0; 3])?;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    })?;
    let outcome = bridged(&scene, &format!("curl -sS http://{HOST}:{}/", server.port()))?;
    assert_eq!(outcome.code(), Some(56), "{outcome}");
    assert!(outcome.complaint().contains("Connection reset by peer"), "{outcome}");
    Ok(())
}

/// Issue 3: whoever never reads, here or there, costs no more than the windows.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn slow_readers_cost_no_more_than_their_windows() -> Result<()> {
    let (engine, scene) = (Engine::shared()?, debian_scene()?);
    let pid = supervisor(&engine)?;
    let (before, _) = held(pid);
    let (sent, go_on) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (counter, released) = (sent.clone(), go_on.clone());
    let pours = Server::tcp(serve::V4, move |mut stream| {
        let piece = vec![7; 64 * 1024];
        for _ in 0..1024 {
            stream.write_all(&piece)?;
            counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    })?;
    let never_reads = Server::tcp(serve::V4, move |stream| {
        let patience = Instant::now();
        while !released.load(Ordering::Relaxed) && patience.elapsed() < common::PATIENCE {
            wait::nap(Duration::from_millis(50));
        }
        drop(stream);
        Ok(())
    })?;
    let script = format!(
        "exec 3<>/dev/tcp/{HOST}/{}; (exec 4<>/dev/tcp/{HOST}/{}; head -c 64M /dev/zero >&4) & \
         until [ -e /go ]; do sleep 0.2; done; head -c 67108864 <&3 | wc -c",
        pours.port(),
        never_reads.port()
    );
    let name = scene.name("slow");
    scene.run(["-d", "--name", &name, debian(), "bash", "-c", &script]).ok()?;
    let still = || {
        let now = sent.load(Ordering::Relaxed);
        wait::nap(Duration::from_secs(2));
        (now > 0 && sent.load(Ordering::Relaxed) == now).then_some(now)
    };
    let stuck_at = wait::until("the sender to be held back", SOON, still)?;
    assert!(stuck_at < 48 << 20, "{stuck_at} bytes went to a container that does not read");
    let (now, _) = held(pid);
    assert!(now < before + (64 << 20), "the supervisor grew from {before} to {now} bytes");
    // It goes on from where it stopped.
    scene.docker().ok(["exec", &name, "touch", "/go"])?;
    go_on.store(true, Ordering::Relaxed);
    scene.docker().run(["wait", &name]).limit(common::PATIENCE).ok()?;
    let said = scene.docker().ok(["logs", &name])?;
    assert!(said.contains("67108864"), "{said}");
    Ok(())
}

/// Issue 3: datagrams of 1, 1,400 and 8,000 bytes come back as they went, by both families and in fragments.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn datagrams_of_1_1400_and_8000_bytes_come_back_as_they_went() -> Result<()> {
    let scene = debian_scene()?;
    let (four, six) = (Server::udp_echo(serve::V4)?, Server::udp_echo(serve::V6)?);
    let small = scene.name("small");
    let option = "com.docker.network.driver.mtu=1500";
    scene.docker().ok(["network", "create", "--label", &scene.mark(), "-o", option, &small])?;
    // `cat` writes a small file at once, which is one datagram.
    let script = |host: &str, port: u16| {
        format!(
            "for n in 1 1400 8000; do head -c $n /dev/urandom > /tmp/sent; exec 3<>/dev/udp/{host}/{port}; cat /tmp/sent >&3; \
             timeout 10 head -c $n <&3 > /tmp/back; [ \"$(sha256sum < /tmp/sent)\" = \"$(sha256sum < /tmp/back)\" ] && echo $n; done"
        )
    };
    let by_four = script(HOST, four.port());
    let by_six = script(HOST6, six.port());
    for (network, script) in [("bridge", &by_four), (small.as_str(), &by_four), ("host", &by_six)] {
        let outcome = scene.run(["--rm", "--network", network, debian(), "bash", "-c", script]).outcome()?;
        assert_eq!(outcome.text(), "1\n1400\n8000", "{network}: {outcome}");
    }
    Ok(())
}

/// Issue 3: a port where nobody listens refuses at once.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_port_without_a_listener_refuses_at_once() -> Result<()> {
    let scene = debian_scene()?;
    let server = Server::echo(serve::V4)?;
    let port = server.port();
    drop(server);
    let script =
        format!("curl -sS -o /dev/null -w '%{{time_total}}' --connect-timeout 20 http://{HOST}:{port}/");
    let outcome = bridged(&scene, &script)?;
    let took: f64 = outcome.text().parse().unwrap_or(f64::MAX);
    assert!(outcome.code() == Some(7) && took < 2.0, "{outcome}");
    Ok(())
}

/// Issue 3: where packets vanish, a connection attempt times out; it is not refused.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_port_that_swallows_packets_times_out() -> Result<()> {
    let scene = debian_scene()?;
    let (listener, _fill) = black_hole()?;
    let port = listener.local_addr().map_err(Error::io("ask for", HOST))?.port();
    let outcome = bridged(&scene, &format!("curl -sS --connect-timeout 3 http://{HOST}:{port}/"))?;
    assert_eq!(outcome.code(), Some(28), "{outcome}");
    Ok(())
}

/// A listener whose queue is full, and who fills it: the kernel drops what comes.
fn black_hole() -> Result<(TcpListener, Vec<TcpStream>)> {
    let io = |source| Error::Io { what: "listen on", path: "127.0.0.1".into(), source };
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).map_err(io)?;
    let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).and_then(|()| socket.listen(0)).map_err(io)?;
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().map_err(io)?;
    let mut fill = Vec::new();
    while fill.len() < 16 {
        match TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
            Ok(stream) => fill.push(stream),
            Err(_) => break,
        }
    }
    Ok((listener, fill))
}

/// Issue 3: the gateway and the host's address answer to `ping`, in both families.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn the_gateway_and_the_hosts_address_answer_to_ping() -> Result<()> {
    let scene = debian_scene()?;
    let script = format!(
        "for a in {GATEWAY} {HOST} gateway.docker.internal; do ping -4 -q -c 2 -W 5 $a || exit 1; done"
    );
    bridged(&scene, &script)?.ok()?;
    let script = format!("for a in {GATEWAY6} {HOST6}; do ping -6 -q -c 2 -W 5 $a || exit 1; done");
    on_the_guests(&scene, &script)?.ok()?;
    Ok(())
}

/// Issue 3: the large MTU is on the guest's interface, on Docker's own bridge and on every other.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn every_bridge_has_the_large_mtu() -> Result<()> {
    let scene = debian_scene()?;
    let made = scene.network("mtu")?;
    for network in ["host", "bridge", &made] {
        let outcome =
            scene.run(["--rm", "--network", network, debian(), "cat", "/sys/class/net/eth0/mtu"]).ok()?;
        assert_eq!(outcome.text(), "65520", "on {network}");
    }
    let bridges = on_the_guests(&scene, "cat /sys/class/net/docker0/mtu")?;
    assert_eq!(bridges.text(), "65520", "{bridges}");
    Ok(())
}

/// `--network none` stays none.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_container_without_a_network_reaches_nothing() -> Result<()> {
    let scene = debian_scene()?;
    let server = Server::web(serve::V4, "reached")?;
    let script = format!("ls /sys/class/net; curl -sS --connect-timeout 5 http://{HOST}:{}/", server.port());
    let outcome = scene.run(["--rm", "--network", "none", debian(), "bash", "-c", &script]).outcome()?;
    assert_eq!((outcome.text().as_str(), outcome.code(), server.accepted()), ("lo", Some(7), 0), "{outcome}");
    Ok(())
}
