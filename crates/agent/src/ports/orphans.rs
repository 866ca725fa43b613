//! Containers that run and that no dockerd knows. A dockerd that is killed in the middle of a start leaves one, when its
//! successor takes the container for one that never ran and removes it (`--rm`): what runs keeps its address, and its port
//! stays published for nobody. dockerd alone makes containers in its namespace of containerd, and lists them before they
//! are made there and until they are gone; so what has a shim and is listed by nobody, twice, is nobody's.
//!
//! Its shim is killed: containerd then ends what is left of the container and tidies up, as after any shim that dies.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::cut_short::{self, Process};

/// How long nobody must have listed it, over two looks at least.
const UNKNOWN: Duration = Duration::from_secs(10);

/// The shim of a container of dockerd's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shim {
    process: Process,
    /// The container's ID.
    id: String,
}

/// What earlier looks saw.
#[derive(Debug, Default)]
pub struct Orphans {
    /// The shims of unknown containers, and since when they are.
    unknown: BTreeMap<i32, Instant>,
}

impl Orphans {
    /// Whether another look will decide something.
    #[must_use]
    pub fn is_due(&self) -> bool {
        !self.unknown.is_empty()
    }

    /// There were these shims, and dockerd, asked after that, knows these containers. Answers whose time is up.
    pub fn look(&mut self, now: Instant, shims: &[Shim], known: &BTreeSet<String>) -> Vec<Shim> {
        let unknown: Vec<&Shim> = shims.iter().filter(|shim| !known.contains(&shim.id)).collect();
        self.unknown.retain(|pid, _| unknown.iter().any(|shim| shim.process.pid == *pid));
        let mut ended = Vec::new();
        for shim in unknown {
            let since = *self.unknown.entry(shim.process.pid).or_insert(now);
            if now >= since + UNKNOWN {
                ended.push(shim.clone());
            }
        }
        ended
    }
}

/// The shims that there are. Looks through all processes, which takes a while where there are many.
#[must_use]
pub fn shims() -> Vec<Shim> {
    let all = cut_short::processes().into_iter().filter(|process| process.parent == 1);
    all.filter_map(|process| Some(Shim { id: cut_short::shim_of(process.pid)?, process })).collect()
}

/// Ends one, if it is still who it was. Answers its container's ID.
#[must_use]
pub fn end(shim: &Shim) -> Option<&str> {
    cut_short::kill(&shim.process).then_some(&shim.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shim(pid: i32, id: &str) -> Shim {
        let process = Process { pid, parent: 1, name: "containerd-shim".to_owned(), started: 7 };
        Shim { process, id: id.to_owned() }
    }

    fn known(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    /// Issue 3: what dockerd lists again, or for the first time a little late, is somebody's.
    #[test]
    fn only_what_is_unknown_twice_and_for_long_is_nobodys() {
        /// Seconds, what dockerd knows then, and whose time is up.
        type Row = (&'static [(u64, &'static [&'static str])], &'static [(u64, &'static str)]);
        let table: [Row; 4] = [
            (&[(0, &["a", "b"]), (60, &["a", "b"])], &[]),
            (&[(0, &["a"]), (5, &["a"]), (9, &["a"])], &[]),
            (&[(0, &["a"]), (5, &["a", "b"]), (10, &["a"]), (15, &["a"]), (20, &["a"])], &[(20, "b")]),
            (&[(0, &["a"]), (300, &["a"])], &[(300, "b")]),
        ];
        let shims = [shim(10, "a"), shim(20, "b")];
        for (looks, expected) in table {
            let (start, mut orphans) = (Instant::now(), Orphans::default());
            let mut ended = Vec::new();
            for (second, listed) in looks {
                let found = orphans.look(start + Duration::from_secs(*second), &shims, &known(listed));
                ended.extend(found.into_iter().map(|shim| (*second, shim.id)));
                assert_eq!(orphans.is_due(), listed.len() == 1);
            }
            let expected: Vec<_> = expected.iter().map(|(second, id)| (*second, (*id).to_owned())).collect();
            assert_eq!(ended, expected, "{looks:?}");
        }
    }

    #[test]
    fn a_shim_that_has_gone_is_forgotten() {
        let (start, mut orphans) = (Instant::now(), Orphans::default());
        assert!(orphans.look(start, &[shim(10, "a")], &known(&[])).is_empty());
        assert!(orphans.look(start + UNKNOWN, &[], &known(&[])).is_empty());
        assert!(orphans.look(start + 2 * UNKNOWN, &[shim(10, "c")], &known(&[])).is_empty());
    }
}
