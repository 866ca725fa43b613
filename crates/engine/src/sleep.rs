//! The engine's machines put to sleep and woken, when somebody asks for it.

use std::sync::atomic::Ordering;

use dhow_model::{MachineName, Role};
use dhow_proto::supervisor::SuspendRequest;

use crate::engine::{COME, Engine};
use crate::snapshot::Ready;
use crate::{Error, Result};

/// How putting one machine to sleep, or waking it, went.
#[derive(Debug)]
pub struct Slept {
    /// The machine.
    pub machine: MachineName,
    /// Whether that changed anything, or why it could not be done.
    pub result: Result<bool>,
    /// What a person should know: that it booted instead of going on.
    pub warning: Option<String>,
}

/// What becomes of the supervisors of machines that are put to sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervisors {
    /// They stay: published ports and open connections wait, and wake the machine.
    Stay,
    /// They end, and nobody wakes a machine until the next daemon.
    End,
}

impl Engine {
    /// Puts this role's machine to sleep, or every machine that is awake; `why` is for people. One that is on its way is waited for;
    /// one that is off stays so, which is an error only where it was named.
    pub async fn suspend(&self, role: Option<Role>, why: &str, supervisors: Supervisors) -> Vec<Slept> {
        let leave = supervisors == Supervisors::End;
        // No request starts the foreign machine meanwhile, nor wakes what has no supervisor any more.
        let _hold = if leave { Some(self.shared.waking.hold().await) } else { None };
        if leave {
            self.shared.ending.store(true, Ordering::Relaxed);
        }
        let request = SuspendRequest { why: why.to_owned(), leave, unless_busy: false };
        let one = |role: Role| {
            let (handle, request) = (self.handle(role), request.clone());
            async move {
                let settled = tokio::time::timeout(COME, handle.settled()).await;
                match settled.map_err(|_| Error::TooSlow { role, limit: COME }).flatten() {
                    Ok(_) => handle.suspend(request).await,
                    Err(error) => Err(error),
                }
            }
        };
        let slept = self.each(role, one, |ready| !matches!(ready, Ready::No(_))).await;
        if slept.iter().any(|slept| slept.result.is_err()) {
            self.shared.ending.store(false, Ordering::Relaxed);
        }
        slept
    }

    /// Wakes this role's machine, or every machine that sleeps, and returns when it is awake. What is off stays so, which is an error
    /// only where it was named.
    pub async fn resume(&self, role: Option<Role>, why: &str) -> Vec<Slept> {
        let one = |role: Role| async move {
            let handle = self.handle(role);
            let slept = matches!(handle.ready(), Ready::Asleep(_) | Ready::Saved);
            if let Ready::No(failure) = handle.ready() {
                return Err(failure.into());
            }
            handle.resume(why).await?;
            let awake = tokio::time::timeout(COME, handle.awake()).await;
            awake.map_err(|_| Error::TooSlow { role, limit: COME }).flatten().map(|()| slept)
        };
        let mut woken = self.each(role, one, |ready| matches!(ready, Ready::Asleep(_) | Ready::Saved)).await;
        for one in woken.iter_mut().filter(|one| matches!(one.result, Ok(true))) {
            let role = Role::ALL.into_iter().find(|role| role.machine() == one.machine);
            one.warning = role.and_then(|role| self.handle(role).set_aside());
        }
        woken
    }

    /// Does something to the machine that was named, or at once to all that are `meant`.
    async fn each<F>(
        &self,
        role: Option<Role>,
        one: impl Fn(Role) -> F,
        meant: impl Fn(&Ready) -> bool,
    ) -> Vec<Slept>
    where
        F: Future<Output = Result<bool>>,
    {
        let meant =
            |other: Role| role.map_or_else(|| meant(&self.handle(other).ready()), |role| role == other);
        let done = |role: Role| {
            let work = meant(role).then(|| one(role));
            async move {
                match work {
                    Some(work) => Some(Slept { machine: role.machine(), result: work.await, warning: None }),
                    None => None,
                }
            }
        };
        let (native, foreign) = tokio::join!(done(Role::Native), done(Role::Foreign));
        [native, foreign].into_iter().flatten().collect()
    }
}
