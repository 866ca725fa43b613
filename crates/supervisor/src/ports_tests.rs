use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dhow_net::publish::{Datagrams, Forward, Pending};

use super::*;

struct Nowhere;

impl Forward for Nowhere {
    fn tcp(&self, _: TcpStream, _: SocketAddr, _: SocketAddr) -> Pending<'_, ()> {
        Box::pin(async {})
    }

    fn udp(&self, socket: UdpSocket, _: SocketAddr) -> Box<dyn Datagrams> {
        Box::new(Kept(socket))
    }
}

struct Kept(UdpSocket);

impl Datagrams for Kept {
    fn close(self: Box<Self>) -> Pending<'static, ()> {
        drop(self.0);
        Box::pin(async {})
    }
}

fn desk(machines: &tempfile::TempDir) -> Desk {
    std::fs::create_dir_all(machines.path().join("native")).unwrap();
    let publisher =
        Publisher::new(Arc::new(Nowhere), "native".parse().unwrap(), machines.path().to_path_buf());
    Desk::new(publisher)
}

fn asked(id: u64, host: SocketAddr) -> PortBinding {
    PortBinding {
        id,
        protocol: proto::Protocol::Tcp.into(),
        host_address: host.ip().to_string(),
        host_port: host.port().into(),
        container_address: "172.17.0.2".to_owned(),
        container_port: 80,
    }
}

/// A port that is free now, below those that the kernel gives to anybody's connections, and far from what a test in
/// another process takes.
fn free() -> SocketAddr {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    for _ in 0..500 {
        let next = first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + u16::try_from(next % 22_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return ([127, 0, 0, 1], port).into();
        }
    }
    panic!("no port is free");
}

async fn bind(desk: &mut Desk, asked: PortBinding) -> ports_answer::What {
    desk.take(ports_request::What::Bind(asked)).await.unwrap().what.unwrap()
}

async fn held(desk: &mut Desk, bindings: Vec<PortBinding>) {
    assert_eq!(desk.take(ports_request::What::Held(proto::PortsHeld { bindings })).await, None);
}

async fn listening(desk: &Desk) -> Vec<SocketAddr> {
    desk.publisher.list().await.into_iter().map(|bound| bound.binding.host).collect()
}

/// Spec 4.4: the truth is reconciled after every reconnect.
#[tokio::test]
async fn what_the_agent_lists_is_what_is_bound() {
    let machines = tempfile::tempdir().unwrap();
    let mut desk = desk(&machines);
    let (one, two, three) = (free(), free(), free());
    for (id, host) in [(1, one), (2, two)] {
        assert_eq!(bind(&mut desk, asked(id, host)).await, ports_answer::What::Bound(PortBound {}));
    }
    let since = desk.publisher.list().await[0].since;
    held(&mut desk, vec![asked(1, one), asked(3, three)]).await;
    let mut expected = vec![one, three];
    expected.sort();
    assert_eq!(listening(&desk).await, expected);
    // What was bound before was not touched.
    assert!(desk.publisher.list().await.iter().any(|bound| bound.since == since));
    let released = desk
        .take(ports_request::What::Release(proto::PortRelease { id: 3, ..Default::default() }))
        .await
        .unwrap();
    assert_eq!(released.what, Some(ports_answer::What::Released(PortReleased {})));
    assert_eq!(listening(&desk).await, [one]);
}

/// A container that runs believes in its port: it comes back when it can.
#[tokio::test]
async fn a_port_that_was_taken_meanwhile_is_tried_again() {
    let machines = tempfile::tempdir().unwrap();
    let mut desk = desk(&machines);
    let thief = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = thief.local_addr().unwrap();
    held(&mut desk, vec![asked(1, host)]).await;
    assert!(listening(&desk).await.is_empty());
    drop(thief);
    desk.retry().await;
    assert_eq!(listening(&desk).await, [host]);
    assert!(desk.lost.is_empty());
}

/// Spec 4.1: two containers never share a binding, whatever numbers the guest gives them.
#[tokio::test]
async fn a_binding_has_one_number_and_a_number_one_binding() {
    let machines = tempfile::tempdir().unwrap();
    let mut desk = desk(&machines);
    let (one, two) = (free(), free());
    assert_eq!(bind(&mut desk, asked(1, one)).await, ports_answer::What::Bound(PortBound {}));
    for wrong in [asked(2, one), asked(1, two), asked(1, one)] {
        assert!(matches!(bind(&mut desk, wrong).await, ports_answer::What::Refused(_)));
    }
    assert_eq!(listening(&desk).await, [one]);
}

/// Input from a guest is hostile.
#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let machines = tempfile::tempdir().unwrap();
    let mut desk = desk(&machines);
    let good = asked(1, free());
    for bad in [
        PortBinding { protocol: 0, ..good.clone() },
        PortBinding { protocol: 132, ..good.clone() },
        PortBinding { host_port: 0, ..good.clone() },
        PortBinding { host_port: 70_000, ..good.clone() },
        PortBinding { host_address: "localhost".to_owned(), ..good.clone() },
        PortBinding { host_address: String::new(), ..good.clone() },
        PortBinding { container_port: 1 << 20, ..good },
    ] {
        let answer = bind(&mut desk, bad.clone()).await;
        assert!(
            matches!(&answer, ports_answer::What::Refused(refused) if refused.kind == "invalid"),
            "{bad:?}"
        );
    }
    let unknown =
        desk.take(ports_request::What::Release(proto::PortRelease { id: 77, ..Default::default() })).await;
    assert!(matches!(unknown, Some(PortsAnswer { id: 77, .. })));
    assert!(listening(&desk).await.is_empty());
}
