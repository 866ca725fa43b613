//! Watches whether a machine that runs has anything to do, and puts it to sleep when it has had nothing for long enough (spec
//! 13.1). The rule is [`dhow_model::sleep::decide`]; here are the facts and the clock. While a machine is off or sleeps, no timer
//! runs and nobody is asked.

use std::time::{Duration, Instant};

use dhow_model::Role;
use dhow_model::sleep::{After, Decision, Facts, busy, decide};
use dhow_proto::supervisor::{MachineStatus, SuspendRequest};
use tokio::sync::watch;

use crate::handle::Handle;
use crate::snapshot::{Observed, Usage};

/// Between two looks: a tenth of the time that decides, within these.
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);

/// One machine's watch.
#[derive(Debug)]
pub(crate) struct Idle {
    /// Whose.
    pub(crate) role: Role,
    /// The machine.
    pub(crate) handle: Handle,
    /// For how long it must have had nothing to do.
    pub(crate) after: watch::Receiver<After>,
    /// Who knows of requests.
    pub(crate) observed: Observed,
}

impl Idle {
    /// Goes on until the engine ends.
    pub(crate) async fn keep(self) {
        while self.handle.runs_some_time().await.is_ok() {
            self.while_it_runs().await;
        }
    }

    async fn while_it_runs(&self) {
        let (mut quiet, mut told) = (Quiet::default(), None);
        while self.handle.runs() {
            let (now, after) = (Instant::now(), *self.after.borrow());
            let facts = quiet.look(&self.handle.last().status, self.usage(), now);
            let mut decision = decide(&facts, after, now);
            if decision == Decision::Suspend {
                // As it is in this moment, not as it was last told.
                let status = self.handle.snapshot().await.status;
                decision = decide(&quiet.look(&status, self.usage(), now), after, now);
            }
            if decision == Decision::Suspend {
                if self.suspend(after).await {
                    return;
                }
                quiet.worked(now);
                continue;
            }
            if told != Some(decision) {
                told = Some(decision);
                if self.handle.look(decision).await.is_err() {
                    return;
                }
            }
            let until = match decision {
                Decision::Rest { until: Some(until) } => until.saturating_duration_since(now),
                _ => LONGEST,
            };
            tokio::time::sleep(until.min(pause(after)).max(SHORTEST)).await;
        }
    }

    /// Whether it sleeps now.
    async fn suspend(&self, after: After) -> bool {
        let why = format!("nothing to do for {after}");
        let request = SuspendRequest { why, leave: false, unless_busy: true };
        match self.handle.suspend(request).await {
            Ok(_) => true,
            Err(error) => {
                tracing::info!(role = %self.role, %error, "the machine stays awake for now");
                false
            }
        }
    }

    fn usage(&self) -> Usage {
        self.observed.get().map(|observer| observer.usage(self.role)).unwrap_or_default()
    }
}

fn pause(after: After) -> Duration {
    match after {
        After::Never => LONGEST,
        After::Time(time) => (time / 10).clamp(SHORTEST, LONGEST),
    }
}

/// Since when nothing has happened.
#[derive(Debug, Default)]
struct Quiet {
    since: Option<Instant>,
    /// Requests that had begun when last looked.
    begun: Option<u64>,
}

impl Quiet {
    /// Takes what is known now, and makes facts of it.
    fn look(&mut self, status: &MachineStatus, usage: Usage, now: Instant) -> Facts {
        let facts = Facts {
            running_containers: status.running_containers,
            requests: usage.in_flight,
            port_connections: status.port_connections,
            // Dhow runs none yet.
            kubernetes: false,
            idle_since: None,
        };
        // A request may have come and gone between two looks.
        let begun = self.begun.replace(usage.begun).is_none_or(|before| before != usage.begun);
        self.since = match self.since {
            _ if busy(&facts).is_some() => None,
            Some(since) if !begun => Some(since),
            _ => Some(now),
        };
        Facts { idle_since: self.since, ..facts }
    }

    /// It turned out to have had something to do after all.
    fn worked(&mut self, now: Instant) {
        self.since = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 13.1: the time counts from the last thing that happened, be it shorter than the time between two looks.
    #[test]
    fn the_time_counts_from_the_last_request_or_container() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut quiet = Quiet::default();
        let mut look = |second: u64, containers: Option<u32>, in_flight: u64, begun: u64| {
            let status = MachineStatus { running_containers: containers, ..MachineStatus::default() };
            quiet.look(&status, Usage { in_flight, begun }, at(second)).idle_since
        };
        assert_eq!(look(0, None, 0, 0), None);
        assert_eq!(look(1, Some(0), 0, 0), Some(at(1)));
        assert_eq!(look(2, Some(0), 0, 0), Some(at(1)));
        assert_eq!(look(3, Some(0), 0, 1), Some(at(3)));
        assert_eq!(look(4, Some(0), 1, 2), None);
        assert_eq!(look(5, Some(0), 0, 2), Some(at(5)));
        assert_eq!(look(6, Some(1), 0, 2), None);
        assert_eq!(look(7, Some(0), 0, 2), Some(at(7)));
        assert_eq!(look(8, Some(0), 0, 2), Some(at(7)));
    }

    /// An idle engine costs nothing worth naming, and a short time is kept all the same.
    #[test]
    fn a_machine_is_looked_at_every_few_seconds_at_most() {
        let seconds = |n| After::Time(Duration::from_secs(n));
        for (after, pause_ms) in
            [(After::Never, 5000), (seconds(300), 5000), (seconds(20), 2000), (seconds(1), 200)]
        {
            assert_eq!(pause(after), Duration::from_millis(pause_ms), "{after}");
        }
    }
}
