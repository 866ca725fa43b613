//! Boots a guest whose process 1 is the `vsock_probe` example.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_types,
    reason = "a test: a panic is its report"
)]
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dhow_assets::guest::modules::Modules;
use dhow_assets::image::cpio;
use dhow_assets::image::tree::{Content, Tree};
use dhow_model::Arch;

const QEMU: &str = "/usr/bin/qemu-system-x86_64";

/// What QEMU loads for a machine without a display: firmware, and what starts a kernel.
const ROMS: [&str; 4] = ["bios-256k.bin", "pvh.bin", "linuxboot_dma.bin", "kvmvapic.bin"];

/// A kernel, its modules, and the program.
pub struct Kit {
    pub kernel: Vec<u8>,
    modules: Tree,
    order: Modules,
    probe: Vec<u8>,
}

impl Kit {
    pub fn make() -> Self {
        let packages = dhow_testkit::debian::tree("kernel", &["linux-image-cloud-amd64"]).unwrap();
        let packed = find(&packages.join("boot"), "vmlinuz-");
        let kernel =
            dhow_assets::guest::kernel::extract(&fs::read(packed).unwrap(), "vmlinuz", Arch::Amd64).unwrap();
        let mut modules = Tree::default();
        let release = find(&packages.join("usr/lib/modules"), "");
        for part in ["kernel/net/vmw_vsock", "kernel/drivers/vhost", "kernel/drivers/net", "kernel/net"] {
            for entry in fs::read_dir(release.join(part)).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    let name = path.file_name().unwrap().to_str().unwrap();
                    modules.file(&format!("modules/{name}"), fs::read(&path).unwrap());
                }
            }
        }
        let order = Modules::unpack(&mut modules, "modules").unwrap();
        Self { kernel, modules, order, probe: probe() }
    }

    /// An initial RAM disk that loads these modules and what they need.
    pub fn initrd(&self, names: &[&str]) -> Tree {
        let mut tree = Tree::default();
        tree.insert("init", 0o755, Content::file(self.probe.clone()));
        for (number, module) in self.order.in_order(names).into_iter().enumerate() {
            let bytes = self.modules.bytes(&module.path).unwrap();
            tree.file(&format!("modules/{number:02}-{}.ko", module.name), bytes.as_slice());
        }
        // The console of process 1.
        tree.insert("dev/console", 0o600, Content::Character { major: 5, minor: 1 });
        tree
    }
}

pub fn pack(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    cpio::write(tree, &mut bytes).unwrap();
    bytes
}

/// Puts the host's QEMU into a tree, with the libraries and ROMs that it needs.
pub fn add_qemu(tree: &mut Tree) {
    let listed = Command::new("ldd").arg(QEMU).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut files: BTreeSet<&str> = listed.split_whitespace().filter(|word| word.starts_with('/')).collect();
    files.insert(QEMU);
    for file in files {
        tree.insert(file.trim_start_matches('/'), 0o755, Content::file(fs::read(file).unwrap()));
    }
    for rom in ROMS {
        let path = ["/usr/share/qemu", "/usr/share/seabios"].map(|place| Path::new(place).join(rom));
        let path = path.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("no {rom}"));
        tree.file(&format!("usr/share/qemu/{rom}"), fs::read(path).unwrap());
    }
}

/// The example, linked statically.
fn probe() -> Vec<u8> {
    let target = "x86_64-unknown-linux-musl";
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--example",
            "vsock_probe",
            "--target",
            target,
            "--message-format",
            "json",
        ])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "the probe does not build");
    let messages = String::from_utf8(output.stdout).unwrap();
    let path = messages.lines().find_map(|line| line.split_once(r#""executable":""#)?.1.split('"').next());
    fs::read(path.expect("cargo named no executable")).unwrap()
}

fn find(directory: &Path, prefix: &str) -> PathBuf {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(prefix);
    entries.into_iter().find(named).unwrap_or_else(|| panic!("no {prefix} in {}", directory.display()))
}

/// A running QEMU, killed when it is dropped.
pub struct Machine {
    qemu: Child,
    _files: tempfile::TempDir,
}

impl Machine {
    /// Boots `initrd`. `more` are further arguments of QEMU, `append` of the kernel.
    pub fn boot(kernel: &[u8], initrd: &[u8], append: &str, memory: &str, more: &[&str]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let (kernel_file, initrd_file) = (files.path().join("kernel"), files.path().join("initrd"));
        for (path, bytes) in [(&kernel_file, kernel), (&initrd_file, initrd)] {
            fs::File::create(path).unwrap().write_all(bytes).unwrap();
        }
        let qemu = Command::new(QEMU)
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
                "-m",
                memory,
                "-smp",
                "2",
            ])
            .args([
                "-M",
                "q35,usb=off",
                "-accel",
                "tcg,thread=multi,tb-size=512",
                "-cpu",
                "max",
                "-serial",
                "stdio",
            ])
            .arg("-kernel")
            .arg(kernel_file)
            .arg("-initrd")
            .arg(initrd_file)
            .args(["-append", &format!("console=ttyS0 quiet panic=-1 tsc=reliable {append}")])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { qemu, _files: files }
    }

    /// Prints what the guest says until it says `last` or ends, at the latest after `limit`; returns it.
    pub fn listen(&mut self, last: &str, limit: Duration) -> Vec<String> {
        let start = Instant::now();
        let (lines, heard) = std::sync::mpsc::channel();
        let mut out = BufReader::new(self.qemu.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            let mut line = Vec::new();
            while matches!(out.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if lines.send(text).is_err() {
                    break;
                }
            }
        });
        let mut all = Vec::new();
        while let Ok(line) = heard.recv_timeout(limit.saturating_sub(start.elapsed())) {
            println!("[{:6.1}] {line}", start.elapsed().as_secs_f32());
            let ends = line == last;
            all.push(line);
            if ends {
                break;
            }
        }
        self.kill();
        reader.join().unwrap();
        all
    }

    /// Processor time that QEMU has taken, from `/proc/PID/stat` in ticks of 10 ms.
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.qemu.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: u64 = [11, 12].iter().map(|field| fields[*field].parse::<u64>().unwrap()).sum();
        Duration::from_millis(10 * ticks)
    }

    pub fn kill(&mut self) {
        drop(self.qemu.kill());
        drop(self.qemu.wait());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}
