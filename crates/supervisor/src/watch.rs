//! Watches a running machine until it ends. This is the machine's one owner: it alone moves the phase and talks to the
//! hypervisor.
//!
//! ```text
//!   booting ──ready──▶ ready ⇄ degraded          (a service is down, or the agent is late)
//!      │                 │        │
//!      └── limit, failed step, hypervisor gone, silent for too long ──▶ failed
//!      any of them ── stop request ──▶ stopping ──▶ stopped
//! ```

use std::time::{Duration, Instant};

use dhow_channel::Mux;
use dhow_hypervisor::{Exit, Running};
use dhow_proto::AGENT_PROTOCOL;
use dhow_proto::agent::{BootStep, HealthReply, HelloReply};
use dhow_proto::supervisor::{Phase, StopReply};
use tokio::sync::mpsc;
use tokio::time::Instant as Deadline;
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, Heard};
use crate::serve::Stop;
use crate::status::Status;
use crate::{Error, Result, disk};

/// How long a guest that ran may be silent before the machine is given up: its process 1 cannot be restarted without it.
const SILENCE: Duration = Duration::from_secs(60);
/// After how long of silence the machine counts as degraded.
const LATE: Duration = Duration::from_secs(8);
/// For the hypervisor to flush and end when the guest is not asked.
const QUIT: Duration = Duration::from_secs(5);
/// For the hypervisor's end to be noticed after its channel has closed.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A machine whose hypervisor runs.
pub struct Machine {
    /// The hypervisor.
    pub running: Box<dyn Running>,
    /// The multiplexer, where the channel is one.
    pub mux: Option<Mux>,
    /// A client of the agent.
    pub agent: Agent,
    /// What was heard of the guest.
    pub heard: mpsc::Receiver<Heard>,
    /// Ends our stream of dockerd's events.
    pub listening: CancellationToken,
    /// The machine's files.
    pub dir: dhow_home::MachineDir,
    /// For the guest to become ready.
    pub limit: Duration,
}

enum Next {
    Exited(Exit),
    Heard(Heard),
    Stop(Stop),
    BootLimit,
    ChannelClosed(dhow_channel::Error),
}

impl Machine {
    /// Owns the machine until it is off. `Ok` when it stopped because it was asked to.
    ///
    /// # Errors
    /// Why the machine ended or had to be ended otherwise; its hypervisor is gone then.
    pub async fn watch(mut self, status: &mut Status, stops: &mut mpsc::Receiver<Stop>) -> Result<()> {
        let boot_limit = Deadline::now() + self.limit;
        let mut last_heard = Instant::now();
        loop {
            let booting = status.current_phase() == Phase::Booting;
            let next = tokio::select! {
                exit = self.running.wait() => Next::Exited(exit),
                Some(stop) = stops.recv() => Next::Stop(stop),
                Some(heard) = self.heard.recv() => Next::Heard(heard),
                () = tokio::time::sleep_until(boot_limit), if booting => Next::BootLimit,
                why = closed(self.mux.as_ref()) => Next::ChannelClosed(why),
            };
            let verdict = match next {
                Next::Exited(exit) => {
                    return Err(Error::WentOff { how: exit.to_string(), console: exit.console });
                }
                Next::Stop(stop) => return self.stop(status, stop, stops).await,
                Next::BootLimit => {
                    Err(Error::NotReady { limit: self.limit, at: status.last_step(), console: Vec::new() })
                }
                Next::ChannelClosed(why) => match explain(self.running.as_mut(), Error::Channel(why)).await {
                    error @ Error::WentOff { .. } => return Err(error),
                    error => Err(error),
                },
                Next::Heard(Heard::Nothing(why)) => silence(status, last_heard.elapsed(), why),
                Next::Heard(heard) => {
                    last_heard = Instant::now();
                    self.take(status, heard)
                }
            };
            if let Err(error) = verdict {
                return Err(self.give_up(error).await);
            }
        }
    }

    /// Takes what the guest said.
    fn take(&self, status: &mut Status, heard: Heard) -> Result<()> {
        match heard {
            Heard::Hello(hello) => greet(status, &hello),
            Heard::Step(step) => self.step(status, &step),
            Heard::Health(health) => {
                let streams = self.mux.as_ref().map_or(0, Mux::streams);
                status.health(&health, streams);
                let phase = status.current_phase();
                match (phase, trouble(&health)) {
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

    fn step(&self, status: &mut Status, step: &BootStep) -> Result<()> {
        status.guest_step(step);
        if !step.error.is_empty() {
            return Err(Error::BootStep { step: step.name.clone(), reason: step.error.clone() });
        }
        if step.name == "data" {
            disk::formatted(&self.dir)?;
        }
        if step.name == "ready" {
            tracing::info!("the guest is ready");
            status.phase(Phase::Ready, "");
        }
        Ok(())
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

    /// Stops the machine: in order by the agent, or at once. A second request that forces cuts a graceful one short.
    async fn stop(mut self, status: &Status, stop: Stop, stops: &mut mpsc::Receiver<Stop>) -> Result<()> {
        status.phase(Phase::Stopping, "");
        self.listening.cancel();
        let mut replies = vec![stop.reply];
        let mut errors = Vec::new();
        let mut forced = stop.force;
        if !stop.force {
            let graceful = async {
                let steps = self.agent.shutdown(stop.limit).await?;
                let exit = self.running.wait().await;
                Ok::<_, String>((steps, exit))
            };
            tokio::select! {
                ended = tokio::time::timeout(stop.limit, graceful) => match ended {
                    Ok(Ok((steps, exit))) => {
                        let failed = steps.into_iter().filter(|s| !s.error.is_empty());
                        errors.extend(failed.map(|s| format!("{}: {}", s.name, s.error)));
                        if !exit.is_clean() {
                            errors.push(format!("the hypervisor {exit}"));
                        }
                    }
                    Ok(Err(why)) => {
                        errors.push(format!("the guest could not be asked to stop: {why}"));
                        forced = true;
                    }
                    Err(_) => {
                        errors.push(format!("the guest did not stop within {} s", stop.limit.as_secs()));
                        forced = true;
                    }
                },
                second = force(stops, &mut replies) => {
                    replies.push(second);
                    forced = true;
                }
            }
        }
        if forced {
            if let Err(error) = self.running.quit(QUIT).await {
                errors.push(error.to_string());
            }
            self.running.wait().await;
        }
        for error in &errors {
            tracing::warn!(%error, "while stopping");
        }
        status.phase(Phase::Stopped, "");
        for reply in replies {
            // Whoever asked may have gone; the machine is off all the same.
            if reply.send(StopReply { errors: errors.clone(), forced: forced && !stop.force }).is_err() {
                tracing::debug!("whoever asked to stop did not wait for the answer");
            }
        }
        Ok(())
    }
}

/// The next request that forces; those that do not are kept to be answered with the first.
async fn force(
    stops: &mut mpsc::Receiver<Stop>,
    replies: &mut Vec<tokio::sync::oneshot::Sender<StopReply>>,
) -> tokio::sync::oneshot::Sender<StopReply> {
    loop {
        match stops.recv().await {
            Some(stop) if stop.force => return stop.reply,
            Some(stop) => replies.push(stop.reply),
            None => std::future::pending().await,
        }
    }
}

/// A hypervisor that dies closes the channel first: how it ended says more than that the channel did.
pub async fn explain(running: &mut dyn Running, error: Error) -> Error {
    match tokio::time::timeout(LAST_WORDS, running.wait()).await {
        Ok(exit) => Error::WentOff { how: exit.to_string(), console: exit.console },
        Err(_) => error,
    }
}

async fn closed(mux: Option<&Mux>) -> dhow_channel::Error {
    match mux {
        Some(mux) => mux.closed().await,
        None => std::future::pending().await,
    }
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
