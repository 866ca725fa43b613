//! What others see of a machine, and who is told when it changes.

use std::time::{Instant, SystemTime};

use dhow_model::lifecycle::Event as Move;
use dhow_model::{Failure, MachineSpec, State};

use super::{Machine, answer};
use crate::ready::{self, Circumstances};
use crate::snapshot::{Event, Ready};

impl Machine {
    pub(super) fn answer_all(&mut self, failure: &Failure) {
        for reply in self.waiting.drain(..) {
            answer(reply, Err(failure.clone().into()));
        }
    }

    pub(super) fn go(&mut self, event: Move, reason: &str) {
        match self.lifecycle.apply(event) {
            Ok(transition) => {
                tracing::info!(machine = %self.name, from = %transition.from, to = %transition.to, reason, "the machine's state");
                // Whoever hears the event finds the state that it tells.
                self.snapshot.send_modify(|s| s.state = Some(transition.to));
                let event = Event {
                    at: SystemTime::now(),
                    machine: self.name.clone(),
                    from: transition.from,
                    to: transition.to,
                    reason: reason.to_owned(),
                };
                if self.shared.events.send(event).is_err() {
                    tracing::trace!("nobody listens to events");
                }
            }
            Err(illegal) => {
                tracing::error!(machine = %self.name, %illegal, "a rule of the lifecycle was broken")
            }
        }
    }

    pub(super) fn publish(&mut self) {
        let state = self.lifecycle.state();
        self.snapshot.send_modify(|s| {
            s.state = Some(state);
            s.spec = self.spec.clone().map(|spec| MachineSpec { memory: self.memory(&spec), ..spec });
            s.retries = self.retries.count();
            s.timeline = self.timeline.steps();
            if !matches!(state, State::Running | State::Idle) {
                s.rest = None;
            }
            // One that runs may be unwell whether or not it has anything to do.
            if !matches!(state, State::Running | State::Idle | State::Failed | State::Rescue) {
                s.trouble.clear();
            }
        });
        let trouble = self.snapshot.borrow().trouble.clone();
        let ready = ready::of(&Circumstances {
            role: self.role,
            state,
            found: self.found,
            supervised: self.supervisor.is_some(),
            retry_in: self.retry_at.map(|at| at.saturating_duration_since(Instant::now())),
            trouble: &trouble,
            channel: &self.dir.channel_socket(),
        });
        let runs = matches!(ready, Ready::Yes(_));
        let ran = matches!(*self.ready.borrow(), Ready::Yes(_));
        self.ready.send_if_modified(|now| {
            let same = matches!(
                (&*now, &ready),
                (Ready::Yes(_), Ready::Yes(_))
                    | (Ready::Coming, Ready::Coming)
                    | (Ready::Found, Ready::Found)
                    | (Ready::Asleep(_), Ready::Asleep(_))
                    | (Ready::Saved, Ready::Saved)
            );
            *now = ready;
            !same
        });
        // Connections stay while it sleeps, and go on when it wakes.
        let sleeps = matches!(state, State::Suspending | State::Suspended);
        if ran != runs
            && !sleeps
            && let Some(observer) = self.shared.observed.get()
        {
            observer.changed(self.role, runs);
        }
    }
}
