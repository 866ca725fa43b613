//! `dhow version`: ours, and that of the daemon that runs. Starts none.

use serde::Serialize;

use crate::VERSION;
use crate::command::Caller;
use crate::error::Result;
use crate::exit;
use crate::launch;
use crate::output::Style;

use crate::client::{Daemon, Deadline};

/// What `dhow version --json` prints.
#[derive(Debug, Serialize)]
struct Answer {
    version: &'static str,
    protocol: u32,
    agent_protocol: u32,
    /// Null when none runs.
    daemon: Option<Running>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Running {
    version: String,
    protocol: u32,
    pid: u32,
}

/// Shows versions.
///
/// # Errors
/// When a daemon is there and does not answer.
pub async fn version(caller: &Caller) -> Result<u8> {
    let deadline = Deadline::after(caller.time_limit.unwrap_or(launch::CALL));
    let daemon = Daemon::reach(&caller.home.control_socket(), deadline).await?;
    let answer = Answer {
        version: VERSION,
        protocol: dhow_proto::HOST_PROTOCOL,
        agent_protocol: dhow_proto::AGENT_PROTOCOL,
        warnings: daemon.iter().filter_map(Daemon::other_version).collect(),
        daemon: daemon.map(|d| Running {
            version: d.version.version,
            protocol: d.version.protocol,
            pid: d.version.pid,
        }),
    };
    for warning in &answer.warnings {
        caller.output.warn(warning);
    }
    caller.output.answer(&render(&answer, caller.output.stdout), &answer)?;
    Ok(exit::OK)
}

fn render(answer: &Answer, style: Style) -> String {
    let daemon = match &answer.daemon {
        None => style.dim("not running"),
        Some(d) => format!("{} (protocol {}, process {})", d.version, d.protocol, d.pid),
    };
    format!("dhow    {} (protocol {})\ndaemon  {daemon}\n", answer.version, answer.protocol)
}
