//! A face in front of a Unix socket, for tests.
#![allow(dead_code, missing_docs, reason = "each test binary uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture fails its test at the first surprise"
)]

pub mod stage;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dhow_docker::{ByteStream, Face, Hooks, LifecycleCall, Unavailable, Upstream};
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// The upstream of tests: a Unix socket.
pub struct Socket(pub PathBuf);

#[async_trait::async_trait]
impl Upstream for Socket {
    async fn dial(&self) -> Result<Box<dyn ByteStream>, Unavailable> {
        match UnixStream::connect(&self.0).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(Unavailable {
                what: format!("the engine is not running ({error})"),
                run: "dhow up".into(),
            }),
        }
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
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let dir = tempfile::Builder::new().prefix("face").tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let hooks = Arc::new(Remembering::default());
        let face = Face::new(Arc::new(Socket(upstream.to_owned())), hooks.clone()).with_grace(grace);
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
