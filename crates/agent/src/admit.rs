//! Lets the host's own interface reach containers that publish nothing. dockerd drops what comes from outside for such a
//! container, and leaves one chain to others: what stands there it keeps (Docker's manual, "Packet filtering and
//! firewalls", the `DOCKER-USER` chain). For IPv6 dockerd filters nothing here.

use std::process::Command;
use std::time::Duration;

use dhow_model::network;

use crate::reaper::Reaper;
use crate::{Error, Result, tool};

const IPTABLES: &str = "/usr/sbin/iptables";
/// One call waits for whoever else changes the filter, dockerd above all.
const LIMIT: Duration = Duration::from_secs(20);

/// Adds the rule unless it is there. dockerd must have made its chains.
pub fn host(reaper: &Reaper) -> Result<()> {
    let (there, _) = iptables(reaper, "-C")?;
    if there == 0 {
        return Ok(());
    }
    match iptables(reaper, "-I")? {
        (0, _) => Ok(()),
        (code, tail) => Err(Error::Tool {
            program: IPTABLES.to_owned(),
            how: format!("ended with status {code}"),
            tail: Some(tail),
        }),
    }
}

fn iptables(reaper: &Reaper, act: &str) -> Result<(i32, String)> {
    let host = network::HOST_INTERFACE.to_string();
    let mut command = Command::new(IPTABLES);
    command.args(["-w", "15", act, "DOCKER-USER", "-s", &host, "-j", "ACCEPT"]);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    tool::run(reaper, &mut command, LIMIT)
}
