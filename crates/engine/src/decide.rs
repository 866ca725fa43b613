//! What `up` means for a machine, given what it is and what is asked.

use dhow_model::drift::{self, DiskWouldShrink, Drift};
use dhow_model::{MachineSpec, State};

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is up and as asked.
    Nothing,
    /// It is on its way and as asked.
    Wait,
    /// It sleeps and is as asked: wake it.
    Wake,
    /// It is off: make it as asked, in which these fields differ from before, and start it.
    Start(Vec<Drift>),
    /// It is up and differs in these fields: stop it, make it anew around its disk, start it.
    Restart(Vec<Drift>),
    /// It sleeps and differs in these fields: what was saved is no good any more; make it anew around its disk, start it.
    Forget(Vec<Drift>),
    /// It is ending: wait for that, and look again.
    WaitForEnd,
}

/// Decides. `made` is what the machine was made from, if it ever was.
///
/// # Errors
/// When the disk would shrink.
pub fn up(state: State, made: Option<&MachineSpec>, asked: &MachineSpec) -> Result<Action, DiskWouldShrink> {
    let drifted = match made {
        Some(made) => drift::between(made, asked)?,
        None => Vec::new(),
    };
    Ok(match state {
        State::Absent | State::Created | State::Stopped | State::Failed => Action::Start(drifted),
        // One that is being put to sleep wakes after that.
        State::Suspended | State::Suspending if drifted.is_empty() => Action::Wake,
        State::Suspended => Action::Forget(drifted),
        State::Stopping | State::Suspending => Action::WaitForEnd,
        State::Starting | State::Running | State::Idle if !drifted.is_empty() => Action::Restart(drifted),
        State::Starting => Action::Wait,
        // What kept it from serving may have been mended.
        State::Rescue => Action::Restart(drifted),
        State::Running | State::Idle => Action::Nothing,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use dhow_model::{Accelerator, Arch, ChannelKind, Input, MachineName, Size};

    pub(crate) fn spec() -> MachineSpec {
        let input = |name: &str| Input { path: format!("/assets/{name}").into(), sha256: "0".repeat(64) };
        MachineSpec {
            name: MachineName::native(),
            arch: Arch::Amd64,
            accelerator: Accelerator::Tcg,
            cpus: 2,
            memory: Size::gib(2),
            disk: Size::gib(64),
            kernel: input("kernel"),
            initrd: input("initrd"),
            root: input("root"),
            cmdline: String::new(),
            channel: ChannelKind::Serial,
            network: dhow_model::config::Network::default(),
            dns: dhow_model::config::Dns::default(),
            shares: Vec::new(),
        }
    }

    /// Spec 6.4, 15.1.
    #[test]
    fn up_starts_what_is_off_waits_for_what_is_coming_and_restarts_what_drifted() {
        let other = MachineSpec { cpus: 3, ..spec() };
        let names = |action| match action {
            Action::Nothing => "nothing",
            Action::Wait => "wait",
            Action::Wake => "wake",
            Action::Forget(_) => "forget",
            Action::Start(drift) if drift.is_empty() => "start",
            Action::Start(_) => "start anew",
            Action::Restart(_) => "restart",
            Action::WaitForEnd => "wait for end",
        };
        for (state, same, drifted) in [
            (State::Absent, "start", "start anew"),
            (State::Created, "start", "start anew"),
            (State::Starting, "wait", "restart"),
            (State::Running, "nothing", "restart"),
            (State::Idle, "nothing", "restart"),
            (State::Stopping, "wait for end", "wait for end"),
            (State::Suspending, "wake", "wait for end"),
            (State::Suspended, "wake", "forget"),
            (State::Stopped, "start", "start anew"),
            (State::Failed, "start", "start anew"),
            (State::Rescue, "restart", "restart"),
        ] {
            assert_eq!(names(up(state, Some(&spec()), &spec()).unwrap()), same, "{state}");
            assert_eq!(names(up(state, Some(&spec()), &other).unwrap()), drifted, "{state}");
        }
        assert_eq!(names(up(State::Absent, None, &spec()).unwrap()), "start");
    }

    #[test]
    fn a_disk_that_would_shrink_starts_nothing() {
        let smaller = MachineSpec { disk: Size::gib(4), ..spec() };
        assert!(up(State::Stopped, Some(&spec()), &smaller).is_err());
    }
}
