//! When a machine that has nothing to do is put to sleep (spec 13.1): a rule over facts, without a clock of its own.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// What is known of a machine that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Containers that run in it; `None` while dockerd has not said.
    pub running_containers: Option<u32>,
    /// Docker requests and streams of others than Dhow itself that are under way.
    pub requests: u64,
    /// Connections of clients through its published ports.
    pub port_connections: u32,
    /// Whether Kubernetes runs in it (spec 11.2).
    pub kubernetes: bool,
    /// Since when it has had nothing to do, as far as anybody has seen; `None`: since this very moment.
    pub idle_since: Option<Instant>,
}

/// For how long a machine must have had nothing to do before it is put to sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It is put to sleep only when somebody asks for it.
    Never,
    /// For this long: 1 s to 24 h, in whole seconds.
    Time(Duration),
}

/// What keeps a machine awake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Busy {
    /// Nobody knows whether containers run: some may.
    Unknown,
    /// So many containers run.
    Containers(u32),
    /// So many requests or streams are under way.
    Requests(u64),
    /// So many clients of published ports are connected.
    Connections(u32),
    /// Kubernetes runs.
    Kubernetes,
}

/// What to do with a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It works.
    Stay(Busy),
    /// It has nothing to do; if that is still so `until` then, it is put to sleep. `None`: it never is.
    Rest {
        /// When to decide again.
        until: Option<Instant>,
    },
    /// It has had nothing to do for long enough.
    Suspend,
}

/// Decides.
#[must_use]
pub fn decide(facts: &Facts, after: After, now: Instant) -> Decision {
    if let Some(busy) = busy(facts) {
        return Decision::Stay(busy);
    }
    let After::Time(time) = after else { return Decision::Rest { until: None } };
    // A moment that no clock can name never comes.
    match facts.idle_since.unwrap_or(now).checked_add(time) {
        Some(until) if until <= now => Decision::Suspend,
        until => Decision::Rest { until },
    }
}

/// What keeps the machine awake, if anything does.
#[must_use]
pub const fn busy(facts: &Facts) -> Option<Busy> {
    match *facts {
        Facts { kubernetes: true, .. } => Some(Busy::Kubernetes),
        Facts { requests: n @ 1.., .. } => Some(Busy::Requests(n)),
        Facts { port_connections: n @ 1.., .. } => Some(Busy::Connections(n)),
        Facts { running_containers: Some(n @ 1..), .. } => Some(Busy::Containers(n)),
        Facts { running_containers: None, .. } => Some(Busy::Unknown),
        Facts { running_containers: Some(0), .. } => None,
    }
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unknown => f.write_str("it is not known yet whether containers run"),
            Self::Containers(1) => f.write_str("1 container runs"),
            Self::Containers(n) => write!(f, "{n} containers run"),
            Self::Requests(1) => f.write_str("1 Docker request is under way"),
            Self::Requests(n) => write!(f, "{n} Docker requests are under way"),
            Self::Connections(1) => f.write_str("1 client of a published port is connected"),
            Self::Connections(n) => write!(f, "{n} clients of published ports are connected"),
            Self::Kubernetes => f.write_str("Kubernetes runs"),
        }
    }
}

/// Words that are no such time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no time to sleep after: use 1s to 24h, such as \"90s\", \"5m\" or \"1h\", or \"never\"")]
pub struct NoTime(pub String);

/// The units, largest first, and their seconds.
const UNITS: [(&str, u64); 3] = [("h", 3600), ("m", 60), ("s", 1)];
/// The longest time, seconds.
const LONGEST: u64 = 24 * 3600;

impl FromStr for After {
    type Err = NoTime;

    fn from_str(words: &str) -> Result<Self, NoTime> {
        let wrong = || NoTime(words.to_owned());
        if words == "never" {
            return Ok(Self::Never);
        }
        let (number, seconds) = UNITS
            .iter()
            .find_map(|(unit, seconds)| Some((words.strip_suffix(unit)?, *seconds)))
            .ok_or_else(wrong)?;
        if !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        let time = number.parse::<u64>().ok().and_then(|n| n.checked_mul(seconds));
        match time {
            Some(time @ 1..=LONGEST) => Ok(Self::Time(Duration::from_secs(time))),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Time(time) = self else { return f.write_str("never") };
        let time = time.as_secs();
        let whole = UNITS.into_iter().find(|(_, seconds)| time.is_multiple_of(*seconds));
        let (unit, seconds) = whole.unwrap_or(("s", 1));
        write!(f, "{}{unit}", time / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDLE: Facts = Facts {
        running_containers: Some(0),
        requests: 0,
        port_connections: 0,
        kubernetes: false,
        idle_since: None,
    };
    const MINUTE: Duration = Duration::from_secs(60);

    /// Spec 13.1: no running container, no request, no connection, no Kubernetes; and what is not known counts as work.
    #[test]
    fn whatever_there_is_to_do_keeps_a_machine_awake_and_is_named() {
        let now = Instant::now();
        let long_ago = now.checked_sub(MINUTE * 5);
        for (facts, words) in [
            (Facts { running_containers: Some(2), ..IDLE }, "2 containers run"),
            (Facts { running_containers: None, ..IDLE }, "it is not known yet whether containers run"),
            (Facts { requests: 1, ..IDLE }, "1 Docker request is under way"),
            (Facts { port_connections: 3, ..IDLE }, "3 clients of published ports are connected"),
            (Facts { kubernetes: true, ..IDLE }, "Kubernetes runs"),
        ] {
            let facts = Facts { idle_since: long_ago, ..facts };
            match decide(&facts, After::Time(MINUTE), now) {
                Decision::Stay(busy) => assert_eq!(busy.to_string(), words),
                other => panic!("{facts:?}: {other:?}"),
            }
        }
    }

    /// Spec 13.1: the configured time, counted from the last thing that it did.
    #[test]
    fn a_machine_without_work_is_put_to_sleep_after_its_time_and_not_before() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        for (after, since, now, expected) in [
            (After::Time(MINUTE), Some(0), 0, Decision::Rest { until: Some(at(60)) }),
            (After::Time(MINUTE), Some(0), 59, Decision::Rest { until: Some(at(60)) }),
            (After::Time(MINUTE), Some(0), 60, Decision::Suspend),
            (After::Time(MINUTE), Some(0), 600, Decision::Suspend),
            (After::Time(MINUTE), Some(30), 61, Decision::Rest { until: Some(at(90)) }),
            (After::Time(MINUTE), None, 600, Decision::Rest { until: Some(at(660)) }),
            (After::Never, Some(0), 600_000, Decision::Rest { until: None }),
        ] {
            let facts = Facts { idle_since: since.map(at), ..IDLE };
            assert_eq!(decide(&facts, after, at(now)), expected, "{after} {since:?} {now}");
        }
    }

    #[test]
    fn a_time_is_written_as_it_is_read_and_nothing_else_is_one() {
        for (words, seconds) in [("1s", 1), ("90s", 90), ("5m", 300), ("1h", 3600), ("24h", 86_400)] {
            assert_eq!(words.parse(), Ok(After::Time(Duration::from_secs(seconds))));
            assert_eq!(After::Time(Duration::from_secs(seconds)).to_string(), words);
        }
        assert_eq!("never".parse(), Ok(After::Never));
        assert_eq!("60s".parse::<After>().unwrap().to_string(), "1m");
        for words in
            ["", "5", "m", "0s", "25h", "-1m", "+1m", "1.5h", "5 m", "5M", "Never", "99999999999999999999s"]
        {
            assert_eq!(words.parse::<After>(), Err(NoTime(words.to_owned())));
        }
    }

    proptest! {
        /// Spec 13.1: nothing that works is ever suspended, nothing is before its time, and a machine that rests is told when to
        /// look again, which is later than now and then means sleep.
        #[test]
        fn only_a_machine_that_was_idle_for_its_time_is_suspended(
            containers in proptest::option::of(0u32..3),
            requests in 0u64..3,
            port_connections in 0u32..3,
            kubernetes: bool,
            since in proptest::option::of(0u64..1000),
            after in proptest::option::of(1u64..1000),
            now in 1000u64..2000,
        ) {
            let start = Instant::now();
            let at = |seconds: u64| start + Duration::from_secs(seconds);
            let facts = Facts {
                running_containers: containers, requests, port_connections, kubernetes, idle_since: since.map(at),
            };
            let time = after.map(Duration::from_secs);
            let after = time.map_or(After::Never, After::Time);
            let idle = containers == Some(0) && requests == 0 && port_connections == 0 && !kubernetes;
            match decide(&facts, after, at(now)) {
                Decision::Stay(_) => prop_assert!(!idle),
                Decision::Rest { until: None } => prop_assert!(idle && time.is_none()),
                Decision::Rest { until: Some(until) } => {
                    prop_assert!(idle && until > at(now));
                    let then = Facts { idle_since: Some(facts.idle_since.unwrap_or(at(now))), ..facts };
                    prop_assert_eq!(decide(&then, after, until), Decision::Suspend);
                }
                Decision::Suspend => {
                    let slept_from = since.map(at).zip(time).map(|(since, time)| since + time);
                    prop_assert!(idle && slept_from.is_some_and(|from| from <= at(now)));
                }
            }
        }
    }
}
