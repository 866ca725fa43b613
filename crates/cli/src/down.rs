//! `dhow down`: every machine and the daemon stopped, the previous Docker context restored.

use std::time::Duration;

use dhow_home::Home;
use dhow_model::MachineName;
use dhow_proto::control::Done;
use serde::Serialize;

use crate::client::{Daemon, Deadline};
use crate::command::Caller;
use crate::config;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::exit;
use crate::house::Report as _;
use crate::interrupt::Interrupts;
use crate::launch::{self, held};
use crate::progress::Progress;
use crate::sleep::saved;
use crate::text;

/// Beyond what the configuration gives machines, at the end of which the daemon forces them.
const LIMIT: Duration = Duration::from_secs(120);

/// How long a daemon that has stopped everything may take to end.
const END: Duration = Duration::from_secs(15);

/// The last document of `dhow down --json`.
#[derive(Debug, Serialize)]
struct Answer {
    event: &'static str,
    /// False when nothing was running.
    changed: bool,
    seconds: f64,
    /// The Docker context that became current; null if none was changed.
    restored_context: Option<String>,
    warnings: Vec<String>,
}

/// Stops the engine. That it is not running is a success that says so.
///
/// # Errors
/// When it cannot be stopped, or the previous Docker context not restored.
pub async fn down(caller: &Caller, force: bool, suspend: bool) -> Result<u8> {
    // A configuration that cannot be read must not keep anybody from stopping.
    let config = config::load(&caller.home).unwrap_or_default();
    let limit = LIMIT + Duration::from_secs(config.limits.stop.into());
    let deadline = Deadline::after(caller.time_limit.unwrap_or(limit));
    let mut progress = Progress::new(&caller.output);
    let done = match find(caller, suspend, deadline, &mut progress).await? {
        None => None,
        Some(daemon) if suspend => Some(save(daemon, deadline, &mut progress).await?),
        Some(daemon) => Some(stop(daemon, force, deadline, &mut progress).await?),
    };
    progress.finish();
    let restored_context = Context::of(&caller.home, &config)?.restore()?;
    let mut answer = Answer {
        event: "done",
        changed: done.is_some(),
        seconds: (progress.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
        restored_context,
        warnings: done.map(|done| done.warnings).unwrap_or_default(),
    };
    if let Err(error) = launch::gone(&caller.home, Deadline::after(END)).await {
        answer.warnings.push(error.to_string().replace('\n', ", "));
    }
    for warning in &answer.warnings {
        caller.output.warn(warning);
    }
    let words = if caller.output.quiet { String::new() } else { render(&answer, suspend) };
    caller.output.answer(&words, &answer)?;
    Ok(exit::OK)
}

/// Machines whose supervisors run, by their locks, in the order of their names.
///
/// # Errors
/// When a lock cannot be looked at.
pub fn supervised(home: &Home) -> Result<Vec<MachineName>> {
    let Ok(entries) = std::fs::read_dir(home.machines_dir()) else { return Ok(Vec::new()) };
    let mut machines = Vec::new();
    for entry in entries.flatten() {
        let Some(name) = entry.file_name().to_str().and_then(|word| word.parse::<MachineName>().ok()) else {
            continue;
        };
        if held(&home.machine(&name).supervisor_lock())? {
            machines.push(name);
        }
    }
    machines.sort();
    Ok(machines)
}

/// The daemon to ask. Where it was killed and a machine goes on, a new one takes the machine over first (spec 6.9).
async fn find(
    caller: &Caller,
    suspend: bool,
    deadline: Deadline,
    progress: &mut Progress,
) -> Result<Option<Daemon>> {
    if let Some(daemon) = launch::running(&caller.home).await? {
        return Ok(Some(daemon));
    }
    let machines: Vec<_> = supervised(&caller.home)?.iter().map(ToString::to_string).collect();
    if machines.is_empty() {
        let asleep: Vec<_> = saved(&caller.home).iter().map(ToString::to_string).collect();
        // What sleeps without any process is as `--suspend` leaves it.
        if suspend || asleep.is_empty() {
            return Ok(None);
        }
        progress.note(&format!("{} sleeps; a daemon is started to stop it", asleep.join(", ")));
    } else {
        let names = machines.join(", ");
        progress.note(&format!("{names} runs without a daemon; a new one takes over to stop it"));
    }
    progress.step("starting the daemon");
    launch::ensure(&caller.home, deadline).await.map(Some)
}

/// Puts everything to sleep. It goes on when this command is interrupted.
async fn save(mut daemon: Daemon, deadline: Deadline, progress: &mut Progress) -> Result<Done> {
    daemon.require_our_protocol()?;
    let mut following = daemon.down(false, true, deadline).await?;
    following.end(progress, deadline).await
}

/// Stops everything; a second Ctrl-C forces (spec 6.6), a third gives up.
async fn stop(mut daemon: Daemon, force: bool, deadline: Deadline, progress: &mut Progress) -> Result<Done> {
    if let Some(words) = daemon.other_version() {
        progress.note(&words);
    }
    let mut interrupts = Interrupts::from_now_on()?;
    let mut following = daemon.down(force, false, deadline).await?;
    let mut pressed = u32::from(force);
    loop {
        tokio::select! {
            done = following.end(progress, deadline) => return done,
            () = interrupts.pressed() => {}
        }
        pressed += 1;
        match pressed {
            1 => progress.note("still stopping; Ctrl-C again powers machines off at once"),
            2 => {
                progress.note("powering machines off");
                following = daemon.down(true, false, deadline).await?;
            }
            _ => {
                return Err(Error::Interrupted {
                    step: following.step.clone(),
                    consequence: "the engine goes on stopping without this command".to_owned(),
                    hint: "dhow status".to_owned(),
                });
            }
        }
    }
}

fn render(answer: &Answer, suspend: bool) -> String {
    let took = text::seconds(Duration::from_secs_f64(answer.seconds));
    let mut words = if answer.changed && suspend {
        format!("The engine is saved to disk ({took}); `dhow up` goes on where it was.\n")
    } else if answer.changed {
        format!("The engine is stopped ({took}).\n")
    } else {
        "The engine was not running.\n".to_owned()
    };
    if let Some(context) = &answer.restored_context {
        words.push_str(&format!("  context  {context} is current again\n"));
    }
    words
}
