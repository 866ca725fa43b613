//! The ways to a socket: itself, the face, two reverse proxies, `socat`, `ssh -L`. Each forward is a process of its own.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use dhow_docker::{ByteStream, Engines, Face, LogHooks, Unavailable};
use dhow_model::placement::{Guest, Host, Placement};
use dhow_model::{Arch, Record, Role};
use dhow_testkit::{Run, run, wait};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::proxies;

pub struct Way {
    pub name: &'static str,
    pub socket: PathBuf,
    child: Option<Child>,
}

impl Way {
    /// Processor time of the forward and of its children, those that have ended as well (`socat` makes one for each
    /// connection).
    pub fn cpu_seconds(&self) -> f64 {
        self.child.as_ref().map_or(0.0, |child| cpu_seconds(child.id()))
    }
}

fn cpu_seconds(pid: u32) -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let of = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    // proc(5): utime, stime, cutime and cstime are fields 14 to 17; the second may contain spaces.
    let stat = of("stat");
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(4);
    let own: f64 = fields.map(|ticks| ticks.parse::<f64>().unwrap() / TICKS_PER_SECOND).sum();
    let children = of(&format!("task/{pid}/children"));
    own + children.split_whitespace().map(|child| cpu_seconds(child.parse().unwrap())).sum::<f64>()
}

/// All ways to one socket that this machine can offer, the direct one first.
pub struct Paths {
    ways: Vec<Way>,
    _dir: TempDir,
}

impl Paths {
    pub fn to(upstream: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("bench").tempdir().unwrap();
        let mut paths =
            Self { ways: vec![Way { name: "direct", socket: upstream.to_owned(), child: None }], _dir: dir };
        let own = std::env::current_exe().unwrap();
        let listen = paths.place("face");
        let mut face = Command::new(own);
        face.arg("serve").arg(&listen).arg(upstream);
        paths.add("face", listen, Ok(face));
        for (name, proxy) in proxies::ALL {
            let listen = paths.place(name);
            let command = proxy(paths._dir.path(), &listen, upstream);
            paths.add(name, listen, command);
        }
        let listen = paths.place("socat");
        let socat = installed("socat").map(|program| {
            let mut socat = Command::new(program);
            socat
                .args(["-b", "262144"])
                .arg(format!("UNIX-LISTEN:{},fork,backlog=128", listen.display()))
                .arg(format!("UNIX-CONNECT:{}", upstream.display()));
            socat
        });
        paths.add("socat", listen, socat);
        let listen = paths.place("ssh");
        let forward = ssh(paths._dir.path(), &listen, upstream);
        paths.add("ssh -L", listen, forward);
        paths
    }

    pub fn all(&self) -> &[Way] {
        &self.ways
    }

    /// The most memory that the face's process has had.
    pub fn peak_memory(&self) -> String {
        let pid =
            self.ways.iter().find(|way| way.name == "face").and_then(|way| way.child.as_ref()).unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        peak.trim().to_owned()
    }

    fn place(&self, name: &str) -> PathBuf {
        self._dir.path().join(name)
    }

    fn add(&mut self, name: &'static str, socket: PathBuf, command: Result<Command, String>) {
        let mut command = match command {
            Ok(command) => command,
            Err(why) => return println!("{name}: skipped: {why}"),
        };
        // In a group of its own: nginx and `socat` have children, which would outlive them.
        command.process_group(0).stdin(Stdio::null()).stderr(Stdio::null());
        let mut child = run::spawn(&mut command).unwrap();
        match wait::until(name, Duration::from_secs(10), || UnixStream::connect(&socket).ok()) {
            Ok(_) => self.ways.push(Way { name, socket, child: Some(child) }),
            Err(error) => {
                end(&mut child);
                println!("{name}: skipped: {error}");
            }
        }
    }
}

/// Ends a forward and whatever it has started.
fn end(child: &mut Child) {
    if let Err(error) = rustix::process::kill_process_group(Pid::from_child(child), Signal::KILL) {
        println!("a forward's processes cannot be ended: {error}");
    }
    run::kill(child);
}

impl Drop for Paths {
    fn drop(&mut self) {
        self.ways.iter_mut().filter_map(|way| way.child.as_mut()).for_each(end);
    }
}

fn installed(program: &str) -> Result<PathBuf, String> {
    let places =
        ["/usr/local/bin", "/usr/bin", "/usr/sbin", "/bin"].map(|place| Path::new(place).join(program));
    places.into_iter().find(|path| path.exists()).ok_or_else(|| format!("{program} is not installed"))
}

/// `ssh -L` to a server of our own that it starts as its proxy command: no port, no configuration of the user's.
fn ssh(dir: &Path, listen: &Path, upstream: &Path) -> Result<Command, String> {
    let (ssh, sshd, keygen) = (installed("ssh")?, installed("sshd")?, installed("ssh-keygen")?);
    let key = dir.join("key");
    Run::new(keygen)
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key)
        .ok()
        .map_err(|error| error.to_string())?;
    std::fs::copy(key.with_extension("pub"), dir.join("authorized")).unwrap();
    let settings = format!(
        "HostKey {0}/key\nAuthorizedKeysFile {0}/authorized\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\n",
        dir.display()
    );
    let mut file = std::fs::File::create(dir.join("sshd_config")).unwrap();
    file.write_all(settings.as_bytes()).unwrap();
    // sshd insists on a directory below /run that only a boot would make.
    let server = format!(
        "unshare --mount sh -c 'mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec {} -i -f {}/sshd_config'",
        sshd.display(),
        dir.display()
    );
    let mut command = Command::new(ssh);
    command
        .args(["-F", "none", "-N", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-i"])
        .arg(&key);
    command.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "ExitOnForwardFailure=yes", "-o"]);
    command.arg(format!("ProxyCommand={server}"));
    command.arg("-L").arg(format!("{}:{}", listen.display(), upstream.display())).arg("root@bench");
    Ok(command)
}

/// The face's process.
pub fn serve(listen: &Path, upstream: &Path) {
    struct Socket(PathBuf);

    #[async_trait::async_trait]
    impl Engines for Socket {
        async fn dial(&self, _: Role) -> Result<Box<dyn ByteStream>, Unavailable> {
            let stream = tokio::net::UnixStream::connect(&self.0).await;
            let stream =
                stream.map_err(|error| Unavailable { what: error.to_string(), run: "dhow up".into() })?;
            dhow_docker::widen(&stream);
            Ok(Box::new(stream))
        }

        fn running(&self) -> Vec<Role> {
            vec![Role::Native]
        }

        fn placement(&self) -> Placement {
            Placement::NativeMachine
        }

        async fn host(&self) -> Host {
            Host {
                name: String::new(),
                placement: self.placement(),
                native: Guest::from(Arch::host().unwrap()),
                translators: Vec::new(),
                foreign: Err(String::new()),
            }
        }

        fn record(&self, _: Role) -> Option<Record> {
            None
        }
    }

    let processors = std::thread::available_parallelism().unwrap().get();
    let runtime = dhow_docker::runtime(processors).unwrap();
    let (listen, upstream) = (listen.to_owned(), upstream.to_owned());
    // On a worker, as in the daemon: the thread of `block_on` is woken through another one.
    let serving = runtime.spawn(async move {
        let listener = tokio::net::UnixListener::bind(listen).unwrap();
        let face = Face::new(Arc::new(Socket(upstream)), Arc::new(LogHooks));
        face.serve(listener, CancellationToken::new()).await.unwrap();
    });
    runtime.block_on(serving).unwrap();
}

/// An engine that reads any body and drops it, and pours out 256 MB for a GET.
pub struct End {
    socket: PathBuf,
    _dir: TempDir,
}

impl End {
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}

pub fn end_of_pipe() -> End {
    let dir = tempfile::Builder::new().prefix("bench").tempdir().unwrap();
    let socket = dir.path().join("end");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || drop(swallow_or_pour(stream)));
        }
    });
    End { socket, _dir: dir }
}

fn swallow_or_pour(mut stream: UnixStream) -> std::io::Result<()> {
    let mut piece = vec![0; 256 * 1024];
    let first = stream.read(&mut piece)?;
    if piece.starts_with(b"GET") {
        let bytes = super::MEGABYTES << 20;
        write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {bytes}\r\n\r\n")?;
        for _ in 0..bytes / piece.len() {
            stream.write_all(&piece)?;
        }
        return Ok(());
    }
    let mut last = piece[first.saturating_sub(7)..first].to_vec();
    while first > 0 && !last.ends_with(b"\r\n0\r\n\r\n") {
        let n = stream.read(&mut piece)?;
        if n == 0 {
            return Ok(());
        }
        last.extend_from_slice(&piece[n.saturating_sub(7)..n]);
        last.drain(..last.len().saturating_sub(7));
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
}
