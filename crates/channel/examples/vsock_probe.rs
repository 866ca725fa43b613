//! A test program that is process 1 of a guest, and tries the channel's real devices there. The kernel's command line says
//! which part it plays:
//!
//! - `probe=serial` serves the test ports on the virtio-serial port (spec 8.1);
//! - `probe=raw` reads 100 MiB from that port writes as many, and then echoes, without a multiplexer;
//! - `probe=inner` serves them on `AF_VSOCK`;
//! - `probe=outer` boots an `inner` guest with the QEMU in its own initial RAM disk, dials it over vhost-vsock, and prints
//!   a line for each thing that it tried: `PASS name` or `FAIL name: why`, and `DONE` at the end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test program: a panic is its report"
)]

#[cfg(target_os = "linux")]
#[path = "../tests/common/mod.rs"]
mod common;

/// musl's allocator maps and unmaps memory for each of the multiplexer's frames.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() {
    linux::main();
}

#[cfg(target_os = "linux")]
mod linux {
    use std::future::Future;
    use std::io::{Read as _, Write as _};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use dhow_channel::guest::{Incoming, serial_device};
    use dhow_channel::{Dialer, Error, Token, vsock_usable};
    use dhow_model::{GuestCid, Port};
    use rustix::mount::{MountFlags, mount};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use crate::common::{DEAF, DISCARD, ECHO, FLOOD, echo, pattern, serve};

    /// An inner guest under emulation under emulation takes more than a minute to boot.
    const BOOT: Duration = Duration::from_secs(420);
    const DIAL: Duration = Duration::from_secs(60);
    const TOKEN: [u8; 32] = [0x5a; 32];
    const CID: u64 = 3;

    pub fn main() {
        for (kind, place) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/tmp")] {
            std::fs::create_dir_all(place).unwrap();
            mount(kind, place, kind, MountFlags::empty(), None).unwrap();
        }
        load_modules();
        let cmdline = std::fs::read_to_string("/proc/cmdline").unwrap();
        let part = cmdline.split_whitespace().find_map(|word| word.strip_prefix("probe=")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        match part {
            "raw" => raw(),
            "serial" => runtime.block_on(async {
                serve(Incoming::serial(serial_device().unwrap()).unwrap()).await;
            }),
            "inner" => runtime.block_on(async {
                say("inner guest serves");
                serve(Incoming::vsock(&Port::ALL, Token::from_bytes(TOKEN)).unwrap()).await;
            }),
            "outer" => runtime.block_on(outer()),
            other => panic!("no part is called {other}"),
        }
        rustix::system::reboot(rustix::system::RebootCommand::PowerOff).unwrap();
    }

    fn say(line: &str) {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").unwrap();
        out.flush().unwrap();
    }

    /// Loads everything in `/modules`, in the order of the names.
    fn load_modules() {
        let Ok(entries) = std::fs::read_dir("/modules") else { return };
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let file = std::fs::File::open(&path).unwrap();
            rustix::system::finit_module(&file, c"", 0)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }

    /// What the bare port can do, for comparison.
    fn raw() {
        let mut port =
            std::fs::File::options().read(true).write(true).open(serial_device().unwrap()).unwrap();
        let mut buffer = vec![0; 128 * 1024];
        let mut left = 100 << 20;
        while left > 0 {
            left -= port.read(&mut buffer).unwrap();
        }
        for _ in 0..(100 << 20) / buffer.len() {
            port.write_all(&buffer).unwrap();
        }
        loop {
            let read = port.read(&mut buffer).unwrap();
            port.write_all(&buffer[..read]).unwrap();
        }
    }

    async fn outer() {
        vsock_usable().unwrap();
        say("PASS vsock_usable");
        let mut inner = Inner::boot(CID);
        let dialer = Dialer::vsock(GuestCid::try_from(CID).unwrap(), Token::from_bytes(TOKEN));
        let start = Instant::now();
        while let Err(error) = dialer.dial(ECHO, Duration::from_secs(5)).await {
            assert!(start.elapsed() < BOOT, "the inner guest does not answer: {error}");
            assert!(inner.runs(), "the inner hypervisor ended");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        say(&format!("the inner guest answered after {:?}", start.elapsed()));
        check("echo", echo(&dialer, b"hello")).await;
        check("echo and half-close of 2 MB", echo(&dialer, &pattern(1, 2 << 20))).await;
        check("half-close towards the guest alone", half_close(&dialer)).await;
        check("1000 streams one after the other", async {
            let start = Instant::now();
            for number in 0..1000 {
                echo(&dialer, &pattern(number, number % 300)).await;
            }
            say(&format!("{:?} each", start.elapsed() / 1000));
        })
        .await;
        check("100 streams at once", async {
            let mut streams = tokio::task::JoinSet::new();
            for number in 0..100 {
                let dialer = dialer.clone();
                streams.spawn(async move { echo(&dialer, &pattern(number, 20_000 + number)).await });
            }
            while let Some(done) = streams.join_next().await {
                done.unwrap();
            }
        })
        .await;
        check("bulk", bulk(&dialer)).await;
        check("readers that never read stall no other", async {
            let mut full = Vec::new();
            for _ in 0..5 {
                full.push(dialer.dial(FLOOD, DIAL).await.unwrap());
                full.push(dialer.dial(DEAF, DIAL).await.unwrap());
            }
            echo(&dialer, &pattern(1, 200_000)).await;
        })
        .await;
        check("a wrong token is refused", async {
            let stranger = Dialer::vsock(GuestCid::try_from(CID).unwrap(), Token::from_bytes([0; 32]));
            let error = stranger.dial(ECHO, DIAL).await.unwrap_err();
            assert!(matches!(error, Error::TokenRefused), "{error}");
        })
        .await;
        check("a port that nobody serves is a typed error", async {
            let error = dialer.dial(Port(9999), DIAL).await.unwrap_err();
            assert!(matches!(error, Error::NotServed { .. }), "{error}");
        })
        .await;
        check("no guest has this context ID", async {
            let nobody = Dialer::vsock(GuestCid::try_from(77).unwrap(), Token::from_bytes(TOKEN));
            let error = nobody.dial(ECHO, DIAL).await.unwrap_err();
            assert!(matches!(error, Error::Vsock { cid: 77, .. }), "{error}");
            say(&error.to_string());
        })
        .await;
        check("a second guest of the same context ID is refused by the kernel", async {
            let second = Inner::command(CID).stderr(Stdio::piped()).output().unwrap();
            let text = String::from_utf8_lossy(&second.stderr).into_owned();
            say(text.trim());
            assert!(!second.status.success() && text.contains("Address already in use"));
        })
        .await;
        check("a dial to a guest that hangs ends at its limit", async {
            let open = descriptors();
            inner.signal(rustix::process::Signal::STOP);
            let start = Instant::now();
            let error = dialer.dial(ECHO, Duration::from_secs(5)).await.unwrap_err();
            inner.signal(rustix::process::Signal::CONT);
            assert!(matches!(error, Error::DialTimedOut { .. }), "{error}");
            assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
            assert_eq!(descriptors(), open, "a socket was left");
            echo(&dialer, b"awake").await;
        })
        .await;
        check("a guest that dies ends its streams", async {
            let mut stream = dialer.dial(DEAF, DIAL).await.unwrap();
            inner.kill();
            let read = tokio::time::timeout(DIAL, stream.read(&mut [0; 10])).await.expect("the stream hangs");
            say(&format!("{read:?}"));
            assert!(!matches!(read, Ok(1..)));
            assert!(dialer.dial(ECHO, DIAL).await.is_err());
        })
        .await;
        say("DONE");
    }

    async fn check(name: &str, what: impl Future<Output = ()>) {
        let start = Instant::now();
        match tokio::time::timeout(Duration::from_secs(900), what).await {
            Ok(()) => say(&format!("PASS {name} ({:?})", start.elapsed())),
            Err(_) => say(&format!("FAIL {name}: not done after {:?}", start.elapsed())),
        }
    }

    async fn half_close(dialer: &Dialer) {
        let mut stream = dialer.dial(DISCARD, DIAL).await.unwrap();
        stream.write_all(b"all").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"");
    }

    async fn bulk(dialer: &Dialer) {
        const SIZE: usize = 20 << 20;
        let block = pattern(0, 1 << 20);
        let start = Instant::now();
        let mut stream = dialer.dial(DISCARD, DIAL).await.unwrap();
        for _ in 0..SIZE >> 20 {
            stream.write_all(&block).await.unwrap();
        }
        stream.shutdown().await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        let rate = (SIZE >> 10) as f64 / start.elapsed().as_secs_f64() / 1024.0;
        say(&format!("to the inner guest: {rate:.1} MiB/s"));
    }

    fn descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    /// The inner guest's hypervisor.
    struct Inner(Child);

    impl Inner {
        fn command(cid: u64) -> Command {
            let mut qemu = Command::new("/usr/bin/qemu-system-x86_64");
            qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "256"])
                .args(["-M", "q35,usb=off,hpet=off", "-accel", "tcg", "-cpu", "qemu64", "-serial", "stdio"])
                .args(["-kernel", "/inner/kernel", "-initrd", "/inner/initrd"])
                .args([
                    "-append",
                    "console=ttyS0 quiet panic=-1 mitigations=off nokaslr nosmp tsc=reliable lpj=4000000 cryptomgr.notests probe=inner",
                ])
                .args(["-device", &format!("vhost-vsock-pci,guest-cid={cid}")]);
            qemu
        }

        fn boot(cid: u64) -> Self {
            Self(Self::command(cid).stdin(Stdio::null()).spawn().unwrap())
        }

        fn runs(&mut self) -> bool {
            self.0.try_wait().unwrap().is_none()
        }

        fn signal(&self, signal: rustix::process::Signal) {
            rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), signal).unwrap();
        }

        fn kill(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }
}
