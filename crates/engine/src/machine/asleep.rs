//! A machine's sleep, as its task drives it: the supervisor saves and restores, and tells of it; what it is asked takes time, in
//! which the task goes on. A supervisor may die while its machine sleeps: what is on disk is the machine then, and the next one who
//! needs it launches a supervisor, which resumes it.

use std::future::Future;

use dhow_model::lifecycle::Event as Move;
use dhow_model::sleep::Decision;
use dhow_model::{Failure, State};
use dhow_proto::supervisor::{MachineStatus, ResumeRequest, SuspendRequest};
use tokio::sync::oneshot;

use super::{Machine, Supervised};
use crate::supervisor::Supervisor;
use crate::{Error, Result};

/// The answer to a command.
pub(super) type Reply<T> = oneshot::Sender<Result<T>>;

impl Machine {
    /// Whether its saved state lies on disk, unused.
    pub(super) fn is_saved(&self) -> bool {
        self.dir.sleep().join("state.json").exists()
    }

    /// Asks the supervisor to put the machine to sleep. The answer is whether that changed anything.
    pub(super) fn suspend(&mut self, request: SuspendRequest, reply: Reply<bool>) {
        let state = self.lifecycle.state();
        match (state, self.supervisor.as_ref()) {
            (State::Suspended, None) => send(reply, Ok(false)),
            (State::Suspended, Some(_)) if !request.leave => send(reply, Ok(false)),
            (State::Running | State::Idle | State::Suspending | State::Suspended, Some(supervised)) => {
                let supervisor = supervised.supervisor.clone();
                self.why = Some(request.why.clone());
                self.ask(async move {
                    send(reply, supervisor.suspend(request).await.map(|_| state != State::Suspended));
                    None
                });
            }
            _ => send(reply, Err(Error::State { machine: self.name.clone(), state })),
        }
    }

    /// Sees to it that a machine that sleeps wakes; the answer comes when that is under way or done. One that is awake or on its way
    /// is left alone.
    pub(super) async fn resume(&mut self, why: String, reply: Reply<()>) {
        match self.lifecycle.state() {
            State::Starting | State::Running | State::Idle => send(reply, Ok(())),
            State::Suspended | State::Suspending => match &self.supervisor {
                Some(supervised) => {
                    let asked = wake(&supervised.supervisor, why);
                    self.ask(async move {
                        send(reply, asked.await);
                        None
                    });
                }
                None => send(reply, self.wake_from_disk().await),
            },
            state => send(reply, Err(Error::State { machine: self.name.clone(), state })),
        }
    }

    /// Wakes it for those in `waiting`, who are answered when it is ready.
    pub(super) async fn wake(&mut self) -> Result<()> {
        match &self.supervisor {
            Some(supervised) => {
                let asked = wake(&supervised.supervisor, "dhow up".to_owned());
                self.ask(async move { asked.await.err().map(|error| error.failure()) });
                Ok(())
            }
            None => self.wake_from_disk().await,
        }
    }

    /// A call that was asked of the supervisor failed, and those in `waiting` waited for it.
    pub(super) async fn called(&mut self, failure: Option<Failure>) {
        let Some(failure) = failure else { return };
        if self.lifecycle.state() != State::Suspended {
            // What became of the machine, its supervisor told or will tell.
            return;
        }
        if self.supervisor.is_some() && !self.is_gone() {
            self.answer_all(&failure);
        } else if !self.waiting.is_empty()
            && let Err(error) = self.wake_from_disk().await
        {
            self.answer_all(&error.failure());
        }
    }

    /// Launches a supervisor for a machine that sleeps and has none: it resumes it, or boots it cold where it cannot.
    pub(super) async fn wake_from_disk(&mut self) -> Result<()> {
        let started = self.start().await;
        if let Err(error) = &started {
            // Its state is as it was.
            tracing::warn!(machine = %self.name, %error, "the machine that sleeps cannot be woken");
            self.go(Move::Saved, &error.to_string());
        }
        started
    }

    /// Ends the supervisor of a machine that sleeps, whose state does not fit what is asked now: the next supervisor sets it aside.
    pub(super) async fn leave(&mut self) -> Result<()> {
        if let Some(Supervised { supervisor, .. }) = &self.supervisor {
            supervisor.suspend(SuspendRequest { leave: true, ..SuspendRequest::default() }).await?;
        }
        self.supervisor = None;
        self.go(Move::Discard, "its configuration changed while it slept");
        self.snapshot.send_modify(|s| s.status = MachineStatus::default());
        Ok(())
    }

    /// Removes the saved state of a machine that is to be off.
    pub(super) fn drop_saved(&self) -> Result<()> {
        let path = self.dir.sleep();
        match std::fs::remove_dir_all(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::File { path, source }),
            _ => Ok(()),
        }
    }

    /// The supervisor of a machine that slept is gone, and its state is there: it sleeps still.
    pub(super) fn sleeps_on(&mut self) {
        match self.lifecycle.state() {
            State::Running | State::Idle => {
                self.go(Move::Suspend, "");
                self.go(Move::Saved, "");
            }
            State::Suspending => self.go(Move::Saved, ""),
            _ => {}
        }
        tracing::info!(machine = %self.name, "the machine's supervisor has ended; its state stays on disk");
        self.snapshot.send_modify(|s| s.status = MachineStatus::default());
    }

    /// Takes what the idle policy decided.
    pub(super) fn look(&mut self, decision: Decision) {
        self.snapshot.send_modify(|s| s.rest = Some(decision));
        match (self.lifecycle.state(), decision) {
            (State::Running, Decision::Rest { .. }) => self.go(Move::Rest, "it has nothing to do"),
            (State::Idle, Decision::Stay(busy)) => self.go(Move::Work, &busy.to_string()),
            _ => {}
        }
    }

    fn ask(&mut self, call: impl Future<Output = Option<Failure>> + Send + 'static) {
        self.calls.spawn(call);
    }

    fn is_gone(&self) -> bool {
        crate::supervisor::is_running(&self.dir).is_ok_and(|runs| !runs)
    }
}

/// The call that wakes a machine, to be awaited elsewhere.
fn wake(supervisor: &Supervisor, why: String) -> impl Future<Output = Result<()>> + Send + use<> {
    let supervisor = supervisor.clone();
    async move { supervisor.resume(ResumeRequest { why }).await.map(drop) }
}

pub(super) fn send<T>(reply: Reply<T>, answer: Result<T>) {
    if reply.send(answer).is_err() {
        tracing::debug!("whoever asked did not wait for the answer");
    }
}
