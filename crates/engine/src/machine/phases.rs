//! What a supervisor's phase means for a machine in a state: what happened to it, in order.
//!
//! The supervisor puts a machine to sleep and wakes it, the latter without asking anybody: the state follows. A reader of its status
//! may miss phases that were short, so each phase stands for the whole way to it.

use dhow_model::State;
use dhow_model::lifecycle::Event as Move;
use dhow_proto::supervisor::Phase;

/// The ways to a phase from a state; nothing where the state says as much already.
pub(super) const fn moves(state: State, phase: Phase) -> &'static [Move] {
    use Move::{Ready, Rescued, Resume, Saved, Suspend, Work};
    match (state, phase) {
        // One that ran before this daemon found it may be unwell.
        (State::Starting, Phase::Ready | Phase::Degraded) => &[Ready],
        (State::Starting, Phase::Apart) => &[Rescued],
        // It could not be saved, and goes on.
        (State::Suspending, Phase::Ready | Phase::Degraded) => &[Work],
        (State::Suspended, Phase::Ready | Phase::Degraded) => &[Resume, Ready],
        (State::Running | State::Idle, Phase::Suspending) => &[Suspend],
        (State::Starting, Phase::Suspending) => &[Ready, Suspend],
        (State::Suspended, Phase::Suspending) => &[Resume, Ready, Suspend],
        (State::Suspending, Phase::Suspended) => &[Saved],
        // It was found asleep.
        (State::Starting, Phase::Suspended) => &[Saved],
        (State::Running | State::Idle, Phase::Suspended) => &[Suspend, Saved],
        // Its state could not be used, and it boots.
        (State::Suspended, Phase::Resuming | Phase::Starting | Phase::Booting) => &[Resume],
        (State::Suspending, Phase::Resuming | Phase::Starting | Phase::Booting) => &[Saved, Resume],
        (State::Running | State::Idle, Phase::Resuming) => &[Suspend, Saved, Resume],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every phase that the interface has.
    fn phases() -> impl Iterator<Item = Phase> {
        (0..100).filter_map(|number| Phase::try_from(number).ok())
    }

    /// Spec 6.1: whatever a supervisor tells in whatever state, only what the lifecycle allows happens.
    #[test]
    fn no_phase_leads_to_an_illegal_transition() {
        let mut followed = 0;
        for state in State::ALL {
            for phase in phases() {
                let mut now = state;
                for event in moves(state, phase) {
                    now = now
                        .after(*event)
                        .unwrap_or_else(|| panic!("{state} {phase:?}: {now} cannot {event:?}"));
                    followed += 1;
                }
            }
        }
        assert!(followed > 20, "{followed}");
    }

    /// Spec 6.1, 13.1: a machine is where its supervisor says, however many of its words were missed.
    #[test]
    fn a_machine_is_where_its_supervisor_says_that_it_is() {
        use State as S;
        for (phase, expected) in
            [(Phase::Ready, S::Running), (Phase::Suspending, S::Suspending), (Phase::Suspended, S::Suspended)]
        {
            for state in [S::Starting, S::Running, S::Suspending, S::Suspended] {
                let end = moves(state, phase).iter().fold(state, |now, event| now.after(*event).unwrap());
                assert_eq!(end, expected, "{state} {phase:?}");
            }
        }
        for state in [S::Starting, S::Running, S::Idle, S::Suspending, S::Suspended] {
            let end =
                moves(state, Phase::Resuming).iter().fold(state, |now, event| now.after(*event).unwrap());
            assert_eq!(end, S::Starting, "{state}");
        }
        // Whoever stops a machine, or sees it fail, owns what follows.
        for state in [S::Stopping, S::Stopped, S::Failed, S::Created, S::Absent] {
            assert!(phases().all(|phase| moves(state, phase).is_empty()), "{state}");
        }
    }
}
