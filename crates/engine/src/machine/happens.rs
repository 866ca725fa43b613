//! What happens to a machine without anybody asking: its supervisor tells of it, or is gone; it failed and is tried again.

use std::time::{Duration, Instant};

use dhow_model::lifecycle::Event as Move;
use dhow_model::{Failure, State};
use dhow_proto::supervisor::{MachineStatus, Phase};

use super::{Machine, answer};
use crate::{offer, supervisor};

impl Machine {
    /// Takes what the supervisor told.
    pub(super) fn status(&mut self, status: MachineStatus) {
        let state = self.lifecycle.state();
        self.found = false;
        self.timeline.take(&status);
        match status.phase() {
            Phase::Ready if state == State::Starting => {
                self.go(Move::Ready, "");
                self.ready_since = Some(Instant::now());
                // Whoever is told that it is up can dial it.
                self.publish();
                for reply in self.waiting.drain(..) {
                    answer(reply, Ok(true));
                }
            }
            // It ran before this daemon found it, and is not well now.
            Phase::Degraded if state == State::Starting => {
                self.go(Move::Ready, "");
                self.ready_since = Some(Instant::now());
            }
            _ => {}
        }
        self.snapshot.send_modify(|s| {
            s.trouble.clone_from(&status.trouble);
            s.status = status;
        });
    }

    /// The supervisor is gone, and its machine with it.
    pub(super) fn gone(&mut self) {
        self.supervisor = None;
        self.found = false;
        let ran = self.ready_since.take().map_or(Duration::ZERO, |since| since.elapsed());
        match supervisor::last_words(&self.dir) {
            Some(failure) => self.failed(failure, ran),
            None => {
                // Somebody stopped the supervisor itself, by a signal.
                self.go(Move::Stop, "its supervisor was told to stop");
                self.go(Move::Ended, "");
                if let Err(error) = self.want(false) {
                    tracing::warn!(%error, "cannot note that the machine was stopped");
                }
                self.answer_all(&Failure::new(
                    "stopped",
                    format!("machine {} was stopped", self.name),
                    "run `dhow up`",
                ));
            }
        }
        self.snapshot.send_modify(|s| s.status = MachineStatus::default());
    }

    /// A machine that failed although it was wanted is tried again, unless somebody waits to be told.
    pub(super) fn failed(&mut self, failure: Failure, ran: Duration) {
        let somebody_waits = !self.waiting.is_empty();
        self.fail(&failure);
        if somebody_waits {
            self.want_no_more_unless_native();
            return;
        }
        if !self.dir.wanted().exists() {
            return;
        }
        if let Err(failure) = offer::may_start(*self.shared.placement.borrow(), self.role) {
            tracing::info!(machine = %self.name, %failure, "the machine is not started again");
            self.want_no_more_unless_native();
            return;
        }
        match self.retries.failed(ran) {
            Some(wait) => {
                tracing::warn!(machine = %self.name, seconds = wait.as_secs(), reason = %failure, "the machine failed and is started again");
                self.retry_at = Some(Instant::now() + wait);
            }
            None => {
                tracing::error!(machine = %self.name, reason = %failure, "the machine failed too often and stays off")
            }
        }
    }

    pub(super) fn fail(&mut self, failure: &Failure) {
        if self.lifecycle.state() != State::Failed {
            self.go(Move::Fail, &failure.message);
        }
        self.snapshot.send_modify(|s| s.trouble.clone_from(&failure.message));
        self.answer_all(failure);
    }
}
