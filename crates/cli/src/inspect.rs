//! `dhow inspect`: which machine has a container, what runs its programs there, and why. Starts neither a daemon nor a machine.

use dhow_model::Failure;
use dhow_proto::control::Workload;
use serde::Serialize;

use crate::client::{Daemon, Deadline};
use crate::command::Caller;
use crate::error::{Error, Result};
use crate::exit;
use crate::launch;
use crate::output::Style;
use crate::text;

/// What `dhow inspect --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Place {
    id: String,
    /// Null while it is not known.
    name: Option<String>,
    role: String,
    machine: Machine,
    /// Its image's; null while it is not known.
    platform: Option<String>,
    /// Null: the machine's own processor, or not known.
    translator: Option<String>,
    why: String,
    /// decided, derived, unknown.
    known: String,
}

/// The machine that has it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    name: String,
    state: String,
    /// Null while it is not known.
    arch: Option<String>,
}

/// Says where a container is.
///
/// # Errors
/// When no daemon runs, there is no such container or several, or its machine does not answer.
pub async fn inspect(caller: &Caller, container: &str) -> Result<u8> {
    let deadline = Deadline::after(caller.time_limit.unwrap_or(launch::CALL));
    let Some(mut daemon) = Daemon::reach(&caller.home.control_socket(), deadline).await? else {
        let message = "the engine is not running, so nobody knows its containers";
        return Err(Error::Failed(Failure::new("engine-off", message, "dhow up")));
    };
    let place = place(daemon.inspect(container, deadline).await?);
    caller.output.answer(&render(&place, caller.output.stdout), &place)?;
    Ok(exit::OK)
}

/// What a container or a guest named is shown, not obeyed.
fn place(found: Workload) -> Place {
    let known = |word: &str| Some(text::one_line(word)).filter(|word| !word.is_empty());
    Place {
        id: text::one_line(&found.id),
        name: known(&found.name),
        role: found.role,
        machine: Machine { name: found.machine, state: found.state, arch: known(&found.arch) },
        platform: known(&found.platform),
        translator: known(&found.translator),
        why: text::one_line(&found.why),
        known: found.known,
    }
}

fn render(place: &Place, style: Style) -> String {
    let Place { id, name, machine, platform, translator, why, known, .. } = place;
    let arch = machine.arch.as_ref().map(|arch| format!(", {arch}")).unwrap_or_default();
    let programs = match (translator, known.as_str()) {
        (Some(translator), _) => format!("through {translator}"),
        (None, "unknown") => "not known".to_owned(),
        (None, _) => "on the machine's own processor".to_owned(),
    };
    let why = match known.as_str() {
        "derived" => format!("{why} (so it would be decided now)"),
        _ => why.clone(),
    };
    let rows = [
        ("container", format!("{} ({id})", style.bold(name.as_deref().unwrap_or("?")))),
        ("machine", format!("{} ({}{arch})", machine.name, machine.state)),
        ("platform", platform.clone().unwrap_or_else(|| "not known".to_owned())),
        ("runs", programs),
        ("why", why),
    ];
    rows.map(|(name, words)| format!("{name:<11}{words}\n")).concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> Workload {
        Workload {
            id: "5d3f".repeat(16),
            name: "web".to_owned(),
            role: "foreign".to_owned(),
            machine: "foreign".to_owned(),
            state: "running".to_owned(),
            arch: "arm64".to_owned(),
            platform: "linux/arm64".to_owned(),
            translator: String::new(),
            why: "platform linux/arm64 was asked for".to_owned(),
            known: "decided".to_owned(),
        }
    }

    /// Issue 4, point 5.
    #[test]
    fn a_container_is_told_with_its_machine_what_runs_it_and_why() {
        insta::assert_snapshot!(render(&place(workload()), Style::PLAIN), @r"
        container  web (5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f)
        machine    foreign (running, arm64)
        platform   linux/arm64
        runs       on the machine's own processor
        why        platform linux/arm64 was asked for
        ");
        let translated = Workload {
            role: "native".to_owned(),
            machine: "native".to_owned(),
            arch: "amd64".to_owned(),
            translator: "qemu".to_owned(),
            known: "derived".to_owned(),
            why: "the image exists only for linux/arm64".to_owned(),
            ..workload()
        };
        insta::assert_snapshot!(render(&place(translated), Style::PLAIN), @r"
        container  web (5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f)
        machine    native (running, amd64)
        platform   linux/arm64
        runs       through qemu
        why        the image exists only for linux/arm64 (so it would be decided now)
        ");
    }

    /// Spec 2.6: of a machine that sleeps, what its record has.
    #[test]
    fn what_is_not_known_of_a_machine_that_sleeps_is_said_so() {
        let asleep = Workload {
            state: "stopped".to_owned(),
            platform: String::new(),
            known: "unknown".to_owned(),
            why: "the foreign machine is off".to_owned(),
            ..workload()
        };
        insta::assert_snapshot!(render(&place(asleep.clone()), Style::PLAIN), @r"
        container  web (5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f)
        machine    foreign (stopped, arm64)
        platform   not known
        runs       not known
        why        the foreign machine is off
        ");
        insta::assert_snapshot!(serde_json::to_string_pretty(&place(asleep)).unwrap(), @r#"
        {
          "id": "5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f5d3f",
          "name": "web",
          "role": "foreign",
          "machine": {
            "name": "foreign",
            "state": "stopped",
            "arch": "arm64"
          },
          "platform": null,
          "translator": null,
          "why": "the foreign machine is off",
          "known": "unknown"
        }
        "#);
    }
}
