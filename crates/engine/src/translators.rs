//! Translators of a machine, as admission, `dhow status` and the doctor need them: what the host's directory has, and what a
//! running guest says (spec 1.5, 1.9).

use dhow_assets::translator::{Live, Serving, served, state};
use dhow_home::Home;
use dhow_hypervisor::doctor::{Check, Verdict};
use dhow_model::translator::{Served, Unprovisioned, Why};
use dhow_model::{Arch, Config, MachineName};
use dhow_proto::supervisor::MachineStatus;

use crate::supervisor;

/// What a running guest says of its translators; a translator that it calls by a name that we do not know serves nothing.
#[must_use]
pub fn live(status: &MachineStatus) -> Live {
    let serving = status.translators.as_ref().map(|translators| {
        let known = translators.given.iter().filter_map(|one| {
            let (name, serves) = (one.name.parse().ok()?, one.serves.parse().ok()?);
            let problem = (!one.problem.is_empty()).then(|| one.problem.clone());
            Some(Serving { name, serves, problem })
        });
        known.collect()
    });
    Live { serving }
}

/// The translators of each architecture that is foreign to a guest, with their states. `running` is the machine's status while it
/// runs; without it the directory alone decides.
#[must_use]
pub fn of(home: &Home, config: &Config, guest: Arch, running: Option<&MachineStatus>) -> Vec<Served> {
    let live = running.map(live);
    served(&home.runtime_bin(), guest, |arch| config.translators.list(arch).to_vec(), live.as_ref())
}

/// What the doctor says of the native machine's translators. A machine that runs and does not answer is told of: of what is in
/// it, nothing is known then.
pub async fn checks(home: &Home, config: &Config, guest: Arch) -> Vec<Check> {
    let name = MachineName::native();
    let running = match supervisor::is_running(&home.machine(&name)) {
        Ok(true) => supervisor::connect(home, &name).status().await.map(Some),
        Ok(false) => Ok(None),
        Err(error) => Err(error),
    };
    match running {
        Ok(running) => look(home, config, guest, running.as_ref()),
        Err(error) => {
            let failure = error.failure();
            let found = format!("what the guest has could not be asked: {}", failure.message);
            let silent = check("translators".to_owned(), Verdict::Warn, found, Some(failure.hint));
            std::iter::once(silent).chain(look(home, config, guest, None)).collect()
        }
    }
}

fn look(home: &Home, config: &Config, guest: Arch, running: Option<&MachineStatus>) -> Vec<Check> {
    let mut checks = Vec::new();
    for Served { arch, translators } in of(home, config, guest, running) {
        let serving = translators.iter().position(|(_, state)| state.is_ok());
        if translators.is_empty() {
            let found =
                format!("none: the list translators.{arch} is empty, and {arch} containers are refused");
            checks.push(check(format!("{arch} translator"), Verdict::Ok, found, None));
        }
        for (place, (name, state)) in translators.iter().enumerate() {
            checks.push(match state {
                Ok(()) if Some(place) == serving => {
                    let found = serves(arch, *name, running);
                    check(format!("{arch} translator"), Verdict::Ok, found, None)
                }
                Ok(()) => check(
                    format!("{arch} translator"),
                    Verdict::Ok,
                    format!("{name} is provisioned too"),
                    None,
                ),
                Err(error) => refused(arch, error, serving.is_some_and(|serving| serving < place)),
            });
        }
    }
    checks.extend(running.into_iter().flat_map(|status| guest_sides(home, guest, status)));
    checks
}

fn serves(arch: Arch, name: dhow_model::TranslatorName, running: Option<&MachineStatus>) -> String {
    let given = running.and_then(|status| status.translators.as_ref()).and_then(|translators| {
        translators.given.iter().find(|one| one.name == name.as_str() && one.serves == arch.debian())
    });
    match given {
        Some(given) => {
            format!("{name} {} serves {arch}: registered with flags {}", given.version, given.flags)
        }
        None => format!("{name} is provisioned"),
    }
}

/// What nobody asked for is no fault; a file that is there and not fit, or that the guest does not use, is.
fn refused(arch: Arch, error: &Unprovisioned, another_serves: bool) -> Check {
    let (sentence, advice) = match error.to_string().rsplit_once("; run `") {
        Some((sentence, command)) => (sentence.to_owned(), Some(command.trim_end_matches('`').to_owned())),
        None => (error.to_string(), None),
    };
    let advice = match &error.why {
        Why::NotRegistered(_) => Some("read `dhow logs console`, then `dhow down` and `dhow up`".to_owned()),
        _ => advice,
    };
    let verdict = match &error.why {
        Why::Missing | Why::NoSuchPair { .. } | Why::OtherHost => Verdict::Ok,
        Why::NotRegistered(_) if another_serves => Verdict::Ok,
        _ => Verdict::Warn,
    };
    let found = if another_serves { sentence } else { format!("{sentence}; {arch} containers are refused") };
    check(format!("{arch} translator"), verdict, found, advice)
}

/// Where the guest has what the host does not, and the kernel's setting that makes translators fail (spec 1.8).
fn guest_sides(home: &Home, guest: Arch, status: &MachineStatus) -> Vec<Check> {
    let mut checks = Vec::new();
    for one in status.translators.iter().flat_map(|translators| &translators.given) {
        let (Ok(name), Ok(serves)) = (one.name.parse(), one.serves.parse()) else { continue };
        if let Err(error) = state(&home.runtime_bin(), name, guest, serves) {
            let found = format!("registered in the guest, and on this host {error}");
            checks.push(check(format!("{serves} translator"), Verdict::Warn, found, None));
        }
    }
    let warnings = status.translators.iter().flat_map(|translators| &translators.warnings);
    checks.extend(
        warnings.map(|warning| check("translators".to_owned(), Verdict::Warn, warning.clone(), None)),
    );
    if status.randomize_va_space == 1 {
        let found = "kernel.randomize_va_space is 1 in the guest, which makes translators fail at random";
        let advice = "find what set it, then `dhow down` and `dhow up`, which set it to 2";
        checks.push(check(
            "guest kernel".to_owned(),
            Verdict::Warn,
            found.to_owned(),
            Some(advice.to_owned()),
        ));
    }
    checks
}

fn check(name: String, verdict: Verdict, found: String, advice: Option<String>) -> Check {
    Check { name, verdict, found, advice }
}

#[cfg(test)]
mod tests {
    use dhow_model::translator::probe;
    use dhow_proto::supervisor::{Translator, Translators};

    use super::*;

    const GUEST: Arch = Arch::Amd64;

    fn home(files: &[&str]) -> (tempfile::TempDir, Home) {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path().join("home")).unwrap();
        home.create().unwrap();
        for file in files {
            let program = probe::program(GUEST);
            dhow_home::atomic::write(&home.runtime_bin().join(file), &program, 0o755).unwrap();
        }
        (directory, home)
    }

    fn running(problem: &str) -> MachineStatus {
        let given = Translator {
            name: "qemu".to_owned(),
            serves: "arm64".to_owned(),
            problem: problem.to_owned(),
            version: "10.0.2".to_owned(),
            flags: "POCF".to_owned(),
            ..Translator::default()
        };
        let translators = Translators { given: vec![given], warnings: Vec::new() };
        MachineStatus { translators: Some(translators), randomize_va_space: 2, ..MachineStatus::default() }
    }

    fn seen(home: &Home, running: Option<&MachineStatus>) -> Vec<(Verdict, String)> {
        let checks = look(home, &Config::default(), GUEST, running);
        checks.into_iter().map(|check| (check.verdict, check.found)).collect()
    }

    /// Spec 1.5, 1.9: the doctor says why a translator does not serve, and names a difference between the two sides.
    #[test]
    fn the_doctor_compares_host_and_guest() {
        let (_one, with) = home(&["qemu-aarch64"]);
        let (_two, without) = home(&[]);
        assert_eq!(seen(&with, None), [(Verdict::Ok, "qemu is provisioned".to_owned())]);
        let serving = "qemu 10.0.2 serves arm64: registered with flags POCF".to_owned();
        assert_eq!(seen(&with, Some(&running(""))), [(Verdict::Ok, serving)]);
        let missing = seen(&without, None);
        assert_eq!(missing[0].0, Verdict::Ok);
        assert!(missing[0].1.contains("qemu-aarch64 does not exist"), "{missing:?}");
        assert!(missing[0].1.ends_with("arm64 containers are refused"), "{missing:?}");
        let refused = seen(&with, Some(&running("the kernel refused it")));
        assert_eq!(refused[0].0, Verdict::Warn);
        assert!(refused[0].1.contains("does not use it: the kernel refused it"), "{refused:?}");
        let gone = seen(&without, Some(&running("")));
        assert!(
            gone.iter().any(|(verdict, found)| *verdict == Verdict::Warn
                && found.starts_with("registered in the guest, and on this host")),
            "{gone:?}"
        );
    }

    /// Spec 1.8.
    #[test]
    fn the_doctor_names_the_setting_that_breaks_translators() {
        let (_one, home) = home(&["qemu-aarch64"]);
        let status = MachineStatus { randomize_va_space: 1, ..running("") };
        assert!(
            seen(&home, Some(&status)).iter().any(|(_, found)| found.contains("randomize_va_space is 1"))
        );
    }
}
