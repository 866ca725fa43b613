//! What happens to a machine without anybody asking: its supervisor tells of it, or is gone; it failed and is tried again.

use std::time::{Duration, Instant};

use dhow_model::lifecycle::Event as Move;
use dhow_model::{Failure, Purpose, State};
use dhow_proto::supervisor::{MachineStatus, Phase, Sleep};

use super::{Machine, answer, phases, rescue_failure};
use crate::{offer, record, supervisor};

impl Machine {
    /// Takes what the supervisor told.
    pub(super) fn status(&mut self, status: MachineStatus) {
        self.found = false;
        self.timeline.take(&status);
        for event in phases::moves(self.lifecycle.state(), status.phase()) {
            self.happens(*event, status.sleep.as_ref());
        }
        if self.lifecycle.state() == State::Rescue {
            self.answer_all(&rescue_failure(&status.trouble));
        }
        let ready = status.phase() == Phase::Ready;
        self.snapshot.send_modify(|s| {
            s.trouble.clone_from(&status.trouble);
            s.status = status;
        });
        if ready && !self.waiting.is_empty() {
            // Whoever is told that it is up can dial it.
            self.publish();
            for reply in self.waiting.drain(..) {
                answer(reply, Ok(true));
            }
        }
    }

    /// One step of what the supervisor told.
    fn happens(&mut self, event: Move, sleep: Option<&Sleep>) {
        let reason = match event {
            Move::Suspend => self.why.take(),
            Move::Resume => sleep.map(|sleep| sleep.woken_by.clone()),
            _ => None,
        };
        self.go(event, &reason.unwrap_or_default());
        match event {
            Move::Ready => {
                self.ready_since = Some(Instant::now());
                // What was in it when it slept is asked of itself from now on.
                if let Err(error) = record::clear(&self.dir) {
                    tracing::warn!(machine = %self.name, %error, "the record of what was in the machine is still there");
                }
                // It booted with all of its memory, or was limited otherwise when it fell asleep.
                self.limit_again();
            }
            Move::Saved => self.ready_since = None,
            _ => {}
        }
    }

    /// The supervisor is gone, and its machine with it, unless that sleeps.
    pub(super) fn gone(&mut self) {
        use State::{Idle, Running, Suspended, Suspending};
        self.supervisor = None;
        self.found = false;
        if matches!(self.lifecycle.state(), Running | Idle | Suspending | Suspended) && self.is_saved() {
            return self.sleeps_on();
        }
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
        if self.rescues(&failure) {
            return;
        }
        let stays_off = self.purpose == Purpose::Rescue;
        let failure = self.no_rescue(failure);
        let somebody_waits = !self.waiting.is_empty();
        self.fail(&failure);
        if stays_off {
            return;
        }
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
