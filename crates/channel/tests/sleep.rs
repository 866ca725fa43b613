//! A guest under QEMU that is saved and loaded again and again while streams to it are open.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: a panic is its report")]
#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod boot;
mod common;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{ECHO, FLOOD, LIMIT, echo, eventually, pattern};
use dhow_channel::{Dialer, Mux};
use dhow_hypervisor::{
    ChannelDevice, Hardware, Hypervisor as _, Memory, Network, Origin, Output, Qemu, Running, Saved, cmdline,
};
use dhow_model::{Accelerator, Arch, MachineName, Size};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

/// The guest boots under emulation, perhaps on a busy host.
const BOOT: Duration = Duration::from_secs(300);

/// Saves and loads: a hundred in the night, fewer at every commit.
fn rounds() -> u32 {
    if std::env::var_os("DHOW_TEST_NIGHTLY").is_some() { 100 } else { 25 }
}

/// A machine whose process 1 serves the test ports on its serial port.
struct Machine {
    dir: PathBuf,
    qemu: Qemu,
    hardware: Hardware,
    running: Box<dyn Running>,
    memory: Memory,
}

impl Machine {
    async fn boot(dir: &Path, kernel: &[u8], initrd: &[u8]) -> Self {
        let file = |name: &str, bytes: &[u8]| {
            let path = dir.join(name);
            std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
            path
        };
        let hardware = Hardware {
            arch: Arch::Amd64,
            accelerator: Accelerator::Tcg,
            cpus: 2,
            memory: Size::mib(256),
            kernel: file("kernel", kernel),
            initrd: file("initrd", initrd),
            cmdline: format!("{} probe=serial", cmdline(Arch::Amd64, Accelerator::Tcg)),
            disks: Vec::new(),
            channel: ChannelDevice::Serial(dir.join("channel.sock")),
            boot_config: file("boot.json", b"{}"),
            network: Network::None,
            shares: Vec::new(),
            qmp: dir.join("qmp.sock"),
            name: MachineName::native(),
        };
        let qemu = Qemu::find(Arch::Amd64).unwrap();
        let memory = Memory::new(hardware.memory).unwrap();
        let running = qemu.start(&hardware, output(), Vec::new(), Some(&memory), Origin::Boot).await.unwrap();
        Self { dir: dir.to_owned(), qemu, hardware, running, memory }
    }

    /// Sleeps and wakes; how long each took.
    async fn sleep_and_wake(mut self, mux: &Mux) -> (Self, Duration, Duration) {
        let start = Instant::now();
        let parked = mux.park(LIMIT).await.unwrap();
        self.running.pause().await.unwrap();
        let (devices, path) = (self.dir.join("devices"), self.dir.join("memory"));
        let devices_written = self.running.save(&devices).await.unwrap();
        let memory_written = self.memory.dump(&path).unwrap();
        let slept = start.elapsed();

        let start = Instant::now();
        self.memory = Memory::new(self.hardware.memory).unwrap();
        let saved = Saved { devices: &devices, devices_written, memory: Some((&path, memory_written)) };
        let started =
            self.qemu.start(&self.hardware, output(), Vec::new(), Some(&self.memory), Origin::Saved(saved));
        self.running = started.await.unwrap();
        let port = self.running.serial().await.unwrap();
        self.running.resume().await.unwrap();
        parked.unpark(port, LIMIT).await.unwrap();
        let woke = start.elapsed();
        (self, slept, woke)
    }
}

fn output() -> Output {
    Output { console: Box::new(std::io::sink()), log: Box::new(std::io::sink()) }
}

/// Spec 13.1, issue 5: not one byte is lost or doubled, and no stream ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "boots a guest: ./dev test machine"]
async fn streams_to_a_guest_go_on_through_a_hundred_sleeps_under_load() {
    let files = tempfile::tempdir().unwrap();
    let (kernel, initrd) = tokio::task::spawn_blocking(|| {
        let kit = boot::Kit::make();
        let initrd = boot::pack(&kit.initrd(&[]));
        (kit.kernel, initrd)
    })
    .await
    .unwrap();
    let mut machine = Machine::boot(files.path(), &kernel, &initrd).await;
    let mux = Mux::connect(machine.running.serial().await.unwrap(), BOOT).await.unwrap();

    // One stream is open all the time and says something in each round; the others are loads.
    let mut silent = mux.dialer().dial(ECHO, LIMIT).await.unwrap();
    let stop = CancellationToken::new();
    let mut loads = tokio::task::JoinSet::new();
    for number in 0..4 {
        loads.spawn(load(mux.dialer(), number, stop.clone()));
    }
    // A stream that nobody reads keeps the guest's side full.
    let mut flood = mux.dialer().dial(FLOOD, LIMIT).await.unwrap();
    flood.read_u8().await.unwrap();

    let (mut slept, mut woke) = (Vec::new(), Vec::new());
    let rounds = rounds();
    for round in 0..rounds {
        tokio::time::sleep(Duration::from_millis(u64::from(round * 37 % 150))).await;
        if round % 10 == 0 {
            // All of the guest's buffers in the socket are full when it is saved.
            flood.read_exact(&mut vec![0; 500_000]).await.unwrap();
        }
        let (sleeping, waking);
        (machine, sleeping, waking) = machine.sleep_and_wake(&mux).await;
        slept.push(sleeping);
        woke.push(waking);
        let said = round.to_be_bytes();
        silent.write_all(&said).await.unwrap();
        let mut back = [0; 4];
        tokio::time::timeout(LIMIT, silent.read_exact(&mut back)).await.unwrap().unwrap();
        assert_eq!(back, said);
    }
    stop.cancel();
    let mut moved = 0;
    while let Some(bytes) = loads.join_next().await {
        moved += bytes.unwrap();
    }
    slept.sort_unstable();
    woke.sort_unstable();
    let middle = rounds as usize / 2;
    println!(
        "{rounds} sleeps under load, {moved} bytes echoed: asleep after {:?} (at most {:?}), awake after {:?} (at most {:?})",
        slept[middle],
        slept.last().unwrap(),
        woke[middle],
        woke.last().unwrap()
    );
    drop((silent, flood));
    eventually("streams are left", || mux.streams() == 0).await;
    machine.running.quit(LIMIT).await.unwrap();
}

/// Echoes until it is told to stop; bytes that came back.
async fn load(dialer: Dialer, number: usize, stop: CancellationToken) -> usize {
    let mut moved = 0;
    while !stop.is_cancelled() {
        let bytes = pattern(number, 1_000_000 + 333_333 * number);
        echo(&dialer, &bytes).await;
        moved += bytes.len();
    }
    moved
}
