//! The boot's steps, each with its time: kept from the first, shown to whoever asks, now and later.

use std::sync::Arc;

use dhow_proto::agent::BootStep;

use crate::history::History;
use crate::{Error, Result, clock, console};

/// The steps so far.
#[derive(Debug, Default)]
pub struct Steps(Arc<History<BootStep>>);

/// A step that runs.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    name: &'static str,
    began_us: u64,
}

/// Starts a step's clock.
#[must_use]
pub fn begin(name: &'static str) -> Begun {
    Begun { name, began_us: clock::since_kernel_us() }
}

impl Steps {
    /// Runs one step and records how it went. The text that it answers is what a reader may want to know.
    pub fn run<T>(&self, name: &'static str, work: impl FnOnce() -> Result<(T, String)>) -> Result<T> {
        let begun = begin(name);
        match work() {
            Ok((value, detail)) => {
                self.end(begun, detail);
                Ok(value)
            }
            Err(error) => {
                self.fail(begun, &error);
                Err(error)
            }
        }
    }

    /// A step that went well.
    pub fn end(&self, begun: Begun, detail: impl Into<String>) {
        self.push(begun, String::new(), detail.into(), false);
    }

    /// The step that ends the boot: the guest is ready.
    pub fn ready(&self, begun: Begun) {
        self.push(begun, String::new(), String::new(), true);
    }

    /// A step that failed, and the boot with it.
    pub fn fail(&self, begun: Begun, error: &Error) {
        self.push(begun, error.to_string(), String::new(), true);
    }

    /// The steps so far and to come, for any number of readers.
    #[must_use]
    pub fn history(&self) -> Arc<History<BootStep>> {
        Arc::clone(&self.0)
    }

    /// Waits until the boot has failed; for ever when it goes well.
    pub async fn failed(&self) {
        let mut changes = self.0.watch();
        loop {
            changes.borrow_and_update();
            if self.0.since(0).last().is_some_and(|step| step.last && !step.error.is_empty()) {
                return;
            }
            if changes.changed().await.is_err() {
                std::future::pending().await
            }
        }
    }

    fn push(&self, begun: Begun, error: String, detail: String, last: bool) {
        let took_us = clock::since_kernel_us().saturating_sub(begun.began_us);
        let step =
            BootStep { name: begun.name.to_owned(), began_us: begun.began_us, took_us, error, detail, last };
        console::line(describe(&step));
        self.0.push(step, |before| before.last);
    }
}

#[allow(clippy::cast_precision_loss, reason = "seconds for a person")]
fn describe(step: &BootStep) -> String {
    let (began, took) = (step.began_us as f64 / 1e6, step.took_us as f64 / 1e6);
    let outcome = if step.error.is_empty() { &step.detail } else { &step.error };
    let failed = if step.error.is_empty() { "" } else { "FAILED: " };
    format!("dhow: {began:7.3}s +{took:6.3}s {:<11} {failed}{outcome}", step.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 7.5.
    #[test]
    fn steps_are_kept_in_order_and_nothing_follows_the_last() {
        let steps = Steps::default();
        steps.run("modules", || Ok(((), "7 modules".to_owned()))).unwrap();
        let failed = steps.run::<()>("root", || Err(Error::Panic("x".to_owned())));
        assert!(failed.is_err());
        steps.end(begin("late"), "too late");
        let seen = steps.history().since(0);
        assert_eq!(seen.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(), ["modules", "root"]);
        assert!(!seen[0].last && seen[1].last && seen[1].error.contains("panicked"));
    }
}
