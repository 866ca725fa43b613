//! Times the steps of going to sleep and of waking.

use std::time::{Duration, Instant};

use dhow_proto::supervisor::Step;

/// Runs from its making; each step ends where the next one begins.
#[derive(Debug)]
pub struct Stopwatch {
    began: Instant,
    last: Instant,
    steps: Vec<Step>,
}

impl Stopwatch {
    /// Begins now.
    #[must_use]
    pub fn begin() -> Self {
        let now = Instant::now();
        Self { began: now, last: now, steps: Vec::new() }
    }

    /// A step ends now.
    pub fn step(&mut self, name: &str, detail: impl Into<String>) {
        let now = Instant::now();
        self.steps.push(Step {
            r#where: "host".to_owned(),
            name: name.to_owned(),
            began_us: micros(self.last.duration_since(self.began)),
            took_us: micros(now.duration_since(self.last)),
            error: String::new(),
            detail: detail.into(),
        });
        self.last = now;
    }

    /// The steps so far.
    #[must_use]
    pub fn steps(&self) -> Vec<Step> {
        self.steps.clone()
    }

    /// All of it so far.
    #[must_use]
    pub fn total_us(&self) -> u64 {
        micros(self.began.elapsed())
    }
}

/// For people: `quiesce 210 ms, park 1 ms`.
impl std::fmt::Display for Stopwatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, step) in self.steps.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{} {} ms", step.name, step.took_us / 1000)?;
        }
        Ok(())
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
