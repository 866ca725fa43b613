//! Whether a machine can be dialled, given what is known of it: yes, soon, or why not and what to type.

use std::path::Path;
use std::time::Duration;

use dhow_channel::Dialer;
use dhow_model::{Failure, Role, State};

use crate::machine::rescue_failure;
use crate::snapshot::Ready;

/// A machine that is tried again within this time is waited for; later ones would keep clients hanging (spec 16.2).
const SOON: Duration = Duration::from_secs(5);

/// What is known of a machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances<'a> {
    /// Whose machine it is.
    pub(crate) role: Role,
    /// Its state.
    pub(crate) state: State,
    /// Its supervisor was found running, and has not said yet how the machine is.
    pub(crate) found: bool,
    /// It has a supervisor.
    pub(crate) supervised: bool,
    /// When it is started again after a failure.
    pub(crate) retry_in: Option<Duration>,
    /// Why it failed.
    pub(crate) trouble: &'a str,
    /// Where its supervisor takes dials.
    pub(crate) channel: &'a Path,
}

/// Decides.
pub(crate) fn of(now: &Circumstances<'_>) -> Ready {
    match now.state {
        // A vsock could be dialled from here too, but its token is the supervisor's alone: its hub dials.
        State::Running | State::Idle => Ready::Yes(Dialer::hub(now.channel.to_owned())),
        State::Suspended if now.supervised => Ready::Asleep(Dialer::hub(now.channel.to_owned())),
        State::Suspended => Ready::Saved,
        State::Starting if now.found => Ready::Found,
        // Whoever comes while it is being put to sleep wakes it then.
        State::Starting | State::Suspending => Ready::Coming,
        State::Failed if now.retry_in.is_some_and(|wait| wait <= SOON) => Ready::Coming,
        State::Failed => Ready::No(failed(now)),
        State::Rescue => Ready::No(rescue_failure(now.trouble)),
        State::Absent | State::Created => Ready::No(off(now.role, "has not been started")),
        state => Ready::No(off(now.role, &format!("is {state}"))),
    }
}

fn off(role: Role, how: &str) -> Failure {
    Failure::new("engine-off", format!("{} {how}", words(role)), "dhow up")
}

fn failed(now: &Circumstances<'_>) -> Failure {
    let mut message = format!("{} has failed: {}", words(now.role), now.trouble);
    if let Some(wait) = now.retry_in {
        message.push_str(&format!("; it is started again in {} s", wait.as_secs()));
    }
    let hint = if now.role == Role::Native { "dhow up" } else { "dhow status" };
    Failure::new("engine-failed", message, hint)
}

/// A machine as the user knows it.
pub(crate) fn words(role: Role) -> &'static str {
    match role {
        Role::Native => "the engine",
        Role::Foreign => "the machine foreign",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(role: Role, state: State, retry_in: Option<u64>) -> String {
        let now = Circumstances {
            role,
            state,
            found: false,
            supervised: role == Role::Native,
            retry_in: retry_in.map(Duration::from_secs),
            trouble: "it burned",
            channel: Path::new("/run/x.channel"),
        };
        match of(&now) {
            Ready::Yes(_) => "yes".to_owned(),
            Ready::Coming => "coming".to_owned(),
            Ready::Found => "found".to_owned(),
            Ready::Asleep(_) => "asleep".to_owned(),
            Ready::Saved => "saved".to_owned(),
            Ready::No(failure) => format!("{}: {}", failure.message, failure.hint),
        }
    }

    /// Spec 3.3, 16.2: what is on its way is waited for, and of what is not it is said which machine, why, and what to type.
    #[test]
    fn a_machine_that_is_coming_is_waited_for_and_one_that_is_off_says_what_to_type() {
        use Role::{Foreign, Native};
        for (role, state, retry, expected) in [
            (Native, State::Running, None, "yes"),
            (Foreign, State::Idle, None, "yes"),
            (Native, State::Starting, None, "coming"),
            (Native, State::Suspending, None, "coming"),
            (Native, State::Suspended, None, "asleep"),
            (Foreign, State::Suspended, None, "saved"),
            (Foreign, State::Failed, Some(1), "coming"),
            (Native, State::Absent, None, "the engine has not been started: dhow up"),
            (Native, State::Stopped, None, "the engine is stopped: dhow up"),
            (Foreign, State::Stopping, None, "the machine foreign is stopping: dhow up"),
            (Native, State::Failed, None, "the engine has failed: it burned: dhow up"),
            (
                Foreign,
                State::Failed,
                Some(60),
                "the machine foreign has failed: it burned; it is started again in 60 s: dhow status",
            ),
        ] {
            assert_eq!(words_of(role, state, retry), expected);
        }
    }
}
