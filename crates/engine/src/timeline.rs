//! What a start consisted of, step by step.

use std::time::{Duration, Instant};

use dhow_proto::supervisor::MachineStatus;

/// A step with its time, counted from when the start was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed {
    /// Which part: `daemon`, `host` (the supervisor), `guest`.
    pub part: String,
    /// The step.
    pub name: String,
    /// When it began.
    pub began: Duration,
    /// How long it took.
    pub took: Duration,
    /// More about it.
    pub detail: String,
}

/// The steps of one start.
#[derive(Debug, Clone)]
pub struct Timeline {
    zero: Instant,
    own: Vec<Timed>,
    /// When the supervisor was launched: its steps count from there.
    launched: Duration,
    supervisors: Vec<Timed>,
    /// It is the start of a machine that sleeps.
    wake: bool,
}

impl Timeline {
    /// A start that was asked for at `zero`.
    #[must_use]
    pub const fn new(zero: Instant) -> Self {
        Self { zero, own: Vec::new(), launched: Duration::ZERO, supervisors: Vec::new(), wake: false }
    }

    /// The same for a machine that sleeps and is woken now.
    #[must_use]
    pub fn of_a_wake(mut self) -> Self {
        self.launched();
        self.wake = true;
        self
    }

    /// A step of the daemon's that began at `began` and ends now.
    pub fn step(&mut self, name: &str, began: Instant, detail: impl Into<String>) {
        self.own.push(Timed {
            part: "daemon".to_owned(),
            name: name.to_owned(),
            began: began.saturating_duration_since(self.zero),
            took: began.elapsed(),
            detail: detail.into(),
        });
    }

    /// The supervisor is launched now.
    pub fn launched(&mut self) {
        self.launched = self.zero.elapsed();
    }

    /// Takes the steps that the supervisor reports, in place of what it reported before.
    pub fn take(&mut self, status: &MachineStatus) {
        // One that could not be woken boots.
        let woken = status.sleep.as_ref().filter(|sleep| self.wake && sleep.set_aside.is_empty());
        let steps = woken.map_or(&status.steps, |sleep| &sleep.waking);
        self.supervisors = steps
            .iter()
            .map(|step| Timed {
                part: step.r#where.clone(),
                name: step.name.clone(),
                began: self.launched + Duration::from_micros(step.began_us),
                took: Duration::from_micros(step.took_us),
                detail: step.detail.clone(),
            })
            .collect();
    }

    /// All steps in the order in which they began.
    #[must_use]
    pub fn steps(&self) -> Vec<Timed> {
        let mut steps: Vec<_> = self.own.iter().chain(&self.supervisors).cloned().collect();
        steps.sort_by_key(|step| step.began);
        steps
    }
}
