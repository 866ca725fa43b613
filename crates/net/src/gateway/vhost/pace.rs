//! Whether the guest's next frame is worth looking for, instead of waiting to be told of it.
//!
//! To be told costs a guest that talks to and fro an exit from its processor, and the host a thread that wakes up twice in a round trip:
//! much of a small question's time. So while a conversation is brisk its device looks for what comes next before it rests, as a host's
//! kernel does for a processor that has halted (Documentation/virt/kvm/halt-polling.rst). Whoever else wants the processor has it first.

use std::time::{Duration, Instant};

/// Frames that follow each other within this are brisk, and so long the next one is looked for. An emulated guest answers a question
/// within 200 to 350 µs, others sooner.
const BRISK: Duration = Duration::from_micros(500);
/// After so many brisk ones in a row the next one is expected.
const ROW: u8 = 8;

/// How briskly frames came lately.
#[derive(Debug)]
pub(super) struct Pace {
    /// How many in a row were brisk, up to [`ROW`].
    row: u8,
    last: Instant,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { row: 0, last: Instant::now() }
    }
}

impl Pace {
    /// A frame came, from the guest or for it.
    pub(super) fn note(&mut self, now: Instant) {
        let brisk = now.saturating_duration_since(self.last) < BRISK;
        self.row = if brisk { (self.row + 1).min(ROW) } else { 0 };
        self.last = now;
    }

    /// What was brisk is over.
    pub(super) fn reset(&mut self) {
        self.row = 0;
    }

    /// Whether to look for the next one.
    pub(super) fn expects(&self, now: Instant) -> bool {
        self.row == ROW && now.saturating_duration_since(self.last) < BRISK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One with so many frames, so long apart, and when the last of them came.
    fn paced(times: u8, apart: Duration) -> (Pace, Instant) {
        let mut pace = Pace::default();
        let mut now = Instant::now() + Duration::from_secs(1);
        for _ in 0..=times {
            now += apart;
            pace.note(now);
        }
        (pace, now)
    }

    /// Issue 3: "round trip not above QEMU's".
    #[test]
    fn the_next_of_a_row_of_brisk_frames_is_expected_for_a_moment() {
        let (pace, now) = paced(ROW, BRISK / 2);
        assert!(pace.expects(now));
        assert!(pace.expects(now + BRISK / 2));
        assert!(!pace.expects(now + BRISK), "an idle guest costs no processor");
    }

    #[test]
    fn few_frames_or_slow_ones_are_waited_for() {
        let (pace, now) = paced(ROW - 1, BRISK / 2);
        assert!(!pace.expects(now));
        let (pace, now) = paced(100, BRISK);
        assert!(!pace.expects(now));
    }

    #[test]
    fn a_slow_frame_or_another_conversation_ends_a_brisk_row() {
        let (mut pace, now) = paced(ROW, BRISK / 2);
        let late = now + BRISK;
        pace.note(late);
        assert!(!pace.expects(late));
        let (mut pace, now) = paced(ROW, BRISK / 2);
        pace.reset();
        assert!(!pace.expects(now));
    }
}
