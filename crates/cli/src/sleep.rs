//! `dhow suspend` and `dhow resume`: machines put to sleep and woken because somebody asks.

use std::time::Duration;

use dhow_home::Home;
use dhow_model::{MachineName, Role};
use dhow_proto::control::Done;
use serde::Serialize;

use crate::client::{Daemon, Deadline};
use crate::command::Caller;
use crate::down::supervised;
use crate::error::Result;
use crate::exit;
use crate::house::Report as _;
use crate::launch;
use crate::progress::Progress;
use crate::text;

/// For a machine that is on its way to come up, and its memory to be saved; or for one that cannot be woken to boot.
const LIMIT: Duration = Duration::from_secs(1200);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To sleep.
    Sleep,
    /// To wake.
    Wake,
}

/// The last document of `dhow suspend --json` and `dhow resume --json`.
#[derive(Debug, Serialize)]
struct Answer {
    event: &'static str,
    /// False when it was so already.
    changed: bool,
    seconds: f64,
    warnings: Vec<String>,
}

/// Puts a machine, or all of them, to sleep, or wakes them. What is off stays so.
///
/// # Errors
/// When a machine cannot be put to sleep or woken, or one that was named is off.
pub async fn run(caller: &Caller, wish: Wish, role: Option<Role>) -> Result<u8> {
    let deadline = Deadline::after(caller.time_limit.unwrap_or(LIMIT));
    let mut progress = Progress::new(&caller.output);
    let done = match find(caller, deadline, &mut progress).await? {
        None => None,
        Some(mut daemon) => {
            if let Some(words) = daemon.other_version() {
                progress.note(&words);
            }
            let mut following = match wish {
                Wish::Sleep => daemon.suspend(role, deadline).await?,
                Wish::Wake => daemon.resume(role, deadline).await?,
            };
            Some(following.end(&mut progress, deadline).await?)
        }
    };
    progress.finish();
    let Done { changed, warnings, .. } = done.unwrap_or_default();
    let seconds = (progress.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
    let answer = Answer { event: "done", changed, seconds, warnings };
    for warning in &answer.warnings {
        caller.output.warn(warning);
    }
    let words = if caller.output.quiet { String::new() } else { render(wish, &answer) };
    caller.output.answer(&words, &answer)?;
    Ok(exit::OK)
}

/// The daemon to ask. Where none runs and a machine runs or sleeps, a new one takes it over first.
async fn find(caller: &Caller, deadline: Deadline, progress: &mut Progress) -> Result<Option<Daemon>> {
    if let Some(daemon) = launch::running(&caller.home).await? {
        return Ok(Some(daemon));
    }
    if supervised(&caller.home)?.is_empty() && saved(&caller.home).is_empty() {
        return Ok(None);
    }
    progress.step("starting the daemon");
    launch::ensure(&caller.home, deadline).await.map(Some)
}

/// Machines that sleep on disk, in the order of their names.
#[must_use]
pub fn saved(home: &Home) -> Vec<MachineName> {
    let machines = Role::ALL.map(|role| role.machine());
    machines.into_iter().filter(|name| home.machine(name).sleep().join("state.json").exists()).collect()
}

fn render(wish: Wish, answer: &Answer) -> String {
    let took = text::seconds(Duration::from_secs_f64(answer.seconds));
    match (wish, answer.changed) {
        (Wish::Sleep, true) => format!("The engine sleeps ({took}); the next request wakes it.\n"),
        (Wish::Sleep, false) => "No machine was awake.\n".to_owned(),
        (Wish::Wake, true) => format!("The engine is awake ({took}).\n"),
        (Wish::Wake, false) => "No machine slept.\n".to_owned(),
    }
}
