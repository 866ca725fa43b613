//! What the boot, the service to the host and the shutdown share.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use dhow_model::BootConfig;
use dhow_proto::agent::{HealthReply, ServiceState, ShutdownStep};

use crate::history::History;
use crate::ports::Ports;
use crate::reaper::Reaper;
use crate::services::Service;
use crate::steps::Steps;
use crate::translators::Translators;
use crate::{clock, data, docker, facts, settings, trim};

/// How long an answer of dockerd's stands for the next question.
const PING_KEPT: Duration = Duration::from_secs(1);
/// How long Health waits for dockerd.
const PING_LIMIT: Duration = Duration::from_millis(800);

/// The guest, from its boot configuration on.
#[derive(Debug)]
pub struct Guest {
    /// What the host decided for this boot.
    pub config: BootConfig,
    /// The boot so far.
    pub steps: Arc<Steps>,
    /// Starts children and waits for them.
    pub reaper: Reaper,
    /// Differs at every boot.
    pub boot_id: String,
    /// Published ports.
    pub ports: Ports,
    /// What runs programs of other architectures.
    pub translators: Translators,
    /// The data disk's device, once it is mounted.
    pub data: OnceLock<PathBuf>,
    /// Once they are started.
    pub engine: OnceLock<Engine>,
    /// The way down, once it has begun.
    pub down: OnceLock<Arc<History<ShutdownStep>>>,
    answered: Mutex<Option<Instant>>,
}

/// The two services.
#[derive(Debug)]
pub struct Engine {
    /// Holds the containers.
    pub containerd: Arc<Service>,
    /// Holds the API.
    pub dockerd: Arc<Service>,
}

impl Guest {
    /// A guest that was not booted further yet.
    #[must_use]
    pub fn new(config: BootConfig, steps: Arc<Steps>, reaper: Reaper, ports: Ports) -> Arc<Self> {
        Arc::new(Self {
            config,
            steps,
            reaper,
            boot_id: facts::boot_id(),
            ports,
            translators: Translators::default(),
            data: OnceLock::new(),
            engine: OnceLock::new(),
            down: OnceLock::new(),
            answered: Mutex::new(None),
        })
    }

    /// What is true now.
    pub async fn health(&self) -> HealthReply {
        let services =
            self.engine.get().map(|engine| vec![engine.containerd.report(), engine.dockerd.report()]);
        let memory = facts::memory();
        let translators = self.translators.report();
        self.translators.tell(self, translators.as_ref());
        let (disk_total_bytes, disk_free_bytes) =
            if self.data.get().is_some() { facts::disk(data::MOUNT) } else { (0, 0) };
        HealthReply {
            services: services.unwrap_or_default(),
            ready: self.ready().await,
            unix_nanos: clock::unix_nanos(),
            memory_total_bytes: memory.total,
            memory_available_bytes: memory.available,
            disk_total_bytes,
            disk_free_bytes,
            randomize_va_space: settings::randomize_va_space(),
            translators,
            data_read_only: self.data.get().is_some() && trim::is_read_only(),
        }
    }

    /// Whether dockerd answers: asked anew when the last answer is old, and never assumed past a failure (spec 6.3).
    async fn ready(&self) -> bool {
        let running =
            self.engine.get().is_some_and(|engine| engine.dockerd.status().state == ServiceState::Running);
        let kept = self.answered.lock().unwrap_or_else(PoisonError::into_inner).filter(|_| running);
        if kept.is_some_and(|at| at.elapsed() < PING_KEPT) {
            return true;
        }
        let answers = running && docker::answers(PING_LIMIT).await;
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = answers.then(Instant::now);
        answers
    }
}
