//! A face in front of a Unix socket, for tests.
#![allow(dead_code, missing_docs, reason = "each test binary uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture fails its test at the first surprise"
)]

#[cfg(target_os = "linux")]
pub mod pair;
pub mod stage;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dhow_docker::{ByteStream, Engines, Face, Hooks, LifecycleCall, Unavailable};
use dhow_model::placement::{Guest, Host, Placement};
use dhow_model::{Arch, Record, Role};
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// A host without translators and without a foreign machine.
pub fn host(placement: Placement) -> Host {
    Host {
        name: "linux/test".to_owned(),
        placement,
        native: Guest::from(Arch::host().unwrap()),
        translators: Vec::new(),
        foreign: Err("this test has none".to_owned()),
    }
}

/// The engines of tests: a Unix socket for each role that there is.
pub struct Sockets {
    native: PathBuf,
    foreign: Option<PathBuf>,
    host: Host,
}

impl Sockets {
    /// One engine, in the default placement.
    pub fn one(native: &Path) -> Self {
        Self { native: native.to_owned(), foreign: None, host: host(Placement::NativeMachine) }
    }

    /// Two engines; `host` says how workloads are placed.
    pub fn two(native: &Path, foreign: &Path, host: Host) -> Self {
        Self { native: native.to_owned(), foreign: Some(foreign.to_owned()), host }
    }

    /// The same on another host.
    pub fn on(self, host: Host) -> Self {
        Self { host, ..self }
    }

    fn path(&self, role: Role) -> Option<&Path> {
        match role {
            Role::Native => Some(&self.native),
            Role::Foreign => self.foreign.as_deref(),
        }
    }
}

#[async_trait::async_trait]
impl Engines for Sockets {
    async fn dial(&self, role: Role) -> Result<Box<dyn ByteStream>, Unavailable> {
        let missing = std::io::Error::other("there is none");
        let path = self.path(role).ok_or(missing);
        let stream = match path {
            Ok(path) => UnixStream::connect(path).await,
            Err(error) => Err(error),
        };
        match stream {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(Unavailable {
                what: format!("the {role} engine is not running ({error})"),
                run: "dhow up".into(),
            }),
        }
    }

    fn running(&self) -> Vec<Role> {
        Role::ALL.into_iter().filter(|role| self.path(*role).is_some_and(Path::exists)).collect()
    }

    fn placement(&self) -> Placement {
        self.host.placement
    }

    async fn host(&self) -> Host {
        self.host.clone()
    }

    fn record(&self, _: Role) -> Option<Record> {
        None
    }
}

/// Hooks that remember what they were told: "before start <id> <reference>", "after start <id> 204".
#[derive(Default)]
pub struct Remembering(pub Mutex<Vec<String>>);

#[async_trait::async_trait]
impl Hooks for Remembering {
    async fn before(&self, call: &LifecycleCall) {
        let line = format!("before {} {} {}", call.action.as_str(), call.id, call.reference);
        self.0.lock().unwrap().push(line);
    }

    async fn after(&self, call: &LifecycleCall, status: u16) {
        self.0.lock().unwrap().push(format!("after {} {} {status}", call.action.as_str(), call.id));
    }
}

impl Remembering {
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A face that serves in a runtime of its own until it is dropped.
pub struct Serving {
    pub face: Face,
    pub hooks: Arc<Remembering>,
    cancel: CancellationToken,
    socket: PathBuf,
    serving: Option<tokio::task::JoinHandle<dhow_docker::Result<()>>>,
    runtime: Option<Runtime>,
    _dir: TempDir,
}

impl Serving {
    pub fn in_front_of(upstream: &Path) -> Self {
        Self::with_grace(upstream, Duration::from_millis(200))
    }

    pub fn with_grace(upstream: &Path, grace: Duration) -> Self {
        Self::before(Arc::new(Sockets::one(upstream)), grace)
    }

    /// A face in front of these engines.
    pub fn before(engines: Arc<dyn Engines>, grace: Duration) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let dir = tempfile::Builder::new().prefix("face").tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let hooks = Arc::new(Remembering::default());
        let face = Face::new(engines, hooks.clone()).with_grace(grace);
        let cancel = CancellationToken::new();
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(&socket).unwrap()
        };
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600)).unwrap();
        let serving = runtime.spawn(face.clone().serve(listener, cancel.clone()));
        Self { face, hooks, cancel, socket, serving: Some(serving), runtime: Some(runtime), _dir: dir }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks it to stop, without waiting.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Waits until `serve` has returned.
    pub fn join(&mut self) {
        if let (Some(serving), Some(runtime)) = (self.serving.take(), &self.runtime) {
            let ended =
                runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), serving).await });
            ended.expect("the face ends in time").unwrap().unwrap();
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
    }
}
