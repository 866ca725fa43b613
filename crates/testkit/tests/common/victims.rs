//! What is killed, and while what: both as a person's computer would do it, without a word.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use dhow_testkit::engine::signal;
use dhow_testkit::{Engine, Error, Result, process, wait};

use super::{PATIENCE, busybox};

/// For a client that loses its answer with whoever it asked.
const LOST: Duration = Duration::from_secs(30);

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    Hypervisor,
    Supervisor,
    Daemon,
    Dockerd,
    /// Process 1 of the guest takes the guest's kernel along.
    Agent,
    All,
}

impl Victim {
    pub const ALL: [Self; 6] =
        [Self::Hypervisor, Self::Supervisor, Self::Daemon, Self::Dockerd, Self::Agent, Self::All];

    /// Kills it now, if it is there.
    pub fn kill(self, engine: &Engine) -> Result<()> {
        let status = engine.status()?;
        let (daemon, supervisor) = (status.daemon(), status.supervisor());
        // The status may be of the moment before.
        let hypervisor = supervisor.and_then(hypervisor_of).or_else(|| status.hypervisor());
        let victims = match self {
            Self::Hypervisor => vec![hypervisor],
            Self::Supervisor => vec![supervisor],
            Self::Daemon => vec![daemon],
            Self::All => vec![daemon, supervisor, hypervisor],
            Self::Dockerd => return inside(engine, "kill -9 $(pidof dockerd)"),
            // A signal does nothing to process 1: its end is the kernel's panic.
            Self::Agent => return inside(engine, "echo c > /proc/sysrq-trigger"),
        };
        for victim in victims.into_iter().flatten() {
            // One may have ended with another before its turn came.
            signal(victim, "KILL").ok();
        }
        Ok(())
    }

    /// Whether nobody starts it again by itself.
    pub fn needs_up(self) -> bool {
        matches!(self, Self::Daemon | Self::All)
    }
}

/// Runs something in the guest that ends whoever would say how that went.
fn inside(engine: &Engine, script: &str) -> Result<()> {
    let run = ["run", "--rm", "--privileged", "--pid=host", busybox(), "sh", "-c", script];
    engine.docker().run(run).limit(LOST).outcome().ok();
    Ok(())
}

/// The hypervisor that a supervisor has started.
fn hypervisor_of(supervisor: u32) -> Option<u32> {
    process::children(supervisor).into_iter().find(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("qemu"))
    })
}

/// What the engine does when somebody is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doing {
    /// Only the writer's work.
    Writing,
    /// The machine goes to sleep.
    Suspending,
    /// It wakes.
    Resuming,
    /// Its disk grows.
    Growing,
}

impl Doing {
    pub const ALL: [Self; 4] = [Self::Writing, Self::Suspending, Self::Resuming, Self::Growing];

    /// How long it takes at most on a computer that is not busy, milliseconds.
    pub fn lasts(self) -> u64 {
        match self {
            Self::Writing => 1500,
            Self::Suspending => 900,
            Self::Resuming => 700,
            Self::Growing => 900,
        }
    }

    /// Begins it; what it ends with is nobody's concern. A disk grows to `gigabytes`.
    pub fn begin(self, engine: &Engine, gigabytes: u64) -> Result<Option<Child>> {
        let begun = match self {
            Self::Writing => return Ok(None),
            Self::Suspending => engine.dhow(["suspend"])?,
            Self::Resuming => {
                // The writer's own bytes, or an answer to it, may call it off.
                wait::until("the machine to sleep", PATIENCE, || {
                    engine.dhow(["suspend"]).and_then(|run| run.limit(PATIENCE).ok()).ok()
                })?;
                engine.dhow(["resume"])?
            }
            Self::Growing => engine.dhow(["disk", "grow", &format!("{gigabytes}GiB")])?,
        };
        begun.start().map(Some)
    }
}

/// Waits for what was begun, which ends by itself.
pub fn end(begun: Option<Child>) -> Result<()> {
    let Some(mut begun) = begun else { return Ok(()) };
    let ended = wait::until("a command to end", PATIENCE, || begun.try_wait().ok().flatten());
    if ended.is_err() {
        dhow_testkit::run::kill(&mut begun);
    }
    ended.map(drop).map_err(|error| Error::io("end", Path::new("dhow"))(std::io::Error::other(error)))
}
