//! Boots for something else than to serve: a check of the data disk, and a rescue of what is on it (spec 7.6).
//!
//! ```text
//!   start ── its data disk cannot be used ──▶ start for a rescue ──▶ rescue ── up ──▶ stop, start
//!   off, rescue ── check ──▶ start for a check ──▶ e2fsck ──▶ stopped
//! ```

use std::time::{Duration, Instant};

use dhow_model::lifecycle::Event as Move;
use dhow_model::{Failure, MachineSpec, Purpose, Size, State};
use dhow_proto::agent::{CheckDataReply, CheckDataRequest};
use dhow_proto::supervisor::Phase;
use tokio::sync::oneshot;

use super::{Machine, told};
use crate::progress::Reporter;
use crate::supervisor::{self, Told};
use crate::{Error, Result, agent};

/// For a machine in rescue to stop in order.
const STOP: Duration = Duration::from_secs(20);
/// For e2fsck, which the agent limits as well.
const CHECK: Duration = Duration::from_secs(3700);

/// What is asked about the data disk.
pub(crate) enum Ask {
    /// Check it in a guest of its own.
    Check {
        /// What the machine is made from.
        spec: Box<MachineSpec>,
        /// Repair what is wrong.
        repair: bool,
        /// Who follows.
        report: Reporter,
        /// What e2fsck said.
        reply: oneshot::Sender<Result<CheckDataReply>>,
    },
    /// Note its new size, before it is made so large.
    Resized {
        /// Never less than it has.
        disk: Size,
        /// When it is written down.
        reply: oneshot::Sender<Result<()>>,
    },
}

/// Whether a start that failed like this failed because of what is on the data disk.
fn is_damage(failure: &Failure) -> bool {
    matches!(failure.code.as_str(), "data-disk" | "disk-foreign")
}

impl Machine {
    pub(super) async fn disk(&mut self, ask: Ask) {
        match ask {
            Ask::Check { spec, repair, report, reply } => {
                let checked = self.check(*spec, repair, &report).await;
                drop(report);
                answered(reply, checked);
            }
            Ask::Resized { disk, reply } => answered(reply, self.resized(disk)),
        }
    }

    /// Takes a failure over when it is the data disk's: the machine is started again, to give out what is on it. Whoever waits
    /// for it is told when that is up.
    pub(super) fn rescues(&mut self, failure: &Failure) -> bool {
        if self.purpose != Purpose::Serve || !is_damage(failure) || !self.dir.wanted().exists() {
            return false;
        }
        tracing::error!(machine = %self.name, %failure, "the data disk cannot be used; starting the machine to give out what is on it");
        if self.lifecycle.state() != State::Failed {
            self.go(Move::Fail, &failure.message);
        }
        self.snapshot.send_modify(|s| s.trouble.clone_from(&failure.message));
        self.purpose = Purpose::Rescue;
        self.retry_at = Some(Instant::now());
        true
    }

    /// A rescue that failed, in a person's words: there is one more thing to do.
    pub(super) fn no_rescue(&mut self, failure: Failure) -> Failure {
        if self.purpose != Purpose::Rescue {
            return failure;
        }
        self.purpose = Purpose::Serve;
        let image = self.dir.data_image();
        let message = format!(
            "what is on the data disk could not be given out: {}; nothing was changed on it: {}",
            failure.message,
            image.display()
        );
        Failure::new("rescue-failed", message, "dhow disk export FILE")
    }

    /// Writes down the data disk's new size. A machine that is killed afterwards grows it at its next start.
    fn resized(&mut self, disk: Size) -> Result<()> {
        let Some(spec) = self.spec.clone().filter(|spec| spec.disk < disk) else { return Ok(()) };
        self.write_spec(MachineSpec { disk, ..spec })
    }

    async fn check(&mut self, spec: MachineSpec, repair: bool, report: &Reporter) -> Result<CheckDataReply> {
        match self.lifecycle.state() {
            State::Created | State::Stopped | State::Failed => {}
            State::Rescue => {
                report.step(format!("stopping {}, which is in rescue", self.name));
                self.down(false, STOP, "its data disk is to be checked").await?;
            }
            state => return Err(Error::InUse { machine: self.name.clone(), state }),
        }
        self.retry_at = None;
        self.make(spec)?;
        self.purpose = Purpose::Check;
        let checked = self.checked(repair, report).await;
        self.purpose = Purpose::Serve;
        match checked {
            Ok(checked) => {
                self.down(true, STOP, "its data disk was checked").await?;
                Ok(checked)
            }
            Err(error) => {
                let failure = error.failure();
                if self.supervisor.is_some() {
                    self.down(true, STOP, &failure.message).await?;
                } else {
                    self.fail(&failure);
                }
                Err(error)
            }
        }
    }

    async fn checked(&mut self, repair: bool, report: &Reporter) -> Result<CheckDataReply> {
        report.step(format!("booting {} for a check", self.name));
        self.start().await?;
        loop {
            match told(self.supervisor.as_mut()).await {
                Told::Status(status) if status.phase() == Phase::Apart => break,
                Told::Status(_) => {}
                Told::Gone => {
                    self.supervisor = None;
                    let failure = supervisor::last_words(&self.dir);
                    let stopped = || Failure::new("stopped", "the check was stopped", "dhow disk check");
                    return Err(failure.unwrap_or_else(stopped).into());
                }
            }
        }
        report.step(if repair { "checking and repairing the data disk" } else { "checking the data disk" });
        let mut client = agent::client(&self.dir);
        let asked = tokio::time::timeout(CHECK, client.check_data(CheckDataRequest { repair })).await;
        agent::said(&self.name, "check_data", asked)
    }
}

/// What a machine in rescue says to whoever wants to use it.
pub(crate) fn failure(trouble: &str) -> Failure {
    let message = format!(
        "the machine is in rescue and runs no containers, because its data disk cannot be used: {trouble}; nothing was changed on it"
    );
    let hint = "`dhow rescue list` shows what can be saved; `dhow disk check` says what is wrong and `dhow disk check --repair` mends it";
    Failure::new("rescue", message, hint)
}

fn answered<T>(reply: oneshot::Sender<Result<T>>, result: Result<T>) {
    if reply.send(result).is_err() {
        tracing::debug!("whoever asked about the data disk did not wait for the answer");
    }
}
