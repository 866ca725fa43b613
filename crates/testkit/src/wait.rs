//! Waiting for a fact, with a time limit.

use std::time::{Duration, Instant};

use crate::{Error, Result};

/// Asks `look` until it answers with something or `limit` has passed; `what` names the fact in the error.
///
/// # Errors
/// [`Error::NeverCame`] after `limit`.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if began.elapsed() >= limit {
            return Err(Error::NeverCame { what: what.to_owned(), limit });
        }
        nap(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(100));
    }
}

/// Lets time pass: between two looks at a fact, or while a bench measures. Tests do not call it: they wait for facts.
#[expect(clippy::disallowed_methods, reason = "the one place that lets time pass")]
pub fn nap(moment: Duration) {
    std::thread::sleep(moment);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule 16.2: a wait says for what it waited, and ends.
    #[test]
    fn a_fact_that_never_comes_ends_the_wait_with_its_name() {
        let error = until("the sea to dry", Duration::from_millis(20), || None::<()>).unwrap_err();
        assert_eq!(error.to_string(), "the sea to dry: not within 20ms");
    }

    #[test]
    fn a_fact_that_is_true_is_returned_at_once() {
        assert_eq!(until("seven", Duration::ZERO, || Some(7)).unwrap(), 7);
    }
}
