//! Supervises containerd and dockerd.
//!
//! ```text
//!            spawned            answers
//!  (start) ──────────▶ Starting ────────▶ Running
//!                         │ ended            │ ended
//!     wait is over        ▼                  ▼
//!  Starting ◀───────── BackingOff ◀──────────┘
//!            stop(): any state ──▶ Stopped, which is final
//! ```

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use dhow_proto::agent::{self, ServiceState};
use rustix::process::Signal;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::backoff::Backoff;
use crate::output::{self, Tail};
use crate::reaper::{self, Child, End, Reaper};
use crate::{Error, Result, console, docker, settings};

/// Between two looks whether a service that starts answers.
const LOOK: Duration = Duration::from_millis(10);
/// After it was killed, a service's end comes at once, unless its disk hangs.
const KILL_LIMIT: Duration = Duration::from_secs(2);

/// How a service is known to answer.
#[derive(Debug, Clone, Copy)]
pub enum Probe {
    /// Somebody listens on a Unix socket.
    Listens(&'static str),
    /// dockerd's `/_ping`.
    Docker,
}

/// What a service is run from.
#[derive(Debug)]
pub struct Definition {
    /// Its name, which is also the prefix of its lines on the console.
    pub name: &'static str,
    /// The program.
    pub program: &'static str,
    /// Its arguments.
    pub arguments: Vec<&'static str>,
    /// Its whole environment.
    pub environment: Vec<(&'static str, &'static str)>,
    /// Its cgroup, beside those of the containers; made by [`settings::apply`](crate::settings::apply).
    pub cgroup: Option<&'static str>,
    /// How it is known to answer.
    pub probe: Probe,
}

/// How a service is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// See the drawing.
    pub state: ServiceState,
    /// Its process, 0 when there is none.
    pub pid: u32,
    /// How often it was started again.
    pub restarts: u32,
    /// How it last ended, in words.
    pub last_exit: String,
}

/// A service and the task that keeps it running.
#[derive(Debug)]
pub struct Service {
    definition: Definition,
    reaper: Reaper,
    status: watch::Sender<Status>,
    stopping: watch::Sender<bool>,
    tail: Tail,
}

impl Service {
    /// Starts the service and, on the current runtime, the task that keeps it running.
    #[must_use]
    pub fn start(definition: Definition, reaper: Reaper) -> Arc<Self> {
        let status = Status { state: ServiceState::Starting, pid: 0, restarts: 0, last_exit: String::new() };
        let service = Arc::new(Self {
            definition,
            reaper,
            status: watch::Sender::new(status),
            stopping: watch::Sender::new(false),
            tail: Tail::default(),
        });
        tokio::spawn(supervise(Arc::clone(&service)));
        service
    }

    /// How it is doing now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// How it is doing, now and after each change.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// The same, as the host is told.
    #[must_use]
    pub fn report(&self) -> agent::Service {
        let Status { state, pid, restarts, last_exit } = self.status();
        agent::Service {
            name: self.definition.name.to_owned(),
            state: state.into(),
            pid,
            restarts,
            last_exit,
        }
    }

    /// Waits until it answers.
    pub async fn ready(&self, limit: Duration) -> Result<()> {
        let mut status = self.status.subscribe();
        let running = status.wait_for(|status| status.state == ServiceState::Running);
        if matches!(timeout(limit, running).await, Ok(Ok(_))) {
            return Ok(());
        }
        let status = self.status();
        let state = if status.last_exit.is_empty() {
            "it still runs".to_owned()
        } else {
            format!("it {}", status.last_exit)
        };
        let service = self.definition.name;
        Err(Error::Service { service, limit_s: limit.as_secs(), state, tail: self.tail.text() })
    }

    /// Sends a signal to its process, if there is one.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.status.borrow().pid).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            reaper::kill(pid, signal);
        }
    }

    /// Ends it for good: asks, and kills when the limit passes. Answers how it went, in words, when it did not end well.
    pub async fn stop(&self, limit: Duration) -> Option<String> {
        self.stopping.send_replace(true);
        self.signal(Signal::TERM);
        if self.stopped(limit).await {
            return None;
        }
        self.signal(Signal::KILL);
        let killed = format!("did not end within {} ms and was killed", limit.as_millis());
        if self.stopped(KILL_LIMIT).await {
            Some(killed)
        } else {
            Some(format!("{killed}, and is still there"))
        }
    }

    async fn stopped(&self, limit: Duration) -> bool {
        let mut status = self.status.subscribe();
        let stopped = status.wait_for(|status| status.state == ServiceState::Stopped);
        matches!(timeout(limit, stopped).await, Ok(Ok(_)))
    }

    fn set(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_modify(change);
    }

    fn spawn(&self) -> Result<Child> {
        let Definition { name, program, arguments, environment, .. } = &self.definition;
        let (output, input) = std::io::pipe().map_err(Error::kernel("make a pipe"))?;
        let second = input.try_clone().map_err(Error::kernel("make a pipe"))?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(input).stderr(second);
        let child = self.reaper.spawn(&mut command)?;
        if let Some(cgroup) = self.definition.cgroup {
            let members = Path::new(cgroup).join("cgroup.procs");
            if let Err(error) = settings::poke(&members, &child.pid.as_raw_nonzero().to_string()) {
                console::line(format!("dhow: {name} stays in the root cgroup: {error}"));
            }
        }
        let (prefix, tail) = (*name, self.tail.clone());
        std::thread::Builder::new()
            .name(prefix.to_owned())
            .stack_size(128 << 10)
            .spawn(move || output::follow(output, prefix, &tail))
            .map_err(Error::kernel("start a thread"))?;
        Ok(child)
    }

    async fn answers(&self) -> bool {
        match self.definition.probe {
            Probe::Listens(socket) => UnixStream::connect(socket).await.is_ok(),
            // A dockerd that starts accepts at once and answers when it is ready.
            Probe::Docker => docker::answers(Duration::from_secs(30)).await,
        }
    }

    /// Waits until the process answers, marks it, and goes on waiting for ever.
    async fn mark_running(&self) {
        while !self.answers().await {
            sleep(LOOK).await;
        }
        self.set(|status| status.state = ServiceState::Running);
        std::future::pending().await
    }
}

async fn supervise(service: Arc<Service>) {
    let name = service.definition.name;
    let mut backoff = Backoff::default();
    let mut stopping = service.stopping.subscribe();
    loop {
        let began = Instant::now();
        let exit = match service.spawn() {
            Ok(child) => {
                let pid = u32::try_from(child.pid.as_raw_nonzero().get()).unwrap_or(0);
                service.set(|status| (status.state, status.pid) = (ServiceState::Starting, pid));
                if *stopping.borrow() {
                    // Asked to stop between the wait and the start.
                    reaper::kill(child.pid, Signal::TERM);
                }
                let end: End = tokio::select! {
                    end = child.wait() => end,
                    () = service.mark_running() => child.wait().await,
                };
                end.to_string()
            }
            Err(error) => error.to_string(),
        };
        if *stopping.borrow() {
            service.set(|status| {
                (status.state, status.pid, status.last_exit) = (ServiceState::Stopped, 0, exit);
            });
            return;
        }
        let (wait, next) = backoff.after(began.elapsed());
        backoff = next;
        console::line(format!("dhow: {name} {exit}; its next start is in {} ms", wait.as_millis()));
        service.set(|status| {
            (status.state, status.pid, status.last_exit) = (ServiceState::BackingOff, 0, exit);
        });
        if let Ok(Ok(_)) = timeout(wait, stopping.wait_for(|stop| *stop)).await {
            service.set(|status| status.state = ServiceState::Stopped);
            return;
        }
        service.set(|status| status.restarts = status.restarts.saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &'static str) -> Definition {
        Definition {
            name: "test",
            program: "/bin/sh",
            arguments: vec!["-c", script],
            environment: vec![("PATH", "/usr/bin:/bin")],
            cgroup: None,
            probe: Probe::Listens("/no/such/socket"),
        }
    }

    /// Spec 6.3: a service that dies is restarted, and its end is reported.
    #[tokio::test]
    async fn a_service_that_ends_is_started_again_and_says_how_it_ended() {
        let service = Service::start(shell("echo last words; exit 3"), Reaper::start().unwrap());
        let mut status = service.status.subscribe();
        let again = status.wait_for(|status| status.restarts >= 1);
        timeout(Duration::from_secs(20), again).await.unwrap().unwrap();
        assert_eq!(service.status().last_exit, "ended with status 3");
        let error = service.ready(Duration::from_millis(10)).await.unwrap_err().to_string();
        assert!(error.contains("last words") && error.contains("status 3"), "{error}");
        assert_eq!(service.stop(Duration::from_secs(10)).await, None);
        assert_eq!(service.report().state, i32::from(ServiceState::Stopped));
    }

    /// Spec 16.2.
    #[tokio::test]
    async fn a_service_that_does_not_want_to_end_is_killed_after_its_limit() {
        let service = Service::start(
            shell("trap '' TERM; echo up; while :; do sleep 1; done"),
            Reaper::start().unwrap(),
        );
        let deadline = Instant::now() + Duration::from_secs(20);
        while service.tail.text() != "up" {
            assert!(Instant::now() < deadline);
            sleep(LOOK).await;
        }
        let said = service.stop(Duration::from_millis(50)).await.unwrap();
        assert!(said.contains("was killed") && !said.contains("still there"), "{said}");
        assert_eq!(service.status().pid, 0);
    }
}
