//! Which translators serve which architecture: the user's lists, the host's directory and, while the machine runs, what its
//! guest says of itself. The two sides must agree, or the translator counts as unprovisioned (spec 1.4, 1.5, 1.9).

use std::path::Path;

use dhow_model::translator::{Served, State, Unprovisioned, Why};
use dhow_model::{Arch, TranslatorName};

use super::check::state;

/// What a running guest says of its translators.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Live {
    /// Those that it was given. Absent: it has not said yet.
    pub serving: Option<Vec<Serving>>,
}

/// A translator that a guest was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Serving {
    /// Which.
    pub name: TranslatorName,
    /// For programs of this architecture.
    pub serves: Arch,
    /// Why it does not serve; nothing: it does.
    pub problem: Option<String>,
}

/// The lists with the state of each translator. `live` is nothing while the machine is off: the directory alone decides then, and
/// the guest gets what is in it before its first container starts.
#[must_use]
pub fn served(
    directory: &Path,
    guest: Arch,
    lists: impl Fn(Arch) -> Vec<TranslatorName>,
    live: Option<&Live>,
) -> Vec<Served> {
    let foreign = Arch::ALL.into_iter().filter(|arch| *arch != guest);
    foreign
        .map(|arch| {
            let states = lists(arch).into_iter().map(|name| {
                let here = state(directory, name, guest, arch);
                (name, here.and_then(|()| there(directory, name, guest, arch, live)))
            });
            Served { arch, translators: states.collect() }
        })
        .collect()
}

/// Whether the guest agrees.
fn there(directory: &Path, name: TranslatorName, guest: Arch, serves: Arch, live: Option<&Live>) -> State {
    let Some(live) = live else { return Ok(()) };
    let refused = |words: String| {
        let file = name.translator(guest, serves).map(|translator| directory.join(translator.file));
        Err(Unprovisioned { translator: name, serves, file, why: Why::NotRegistered(words) })
    };
    let Some(serving) = &live.serving else {
        return refused("the machine has not said yet what it has registered".to_owned());
    };
    let mut given = serving.iter().filter(|given| given.serves == serves);
    match given.clone().find(|given| given.name == name) {
        Some(Serving { problem: None, .. }) => Ok(()),
        Some(Serving { problem: Some(problem), .. }) => refused(problem.clone()),
        None => match given.find(|given| given.problem.is_none()) {
            Some(other) => refused(format!("{} serves {serves}", other.name)),
            None => refused("the machine has not been given it yet".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::elf::tests_support::with_segments;

    fn provisioned(files: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for file in files {
            let program = with_segments(Arch::Arm64, &[(1, 0, 120)], &[]);
            dhow_home::atomic::write(&directory.path().join(file), &program, 0o755).unwrap();
        }
        directory
    }

    fn words(directory: &Path, live: Option<&Live>) -> Vec<String> {
        let lists = |_| vec![TranslatorName::Fex, TranslatorName::Qemu];
        let served = served(directory, Arch::Arm64, lists, live);
        assert_eq!(served.len(), 1);
        assert_eq!(served[0].arch, Arch::Amd64);
        let told = |state: &State| match state {
            Ok(()) => "serves".to_owned(),
            Err(error) => error.why.to_string(),
        };
        served[0].translators.iter().map(|(_, state)| told(state)).collect()
    }

    fn guest(name: TranslatorName, problem: Option<&str>) -> Live {
        let problem = problem.map(str::to_owned);
        Live { serving: Some(vec![Serving { name, serves: Arch::Amd64, problem }]) }
    }

    /// Spec 1.5: host and guest must agree, whichever of them lacks it.
    #[test]
    fn a_translator_serves_only_where_host_and_guest_agree() {
        let both = provisioned(&["FEX", "qemu-x86_64"]);
        let none = provisioned(&[]);
        assert_eq!(words(both.path(), None), ["serves", "serves"]);
        assert_eq!(words(none.path(), None), ["does not exist", "does not exist"]);
        let fex = guest(TranslatorName::Fex, None);
        let seen = words(both.path(), Some(&fex));
        assert_eq!(seen[0], "serves");
        assert!(seen[1].ends_with("fex serves amd64"), "{seen:?}");
        // Registered in the guest, gone on the host.
        assert_eq!(words(none.path(), Some(&fex)), ["does not exist", "does not exist"]);
        // There on the host, refused by the guest's kernel.
        let seen = words(both.path(), Some(&guest(TranslatorName::Fex, Some("the kernel refused it"))));
        assert!(seen[0].ends_with("the kernel refused it") && seen[1].contains("not been given"), "{seen:?}");
        let seen = words(both.path(), Some(&Live::default()));
        assert!(seen.iter().all(|words| words.contains("has not said yet")), "{seen:?}");
    }
}
