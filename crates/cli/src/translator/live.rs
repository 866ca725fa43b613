//! What running machines say of their translators, through the daemon. Never starts one.

use std::time::{Duration, Instant};

use dhow_home::Home;
use dhow_model::{Arch, TranslatorName};
use dhow_proto::control;
use serde::Serialize;

use crate::client::{Daemon, Deadline};
use crate::error::Result;
use crate::house::TranslatorRow;
use crate::text;

/// For a machine to take a change: its supervisor looks every second, and the file goes over.
const TAKE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(200);

/// A running machine.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Machine {
    name: String,
    arch: String,
    known: bool,
    translators: Vec<control::Translator>,
    /// What a person should know of it.
    pub warnings: Vec<String>,
}

/// What one machine says of one translator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct InMachine {
    /// The machine.
    pub machine: String,
    /// Whether programs are run by it.
    pub serves: bool,
    /// Why not; empty when it serves, or when the machine was not given it.
    pub problem: String,
    /// What its kernel has registered.
    pub interpreter: String,
    /// With which flags.
    pub flags: String,
    /// As the translator says itself.
    pub version: String,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Awaited {
    name: TranslatorName,
    guest: Arch,
    serves: Arch,
    /// Present with this digest, or absent.
    sha256: Option<String>,
}

impl Awaited {
    pub(super) fn serving(row: &TranslatorRow) -> Self {
        Self { name: row.name, guest: row.guest, serves: row.serves, sha256: row.sha256.clone() }
    }

    pub(super) fn gone(row: &TranslatorRow) -> Self {
        Self { sha256: None, ..Self::serving(row) }
    }

    fn holds(&self, machine: &Machine) -> bool {
        if machine.arch != self.guest.to_string() {
            return true;
        }
        let mut given = machine.translators.iter().filter(|t| is(t, self.name, self.serves));
        match &self.sha256 {
            Some(sha256) => given.any(|translator| translator.sha256 == *sha256),
            None => given.next().is_none(),
        }
    }
}

impl Machine {
    pub(super) fn about(&self, row: &TranslatorRow) -> Option<InMachine> {
        if self.arch != row.guest.to_string() || !self.known {
            return None;
        }
        let given = self.translators.iter().find(|t| is(t, row.name, row.serves));
        let clean = |words: &str| text::one_line(words);
        Some(InMachine {
            machine: self.name.clone(),
            serves: given.is_some_and(|t| t.problem.is_empty()),
            problem: given.map(|t| clean(&t.problem)).unwrap_or_default(),
            interpreter: given.map(|t| clean(&t.interpreter)).unwrap_or_default(),
            flags: given.map(|t| clean(&t.flags)).unwrap_or_default(),
            version: given.map(|t| clean(&t.version)).unwrap_or_default(),
        })
    }
}

fn is(translator: &control::Translator, name: TranslatorName, serves: Arch) -> bool {
    translator.name == name.as_str() && translator.serves == serves.debian()
}

/// The machines that run, once what is awaited holds in them or they have had their time.
pub(super) async fn machines(home: &Home, deadline: Deadline, awaited: &[Awaited]) -> Result<Vec<Machine>> {
    let Some(mut daemon) = Daemon::reach(&home.control_socket(), deadline).await? else {
        return Ok(Vec::new());
    };
    let until = Instant::now() + TAKE;
    loop {
        let machines = running(daemon.status(Deadline::after(deadline.left().max(LOOK))).await?);
        let waiting: Vec<&Machine> =
            machines.iter().filter(|machine| !awaited.iter().all(|wait| wait.holds(machine))).collect();
        if waiting.is_empty() {
            return Ok(machines);
        }
        if Instant::now() >= until {
            let late: Vec<String> = waiting.iter().map(|machine| machine.name.clone()).collect();
            let mut machines = machines;
            for machine in machines.iter_mut().filter(|machine| late.contains(&machine.name)) {
                let words = format!("{} has not taken the change within {} s", machine.name, TAKE.as_secs());
                machine.warnings.push(words);
            }
            return Ok(machines);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn running(reply: control::StatusReply) -> Vec<Machine> {
    let up =
        reply.machines.into_iter().filter(|machine| ["running", "idle"].contains(&machine.state.as_str()));
    up.map(|machine| Machine {
        name: machine.name,
        arch: machine.arch,
        known: machine.translators_known,
        translators: machine.translators,
        warnings: machine.warnings.iter().map(|warning| text::one_line(warning)).collect(),
    })
    .collect()
}

#[cfg(test)]
pub(super) fn of(name: &str, arch: &str, translators: Vec<control::Translator>) -> Machine {
    let (name, arch) = (name.to_owned(), arch.to_owned());
    Machine { name, arch, known: true, translators, warnings: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translator::tests::row;

    fn given(sha256: &str) -> control::Translator {
        control::Translator {
            name: "qemu".to_owned(),
            serves: "arm64".to_owned(),
            sha256: sha256.to_owned(),
            ..control::Translator::default()
        }
    }

    /// Issue 6: a change is waited for where it must show, and nowhere else.
    #[test]
    fn a_change_is_waited_for_in_machines_of_its_architecture() {
        let host = row(true);
        let sha256 = host.sha256.clone().unwrap();
        let (serving, gone) = (Awaited::serving(&host), Awaited::gone(&host));
        let holds = |wait: &Awaited, arch, given| wait.holds(&of("native", arch, given));
        assert!(!holds(&serving, "amd64", Vec::new()));
        assert!(!holds(&serving, "amd64", vec![given("older")]));
        assert!(holds(&serving, "amd64", vec![given(&sha256)]));
        assert!(holds(&serving, "arm64", Vec::new()));
        assert!(holds(&gone, "amd64", Vec::new()));
        assert!(!holds(&gone, "amd64", vec![given(&sha256)]));
    }
}
