//! The images that checks run in: made from the distribution's packages without a registry, or pulled from one that the user names. Each is
//! brought into the engine once in a run, and taken out again at its end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use dhow_assets::{BuildOptions, Made, Progress, Rootfs, Store, rootfs};
use dhow_model::Arch;
use tokio::sync::mpsc;

use crate::checks::Check;
use crate::docker::{Body, Docker};
use crate::error::{Error, Result};
use crate::programs;
use crate::report::ImageReport;
use crate::run::Tell;

/// For an archive of 300 MB to go into an engine under software emulation.
const IMPORT: Duration = Duration::from_secs(600);

/// What a check runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Image {
    /// Our own static programs and nothing else.
    Programs,
    /// A static busybox.
    Busybox,
    /// glibc, a shell, coreutils, Python, compilers, LuaJIT, a Go program, musl, dpkg and apt.
    Debian,
    /// Node.js.
    Node,
}

/// Where images come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The distribution's packages, through the store of boot assets.
    Packages {
        /// The store's directory.
        store: PathBuf,
        /// Where the packages are, instead of what the host's configuration says.
        mirror: Option<String>,
        /// Look for newer packages than those of the last time.
        refresh: bool,
    },
    /// A registry, with the path below which it has the usual images; what is in none of them is still made from packages.
    Registry {
        /// Such as `docker.io/library`.
        prefix: String,
        /// As above.
        store: PathBuf,
        /// As above.
        mirror: Option<String>,
    },
}

/// The images of one run.
pub(crate) struct Images<'a> {
    docker: &'a Docker,
    source: &'a Source,
    pull: Duration,
    /// What was brought, or why it could not be.
    known: BTreeMap<(String, Arch), Result<String, String>>,
    reports: Vec<ImageReport>,
    ours: Vec<String>,
}

impl<'a> Images<'a> {
    pub(crate) fn new(docker: &'a Docker, source: &'a Source, pull: Duration) -> Self {
        Self { docker, source, pull, known: BTreeMap::new(), reports: Vec::new(), ours: Vec::new() }
    }

    /// The image and the command of a check, there in the engine; or why not. A second try is not made.
    pub(crate) async fn of(
        &mut self,
        check: &Check,
        arch: Arch,
        tell: &mut Tell<'_>,
    ) -> Result<(String, Vec<String>), String> {
        if let (Source::Registry { prefix, .. }, Some(public)) = (self.source, &check.public) {
            let name = format!("{}/{}", prefix.trim_end_matches('/'), public.image);
            let image = self.pulled(&name, arch, tell).await?;
            return Ok((image, public.command.clone().unwrap_or_else(|| check.command.clone())));
        }
        Ok((self.made(check.image, arch, tell).await?, check.command.clone()))
    }

    /// An image of ours.
    pub(crate) async fn made(
        &mut self,
        image: Image,
        arch: Arch,
        tell: &mut Tell<'_>,
    ) -> Result<String, String> {
        let key = (image.name().to_owned(), arch);
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let brought = self.bring(image, arch, tell).await.map_err(|error| error.to_string());
        self.known.insert(key, brought.clone());
        brought
    }

    async fn pulled(&mut self, name: &str, arch: Arch, tell: &mut Tell<'_>) -> Result<String, String> {
        let key = (name.to_owned(), arch);
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        tell(&format!("pulling {name} for {arch}"));
        let pulled = match self.docker.pull(name, arch, self.pull).await {
            Ok(()) => match self.docker.image_arch(name).await {
                Ok(Some(found)) if found == arch.debian() => Ok(name.to_owned()),
                Ok(found) => {
                    Err(format!("{name} came for {}", found.unwrap_or_else(|| "nothing".to_owned())))
                }
                Err(error) => Err(error.to_string()),
            },
            Err(error) => Err(error.to_string()),
        };
        if pulled.is_ok() {
            self.reports.push(ImageReport { name: name.to_owned(), arch, packages: BTreeMap::new() });
        }
        // One tag holds one architecture: the next pull of the same name for another one replaces it.
        self.known.retain(|(known, _), _| known != name);
        self.known.insert(key, pulled.clone());
        pulled
    }

    async fn bring(&mut self, image: Image, arch: Arch, tell: &mut Tell<'_>) -> Result<String> {
        let (archive, sha256, packages) = match image.rootfs(arch) {
            None => {
                let bytes = programs::archive(arch);
                let sha256 = crate::judge::digest(&bytes);
                (Body::Tar(bytes), sha256, BTreeMap::new())
            }
            Some(recipe) => {
                tell(&format!("making the image {} for {arch}", image.name()));
                let made = self.make(image, recipe, arch, tell).await?;
                (Body::File(made.path), made.sha256, made.packages.into_iter().collect())
            }
        };
        let name = format!("dhow-verify/{}:{arch}-{:.12}", image.name(), sha256);
        if self.docker.image_arch(&name).await?.as_deref() != Some(arch.debian()) {
            tell(&format!("loading the image {} for {arch}", image.name()));
            self.docker.import(archive, &name, arch, IMPORT).await?;
        }
        self.reports.push(ImageReport { name: name.clone(), arch, packages });
        self.ours.push(name.clone());
        Ok(name)
    }

    async fn make(&self, image: Image, recipe: Rootfs, arch: Arch, tell: &mut Tell<'_>) -> Result<Made> {
        let (store, mut options) = (self.store(), BuildOptions::new(arch, PathBuf::new()));
        let (Source::Packages { mirror, .. } | Source::Registry { mirror, .. }) = self.source;
        options.mirror = mirror.clone().or(options.mirror);
        options.refresh = matches!(self.source, Source::Packages { refresh: true, .. });
        let (said, mut heard) = mpsc::unbounded_channel();
        let work = tokio::task::spawn_blocking(move || {
            let store = Store::open(store)?;
            let finish = |tree: &mut dhow_assets::image::tree::Tree| image.finish(tree);
            rootfs(&store, &options, &recipe, &finish, &mut |progress| {
                // Nobody listens any more when the run was given up.
                said.send(words(&progress)).ok();
            })
        });
        while let Some(words) = heard.recv().await {
            tell(&words);
        }
        Ok(work.await.map_err(|error| Error::Lost(error.to_string()))??)
    }

    fn store(&self) -> PathBuf {
        let (Source::Packages { store, .. } | Source::Registry { store, .. }) = self.source;
        store.clone()
    }

    /// What was brought.
    pub(crate) fn reports(&self) -> Vec<ImageReport> {
        self.reports.clone()
    }

    /// Takes out again what this run put in. What was pulled stays, as after `docker pull`.
    pub(crate) async fn remove(&self) {
        for image in &self.ours {
            // Another run may use it; it removes it, too.
            self.docker.remove_image(image).await.ok();
        }
    }
}

impl Image {
    /// A word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Programs => "programs",
            Self::Busybox => "busybox",
            Self::Debian => "debian",
            Self::Node => "node",
        }
    }

    /// What it is made of; `None` for what is made here.
    fn rootfs(self, arch: Arch) -> Option<Rootfs> {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let packages = match self {
            Self::Programs => return None,
            Self::Busybox => "busybox-static",
            Self::Debian => {
                "bash coreutils dash debianutils diffutils libc-bin findutils grep sed gzip tar dpkg apt python3 tcc libc6-dev musl-dev
                 luajit gosu"
            }
            Self::Node => "nodejs dash coreutils libc-bin",
        };
        let arch = arch.kernel();
        Some(Rootfs {
            name: format!("verify-{}", self.name()),
            packages: words(packages),
            // What only installs, configures or describes.
            excluded: words(
                "adduser base-files base-passwd cdebconf debconf debconf-2.0 init-system-helpers perl perl-base passwd
                 sysvinit-utils ca-certificates openssl nodejs-doc npm tzdata media-types",
            ),
            dropped: words(&format!(
                "usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/lintian usr/share/bash-completion
                 usr/share/bug usr/share/zoneinfo usr/lib/{arch}-linux-gnu/gconv usr/share/nodejs/corepack
                 usr/lib/systemd usr/share/gdb usr/share/zsh etc/cron.daily"
            )),
        })
    }

    /// What installation scripts would have done, as far as the checks need it.
    fn finish(self, tree: &mut dhow_assets::image::tree::Tree) {
        use dhow_assets::image::tree::Content::Directory;
        for directory in ["dev", "proc", "sys", "run", "etc", "opt", "var/lib"] {
            if tree.get(directory).is_none() {
                tree.directory(directory);
            }
        }
        tree.insert("root", 0o700, Directory);
        tree.insert("tmp", 0o1777, Directory);
        tree.file(
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
        );
        tree.file("etc/group", "root:x:0:\nnogroup:x:65534:\n");
        match self {
            Self::Busybox => {
                for applet in APPLETS.split_whitespace() {
                    let path = format!("usr/bin/{applet}");
                    if tree.get(&path).is_none() {
                        tree.symlink(&path, "busybox");
                    }
                }
            }
            Self::Debian => {
                // dpkg's own package ships the directories, not the database.
                tree.file("var/lib/dpkg/status", "");
                tree.file("var/lib/dpkg/available", "");
                for (path, content) in crate::checks::sources() {
                    tree.file(path, content);
                }
            }
            Self::Programs | Self::Node => {}
        }
    }
}

/// What the scripts of the checks call.
const APPLETS: &str = "sh ash cat chmod cut date echo env expr false flock grep head hostname httpd id kill ln ls mkdir mkfifo mv nc \
    ping printf ps readlink rm sed seq sleep sort stat test tr true truncate uname wc wget yes [";

fn words(progress: &Progress) -> String {
    match progress {
        Progress::Begin { step, detail } => format!("{} {detail}", step.verb()),
        Progress::Bytes { step, detail, done, total } => {
            format!("{} {detail} ({} of {} MiB)", step.verb(), done >> 20, total >> 20)
        }
        Progress::Note { text } => text.clone(),
    }
}
