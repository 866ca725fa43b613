//! `dhow disk check`.

use std::time::Duration;

use dhow_model::{Failure, MachineName};
use dhow_proto::control::Done;
use serde::Serialize;

use crate::client::Deadline;
use crate::command::Caller;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::{exit, launch, text};

/// A large and badly damaged file system takes its time.
const LIMIT: Duration = Duration::from_secs(2 * 3600);

/// What `dhow disk check --json` prints.
#[derive(Debug, Serialize)]
struct Checked {
    machine: String,
    /// sound, repaired, damaged.
    verdict: String,
    seconds: f64,
    /// The end of what e2fsck said.
    said: String,
}

/// Checks a data disk. The exit status is 1 when it is damaged.
pub async fn check(caller: &Caller, machine: &MachineName, repair: bool) -> Result<u8> {
    let deadline = Deadline::after(caller.time_limit.unwrap_or(LIMIT));
    if !caller.home.machine(machine).data_image().exists() {
        let message = format!("machine {machine} has no data disk yet");
        return Err(Error::Failed(Failure::new("engine-off", message, "dhow up")));
    }
    let mut progress = Progress::new(&caller.output);
    let mut daemon = launch::ensure(&caller.home, deadline).await?;
    let mut following = daemon.disk_check(machine.as_str(), repair, deadline).await?;
    let done = following.end(&mut progress, deadline).await?;
    progress.finish();
    let checked = told(machine, &done);
    let words = render(&checked, repair);
    caller.output.answer(&words, &checked)?;
    Ok(if checked.verdict == "damaged" { exit::FAILED } else { exit::OK })
}

fn told(machine: &MachineName, done: &Done) -> Checked {
    let step = done.timeline.first().cloned().unwrap_or_default();
    Checked {
        machine: machine.to_string(),
        verdict: step.name,
        seconds: Duration::from_micros(step.took_us).as_secs_f64(),
        said: text::harmless(&step.detail),
    }
}

fn render(checked: &Checked, repair: bool) -> String {
    let Checked { machine, verdict, said, .. } = checked;
    let said: String = said.lines().map(|line| format!("  {line}\n")).collect();
    let next = match (verdict.as_str(), repair) {
        ("sound", _) => format!("The data disk of {machine} is sound.\n"),
        ("repaired", _) => {
            format!("The data disk of {machine} was repaired; `dhow up` starts the machine.\n")
        }
        (_, false) => format!(
            "The data disk of {machine} is damaged; nothing was changed.\n\
             `dhow disk export FILE` makes a copy of it as it is; then `dhow disk check --repair` repairs it.\n"
        ),
        (_, true) => format!(
            "The data disk of {machine} could not be repaired.\n\
             `dhow up` starts the machine in rescue; `dhow rescue list` shows what can be saved then.\n"
        ),
    };
    format!("{said}{next}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 7.6: nobody is ever told to delete their data.
    #[test]
    fn whatever_a_check_finds_it_says_what_to_do_and_never_to_delete() {
        for (verdict, repair, words) in [
            ("sound", false, "is sound"),
            ("repaired", true, "dhow up"),
            ("damaged", false, "dhow disk export"),
            ("damaged", true, "dhow rescue list"),
        ] {
            let checked = Checked {
                machine: "native".to_owned(),
                verdict: verdict.to_owned(),
                seconds: 1.0,
                said: "Pass 1\nPass 2".to_owned(),
            };
            let text = render(&checked, repair);
            assert!(text.contains(words) && text.starts_with("  Pass 1\n"), "{text}");
            for bad in ["delete", "remove", "format"] {
                assert!(!text.contains(bad), "{text}");
            }
        }
    }
}
