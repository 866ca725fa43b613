//! Watches a machine while its hypervisor runs, until it ends or something is asked that changes that.
//!
//! ```text
//!   booting ──ready──▶ ready ⇄ degraded          (a service is down, or the agent is late)
//!      │                 │        │
//!      └── limit, failed step, hypervisor gone, silent for too long ──▶ failed
//!      any of them ── asked to stop or to sleep ──▶ the owner decides
//! ```

use std::time::{Duration, Instant};

use dhow_channel::Mux;
use dhow_home::MachineDir;
use dhow_hypervisor::{Exit, Memory, Running};
use dhow_model::Purpose;
use dhow_proto::AGENT_PROTOCOL;
use dhow_proto::agent::{BootStep, HealthReply, HelloReply};
use dhow_proto::supervisor::{Phase, ResumeReply};
use tokio::sync::oneshot;
use tokio::time::Instant as Deadline;
use tokio_util::sync::CancellationToken;

use crate::agent::Heard;
use crate::inbox::{Grow, Inbox, Limit, Request, Stop, Suspend};
use crate::prepare::Reach;
use crate::session::Session;
use crate::start::{Place, Started};
use crate::status::Status;
use crate::stop::QUIT;
use crate::{Error, Result, disk};

/// How long a guest that ran may be silent before the machine is given up: its process 1 cannot be restarted without it.
const SILENCE: Duration = Duration::from_secs(60);
/// After how long of silence the machine counts as degraded.
const LATE: Duration = Duration::from_secs(8);
/// For the hypervisor's end to be noticed after its channel has closed.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A machine whose hypervisor runs.
pub struct Machine {
    /// The hypervisor.
    pub running: Box<dyn Running>,
    /// Its guest's memory, where it is ours.
    pub memory: Option<Memory>,
    /// The multiplexer, where the channel is one.
    pub mux: Option<Mux>,
    /// How the guest is reached; a context ID is ours as long as this lives.
    pub reach: Reach,
    /// What follows the guest.
    pub session: Session,
}

/// What the owner has to decide.
#[derive(Debug)]
pub enum Watched {
    /// It is to stop.
    Stop(Stop),
    /// It is to sleep.
    Suspend(Suspend),
}

enum Next {
    Exited(Exit),
    Heard(Heard),
    Asked(Request),
    Running(Option<u32>),
    BootLimit,
    ChannelClosed(dhow_channel::Error),
    SharesEnded,
    NetworkEnded,
}

impl Machine {
    /// A machine that was just started.
    #[must_use]
    pub fn new(started: Started, mux: Option<Mux>, session: Session) -> Self {
        let Started { running, reach, memory } = started;
        Self { running, memory, mux, reach, session }
    }

    /// The same guest in another hypervisor.
    pub fn replace(&mut self, started: Started, mux: Mux) {
        let Started { running, reach, memory } = started;
        (self.running, self.reach, self.memory, self.mux) = (running, reach, memory, Some(mux));
    }

    /// Owns the machine until something is asked that only its owner can decide.
    ///
    /// # Errors
    /// Why the machine ended or had to be ended; its hypervisor is gone then.
    pub async fn watch(
        &mut self,
        place: &Place<'_>,
        shares_end: CancellationToken,
        status: &mut Status,
        inbox: &mut Inbox,
    ) -> Result<Watched> {
        let boot_limit = Deadline::now() + place.limit;
        let mut last_heard = Instant::now();
        let mut running = place.network.running();
        running.mark_changed();
        let mut network_end = std::pin::pin!(place.network.ended());
        loop {
            let booting = status.current_phase() == Phase::Booting;
            let next = tokio::select! {
                exit = self.running.wait() => Next::Exited(exit),
                request = inbox.next() => Next::Asked(request),
                Some(heard) = self.session.heard.recv() => Next::Heard(heard),
                Ok(()) = running.changed() => Next::Running(*running.borrow_and_update()),
                () = tokio::time::sleep_until(boot_limit), if booting => Next::BootLimit,
                why = closed(self.mux.as_ref()) => Next::ChannelClosed(why),
                () = shares_end.cancelled() => Next::SharesEnded,
                () = &mut network_end => Next::NetworkEnded,
            };
            let verdict = match next {
                Next::Exited(exit) => {
                    return Err(went_off(exit));
                }
                Next::Asked(Request::Stop(stop)) => return Ok(Watched::Stop(stop)),
                Next::Asked(Request::Suspend(suspend)) => return Ok(Watched::Suspend(suspend)),
                Next::Asked(Request::Resume(resume)) => {
                    // It is awake. Whoever asked may have gone.
                    drop(resume.reply.send(ResumeReply::default()));
                    Ok(())
                }
                Next::Asked(Request::Grow(grow)) => {
                    self.grow(grow).await;
                    Ok(())
                }
                Next::Asked(Request::Limit(limit)) => {
                    self.limit(limit).await;
                    Ok(())
                }
                Next::Running(containers) => {
                    status.containers(containers);
                    Ok(())
                }
                // Every access to a shared file would wait for ever.
                Next::SharesEnded => Err(Error::SharesEnded),
                // It would be up, and nothing would reach it.
                Next::NetworkEnded => Err(Error::NetworkEnded),
                Next::BootLimit => {
                    Err(Error::NotReady { limit: place.limit, at: status.last_step(), console: Vec::new() })
                }
                Next::ChannelClosed(why) => match explain(self.running.as_mut(), Error::Channel(why)).await {
                    error @ Error::WentOff { .. } => return Err(error),
                    error => Err(error),
                },
                Next::Heard(Heard::Nothing(_)) if self.running.waits_for_room() => {
                    // It stands still by itself: that is no silence.
                    last_heard = Instant::now();
                    self.room(&place.dir, status).await
                }
                Next::Heard(Heard::Nothing(why)) => silence(status, last_heard.elapsed(), why),
                Next::Heard(heard) => {
                    last_heard = Instant::now();
                    self.take(&place.dir, status, heard)
                }
            };
            if let Err(error) = verdict {
                return Err(self.give_up(error).await);
            }
        }
    }

    /// Makes the data disk larger. A machine that is killed on the way finds the size that was asked for at its next start.
    async fn grow(&mut self, grow: Grow) {
        let done = self.running.resize_disk(disk::SERIAL, grow.bytes).await;
        answer(grow.reply, done, "a larger data disk");
    }

    /// Lets the guest use so much of its memory.
    async fn limit(&mut self, limit: Limit) {
        let done = self.running.limit_memory(limit.bytes).await;
        answer(limit.reply, done, "another limit of its memory");
    }

    /// The host's disk is full, and the guest stands still until it is not.
    async fn room(&mut self, dir: &MachineDir, status: &Status) -> Result<()> {
        let free = disk::free(dir)?;
        if free < disk::ROOM {
            let words = format!(
                "the disk of this computer that holds {} is full; the machine goes on by itself when there is room",
                dir.path().display()
            );
            status.phase(Phase::Degraded, &words);
            return Ok(());
        }
        tracing::info!(free, "there is room on the host's disk again; the guest goes on");
        Ok(self.running.resume().await?)
    }

    /// Takes what the guest said.
    fn take(&self, dir: &MachineDir, status: &mut Status, heard: Heard) -> Result<()> {
        match heard {
            Heard::Hello(hello) => greet(status, &hello),
            Heard::Step(step) => step_ended(dir, status, &step),
            Heard::Health(health) => {
                let streams = self.mux.as_ref().map_or(0, Mux::streams);
                status.health(&health, streams);
                if health.data_read_only && status.purpose() == Purpose::Serve {
                    return Err(Error::DataReadOnly);
                }
                let phase = status.current_phase();
                match (phase, trouble(&health)) {
                    _ if status.purpose() != Purpose::Serve => {}
                    (Phase::Booting, Some(_)) => {}
                    (_, Some(trouble)) => status.phase(Phase::Degraded, &trouble),
                    (_, None) => status.phase(Phase::Ready, ""),
                }
                Ok(())
            }
            Heard::Translators(translators, warnings) => {
                status.handed_over(&translators, warnings);
                Ok(())
            }
            Heard::TranslatorsLate(why) => {
                status.not_handed_over(why);
                Ok(())
            }
            Heard::Nothing(_) => Ok(()),
        }
    }

    /// Ends the hypervisor because of `error`, to which the console's last lines are added where they help.
    async fn give_up(&mut self, error: Error) -> Error {
        tracing::error!(%error, "the machine is given up");
        if let Err(failed) = self.running.quit(QUIT).await {
            tracing::warn!(error = %failed, "the hypervisor did not end in order");
        }
        match error {
            Error::NotReady { limit, at, .. } => {
                Error::NotReady { limit, at, console: self.running.wait().await.console }
            }
            error => error,
        }
    }
}

/// Answers a request that the hypervisor did, or refused, at once.
fn answer(reply: oneshot::Sender<Result<()>>, done: dhow_hypervisor::Result<()>, what: &str) {
    if let Err(error) = &done {
        tracing::warn!(%error, what, "the hypervisor refused what was asked of the machine");
    }
    if reply.send(done.map_err(Error::from)).is_err() {
        tracing::debug!(what, "whoever asked did not wait for the answer");
    }
}

/// A hypervisor that dies closes the channel first: how it ended says more than that the channel did.
pub async fn explain(running: &mut dyn Running, error: Error) -> Error {
    match tokio::time::timeout(LAST_WORDS, running.wait()).await {
        Ok(exit) => went_off(exit),
        Err(_) => error,
    }
}

fn went_off(exit: Exit) -> Error {
    let reset = exit.cause.as_deref() == Some("guest-reset");
    Error::WentOff { how: exit.to_string(), reset, console: exit.console }
}

async fn closed(mux: Option<&Mux>) -> dhow_channel::Error {
    match mux {
        Some(mux) => mux.closed().await,
        None => std::future::pending().await,
    }
}

fn step_ended(dir: &MachineDir, status: &mut Status, step: &BootStep) -> Result<()> {
    status.guest_step(step);
    if !step.error.is_empty() {
        return Err(Error::BootStep { step: step.name.clone(), reason: step.error.clone() });
    }
    if step.name == "data" && status.purpose() == Purpose::Serve {
        disk::formatted(dir)?;
    }
    if step.name == "ready" {
        tracing::info!(purpose = %status.purpose(), "the guest is ready");
        status.up();
    }
    Ok(())
}

fn greet(status: &Status, hello: &HelloReply) -> Result<()> {
    status.hello(hello);
    if hello.protocol == AGENT_PROTOCOL {
        Ok(())
    } else {
        Err(Error::AgentVersion { agent: hello.protocol, ours: AGENT_PROTOCOL })
    }
}

/// What an unanswered question means after this long without any answer.
fn silence(status: &Status, silent: Duration, why: String) -> Result<()> {
    let phase = status.current_phase();
    if phase == Phase::Booting || silent < LATE {
        return Ok(());
    }
    if silent >= SILENCE {
        return Err(Error::Silent { silent, why });
    }
    status.phase(Phase::Degraded, &format!("the guest has not answered for {} s: {why}", silent.as_secs()));
    Ok(())
}

/// What is wrong in the guest, in a person's sentence.
fn trouble(health: &HealthReply) -> Option<String> {
    use dhow_proto::agent::ServiceState as S;
    let down = health.services.iter().find(|s| matches!(s.state(), S::BackingOff | S::Stopped | S::Starting));
    if let Some(service) = down {
        let how = if service.last_exit.is_empty() {
            "is starting".to_owned()
        } else {
            format!("{} and is starting again", service.last_exit)
        };
        return Some(format!("{} {how} (started again {} times)", service.name, service.restarts));
    }
    if !health.ready {
        return Some("dockerd runs and does not answer".to_owned());
    }
    if health.randomize_va_space == 1 {
        return Some(
            "kernel.randomize_va_space is 1 in the guest, which makes translators fail at random".to_owned(),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use dhow_proto::agent::{Service, ServiceState};

    fn health(state: ServiceState, ready: bool) -> HealthReply {
        let dockerd = Service {
            name: "dockerd".to_owned(),
            state: state.into(),
            last_exit: "was killed by signal 9".to_owned(),
            restarts: 1,
            ..Service::default()
        };
        HealthReply { services: vec![dockerd], ready, randomize_va_space: 2, ..HealthReply::default() }
    }

    /// Spec 6.3: ready is what is true now.
    #[test]
    fn a_service_that_is_down_is_named_with_how_it_ended() {
        assert_eq!(trouble(&health(ServiceState::Running, true)), None);
        let words = trouble(&health(ServiceState::BackingOff, false)).unwrap();
        assert!(words.contains("dockerd was killed by signal 9"), "{words}");
        assert!(trouble(&health(ServiceState::Running, false)).unwrap().contains("does not answer"));
    }

    /// Spec 1.8.
    #[test]
    fn a_kernel_setting_that_breaks_translators_is_named() {
        let health = HealthReply { randomize_va_space: 1, ..health(ServiceState::Running, true) };
        assert!(trouble(&health).unwrap().contains("randomize_va_space"));
    }
}
