//! `dhow disk` and `dhow rescue`: what a machine's data disk takes, giving back what is free, growth, checks, and what can be
//! saved from a disk that cannot be used. A file for each idea.

pub mod args;
mod check;
mod copy;
mod grow;
mod rescue;
mod usage;

use dhow_home::process::allocated_bytes;
use dhow_model::{Failure, MachineName};
use serde::Serialize;

use crate::client::{Daemon, Deadline};
use crate::command::Caller;
use crate::down::supervised;
use crate::error::{Error, Result};
use crate::launch;
use crate::{exit, text};

use args::DiskVerb;
pub use rescue::rescue;

/// What `dhow disk compact --json` prints.
#[derive(Debug, Serialize)]
struct Compacted {
    machine: String,
    before_bytes: u64,
    after_bytes: u64,
    /// What this computer has more than before.
    given_back_bytes: u64,
}

/// Works on a data disk.
///
/// # Errors
/// Why it could not be done.
pub async fn disk(caller: &Caller, verb: &DiskVerb) -> Result<u8> {
    match verb {
        DiskVerb::Usage { whose } => usage::usage(caller, &whose.machine).await,
        DiskVerb::Compact { whose } => compact(caller, &whose.machine).await,
        DiskVerb::Grow { size, whose } => grow::grow(caller, &whose.machine, *size).await,
        DiskVerb::Check { repair, whose } => check::check(caller, &whose.machine, *repair).await,
        DiskVerb::Export { file, whose } => copy::export(caller, &whose.machine, file).await,
    }
}

async fn compact(caller: &Caller, machine: &MachineName) -> Result<u8> {
    /// The agent limits its own work to less.
    const LIMIT: std::time::Duration = std::time::Duration::from_secs(700);
    let deadline = Deadline::after(caller.time_limit.unwrap_or(LIMIT));
    let Some(mut daemon) = Daemon::reach(&caller.home.control_socket(), deadline).await? else {
        let message =
            format!("machine {machine} is off, and only its guest knows what is free in its data disk");
        return Err(Error::Failed(Failure::new("engine-off", message, "dhow up")));
    };
    let done = daemon.disk_compact(machine.as_str(), deadline).await?;
    let answer = Compacted {
        machine: machine.to_string(),
        before_bytes: done.before_bytes,
        after_bytes: done.after_bytes,
        given_back_bytes: done.before_bytes.saturating_sub(done.after_bytes),
    };
    let words = format!(
        "{} given back; the data disk of {machine} takes {}\n",
        text::bytes(answer.given_back_bytes),
        text::bytes(answer.after_bytes)
    );
    caller.output.answer(&words, &answer)?;
    Ok(exit::OK)
}

/// What the host alone knows of an image: its size, and what it takes.
fn image(caller: &Caller, machine: &MachineName) -> (u64, u64) {
    let path = caller.home.machine(machine).data_image();
    (path.metadata().map_or(0, |m| m.len()), allocated_bytes(&path))
}

/// The machine's state in a word; `stopped` where nobody runs that could know better.
///
/// # Errors
/// When a daemon is there and does not answer.
async fn state(caller: &Caller, machine: &MachineName) -> Result<String> {
    let deadline = Deadline::after(caller.time_limit.unwrap_or(launch::CALL));
    match Daemon::reach(&caller.home.control_socket(), deadline).await? {
        Some(mut daemon) => {
            let machines = daemon.status(deadline).await?.machines;
            let found = machines.into_iter().find(|m| m.name == machine.as_str());
            Ok(found.map_or_else(|| "absent".to_owned(), |m| m.state))
        }
        None if supervised(&caller.home)?.contains(machine) => Ok("running".to_owned()),
        None => Ok("stopped".to_owned()),
    }
}
