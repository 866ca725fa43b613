//! Keeps the table true of one running engine: subscribe to its events, then list its containers, then apply each event.
//! While that does not stand, the engine is asked before an answer is given.

use std::time::Duration;

use dhow_model::Role;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::engine::{self, Events};
use super::workloads::Core;
use crate::trace::TraceId;

/// Waits between two attempts: the first, doubled up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// An attempt that lasted this long was a success, whose end is answered by a prompt next one.
const SUCCESS: Duration = Duration::from_secs(10);

/// Follows until `cancel`, or until the machine runs no more.
pub(super) async fn follow(core: &Core, role: Role, cancel: &CancellationToken) {
    let mut wait = FIRST_WAIT;
    loop {
        let since = Instant::now();
        let ended = tokio::select! {
            ended = once(core, role) => ended,
            () = cancel.cancelled() => return,
        };
        // To dial a machine that is off could start it.
        if !core.engines.running().contains(&role) {
            core.table().sleep(role);
            tracing::debug!(%role, "the machine runs no more, its engine is not followed");
            return;
        }
        core.table().doubt(role);
        if let Err(why) = ended {
            tracing::debug!(%role, %why, "the engine's events ended");
        }
        if since.elapsed() >= SUCCESS {
            wait = FIRST_WAIT;
        }
        tokio::select! {
            () = sleep(wait) => {}
            () = cancel.cancelled() => return,
        }
        wait = (2 * wait).min(LONGEST_WAIT);
    }
}

async fn once(core: &Core, role: Role) -> Result<(), String> {
    let (pool, trace) = (core.pools.of(role), TraceId::random());
    let mut events = Events::open(pool, &trace).await?;
    let listed = engine::list(pool, &trace).await?;
    tracing::debug!(%role, containers = listed.len(), "the engine is followed");
    core.table().replace(role, listed);
    while let Some(changes) = events.next().await? {
        let mut table = core.table();
        changes.iter().for_each(|change| table.apply(role, change));
    }
    Ok(())
}
