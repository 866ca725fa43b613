//! `dhow disk grow`: the configuration first, so that whatever is killed on the way, the next start makes the disk as large.

use std::time::Duration;

use dhow_model::{Config, Failure, MachineName, Role, Size};
use serde::Serialize;

use super::image;
use crate::client::{Daemon, Deadline};
use crate::command::Caller;
use crate::error::{Error, Result};
use crate::{config, exit, text};

/// For resize2fs, which the agent limits as well.
const LIMIT: Duration = Duration::from_secs(700);

/// What `dhow disk grow --json` prints.
#[derive(Debug, Serialize)]
struct Grown {
    machine: String,
    /// As the configuration has it now.
    size_bytes: u64,
    /// The guest's file system; null when it grows at the machine's next start.
    file_system_bytes: Option<u64>,
}

/// Makes a data disk larger.
pub async fn grow(caller: &Caller, machine: &MachineName, size: Size) -> Result<u8> {
    let role = Role::of(machine).ok_or_else(|| {
        let message = format!("there is no machine {machine}");
        Error::Failed(Failure::new("no-machine", message, "the machines are native and foreign"))
    })?;
    let now = image(caller, machine).0;
    if size.as_bytes() < now {
        return Err(Error::Failed(would_shrink(machine, Size::bytes(now), size)));
    }
    configure(caller, role, size)?;
    let deadline = Deadline::after(caller.time_limit.unwrap_or(LIMIT));
    let grown = match Daemon::reach(&caller.home.control_socket(), deadline).await? {
        Some(mut daemon) => daemon.disk_grow(machine.as_str(), deadline).await.map_err(later)?.total_bytes,
        None => 0,
    };
    let answer = Grown {
        machine: machine.to_string(),
        size_bytes: size.as_bytes(),
        file_system_bytes: Some(grown).filter(|bytes| *bytes > 0),
    };
    let words = match answer.file_system_bytes {
        Some(bytes) => format!(
            "the data disk of {machine} is {size} large; its file system has {}\n",
            text::bytes(bytes)
        ),
        None => format!("the data disk of {machine} will be {size} large from its next start on\n"),
    };
    caller.output.answer(&words, &answer)?;
    Ok(exit::OK)
}

fn configure(caller: &Caller, role: Role, size: Size) -> Result<()> {
    let key = match role {
        Role::Native => "machine.disk",
        Role::Foreign => "foreign.disk",
    };
    let path = caller.home.config_file();
    let text = config::read(&path)?;
    let config: Config = config::parse(&text, &path)?;
    let before = match role {
        Role::Native => config.machine.disk,
        Role::Foreign => config.foreign.disk,
    };
    if before != size {
        let text = config::set(&text, &path, key, &size.to_string())?;
        caller.home.create()?;
        config::write(&path, &text)?;
    }
    Ok(())
}

/// Why a disk does not shrink, and what a person who wants that wants really.
fn would_shrink(machine: &MachineName, now: Size, asked: Size) -> Failure {
    let message = format!(
        "the data disk of {machine} is {now} large and cannot be made {asked}: what is in it may lie anywhere, and would be cut off\n\
         its size is only a limit; it takes of this computer's disk what is used in it"
    );
    let hint = "`dhow disk usage` shows what it takes and what could be freed, `dhow disk compact` gives back what is free";
    Failure::new("disk-would-shrink", message, hint)
}

/// The configuration has the new size already.
fn later(error: Error) -> Error {
    match error {
        Error::Failed(f) => {
            let message = format!("{}\nthe data disk grows at the machine's next start", f.message);
            Error::Failed(Failure::new(f.code, message, f.hint))
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issue 5, point 4: shrink is refused with an explanation.
    #[test]
    fn a_disk_does_not_shrink_and_the_refusal_says_what_to_do_instead() {
        let failure = would_shrink(&MachineName::native(), Size::gib(64), Size::gib(32));
        assert!(failure.message.contains("64GiB") && failure.message.contains("32GiB"), "{failure:?}");
        assert!(failure.hint.contains("dhow disk compact"), "{failure:?}");
    }
}
