//! Which vsock context ID this machine gets (spec 8.2). A lock file for each number says which ones other machines of the
//! same directory hold; what other programs of the host hold, the kernel tells when the hypervisor starts.

use std::collections::BTreeSet;
use std::path::Path;

use dhow_home::lock::FileLock;
use dhow_home::{MachineDir, atomic};
use dhow_model::{GuestCid, cid};

use crate::{Error, Result};

/// A context ID that no other machine of this directory has while this lives.
#[derive(Debug)]
pub struct Lease {
    /// The number.
    pub cid: GuestCid,
    _lock: FileLock,
}

/// Takes the machine's previous context ID or the lowest free one, leaving out those that the kernel `refused`.
///
/// # Errors
/// When none is free or a lock cannot be made.
pub fn lease(run: &Path, dir: &MachineDir, refused: &BTreeSet<GuestCid>) -> Result<Lease> {
    let previous = std::fs::read_to_string(dir.last_cid()).ok();
    let previous =
        previous.and_then(|t| t.trim().parse::<u64>().ok()).and_then(|n| GuestCid::try_from(n).ok());
    let mut held = BTreeSet::new();
    while let Some(cid) = cid::choose(previous, &held, refused) {
        let path = run.join(format!("cid-{cid}.lock"));
        let tried = FileLock::try_exclusive(&path).map_err(|source| Error::File { path, source })?;
        match tried {
            Some(lock) => {
                let path = dir.last_cid();
                atomic::write(&path, cid.to_string().as_bytes(), 0o600)
                    .map_err(|source| Error::File { path, source })?;
                return Ok(Lease { cid, _lock: lock });
            }
            None => held.insert(cid),
        };
    }
    Err(Error::NoCid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dhow_home::Home;

    /// Spec 8.2.
    #[test]
    fn machines_get_different_numbers_and_a_returning_one_its_own() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path().join("h")).unwrap();
        home.create().unwrap();
        let [one, two] = ["one", "two"].map(|name| {
            let dir = home.machine(&name.parse().unwrap());
            dir.create().unwrap();
            dir
        });
        let none = BTreeSet::new();
        let first = lease(&home.run_dir(), &one, &none).unwrap();
        let second = lease(&home.run_dir(), &two, &none).unwrap();
        assert_eq!((first.cid.get(), second.cid.get()), (3, 4));
        drop(first);
        drop(second);
        assert_eq!(lease(&home.run_dir(), &two, &none).unwrap().cid.get(), 4);
        let refused = BTreeSet::from([GuestCid::try_from(4).unwrap()]);
        assert_eq!(lease(&home.run_dir(), &two, &refused).unwrap().cid.get(), 3);
    }
}
