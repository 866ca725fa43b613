//! `dhow translator`: what runs programs of other architectures: which are there, which serve, and how they get there.

mod args;
mod live;
mod table;

use serde::Serialize;

pub use self::args::{TranslatorVerb, understood};
use crate::client::Deadline;
use crate::command::Caller;
use crate::config;
use crate::error::{Error, Result};
use crate::exit;
use crate::house::{House, TranslatorCommand, TranslatorRow, TranslatorsDone};
use crate::launch;
use crate::progress::Progress;

/// What `dhow translator --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Translators {
    /// One sentence for people.
    summary: String,
    translators: Vec<Row>,
    /// What a person should know.
    warnings: Vec<String>,
}

/// A translator, from both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    #[serde(flatten)]
    host: TranslatorRow,
    /// What each running machine of its guest's architecture says; empty where none runs.
    machines: Vec<live::InMachine>,
}

/// Works on translators.
///
/// # Errors
/// When it could not be done.
pub fn translator(house: &dyn House, caller: &Caller, command: &TranslatorCommand) -> Result<u8> {
    let config = config::load(&caller.home)?;
    let mut progress = Progress::new(&caller.output);
    let done = house.translators(&caller.home, &config, command, &mut progress).map_err(Error::Failed)?;
    progress.finish();
    drop(progress);
    let mut told =
        Translators { summary: done.summary.clone(), translators: Vec::new(), warnings: Vec::new() };
    let deadline = Deadline::after(caller.time_limit.unwrap_or(launch::CALL));
    let machines = crate::wait(live::machines(&caller.home, deadline, &awaited(command, &done)))?;
    told.warnings.extend(machines.iter().flat_map(|machine| machine.warnings.clone()));
    for host in done.translators {
        let machines = machines.iter().filter_map(|machine| machine.about(&host)).collect();
        told.translators.push(Row { host, machines });
    }
    if matches!(command, TranslatorCommand::Provision { .. }) {
        told.warnings.extend(told.translators.iter().filter_map(unused));
    }
    for warning in &told.warnings {
        caller.output.warn(warning);
    }
    let text = table::render(&told, caller.output.quiet, caller.output.stdout);
    caller.output.answer(&text, &told)?;
    Ok(status(command, &told))
}

/// What a running machine is waited for to say, after a change.
fn awaited(command: &TranslatorCommand, done: &TranslatorsDone) -> Vec<live::Awaited> {
    let changed = |name| done.translators.iter().filter(move |row| row.name == name);
    match command {
        TranslatorCommand::Provision { name, .. } => {
            let used = changed(*name).filter(|row| row.chosen);
            used.map(live::Awaited::serving).collect()
        }
        TranslatorCommand::Remove { name, .. } => changed(*name).map(live::Awaited::gone).collect(),
        TranslatorCommand::List { .. } | TranslatorCommand::Probe { .. } => Vec::new(),
    }
}

/// A file that is there and that nobody asks for helps nobody.
fn unused(row: &Row) -> Option<String> {
    let TranslatorRow { name, serves, listed, chosen, .. } = &row.host;
    if *chosen || !row.host.provisioned {
        return None;
    }
    Some(if *listed {
        format!(
            "another translator stands before {name} on the list translators.{serves}, and is provisioned"
        )
    } else {
        format!(
            "{name} is not on the list translators.{serves} of the configuration, so that nothing uses it"
        )
    })
}

/// A probe that found something that does not work fails.
fn status(command: &TranslatorCommand, told: &Translators) -> u8 {
    let bad = |row: &Row| {
        row.host.probe.as_ref().is_some_and(|probe| probe.failed)
            || row.machines.iter().any(|machine| !machine.problem.is_empty())
    };
    let probing = matches!(command, TranslatorCommand::Probe { .. });
    if probing && told.translators.iter().any(bad) { exit::FAILED } else { exit::OK }
}

#[cfg(test)]
mod tests;
