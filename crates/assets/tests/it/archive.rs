//! A Debian archive with a kernel, a module or two and an engine, none of which does anything, signed by a key made for the test.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use dhow_assets::{BuildOptions, Recipe, hash};
use dhow_model::Arch;

use crate::server::Server;

pub const DATE: &str = "Sun, 01 Nov 2026 00:00:00 UTC";

/// An archive on disk, and the server for it.
pub struct Archive {
    pub directory: tempfile::TempDir,
    pub server: Server,
    packages: String,
}

impl Archive {
    /// The archive, or `None`, with the reason printed, where GnuPG is not installed.
    pub fn start() -> Option<Self> {
        if Command::new("gpg").arg("--version").stdout(Stdio::null()).status().is_err()
            || Command::new("gpgv").arg("--version").stdout(Stdio::null()).status().is_err()
        {
            println!("skipped: gpg and gpgv are needed to sign a test archive");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("debian/pool")).unwrap();
        let server = Server::start(directory.path().to_path_buf());
        let mut archive = Self { directory, server, packages: String::new() };
        archive.make_key();
        archive.add("linux-image-cloud-amd64", "6.1", "linux-image-6.1 (= 6.1)", &[]);
        let modules = "usr/lib/modules/6.1-test/kernel";
        archive.add(
            "linux-image-6.1",
            "6.1",
            "initramfs-tools",
            &[
                ("boot/vmlinuz-6.1-test", 0o644, kernel()),
                (&format!("{modules}/fs/overlay.ko"), 0o644, module("overlay", "")),
                (&format!("{modules}/drivers/virtio_blk.ko"), 0o644, module("virtio_blk", "virtio-core")),
                (&format!("{modules}/drivers/virtio-core.ko"), 0o644, module("virtio_core", "")),
                ("usr/lib/modules/6.1-test/modules.builtin", 0o644, b"kernel/fs/ext4.ko\n".to_vec()),
            ],
        );
        let mut state = 88_172_645_463_325_252_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(300_000)
        .collect();
        archive.add(
            "engine",
            "26",
            "library (>= 1)",
            &[
                ("usr/sbin/dockerd", 0o755, noise),
                ("usr/share/doc/engine/copyright", 0o644, b"free".to_vec()),
                ("bin/tool", 0o755, b"#!/bin/sh\n".to_vec()),
            ],
        );
        archive.add("library", "1.2", "", &[("usr/lib/library.so", 0o644, vec![3; 5000])]);
        archive.publish(None);
        Some(archive)
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    /// Adds a package; [`Self::publish`] makes it known.
    pub fn add(&mut self, name: &str, version: &str, depends: &str, files: &[(&str, u32, Vec<u8>)]) {
        let deb = deb(files);
        let filename = format!("pool/{name}_{version}.deb");
        write(&self.path(&format!("debian/{filename}")), &deb);
        let depends = if depends.is_empty() { String::new() } else { format!("Depends: {depends}\n") };
        write!(
            self.packages,
            "Package: {name}\nVersion: {version}\n{depends}Filename: {filename}\nSize: {}\nSHA256: {}\n\n",
            deb.len(),
            hash::bytes(&deb)
        )
        .unwrap();
    }

    /// Writes and signs the index.
    pub fn publish(&self, valid_until: Option<&str>) {
        let mut xz = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0)).unwrap();
        xz.write_all(self.packages.as_bytes()).unwrap();
        let index = xz.finish().unwrap();
        let digest = hash::bytes(&index);
        let base = "debian/dists/trixie";
        write(&self.path(&format!("{base}/main/binary-amd64/by-hash/SHA256/{digest}")), &index);
        let until = valid_until.map_or_else(String::new, |until| format!("Valid-Until: {until}\n"));
        let release = format!(
            "Origin: Test\nCodename: trixie\nDate: {DATE}\n{until}Acquire-By-Hash: yes\nSHA256:\n {digest} {} main/binary-amd64/Packages.xz\n",
            index.len()
        );
        write(&self.path("release"), release.as_bytes());
        self.gpg(
            &["--yes", "--clearsign", "--output"],
            &[&self.path(&format!("{base}/InRelease")), &self.path("release")],
        );
    }

    /// Where the index of packages is.
    pub fn index(&self) -> PathBuf {
        let directory = self.path("debian/dists/trixie/main/binary-amd64/by-hash/SHA256");
        directory.read_dir().unwrap().next().unwrap().unwrap().path()
    }

    fn make_key(&self) {
        std::fs::create_dir_all(self.path("gpg")).unwrap();
        std::fs::set_permissions(self.path("gpg"), std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .unwrap();
        self.gpg(&["--passphrase", "", "--quick-gen-key", "test@dhow.test", "ed25519", "sign", "never"], &[]);
        self.gpg(&["--output"], &[&self.path("keyring.gpg"), Path::new("--export")]);
    }

    fn gpg(&self, words: &[&str], paths: &[&Path]) {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(self.path("gpg")).args([
            "--batch",
            "--quiet",
            "--pinentry-mode",
            "loopback",
        ]);
        let output = command.args(words).args(paths).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Options for a build from this archive, and an agent for it.
    pub fn options(&self) -> BuildOptions {
        let agent = self.path("agent");
        if !agent.exists() {
            write_agent(&agent, b"first");
        }
        let mut options = BuildOptions::new(Arch::Amd64, agent);
        options.mirror = Some(format!("{}/debian", self.server.address));
        options.apt = self.path("no-apt");
        options.keyring = self.path("keyring.gpg");
        options.recipe = recipe();
        options.first_pause = Duration::from_millis(1);
        options
    }
}

impl Drop for Archive {
    /// The key's agent is a process of its own.
    fn drop(&mut self) {
        let mut command = Command::new("gpgconf");
        command.arg("--homedir").arg(self.path("gpg")).args(["--kill", "all"]).status().ok();
    }
}

pub fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    dhow_home::atomic::write(path, content, 0o644).unwrap();
}

/// Flips one bit in the middle of a file.
pub fn flip(path: &Path, at: usize) {
    let mut content = std::fs::read(path).unwrap();
    content[at] ^= 0x04;
    write(path, &content);
}

pub fn write_agent(path: &Path, tail: &[u8]) {
    write_agent_for(path, Arch::Amd64, tail);
}

pub fn write_agent_for(path: &Path, arch: Arch, tail: &[u8]) {
    let mut program = b"\x7fELF\x02\x01\x01".to_vec();
    program.resize(64, 0);
    program[16..18].copy_from_slice(&2_u16.to_le_bytes());
    program[18..20].copy_from_slice(&arch.elf_machine().to_le_bytes());
    program.extend_from_slice(tail);
    dhow_home::atomic::write(path, &program, 0o755).unwrap();
}

fn recipe() -> Recipe {
    Recipe {
        packages: vec!["linux-image-cloud-ARCH".into(), "engine".into()],
        early_modules: vec!["virtio_blk".into(), "ext4".into(), "overlay".into()],
        engine_modules: vec!["virtio_blk".into()],
        vsock_modules: Vec::new(),
        ..Recipe::default()
    }
}

/// deb(5), with the files compressed as Debian does.
fn deb(files: &[(&str, u32, Vec<u8>)]) -> Vec<u8> {
    let mut data = tar::Builder::new(Vec::new());
    for (path, mode, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_path(format!("./{path}")).unwrap();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        data.append(&header, content.as_slice()).unwrap();
    }
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0)).unwrap();
    xz.write_all(&data.into_inner().unwrap()).unwrap();
    let mut archive = ar::Builder::new(Vec::new());
    for (name, content) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar", Vec::new()),
        ("data.tar.xz", xz.finish().unwrap()),
    ] {
        let header = ar::Header::new(name.as_bytes().to_vec(), content.len() as u64);
        archive.append(&header, content.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// An ELF file with a note that names a PVH entry.
fn kernel() -> Vec<u8> {
    let mut bytes = elf_header();
    bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
    bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
    bytes[56..58].copy_from_slice(&1_u16.to_le_bytes());
    let mut segment = vec![0; 56];
    segment[0] = 4;
    segment[8..16].copy_from_slice(&120_u64.to_le_bytes());
    segment[32..40].copy_from_slice(&20_u64.to_le_bytes());
    bytes.extend(segment);
    for word in [4_u32, 4, 18] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(b"Xen\0\0\0\0\x01");
    bytes.resize(9000, 0x90);
    bytes
}

/// An ELF file with a `.modinfo` section.
fn module(name: &str, depends: &str) -> Vec<u8> {
    let info = format!("name={name}\0depends={depends}\0alias=test-{name}\0");
    let names = b"\0.modinfo\0.shstrtab\0";
    let mut bytes = elf_header();
    bytes.extend(info.as_bytes());
    let (info_at, names_at) = (64, bytes.len());
    bytes.extend(names);
    let table = bytes.len() as u64;
    bytes[40..48].copy_from_slice(&table.to_le_bytes());
    for (at, value) in [(58, 64_u16), (60, 3), (62, 2)] {
        bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    for (name, offset, size) in [(0_u32, 0, 0), (1, info_at, info.len()), (10, names_at, names.len())] {
        let mut section = vec![0; 64];
        section[0..4].copy_from_slice(&name.to_le_bytes());
        section[24..32].copy_from_slice(&(offset as u64).to_le_bytes());
        section[32..40].copy_from_slice(&(size as u64).to_le_bytes());
        bytes.extend(section);
    }
    bytes
}

fn elf_header() -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(64, 0);
    bytes[16..18].copy_from_slice(&2_u16.to_le_bytes());
    bytes[18..20].copy_from_slice(&Arch::Amd64.elf_machine().to_le_bytes());
    bytes
}
