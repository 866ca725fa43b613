//! `dhow route`: the one program with a privilege, through which the host reaches containers' own addresses. Nothing here
//! becomes root by itself: what needs root is said as a line to type.

#[cfg(target_os = "linux")]
mod place;
mod words;

use std::path::PathBuf;

use dhow_model::Failure;
use serde::Serialize;

use crate::args::RouteVerb;
use crate::client::{Daemon, Deadline};
use crate::command::Caller;
use crate::error::Result;
use crate::text;
use crate::{exit, launch};

/// What `dhow route status --json` prints.
#[derive(Debug, Serialize)]
struct Status {
    /// Whether this host can.
    supported: bool,
    /// Where the program is, or would be.
    program: Option<PathBuf>,
    /// Whether a file is there.
    installed: bool,
    /// Whether it is what `install` wrote, and may be run by whoever asks.
    usable: bool,
    /// Why it is not.
    trouble: Option<String>,
    /// The release that it came with.
    version: Option<String>,
    /// The group that may run it.
    group: Option<u32>,
    devices: Vec<Device>,
    /// Networks of containers that this engine's machines should be reached at and are not.
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Device {
    name: String,
    routes: Vec<String>,
}

/// What `dhow route install --json` prints.
#[derive(Debug, Serialize)]
struct Installed {
    program: PathBuf,
    version: String,
    group: u32,
    dry_run: bool,
}

/// What `dhow route uninstall --json` prints.
#[derive(Debug, Serialize)]
struct Removed {
    removed: Vec<PathBuf>,
    dry_run: bool,
}

/// Does what was asked about the route.
pub async fn run(caller: &Caller, verb: &RouteVerb) -> Result<u8> {
    let output = &caller.output;
    match verb {
        RouteVerb::Status { place } => {
            let status = Status { warnings: unreached(caller).await?, ..status(place)? };
            for warning in &status.warnings {
                output.warn(warning);
            }
            output.answer(&words::status(&status, output.stdout), &status)?;
        }
        RouteVerb::Install { group, place, dry_run } => {
            let installed = install(place, *group, *dry_run)?;
            output.answer(&words::installed(&installed), &installed)?;
        }
        RouteVerb::Uninstall { place, dry_run } => {
            let removed = uninstall(place, *dry_run)?;
            output.answer(&words::removed(&removed), &removed)?;
        }
    }
    Ok(exit::OK)
}

/// What the machines that run say of their routes; nothing where no daemon runs, which is not started for this.
async fn unreached(caller: &Caller) -> Result<Vec<String>> {
    let deadline = Deadline::after(caller.time_limit.unwrap_or(launch::CALL));
    let Some(mut daemon) = Daemon::reach(&caller.home.control_socket(), deadline).await? else {
        return Ok(Vec::new());
    };
    let machines = daemon.status(deadline).await?.machines;
    let told = machines.iter().filter_map(|machine| machine.network.as_ref());
    Ok(told.flat_map(|network| &network.unreached).map(|warning| text::one_line(warning)).collect())
}

#[cfg(target_os = "linux")]
use place::{install, status, uninstall};

#[cfg(not(target_os = "linux"))]
fn status(_: &crate::args::Where) -> Result<Status, Failure> {
    Ok(Status {
        supported: false,
        program: None,
        installed: false,
        usable: false,
        trouble: Some("it needs Linux's TUN devices".to_owned()),
        version: None,
        group: None,
        devices: Vec::new(),
        warnings: Vec::new(),
    })
}

#[cfg(not(target_os = "linux"))]
fn install(_: &crate::args::Where, _: Option<u32>, _: bool) -> Result<Installed, Failure> {
    Err(failure(dhow_route_helper::Error::Unsupported, ""))
}

#[cfg(not(target_os = "linux"))]
fn uninstall(_: &crate::args::Where, _: bool) -> Result<Removed, Failure> {
    Err(failure(dhow_route_helper::Error::Unsupported, ""))
}

/// An error as it leaves us; `as_root` is what to type when root is needed.
fn failure(error: dhow_route_helper::Error, as_root: &str) -> Failure {
    use dhow_route_helper::Error;
    match error {
        Error::Unsupported => Failure::new(
            "route-unsupported",
            "the host cannot reach containers' own addresses\nthat needs Linux's TUN devices",
            "publish the ports that you need: docker run -p 8080:80 …",
        ),
        Error::NeedsRoot(path) => Failure::new(
            "route-needs-root",
            format!("only root can change {}\nit holds a privilege, CAP_NET_ADMIN", path.display()),
            as_root,
        ),
        Error::Foreign { path, why } => Failure::new(
            "route-foreign",
            format!("{} is not what `dhow route install` wrote\n{why}; it is left as it is", path.display()),
            "move it away if you do not need it, then type it again",
        ),
        Error::Io { path, done, source } => Failure::new(
            "route-io",
            format!("{} cannot be {done}\n{source}", path.display()),
            "check the directory's owner and mode, and whether its file system keeps extended attributes",
        ),
        other => Failure::new("route-failed", other.to_string(), ""),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
