//! How much of its memory a machine may use. It boots with what the configuration says; less than that is taken from the guest while
//! it runs, so that nothing in it has to stop, and more than it booted with needs a new boot.

use std::time::{Duration, Instant};

use dhow_home::atomic;
use dhow_model::drift::Drift;
use dhow_model::{MachineSpec, Size, State};

use super::{Machine, tell};
use crate::progress::Reporter;
use crate::supervisor::Supervisor;
use crate::{Error, Result};

/// For the guest to give back what it does not use.
const SETTLE: Duration = Duration::from_secs(15);
/// Between two looks at what it has.
const LOOK: Duration = Duration::from_millis(250);

/// Whether a machine that lives can become what is asked by a limit of its memory alone.
fn by_limit(made: &MachineSpec, asked: &MachineSpec) -> bool {
    asked.memory <= made.memory && MachineSpec { memory: made.memory, ..asked.clone() } == *made
}

impl Machine {
    /// How much of its memory it may use.
    pub(super) fn memory(&self, made: &MachineSpec) -> Size {
        self.limit.unwrap_or(made.memory)
    }

    /// Follows a change of the memory that needs no new boot. Answers what the machine is to be made from after that, and whether
    /// anything changed.
    ///
    /// # Errors
    /// When the limit cannot be written down, or the hypervisor does not take it.
    pub(super) async fn limited(
        &mut self,
        asked: MachineSpec,
        report: &Reporter,
    ) -> Result<(MachineSpec, bool)> {
        use State::{Idle, Running, Starting, Suspended, Suspending};
        let state = self.lifecycle.state();
        let lives = matches!(state, Starting | Running | Idle | Suspending | Suspended);
        let Some(made) = self.spec.clone().filter(|made| lives && by_limit(made, &asked)) else {
            return Ok((asked, false));
        };
        let (before, now) = (self.memory(&made), asked.memory);
        if before == now {
            return Ok((made, false));
        }
        tell(report, &[Drift { field: "memory", made: before.to_string(), asked: now.to_string() }]);
        self.write_limit(now)?;
        // One that starts or sleeps is told when it is ready.
        let awake = self.supervisor.as_ref().filter(|_| matches!(state, Running | Idle));
        let Some(supervisor) = awake.map(|supervised| supervised.supervisor.clone()) else {
            return Ok((made, true));
        };
        report.step(format!("limiting the memory of {}", self.name));
        if let Err(error) = supervisor.limit_memory(now.as_bytes()).await {
            // It has what it had, and the next one who asks tries again.
            self.write_limit(before)?;
            return Err(error);
        }
        if now < before {
            settle(&supervisor, now, report).await?;
        }
        Ok((made, true))
    }

    /// The machine is made anew: it may use all of its memory.
    pub(super) fn unlimited(&mut self) -> Result<()> {
        if self.limit.take().is_some() {
            let path = self.dir.memory_limit();
            atomic::remove(&path).map_err(|source| Error::File { path, source })?;
        }
        Ok(())
    }

    /// The limit that was written down.
    pub(super) fn limit_written(&self) -> Option<Size> {
        let path = self.dir.memory_limit();
        match std::fs::read_to_string(&path) {
            Ok(text) => match text.trim().parse() {
                Ok(bytes) => Some(Size::bytes(bytes)),
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "the limit of the machine's memory is damaged; it may use all");
                    None
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the limit of the machine's memory cannot be read; it may use all");
                None
            }
        }
    }

    /// Tells a machine that has become ready of its limit.
    pub(super) fn limit_again(&mut self) {
        let (Some(limit), Some(supervised)) = (self.limit, &self.supervisor) else { return };
        let (supervisor, name) = (supervised.supervisor.clone(), self.name.clone());
        self.calls.spawn(async move {
            if let Err(error) = supervisor.limit_memory(limit.as_bytes()).await {
                tracing::warn!(machine = %name, %error, "the machine's memory is not limited as it should be");
            }
            None
        });
    }

    fn write_limit(&mut self, limit: Size) -> Result<()> {
        let path = self.dir.memory_limit();
        let written = atomic::write(&path, limit.as_bytes().to_string().as_bytes(), 0o600);
        written.map_err(|source| Error::File { path, source })?;
        self.limit = Some(limit);
        // Whoever is answered finds the limit that was asked for.
        self.publish();
        Ok(())
    }
}

/// Waits until the guest has no more than this. What its programs use can be taken from it only when they end, which is said.
async fn settle(supervisor: &Supervisor, limit: Size, report: &Reporter) -> Result<()> {
    let until = Instant::now() + SETTLE;
    loop {
        let has = supervisor.status().await?.memory_total_bytes;
        if has <= limit.as_bytes() {
            return Ok(());
        }
        if Instant::now() >= until {
            let has = Size::bytes(has.div_ceil(1 << 20) << 20);
            report.note(format!(
                "what runs in the machine uses more than {limit}: it has {has} of memory still, and gives back the rest as it gets free"
            ));
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::tests::spec;

    /// Issue 5: "the guest's limit follows configuration without a reboot where the hypervisor can".
    #[test]
    fn only_less_memory_than_it_booted_with_needs_no_new_boot() {
        let made = spec();
        let asked = |memory, cpus| MachineSpec { memory, cpus, ..spec() };
        assert!(by_limit(&made, &asked(Size::gib(1), made.cpus)));
        assert!(by_limit(&made, &asked(made.memory, made.cpus)));
        assert!(!by_limit(&made, &asked(Size::gib(3), made.cpus)));
        assert!(!by_limit(&made, &asked(Size::gib(1), made.cpus + 1)));
    }
}
