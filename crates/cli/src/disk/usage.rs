//! `dhow disk usage`.

use dhow_model::MachineName;
use dhow_proto::control::{self, DiskUsageReply};
use serde::Serialize;

use super::image;
use crate::client::{Daemon, Deadline};
use crate::command::Caller;
use crate::error::Result;
use crate::output::Style;
use crate::{exit, text};

/// What `dhow disk usage --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Usage {
    machine: String,
    image: String,
    /// As large as the guest may make it.
    size_bytes: u64,
    /// What it takes of this computer's disk.
    takes_bytes: u64,
    /// Null while the machine does not run.
    guest: Option<Guest>,
    /// Why that is null, although the machine runs.
    warning: Option<String>,
}

/// The file system in it.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Guest {
    total_bytes: u64,
    used_bytes: u64,
    free_bytes: u64,
    /// Empty while dockerd does not answer.
    docker: Vec<Share>,
}

/// What dockerd has of a kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Share {
    /// images, containers, volumes, build-cache.
    kind: String,
    count: u32,
    active: u32,
    bytes: u64,
    reclaimable_bytes: u64,
}

/// Shows what a data disk takes. Starts and wakes nothing.
pub async fn usage(caller: &Caller, machine: &MachineName) -> Result<u8> {
    /// dockerd walks through every volume.
    const LIMIT: std::time::Duration = std::time::Duration::from_secs(90);
    let deadline = Deadline::after(caller.time_limit.unwrap_or(LIMIT));
    let reply = match Daemon::reach(&caller.home.control_socket(), deadline).await? {
        Some(mut daemon) => daemon.disk_usage(machine.as_str(), deadline).await?,
        None => {
            let (logical_bytes, allocated_bytes) = image(caller, machine);
            DiskUsageReply { logical_bytes, allocated_bytes, ..DiskUsageReply::default() }
        }
    };
    let path = caller.home.machine(machine).data_image();
    let usage = told(machine.as_str(), &path.display().to_string(), reply);
    if let Some(warning) = &usage.warning {
        caller.output.warn(warning);
    }
    caller.output.answer(&render(&usage, caller.output.stdout), &usage)?;
    Ok(exit::OK)
}

fn told(machine: &str, image: &str, reply: DiskUsageReply) -> Usage {
    let share = |share: control::DockerShare| Share {
        kind: text::one_line(&share.kind),
        count: share.count,
        active: share.active,
        bytes: share.bytes,
        reclaimable_bytes: share.reclaimable_bytes,
    };
    Usage {
        machine: machine.to_owned(),
        image: image.to_owned(),
        size_bytes: reply.logical_bytes,
        takes_bytes: reply.allocated_bytes,
        guest: reply.inside.map(|inside| Guest {
            total_bytes: inside.total_bytes,
            used_bytes: inside.total_bytes.saturating_sub(inside.free_bytes),
            free_bytes: inside.free_bytes,
            docker: inside.docker.into_iter().map(share).collect(),
        }),
        warning: Some(reply.warning).filter(|words| !words.is_empty()),
    }
}

fn render(usage: &Usage, style: Style) -> String {
    let mut out = String::new();
    let mut row = |name: &str, words: &str| out.push_str(&format!("{name:<14}{words}\n"));
    row("disk", &format!("{}, {}", style.bold(&usage.machine), usage.image));
    row("size", &format!("at most {}", text::bytes(usage.size_bytes)));
    row("takes here", &text::bytes(usage.takes_bytes));
    let Some(guest) = &usage.guest else {
        row("in the guest", "known while the machine runs");
        return out;
    };
    row(
        "in the guest",
        &format!("{} used, {} free", text::bytes(guest.used_bytes), text::bytes(guest.free_bytes)),
    );
    for share in &guest.docker {
        let words = format!(
            "{}, {} of {} in use; {} could be freed",
            text::bytes(share.bytes),
            share.active,
            share.count,
            text::bytes(share.reclaimable_bytes)
        );
        row(&share.kind.replace('-', " "), &words);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply() -> DiskUsageReply {
        let share = |kind: &str, bytes, reclaimable_bytes| control::DockerShare {
            kind: kind.to_owned(),
            count: 3,
            active: 1,
            bytes,
            reclaimable_bytes,
        };
        DiskUsageReply {
            logical_bytes: 64 << 30,
            allocated_bytes: 3 << 30,
            inside: Some(control::DiskInside {
                total_bytes: 63 << 30,
                free_bytes: 60 << 30,
                docker: vec![share("images", 2 << 30, 1 << 30), share("build-cache", 1 << 20, 0)],
            }),
            ..DiskUsageReply::default()
        }
    }

    /// Issue 5, point 4: size, cost here, use in the guest, and what could be freed.
    #[test]
    fn a_disk_shows_what_it_takes_and_what_could_be_freed() {
        let usage = told("native", "/h/data.img", reply());
        insta::assert_snapshot!(render(&usage, Style::PLAIN), @r"
        disk          native, /h/data.img
        size          at most 64 GiB
        takes here    3 GiB
        in the guest  3 GiB used, 60 GiB free
        images        2 GiB, 1 of 3 in use; 1 GiB could be freed
        build cache   1 MiB, 1 of 3 in use; 0 B could be freed
        ");
        let off = told("native", "/h/data.img", DiskUsageReply { inside: None, ..reply() });
        insta::assert_snapshot!(render(&off, Style::PLAIN), @r"
        disk          native, /h/data.img
        size          at most 64 GiB
        takes here    3 GiB
        in the guest  known while the machine runs
        ");
    }
}
