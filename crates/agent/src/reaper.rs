//! The one place that waits for children. Process 1 inherits every orphan of the guest, so nobody else may wait: a
//! thread reaps whatever ends and hands the statuses of children that were started here to their owners.
//!
//! A child cannot be reaped before its owner is known: starting and reaping hold the same lock.

use std::collections::HashMap;
use std::fmt;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus};
use tokio::sync::Notify;

use crate::{Error, Result, console};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl End {
    /// The exit status, if it ended by itself.
    #[must_use]
    pub const fn code(self) -> Option<i32> {
        match self {
            Self::Code(code) => Some(code),
            Self::Signal(_) => None,
        }
    }

    fn of(status: WaitStatus) -> Option<Self> {
        status.exit_status().map(Self::Code).or_else(|| status.terminating_signal().map(Self::Signal))
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "ended with status {code}"),
            Self::Signal(9) => write!(f, "was killed (signal 9)"),
            Self::Signal(11) => write!(f, "crashed (signal 11)"),
            Self::Signal(number) => write!(f, "was ended by signal {number}"),
        }
    }
}

/// Where a child's status arrives.
#[derive(Debug, Default)]
struct Slot {
    end: Mutex<Option<End>>,
    blocked: Condvar,
    tasks: Notify,
}

/// A child that was started here.
#[derive(Debug)]
pub struct Child {
    /// Its process ID; only valid until its end was seen.
    pub pid: Pid,
    slot: Arc<Slot>,
}

impl Child {
    /// How it ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<End> {
        *lock(&self.slot.end)
    }

    /// Waits for its end; `None` when it still runs after `limit`.
    #[must_use]
    pub fn wait_blocking(&self, limit: Duration) -> Option<End> {
        let end = lock(&self.slot.end);
        let waited = self.slot.blocked.wait_timeout_while(end, limit, |end| end.is_none());
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits for its end.
    pub async fn wait(&self) -> End {
        loop {
            let notified = self.slot.tasks.notified();
            let mut notified = std::pin::pin!(notified);
            notified.as_mut().enable();
            if let Some(end) = self.ended() {
                return end;
            }
            notified.await;
        }
    }
}

#[derive(Debug, Default)]
struct State {
    owned: Mutex<HashMap<Pid, Arc<Slot>>>,
    /// Tells the reaping thread that there are children again.
    started: Condvar,
}

/// Starts children and waits for all that end. A second one in the same process would take the first one's statuses.
#[derive(Debug, Clone)]
pub struct Reaper(Arc<State>);

impl Reaper {
    /// Starts the thread that waits.
    pub fn start() -> Result<Self> {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::Builder::new()
            .name("reaper".to_owned())
            .stack_size(128 << 10)
            .spawn(move || reap_forever(&shared))
            .map_err(Error::kernel("start the reaper's thread"))?;
        Ok(Self(state))
    }

    /// Starts a child whose end its owner will be told.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let mut owned = lock(&self.0.owned);
        let program = command.get_program().to_os_string();
        let child = command.spawn().map_err(Error::file("start", &program))?;
        let pid = Pid::from_child(&child);
        let slot = Arc::new(Slot::default());
        owned.insert(pid, Arc::clone(&slot));
        drop(owned);
        self.0.started.notify_all();
        Ok(Child { pid, slot })
    }
}

/// Sends a signal; a process that is gone already needs none.
pub fn kill(pid: Pid, signal: Signal) {
    match rustix::process::kill_process(pid, signal) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => {
            console::line(format!("dhow: could not signal process {}: {error}", pid.as_raw_nonzero()))
        }
    }
}

fn reap_forever(state: &State) {
    loop {
        // Look first, without the lock: this blocks until something ends. What ended is then taken under the lock, by
        // which time its owner is known.
        match rustix::process::waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(_) => {
                let mut owned = lock(&state.owned);
                while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
                    let Some(end) = End::of(status) else { continue };
                    if let Some(slot) = owned.remove(&pid) {
                        *lock(&slot.end) = Some(end);
                        slot.blocked.notify_all();
                        slot.tasks.notify_waiters();
                    }
                }
            }
            // No children and so no descendants either: nothing ends before something is started here.
            Err(Errno::CHILD) => {
                let owned = lock(&state.owned);
                let idle =
                    state.started.wait_timeout_while(owned, Duration::from_secs(1), |owned| owned.is_empty());
                drop(idle);
            }
            Err(_) => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Spec 7.5, issue 2 point 4: reaps without racing its own children.
    #[test]
    fn no_status_is_lost_among_thousands_of_orphans() {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let reaper = Reaper::start().unwrap();
        // Each leaves 100 orphans that end at once, in whatever order.
        let orphaners: Vec<_> = (0..30)
            .map(|_| reaper.spawn(&mut sh("for i in $(seq 100); do (: &) ; done; exit 5")).unwrap())
            .collect();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let reaper = reaper.clone();
                std::thread::spawn(move || {
                    for round in 0..100 {
                        let code = (thread * 50 + round) % 200;
                        let child = reaper.spawn(&mut sh(&format!("exit {code}"))).unwrap();
                        assert_eq!(child.wait_blocking(Duration::from_secs(60)), Some(End::Code(code)));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        for orphaner in orphaners {
            assert_eq!(orphaner.wait_blocking(Duration::from_secs(60)), Some(End::Code(5)));
        }
        // Nothing is left: neither a zombie nor an owner that waits.
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        while !matches!(rustix::process::waitid(WaitId::All, look), Err(Errno::CHILD)) {
            assert!(std::time::Instant::now() < deadline, "zombies are left");
            std::thread::yield_now();
        }
        assert!(lock(&reaper.0.owned).is_empty());
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error_and_leaves_no_child() {
        let reaper = Reaper::start().unwrap();
        assert!(reaper.spawn(&mut Command::new("/no/such/program")).is_err());
        assert!(lock(&reaper.0.owned).is_empty());
        let child = reaper.spawn(&mut sh("kill -9 $$")).unwrap();
        assert_eq!(child.wait_blocking(Duration::from_secs(20)), Some(End::Signal(9)));
    }

    #[tokio::test]
    async fn a_task_is_told_of_an_end_before_and_after_it_asks() {
        let reaper = Reaper::start().unwrap();
        let child = reaper.spawn(&mut sh("exit 3")).unwrap();
        assert_eq!(child.wait().await, End::Code(3));
        assert_eq!(child.wait().await, End::Code(3));
    }
}
