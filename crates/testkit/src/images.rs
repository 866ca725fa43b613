//! Images made without a registry: a static busybox, and a Debian root with a web server and a key-value store in it.
//! The archives are kept in `.dev/images/`; the same packages give the same bytes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Docker, Error, Result, Run, debian, place};

/// An image that tests may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// A static busybox with all its applets: 2 MB.
    Busybox,
    /// The same of the other architecture than this host's.
    ForeignBusybox,
    /// Debian 13 with bash, coreutils, nginx and redis: what a usual image looks like inside.
    Debian,
    /// Debian 13 with a program that sends packets of any form as fast as it can.
    Flood,
    /// Debian 13 with a registry of images.
    Registry,
    /// Debian 13 with PostgreSQL 17, its clients and its bench.
    Postgres,
}

const POSTGRES: &[&str] = &["base-files", "base-passwd", "dash", "coreutils", "util-linux", "postgresql-17"];

const REGISTRY: &[&str] = &["base-files", "base-passwd", "dash", "coreutils", "docker-registry"];

const FLOOD: &[&str] = &["base-files", "base-passwd", "dash", "coreutils", "hping3"];
const DEBIAN: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "dash",
    "coreutils",
    "grep",
    "sed",
    "libc-bin",
    "findutils",
    "procps",
    "iproute2",
    "nginx",
    "redis-server",
    "redis-tools",
    "curl",
    "iperf3",
    "iputils-ping",
    "socat",
];

impl Image {
    /// Those that any test may want.
    pub const ALL: [Self; 2] = [Self::Busybox, Self::Debian];

    /// The name it is imported under.
    pub fn name(self) -> &'static str {
        match self {
            Self::Busybox => "dhow-test/busybox:1",
            Self::ForeignBusybox => "dhow-test/busybox:foreign",
            Self::Debian => "dhow-test/debian:1",
            Self::Flood => "dhow-test/flood:1",
            Self::Registry => "dhow-test/registry:1",
            Self::Postgres => "dhow-test/postgres:1",
        }
    }

    /// Debian's name for the architecture of its programs.
    fn arch(self) -> &'static str {
        if self == Self::ForeignBusybox { foreign() } else { native() }
    }

    /// The archive of its root file system, made on first use.
    ///
    /// # Errors
    /// What [`debian::tree`] or tar says.
    pub fn archive(self) -> Result<PathBuf> {
        let tree = match self {
            Self::Busybox => debian::tree("busybox", &["busybox-static"])?,
            Self::ForeignBusybox => debian::files_of(foreign(), "busybox", &["busybox-static"])?,
            Self::Debian => debian::tree("image", DEBIAN)?,
            Self::Flood => debian::tree("flood", FLOOD)?,
            Self::Registry => debian::tree("registry", REGISTRY)?,
            Self::Postgres => debian::tree("postgres", POSTGRES)?,
        };
        let stem = tree.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let archive = place::dev("images")?.join(format!("{stem}.tar"));
        let _held = place::lock("images")?;
        if !archive.is_file() {
            let part = archive.with_extension("part");
            match self {
                Self::Busybox | Self::ForeignBusybox => pack_busybox(&tree, &part)?,
                Self::Debian | Self::Flood | Self::Registry | Self::Postgres => pack_debian(&tree, &part)?,
            }
            fs::rename(&part, &archive).map_err(Error::io("rename", &part))?;
        }
        Ok(archive)
    }

    /// Imports it into the engine unless the engine has it. Test processes that want the same wait for each other.
    ///
    /// # Errors
    /// What docker says.
    pub fn ensure(self, docker: &Docker) -> Result<&'static str> {
        let there =
            || docker.outcome(["image", "inspect", self.name()]).map(|outcome| outcome.status.success());
        if there()? {
            return Ok(self.name());
        }
        let archive = self.archive()?;
        let _held = place::lock(&format!("import-{}", place::key(&[&docker.socket().to_string_lossy()])))?;
        if !there()? {
            let mut import = docker.command();
            let changes = ["ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin", r#"CMD ["sh"]"#];
            import.args(["import", "--change", changes[0], "--change", changes[1]]);
            // Otherwise it would be of the engine's architecture, which need not be this host's.
            import.args(["--platform", &format!("linux/{}", self.arch())]);
            import.arg(&archive).arg(self.name());
            Run::from(import).limit(Duration::from_secs(300)).ok()?;
        }
        Ok(self.name())
    }
}

/// Debian's name for the other architecture than this host's.
pub fn foreign() -> &'static str {
    if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" }
}

/// Debian's name for this host's architecture.
pub fn native() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

fn pack_busybox(tree: &Path, archive: &Path) -> Result<()> {
    let busybox = tree.join("usr/bin/busybox");
    let dir = tempfile::tempdir().map_err(Error::io("create directory in", std::env::temp_dir()))?;
    let root = dir.path();
    for place in ["bin", "etc", "proc", "root", "sys", "tmp", "var"] {
        fs::create_dir_all(root.join(place)).map_err(Error::io("create directory", root.join(place)))?;
    }
    fs::copy(&busybox, root.join("bin/busybox")).map_err(Error::io("copy", &busybox))?;
    // That of the other architecture has the same applets and does not run here.
    let ours = debian::tree("busybox", &["busybox-static"])?.join("usr/bin/busybox");
    for applet in Run::new(&ours).arg("--list").ok()?.text().lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(applet))
            .map_err(Error::io("link", root.join("bin").join(applet)))?;
    }
    place::write(&root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    place::write(&root.join("etc/group"), "root:x:0:\n")?;
    pack(root, archive, &[])
}

fn pack_debian(tree: &Path, archive: &Path) -> Result<()> {
    // Programs of the packages' upkeep, a compiler that PostgreSQL uses only when it is told to, and data of libraries that no test uses.
    pack(
        tree,
        archive,
        &[
            "./usr/share/perl*",
            "./usr/lib/*/perl*",
            "./usr/lib/*/gconv",
            "./usr/lib/*/libLLVM*",
            "./usr/lib/*/libz3*",
            "./usr/lib/postgresql/*/lib/bitcode",
            "./usr/share/i18n",
            "./var/lib/dpkg",
            "./boot",
        ],
    )
}

/// One archive per tree, the same for everyone: sorted, owned by root, without times.
fn pack(tree: &Path, archive: &Path, without: &[&str]) -> Result<()> {
    Run::new("tar")
        .args([
            "--create",
            "--sort=name",
            "--mtime=@0",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--format=gnu",
        ])
        .args(without.iter().map(|pattern| format!("--exclude={pattern}")))
        .arg("--file")
        .arg(archive)
        .arg("--directory")
        .arg(tree)
        .arg(".")
        .ok()?;
    Ok(())
}
