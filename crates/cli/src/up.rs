//! `dhow up`: a daemon, the engine, the Docker context.

use std::cell::Cell;
use std::time::Duration;

use dhow_model::Failure;
use dhow_proto::control::Done;
use serde::Serialize;

use crate::client::Deadline;
use crate::command::Caller;
use crate::config;
use crate::context::{Context, State};
use crate::error::{Error, Result};
use crate::exit;
use crate::house::Report as _;
use crate::interrupt::Interrupts;
use crate::launch;
use crate::output::Style;
use crate::progress::Progress;
use crate::status::{Step, steps, table};
use crate::text;

/// For boot assets, which a first start builds, and the daemon; the machine has its own limit.
const LIMIT: Duration = Duration::from_secs(1800);

/// The last document of `dhow up --json`.
#[derive(Debug, Serialize)]
struct Answer {
    event: &'static str,
    /// False when it was up already.
    changed: bool,
    docker_socket: String,
    docker_host: String,
    seconds: f64,
    version: String,
    context: State,
    timeline: Vec<Step>,
    warnings: Vec<String>,
}

/// Starts the engine.
///
/// # Errors
/// When Dhow's directory or the configuration cannot be used, the engine cannot be started, or the Docker context cannot be set.
pub async fn up(caller: &Caller) -> Result<u8> {
    caller.home.create()?;
    let config = config::load(&caller.home)?;
    let context = Context::of(&caller.home, &config)?;
    let mut interrupts = Interrupts::from_now_on()?;
    let mut progress = Progress::new(&caller.output);
    let asked = Cell::new(false);
    let limit = LIMIT + Duration::from_secs(config.limits.start.into());
    let deadline = Deadline::after(caller.time_limit.unwrap_or(limit));
    let (done, version) = tokio::select! {
        done = start(caller, deadline, &mut progress, &asked) => done?,
        () = interrupts.pressed() => return Err(interrupted(progress.current(), asked.get())),
    };
    progress.finish();
    let state = context.set_up().map_err(|error| {
        let message = format!("the engine runs, but its Docker context could not be set\n{error}");
        let hint = format!("{}; until then: export DOCKER_HOST={}", error.hint(), context.host());
        Error::Failed(Failure::new(error.code(), message, hint))
    })?;
    let mut warnings = done.warnings;
    warnings.extend(state.overridden.clone());
    let answer = Answer {
        event: "done",
        changed: done.changed,
        docker_socket: caller.home.docker_socket().display().to_string(),
        docker_host: context.host().to_owned(),
        seconds: (progress.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
        version,
        context: state,
        timeline: steps(&done.timeline),
        warnings,
    };
    for warning in &answer.warnings {
        caller.output.warn(warning);
    }
    let mut words = if caller.output.quiet { String::new() } else { render(&answer, caller.output.stdout) };
    if caller.output.verbose {
        table::steps(&mut words, &answer.timeline, caller.output.stdout);
    }
    caller.output.answer(&words, &answer)?;
    Ok(exit::OK)
}

/// What goes on after Ctrl-C: the daemon starts the engine for whoever asks next, once it was asked.
fn interrupted(step: &str, asked: bool) -> Error {
    let (consequence, hint) = if asked {
        (
            "the engine goes on starting without this command",
            "`dhow status` shows how far it is, `dhow down` stops it",
        )
    } else {
        ("the engine was not asked to start yet", "dhow up")
    };
    Error::Interrupted { step: step.to_owned(), consequence: consequence.to_owned(), hint: hint.to_owned() }
}

async fn start(
    caller: &Caller,
    deadline: Deadline,
    progress: &mut Progress,
    asked: &Cell<bool>,
) -> Result<(Done, String)> {
    progress.step("connecting to the daemon");
    let mut daemon = launch::ensure(&caller.home, deadline).await?;
    daemon.require_our_protocol()?;
    if let Some(words) = daemon.other_version() {
        progress.note(&words);
    }
    asked.set(true);
    let mut following = daemon.up(deadline).await?;
    Ok((following.end(progress, deadline).await?, daemon.version.version))
}

fn render(answer: &Answer, style: Style) -> String {
    let head = if answer.changed { "The engine runs." } else { "The engine was running already." };
    let context = &answer.context;
    let state = match (context.current, &context.previous) {
        (true, Some(previous)) => format!("{}, current; `dhow down` restores {previous}", context.name),
        (true, None) => format!("{}, current", context.name),
        (false, _) => format!("{}, not current; `docker --context {} …` uses it", context.name, context.name),
    };
    let took = text::seconds(Duration::from_secs_f64(answer.seconds));
    format!(
        "{}\n  socket   {}\n  context  {state}\n  took     {took}\n",
        style.good(head),
        answer.docker_socket,
    )
}
