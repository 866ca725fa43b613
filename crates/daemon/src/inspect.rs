//! Where a container is and why, as the control API tells it.

use dhow_docker::{Error, Inspection, Reason};
use dhow_engine::Snapshot;
use dhow_model::State;
use dhow_proto::control::inspect_reply::What;
use dhow_proto::control::{Failure, InspectReply, Workload};

/// The face's answer, with what is known of the machine.
pub fn told(found: Result<Inspection, Error>, machine: Option<Snapshot>) -> InspectReply {
    let what = match found {
        Ok(found) => What::Found(workload(found, machine.unwrap_or_default())),
        Err(error) => What::Failed(failure(&error)),
    };
    InspectReply { what: Some(what) }
}

fn workload(found: Inspection, machine: Snapshot) -> Workload {
    let (known, why) = match found.reason {
        Reason::Decided(why) => ("decided", why),
        Reason::Derived(why) => ("derived", why),
        Reason::Unknown(why) => ("unknown", why),
    };
    Workload {
        id: found.id,
        name: found.name,
        role: found.role.to_string(),
        machine: found.role.machine().to_string(),
        state: machine.state.unwrap_or(State::Absent).to_string(),
        arch: machine.spec.map(|spec| spec.arch.to_string()).unwrap_or_default(),
        platform: found.platform.map(|platform| platform.to_string()).unwrap_or_default(),
        translator: found.translator.map(|translator| translator.to_string()).unwrap_or_default(),
        why,
        known: known.to_owned(),
    }
}

fn failure(error: &Error) -> Failure {
    let (code, message, hint) = match error {
        Error::NoSuchContainer(reference) => {
            ("container-missing", format!("there is no container {reference}"), "docker ps --all".to_owned())
        }
        Error::Ambiguous(words) => {
            ("container-ambiguous", words.clone(), "docker ps --all --no-trunc".to_owned())
        }
        Error::Unavailable(why) => ("engine-unreachable", why.what.clone(), why.run.clone()),
        other => ("inspect", other.to_string(), "dhow status".to_owned()),
    };
    Failure { code: code.to_owned(), message, hint }
}

#[cfg(test)]
mod tests {
    use dhow_docker::Unavailable;

    use super::*;

    /// Spec 2.2, 2.3: missing and ambiguous are two things, and each is said as such.
    #[test]
    fn missing_ambiguous_and_unreachable_are_told_apart() {
        let why =
            Unavailable { what: "the machine foreign has failed".to_owned(), run: "dhow status".to_owned() };
        for (error, code, words) in [
            (Error::NoSuchContainer("web".to_owned()), "container-missing", "no container web"),
            (Error::Ambiguous("give the full ID".to_owned()), "container-ambiguous", "full ID"),
            (Error::Unavailable(why), "engine-unreachable", "foreign has failed"),
        ] {
            let failure = failure(&error);
            assert_eq!(failure.code, code);
            assert!(failure.message.contains(words) && !failure.hint.is_empty(), "{failure:?}");
        }
    }
}
