//! The states of a machine and every way between them (spec 6.1).
//!
//! ```text
//!           create        start         ready         rest
//!   absent ───────▶ created ────▶ starting ────▶ running ⇄ idle
//!                      ▲             ▲  ▲           │ │  work │
//!               remake │             │  └─retry─┐   │ │       │ suspend
//!                      ├── stopped ──┘          │   │ └───────▼
//!                      │      ▲  start          │   │     suspending ──▶ suspended ─ resume ─▶ starting
//!                      │      └─ stopping ◀─────┼───┘ stop    saved        │ discard
//!                      │        ended           │                          ▼
//!                      └──────────── failed ◀───┴── fail (from any state with a process)   stopped
//! ```
//!
//! A machine that could not be saved goes from suspending back to running, and one that is suspended and has a supervisor can be
//! stopped and can fail like one that runs.
//!
//! A machine whose data disk cannot be used goes from starting to rescue, and from there to stopping or failed.
//!
//! Re-attaching takes a machine whose supervisor a new daemon found from created, stopped or failed to starting: what it
//! really is, its supervisor tells.

use std::fmt;

/// What a machine is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// There is nothing of it.
    Absent,
    /// Its description and data disk exist; it never ran as it is now.
    Created,
    /// Its supervisor or guest is on its way.
    Starting,
    /// dockerd answers.
    Running,
    /// It runs and has had nothing to do for the configured time.
    Idle,
    /// Its memory is being saved.
    Suspending,
    /// Its memory is on disk and nothing of it runs but its supervisor, if that.
    Suspended,
    /// It was asked to stop and has not ended.
    Stopping,
    /// It ended as it was asked.
    Stopped,
    /// It ended or became useless, and nobody asked for that.
    Failed,
    /// Its data disk cannot be used: the machine runs on a copy of it that is thrown away, and only gives out what is there.
    Rescue,
}

/// What happens to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// Its description and disk were made.
    Create,
    /// Its description was made anew around its disk.
    Remake,
    /// It is asked to run, or its running supervisor was found.
    Start,
    /// dockerd answered.
    Ready,
    /// It came up to give out what is on a data disk that cannot be used.
    Rescued,
    /// It had nothing to do for the configured time.
    Rest,
    /// It has something to do again, or could not be saved and goes on.
    Work,
    /// It is asked to save its memory and end.
    Suspend,
    /// Its memory is on disk; or it was found so, or is still so after it was to be woken.
    Saved,
    /// It is asked to go on from its saved memory.
    Resume,
    /// Its saved memory is set aside.
    Discard,
    /// It is asked to stop.
    Stop,
    /// Its processes have ended as asked.
    Ended,
    /// Its processes have ended or do not serve, and nobody asked for that.
    Fail,
}

/// An event that cannot happen in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a machine that is {state} cannot {event:?}")]
pub struct Illegal {
    /// Where the machine is.
    pub state: State,
    /// What cannot happen there.
    pub event: Event,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 11] = [
        Self::Absent,
        Self::Created,
        Self::Starting,
        Self::Running,
        Self::Idle,
        Self::Suspending,
        Self::Suspended,
        Self::Stopping,
        Self::Stopped,
        Self::Failed,
        Self::Rescue,
    ];

    /// The word that status and events print.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Idle => "idle",
            Self::Suspending => "suspending",
            Self::Suspended => "suspended",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Rescue => "rescue",
        }
    }

    /// Whether processes of the machine may exist.
    #[must_use]
    pub const fn has_processes(self) -> bool {
        matches!(
            self,
            Self::Starting
                | Self::Running
                | Self::Idle
                | Self::Suspending
                | Self::Suspended
                | Self::Stopping
                | Self::Rescue
        )
    }

    /// Where `event` leads from here; `None` where it cannot happen.
    #[must_use]
    pub const fn after(self, event: Event) -> Option<Self> {
        use Event as E;
        use State as S;
        match (self, event) {
            (S::Absent, E::Create) | (S::Created | S::Stopped | S::Failed, E::Remake) => Some(S::Created),
            (S::Created | S::Stopped | S::Failed, E::Start) | (S::Suspended, E::Resume) => Some(S::Starting),
            (S::Starting, E::Ready) | (S::Idle | S::Suspending, E::Work) => Some(S::Running),
            (S::Starting, E::Rescued) => Some(S::Rescue),
            (S::Running, E::Rest) => Some(S::Idle),
            (S::Running | S::Idle, E::Suspend) => Some(S::Suspending),
            (S::Suspending | S::Starting, E::Saved) => Some(S::Suspended),
            (S::Starting | S::Running | S::Idle | S::Suspending | S::Suspended | S::Rescue, E::Stop) => {
                Some(S::Stopping)
            }
            (S::Stopping, E::Ended) | (S::Suspended, E::Discard) => Some(S::Stopped),
            (
                S::Starting | S::Running | S::Idle | S::Suspending | S::Suspended | S::Stopping | S::Rescue,
                E::Fail,
            ) => Some(S::Failed),
            _ => None,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A machine's state. Its one owner moves it by [`Lifecycle::apply`]; there is no other way to change it.
#[derive(Debug, PartialEq, Eq)]
pub struct Lifecycle {
    state: State,
}

/// A change of state, to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
}

impl Lifecycle {
    /// A machine of which nothing exists.
    #[must_use]
    pub const fn absent() -> Self {
        Self { state: State::Absent }
    }

    /// A machine that a new daemon found asleep.
    #[must_use]
    pub const fn asleep() -> Self {
        Self { state: State::Suspended }
    }

    /// A machine whose description a new daemon found on disk.
    #[must_use]
    pub const fn found() -> Self {
        Self { state: State::Stopped }
    }

    /// Where it is.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Moves it.
    ///
    /// # Errors
    /// When `event` cannot happen here; the state is as before.
    pub fn apply(&mut self, event: Event) -> Result<Transition, Illegal> {
        let from = self.state;
        let to = from.after(event).ok_or(Illegal { state: from, event })?;
        self.state = to;
        Ok(Transition { from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EVENTS: [Event; 14] = [
        Event::Create,
        Event::Remake,
        Event::Start,
        Event::Ready,
        Event::Rescued,
        Event::Rest,
        Event::Work,
        Event::Suspend,
        Event::Saved,
        Event::Resume,
        Event::Discard,
        Event::Stop,
        Event::Ended,
        Event::Fail,
    ];

    fn walk(events: &[Event]) -> Vec<State> {
        let mut machine = Lifecycle::absent();
        events.iter().map(|e| machine.apply(*e).unwrap().to).collect()
    }

    /// Spec 6.1, 13.1: a machine sleeps and wakes, goes on where it cannot sleep, and can be stopped or forgotten while it sleeps.
    #[test]
    fn a_machine_sleeps_wakes_goes_on_and_is_stopped_asleep() {
        use Event as E;
        use State as S;
        let awake = [E::Create, E::Start, E::Ready];
        let after = |path: &[Event]| *walk(&[&awake, path].concat()).last().unwrap();
        for (path, state) in [
            (&[E::Rest, E::Suspend, E::Saved][..], S::Suspended),
            (&[E::Suspend, E::Work], S::Running),
            (&[E::Suspend, E::Saved, E::Resume, E::Ready], S::Running),
            (&[E::Suspend, E::Saved, E::Resume, E::Saved], S::Suspended),
            (&[E::Suspend, E::Saved, E::Stop, E::Ended], S::Stopped),
            (&[E::Suspend, E::Saved, E::Discard, E::Remake], S::Created),
            (&[E::Suspend, E::Saved, E::Fail], S::Failed),
        ] {
            assert_eq!(after(path), state, "{path:?}");
        }
    }

    /// Spec 6.1: the happy path and recovery.
    #[test]
    fn a_machine_is_created_started_stopped_and_started_again() {
        use Event as E;
        use State as S;
        let path = [E::Create, E::Start, E::Ready, E::Stop, E::Ended, E::Start, E::Fail, E::Start, E::Ready];
        let states = [
            S::Created,
            S::Starting,
            S::Running,
            S::Stopping,
            S::Stopped,
            S::Starting,
            S::Failed,
            S::Starting,
            S::Running,
        ];
        assert_eq!(walk(&path), states);
    }

    #[test]
    fn nothing_starts_twice_and_nothing_that_is_off_stops() {
        use Event as E;
        for (before, event) in [
            (vec![E::Create, E::Start], E::Start),
            (vec![E::Create, E::Start, E::Ready], E::Start),
            (vec![E::Create], E::Stop),
            (vec![E::Create], E::Ready),
            (vec![E::Create, E::Start, E::Stop, E::Ended], E::Ended),
        ] {
            let mut machine = Lifecycle::absent();
            for e in before {
                machine.apply(e).unwrap();
            }
            let state = machine.state();
            assert_eq!(machine.apply(event), Err(Illegal { state, event }));
            assert_eq!(machine.state(), state);
        }
    }

    proptest! {
        /// Spec 6.1: whatever happens, a machine with processes can always be failed, and one without can always be
        /// started again or made; no state is a dead end.
        #[test]
        fn no_state_is_a_dead_end(events in proptest::collection::vec(0..EVENTS.len(), 0..60)) {
            let mut machine = Lifecycle::absent();
            for n in events {
                let _ignored: Result<_, _> = machine.apply(EVENTS[n]);
            }
            let state = machine.state();
            let can = |event| state.after(event).is_some();
            prop_assert_eq!(state.has_processes(), can(Event::Fail));
            if !state.has_processes() {
                prop_assert!(can(Event::Create) || can(Event::Start) || can(Event::Resume));
            }
        }
    }
}
