//! What came of stopping every machine, in one answer: no machine's error hides another's end (spec 6.6).

use dhow_engine::{Error, Stopped};
use dhow_model::{Failure, MachineName};

/// The machines that are stopped, for people.
pub fn names(machines: &[MachineName]) -> String {
    let names: Vec<&str> = machines.iter().map(MachineName::as_str).collect();
    if names.is_empty() { "the engine".to_owned() } else { names.join(" and ") }
}

/// What should be known of a stop that worked, one sentence each; or which machines are not off, and why.
///
/// # Errors
/// When a machine is not off.
pub fn told(stopped: Vec<Stopped>) -> Result<Vec<String>, Failure> {
    let each =
        stopped.into_iter().map(|Stopped { machine, result }| (machine, result.map(|reply| reply.errors)));
    all(each, "did not stop", "is off")
}

/// The same of anything that is done to every machine. Each answers what should be known of it; what is wrong with one is said with
/// the words for `not_done`, and what is well with those for `done`.
///
/// # Errors
/// When it could not be done to a machine.
pub fn all(
    each: impl IntoIterator<Item = (MachineName, Result<Vec<String>, Error>)>,
    not_done: &str,
    done: &str,
) -> Result<Vec<String>, Failure> {
    let mut warnings = Vec::new();
    let mut failures: Vec<(MachineName, Failure)> = Vec::new();
    let mut off = Vec::new();
    for (machine, result) in each {
        match result {
            Ok(errors) => {
                warnings.extend(errors.into_iter().map(|error| format!("{machine}: {error}")));
                off.push(machine);
            }
            Err(error) => failures.push((machine, error.failure())),
        }
    }
    let Some((_, first)) = failures.first() else { return Ok(warnings) };
    let (code, hint) = (first.code.clone(), first.hint.clone());
    let machines: Vec<MachineName> = failures.iter().map(|(machine, _)| machine.clone()).collect();
    let mut message = format!("{} {not_done}", names(&machines));
    for (machine, failure) in &failures {
        message.push_str(&format!("\n{machine}: {}", failure.message));
    }
    if !off.is_empty() {
        message.push_str(&format!("\n{} {done}", names(&off)));
    }
    for warning in warnings {
        message.push_str(&format!("\n{warning}"));
    }
    Err(Failure::new(code, message, hint))
}

#[cfg(test)]
mod tests {
    use dhow_model::Role;
    use dhow_proto::supervisor::StopReply;

    use super::*;

    fn stopped(role: Role, result: Result<&[&str], &str>) -> Stopped {
        let machine = role.machine();
        let result = match result {
            Ok(errors) => {
                Ok(StopReply { errors: errors.iter().map(|e| (*e).to_owned()).collect(), forced: false })
            }
            Err(why) => Err(Error::Supervisor { machine: machine.clone(), why: why.to_owned() }),
        };
        Stopped { machine, result }
    }

    /// Spec 6.6: errors are collected and reported, never swallowed.
    #[test]
    fn every_machines_end_is_told_under_its_own_name() {
        use Role::{Foreign, Native};
        let both = told(vec![stopped(Native, Ok(&["it was slow"])), stopped(Foreign, Ok(&[]))]);
        assert_eq!(both, Ok(vec!["native: it was slow".to_owned()]));
        let one =
            told(vec![stopped(Native, Err("deaf")), stopped(Foreign, Ok(&["it was slow"]))]).unwrap_err();
        assert_eq!(
            one.message,
            "native did not stop\nnative: the supervisor of native does not answer: deaf\nforeign is off\nforeign: it was slow"
        );
        let none = told(vec![stopped(Native, Err("deaf")), stopped(Foreign, Err("mute"))]).unwrap_err();
        assert!(none.message.starts_with("native and foreign did not stop\n"), "{}", none.message);
        assert!(none.message.contains("foreign: the supervisor of foreign does not answer: mute"));
    }
}
