//! How a machine that sleeps is woken.
//!
//! ```text
//!  the state is taken, for ever ─▶ its inputs are compared ─▶ a hypervisor starts, memory is filled meanwhile and verified, devices
//!    are loaded ─▶ the multiplexer goes on over the new port ─▶ the processors run ─▶ the gateway thaws ─▶ the guest is told the time
//! ```
//!
//! Up to the processors everything can be given up: the state is set aside, and the machine boots.

use std::time::Duration;

use dhow_channel::{Mux, Parked};
use dhow_hypervisor::{Memory, Origin};
use dhow_proto::agent::AwakeReply;

use crate::saved::{Inputs, Mark, Saved, Unusable};
use crate::sleep::Files;
use crate::start::{Ground, Started};
use crate::status::Status;
use crate::stopwatch::Stopwatch;
use crate::watch::Machine;
use crate::{Error, Result};

/// For what the last hypervisor said to be read.
const UNPARK: Duration = Duration::from_secs(5);
/// Bytes of a seed for the guest's random generator.
const SEED: usize = 64;

/// Where the streams are that were open when the machine went to sleep.
pub enum Line {
    /// With us, at rest.
    Parked(Mux, Parked),
    /// They ended with the supervisor that had them.
    Gone,
}

impl Ground<'_> {
    /// Wakes the machine from a state that was taken.
    ///
    /// # Errors
    /// Why the state is of no use; nothing of its guest runs.
    pub async fn raise(
        &self,
        files: &Files,
        line: Line,
        status: &Status,
        steps: &mut Stopwatch,
    ) -> Result<(Started, Mux), Unusable> {
        let saved = files.saved()?;
        self.allow(&saved)?;
        let failed = |error: Error| Unusable::Failed(error.to_string());
        let memory = self.memory().map_err(failed)?;
        let memory = memory.ok_or_else(|| Unusable::Failed("this host cannot keep its memory".to_owned()))?;
        steps.step("read", "");
        let (devices, path) = (files.devices(), files.memory());
        let origin = Origin::Saved(dhow_hypervisor::Saved {
            devices: &devices,
            devices_written: saved.devices,
            memory: Some((&path, saved.memory)),
        });
        let (started, mux) = self.go_on_from(origin, memory, line, steps).await.map_err(failed)?;
        status.hypervisor(started.running.pid(), started.reach.cid());
        Ok((started, mux))
    }

    /// Whether what is there now is what the state was made from.
    fn allow(&self, saved: &Saved) -> Result<(), Unusable> {
        let failed = |error: std::io::Error| Unusable::Failed(format!("what it needs is not there: {error}"));
        let executable = Mark::of(self.qemu.path()).map_err(failed)?;
        let now = Inputs::now(self.place.spec, &self.qemu, executable, &self.place.dir.data_image())
            .map_err(failed)?;
        saved.inputs.allow(&now)
    }

    /// Starts a hypervisor where another one left off, and lets its guest run.
    ///
    /// # Errors
    /// When it does not come to that; the hypervisor has ended then.
    pub async fn go_on_from(
        &self,
        origin: Origin<'_>,
        memory: Memory,
        line: Line,
        steps: &mut Stopwatch,
    ) -> Result<(Started, Mux)> {
        let mut started = self.hypervise(Some(memory), origin).await?;
        steps.step("start", "");
        match self.run(&mut started, line, steps).await {
            Ok(mux) => Ok((started, mux)),
            Err(error) => {
                // Its files and locks are wanted by the next one.
                if let Err(error) = started.running.kill().await {
                    tracing::warn!(%error, "a hypervisor that could not go on did not end");
                }
                Err(error)
            }
        }
    }

    async fn run(&self, started: &mut Started, line: Line, steps: &mut Stopwatch) -> Result<Mux> {
        let running = &mut started.running;
        let mux = match line {
            Line::Parked(mux, parked) => {
                // The guest sees its port as open all the time.
                parked.unpark(running.serial().await?, UNPARK).await?;
                steps.step("connect", "");
                running.resume().await?;
                steps.step("continue", "");
                mux
            }
            Line::Gone => {
                running.resume().await?;
                steps.step("continue", "");
                let mux = self.connect(&started.reach, started.running.as_ref()).await?;
                steps.step("connect", "");
                mux.ok_or(Error::Hypervisor(dhow_hypervisor::Error::Unsupported(
                    "a machine whose channel is a vsock cannot be woken".to_owned(),
                )))?
            }
        };
        self.place.network.thaw().await;
        Ok(mux)
    }
}

impl Machine {
    /// Tells the guest what the time is, and gives its random generator something that no saved state has. Answers what came of it.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn tell_awake(&mut self) -> Result<String, String> {
        let mut seed = vec![0; SEED];
        getrandom::fill(&mut seed).map_err(|error| format!("no random bytes: {error}"))?;
        let AwakeReply { moved_nanos, errors } = self.session.agent.awake(seed).await?;
        for error in errors {
            tracing::warn!(%error, "the guest after its sleep");
        }
        Ok(format!("clock moved by {} ms", moved_nanos / 1_000_000))
    }
}
