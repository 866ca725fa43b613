//! A real dockerd on this host, without a machine around it: the fast fixture for the Docker face, and what the engine
//! is measured against. It runs in a tree of Debian 13's packages, the guest's own, in namespaces of its own.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::{Docker, Error, Result, Tools, debian, place, run, wait};

const PACKAGES: [&str; 14] = [
    "base-files",
    "base-passwd",
    "docker.io",
    "containerd",
    "runc",
    "tini",
    "iptables",
    "iproute2",
    "mount",
    "procps",
    "coreutils",
    "dash",
    "ca-certificates",
    "xz-utils",
];
const UP_WITHIN: Duration = Duration::from_secs(30);

/// A running dockerd. Dropping it ends it with its containers, mounts, network and cgroups.
pub struct Dockerd {
    child: Child,
    docker: Docker,
    cgroup: String,
    // Dropped last, in this order.
    _sockets: TempDir,
    data: TempDir,
}

impl Dockerd {
    /// Where dockerd sees the program that it was started with; its directory is that of [`Self::socket`].
    pub const PROGRAM: &str = "/run/sockets/docker-proxy";

    /// Starts one with an empty data root and waits until it answers. Needs root.
    ///
    /// # Errors
    /// What stood in the way, with the tail of dockerd's log.
    pub fn start() -> Result<Self> {
        Self::with(None, &[])
    }

    /// The same with more of dockerd's `arguments`, and with `program` at the path [`Self::PROGRAM`] that they may name.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with(program: Option<&Path>, arguments: &[&str]) -> Result<Self> {
        let tools = Tools::get()?;
        let tree = debian::tree("dockerd", &PACKAGES)?;
        let data = temporary(&place::dev("dockerd")?)?;
        // A socket's path has at most 107 bytes: not below a checkout.
        let sockets = temporary(&std::env::temp_dir())?;
        let cgroup = format!("dhow-test-{}", name_of(sockets.path()));
        let log = sockets.path().join("dockerd.log");
        if let Some(program) = program {
            let beside = sockets.path().join("docker-proxy");
            fs::copy(program, &beside).map_err(Error::io("copy", program))?;
        }
        let child = spawn(&tree, sockets.path(), data.path(), &cgroup, &log, arguments)?;
        let docker = Docker::new(tools, sockets.path().join("docker.sock"));
        let mut dockerd = Self { child, docker, cgroup, _sockets: sockets, data };
        dockerd.wait_up(&log)?;
        Ok(dockerd)
    }

    /// A client for it.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        self.docker.socket()
    }

    /// The process of the dockerd that runs now, as this side sees it.
    pub fn process(&self) -> Option<u32> {
        fn below(pid: u32) -> Option<u32> {
            let of = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
            if of("comm")?.trim() == "dockerd" {
                return Some(pid);
            }
            let children = of(&format!("task/{pid}/children"))?;
            children.split_whitespace().find_map(|child| below(child.parse().ok()?))
        }
        below(self.child.id())
    }

    /// Kills it, and waits until the next one answers.
    ///
    /// # Errors
    /// When there is none, or none comes.
    pub fn kill(&mut self) -> Result<()> {
        let before = self.process();
        let pid = before.map(|pid| pid.to_string()).unwrap_or_default();
        run::Run::new("kill").args(["-KILL", &pid]).ok()?;
        let log = self.docker.socket().with_file_name("dockerd.log");
        wait::until("dockerd to die", UP_WITHIN, || (self.process() != before).then_some(()))?;
        self.wait_up(&log)
    }

    /// Its data root, on the disk that holds `.dev/`.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    fn wait_up(&mut self, log: &Path) -> Result<()> {
        let mut ended = None;
        let up = wait::until("dockerd to answer", UP_WITHIN, || {
            ended = self.child.try_wait().ok().flatten();
            (ended.is_some() || (self.docker.socket().exists() && self.docker.answers())).then_some(())
        });
        if up.is_ok() && ended.is_none() {
            return Ok(());
        }
        let said = fs::read_to_string(log).unwrap_or_default();
        let tail: Vec<&str> = said.lines().rev().take(15).collect();
        let output = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        let status = ended.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        Err(Error::Failed { command: "dockerd".to_owned(), status, output })
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // `unshare --kill-child` ends the namespaces' first process with itself, and the kernel all others with that.
        run::kill(&mut self.child);
        let gone = || remove_cgroups(&self.cgroup).then_some(());
        if let Err(error) = wait::until("the cgroups of dockerd to empty", Duration::from_secs(10), gone) {
            eprintln!("{error}: {}", self.cgroup);
        }
    }
}

fn spawn(
    tree: &Path,
    sockets: &Path,
    data: &Path,
    cgroup: &str,
    log: &Path,
    arguments: &[&str],
) -> Result<Child> {
    let log = File::create(log).map_err(Error::io("create", log))?;
    let log_too = log.try_clone().map_err(Error::io("open again", tree))?;
    let mut command = Command::new("unshare");
    command
        .args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child=KILL",
            "sh",
            "-c",
            include_str!("dockerd.sh"),
            "sh",
        ])
        .args([tree, sockets, data])
        .arg(cgroup)
        .args(arguments)
        .env("DHOW_PORTS_SOCKET", "/run/sockets/ports.sock")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(log_too);
    run::spawn(&mut command)
}

/// Removes the cgroup's directories from all hierarchies, innermost first; false while one is still in use.
fn remove_cgroups(name: &str) -> bool {
    let top = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(top).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    std::iter::once(top.to_path_buf())
        .chain(hierarchies)
        .map(|hierarchy| hierarchy.join(name))
        .filter(|dir| dir.is_dir())
        .filter(|dir| !remove_tree_of_cgroups(dir))
        .count()
        == 0
}

fn remove_tree_of_cgroups(dir: &Path) -> bool {
    for entry in fs::read_dir(dir).into_iter().flatten().filter_map(std::result::Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !remove_tree_of_cgroups(&entry.path()) {
            return false;
        }
    }
    fs::remove_dir(dir).is_ok()
}

fn temporary(parent: &Path) -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("dhow-dockerd-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(parent)
        .map_err(Error::io("create directory in", parent))
}

fn name_of(path: &Path) -> String {
    PathBuf::from(path.file_name().unwrap_or_default()).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Image;

    /// Issue 2: the fixture runs containers from offline images, and leaves nothing behind.
    #[test]
    #[ignore = "needs root, fetches packages: ./dev test face"]
    fn a_dockerd_runs_a_container_and_leaves_nothing_behind() {
        let dockerd = Dockerd::start().unwrap();
        Image::Busybox.ensure(dockerd.docker()).unwrap();
        let said = dockerd.docker().ok(["run", "--rm", Image::Busybox.name(), "echo", "hello"]).unwrap();
        assert_eq!(said, "hello");
        let (data, cgroup) = (dockerd.data().to_path_buf(), dockerd.cgroup.clone());
        drop(dockerd);
        assert!(!data.exists());
        assert!(!Path::new("/sys/fs/cgroup").join(&cgroup).exists());
        assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&*data.to_string_lossy()));
    }
}
