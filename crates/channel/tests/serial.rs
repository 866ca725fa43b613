//! The virtio-serial channel for real: a guest under QEMU, and hosts that come and go.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: a panic is its report")]
#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod boot;
mod common;

use std::time::{Duration, Instant};

use common::{DISCARD, ECHO, FLOOD, LIMIT, echo, eventually, pattern};
use dhow_channel::{Error, Mux};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Spec 8.1, 8.3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "boots a guest: ./dev test machine"]
async fn a_guest_is_dialled_over_its_serial_port_by_one_host_after_the_other() {
    let files = tempfile::tempdir().unwrap();
    let socket = files.path().join("channel");
    let chardev = format!("socket,id=channel,path={},server=on,wait=off", socket.display());
    let arguments = [
        "-device",
        "virtio-serial-pci",
        "-chardev",
        &chardev,
        "-device",
        "virtserialport,chardev=channel,name=dhow.channel.0",
    ];
    let (kernel, initrd) = tokio::task::spawn_blocking(|| {
        let kit = boot::Kit::make();
        let initrd = boot::pack(&kit.initrd(&[]));
        (kit.kernel, initrd)
    })
    .await
    .unwrap();
    bare(&kernel, &initrd, &socket, &arguments).await;
    let start = Instant::now();
    let mut machine = boot::Machine::boot(&kernel, &initrd, "probe=serial", "256", &arguments);
    let mux = connect(&socket).await;
    println!("the guest answered after {:?}", start.elapsed());

    echo(&mux.dialer(), &pattern(1, 1 << 20)).await;
    let start = Instant::now();
    for number in 0..1000 {
        echo(&mux.dialer(), &pattern(number, number % 300)).await;
    }
    println!("1000 streams one after the other, {:?} each", start.elapsed() / 1000);
    round_trips(&mux).await;
    let mut streams = tokio::task::JoinSet::new();
    for number in 0..300 {
        let dialer = mux.dialer();
        streams.spawn(async move { echo(&dialer, &pattern(number, 20_000 + number)).await });
    }
    while let Some(done) = streams.join_next().await {
        done.unwrap();
    }
    bulk(&mux).await;
    eventually("streams are left", || mux.streams() == 0).await;

    // Hosts that vanish while bytes flow both ways.
    let mut mux = mux;
    for round in 0..10 {
        let mut flood = mux.dialer().dial(FLOOD, LIMIT).await.unwrap();
        flood.read_exact(&mut [0; 100_000]).await.unwrap();
        let mut stream = mux.dialer().dial(ECHO, LIMIT).await.unwrap();
        stream.write_all(&pattern(0, 150_000)).await.unwrap();
        drop(mux);
        let start = Instant::now();
        mux = connect(&socket).await;
        println!("host {round} took over in {:?}", start.elapsed());
        echo(&mux.dialer(), &pattern(2, 200_000)).await;
    }

    // A guest without a host waits, and does not spin: POLLHUP is level-triggered.
    drop(mux);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (before, start) = (machine.cpu_time(), Instant::now());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let share = (machine.cpu_time() - before).as_secs_f64() / start.elapsed().as_secs_f64();
    println!("a guest without a host takes {:.1} % of a core", share * 100.0);
    assert!(share < 0.3, "{share}");
    let mux = connect(&socket).await;
    echo(&mux.dialer(), b"again").await;

    machine.kill();
    let ended = tokio::time::timeout(LIMIT, mux.closed()).await.unwrap();
    assert!(matches!(ended, Error::SessionEnded(_)), "{ended}");
}

/// What the port does without a multiplexer, printed for comparison.
async fn bare(kernel: &[u8], initrd: &[u8], socket: &std::path::Path, arguments: &[&str]) {
    const SIZE: usize = 100 << 20;
    let _machine = boot::Machine::boot(kernel, initrd, "probe=raw", "256", arguments);
    let mut port = open(socket).await;
    let mut buffer = vec![0; 128 * 1024];
    let rate = |start: Instant| SIZE as f64 / 1e6 / start.elapsed().as_secs_f64();
    // The first ones wait for the guest to boot.
    for _ in 0..8 {
        port.write_all(&buffer).await.unwrap();
    }
    let start = Instant::now();
    for _ in 8..SIZE / buffer.len() {
        port.write_all(&buffer).await.unwrap();
    }
    port.read_exact(&mut buffer).await.unwrap();
    println!("bare port, host to guest: {:.0} MB/s", rate(start));
    let start = Instant::now();
    for _ in 1..SIZE / buffer.len() {
        port.read_exact(&mut buffer).await.unwrap();
    }
    println!("bare port, guest to host: {:.0} MB/s", rate(start));
    let start = Instant::now();
    for _ in 0..1000 {
        port.write_all(&[1]).await.unwrap();
        port.read_u8().await.unwrap();
    }
    println!("bare port, round trip of one byte: {:?}", start.elapsed() / 1000);
}

async fn connect(socket: &std::path::Path) -> Mux {
    Mux::connect(open(socket).await, LIMIT).await.unwrap()
}

async fn open(socket: &std::path::Path) -> UnixStream {
    let connecting = async {
        loop {
            match UnixStream::connect(socket).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(LIMIT, connecting).await.unwrap()
}

async fn round_trips(mux: &Mux) {
    let mut stream = mux.dialer().dial(ECHO, LIMIT).await.unwrap();
    let start = Instant::now();
    for _ in 0..1000 {
        stream.write_all(&[1]).await.unwrap();
        stream.read_u8().await.unwrap();
    }
    println!("round trip of one byte: {:?}", start.elapsed() / 1000);
}

async fn bulk(mux: &Mux) {
    const SIZE: usize = 100 << 20;
    let rate = |start: Instant| SIZE as f64 / 1e6 / start.elapsed().as_secs_f64();
    let block = pattern(0, 1 << 20);
    let start = Instant::now();
    let mut stream = mux.dialer().dial(DISCARD, LIMIT).await.unwrap();
    for _ in 0..SIZE >> 20 {
        stream.write_all(&block).await.unwrap();
    }
    stream.shutdown().await.unwrap();
    drop(stream.read_to_end(&mut Vec::new()).await);
    println!("host to guest: {:.0} MB/s", rate(start));
    let start = Instant::now();
    let mut stream = mux.dialer().dial(FLOOD, LIMIT).await.unwrap();
    let mut buffer = vec![0; 1 << 20];
    for _ in 0..SIZE >> 20 {
        stream.read_exact(&mut buffer).await.unwrap();
    }
    println!("guest to host: {:.0} MB/s", rate(start));
}
