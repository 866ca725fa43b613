//! Which claims of a dockerd that starts nobody is behind.
//!
//! dockerd publishes again, from its own records and before anything else, what its predecessor had published. Then it
//! forgets the containers that did not outlive the predecessor, and with them their ports, but for one case: a container
//! whose start was cut short between publishing and the making of its network. Its port stays published, and taken, for as
//! long as that dockerd runs (moby 26.1: the stored sandbox names no endpoint yet, so `cleanupLocalEndpoints` deletes the
//! endpoint without `RevokeExternalConnectivity`). A claim that is refused, however, dockerd gives up for good.
//!
//! So a claim is refused when it comes from dockerd's records and no process has the container's address. What comes from
//! a start is known by the cable, which dockerd makes first and under a new name.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::kernel::Kernel;

/// What is known while no dockerd answers.
#[derive(Debug, Default)]
pub struct Restoring {
    /// The ends of cables that were there when the last dockerd ended.
    cables: BTreeSet<String>,
    /// Of the dockerd that claims, the addresses that processes had when it claimed first.
    addresses: Option<(u32, BTreeSet<IpAddr>)>,
}

impl Restoring {
    /// The last dockerd has ended, or none has run yet.
    #[must_use]
    pub fn begin(kernel: &dyn Kernel) -> Self {
        Self { cables: kernel.cables(), addresses: None }
    }

    /// Whether `dockerd`, which does not answer yet, claims a port for a `container` that is no more.
    pub fn is_left_over(&mut self, kernel: &dyn Kernel, dockerd: u32, container: IpAddr) -> bool {
        if !kernel.cables().is_subset(&self.cables) {
            // Containers are being started, so the records have been gone through.
            return false;
        }
        // Once for each dockerd: what ends while it goes through its records, it sees itself.
        let addresses = match self.addresses.take() {
            Some((of, addresses)) if of == dockerd => addresses,
            _ => kernel.addresses(),
        };
        let lives = addresses.contains(&container);
        self.addresses = Some((dockerd, addresses));
        !lives
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Fake {
        cables: Mutex<BTreeSet<String>>,
        addresses: Mutex<BTreeSet<IpAddr>>,
    }

    impl Kernel for Fake {
        fn cables(&self) -> BTreeSet<String> {
            self.cables.lock().unwrap().clone()
        }
        fn has_loose_cable(&self) -> bool {
            false
        }
        fn addresses(&self) -> BTreeSet<IpAddr> {
            self.addresses.lock().unwrap().clone()
        }
    }

    const LIVES: [u8; 4] = [172, 17, 0, 2];
    const DEAD: [u8; 4] = [172, 17, 0, 3];

    fn kernel() -> Fake {
        let fake = Fake::default();
        fake.cables.lock().unwrap().extend(["veth1".to_owned(), "veth2".to_owned()]);
        fake.addresses.lock().unwrap().insert(LIVES.into());
        fake
    }

    /// Spec 4.4: a container that goes on keeps its port.
    #[test]
    fn a_container_that_lives_is_never_left_over() {
        let kernel = kernel();
        let mut restoring = Restoring::begin(&kernel);
        assert!(!restoring.is_left_over(&kernel, 100, LIVES.into()));
        assert!(restoring.is_left_over(&kernel, 100, DEAD.into()));
        assert!(!restoring.is_left_over(&kernel, 100, LIVES.into()));
    }

    /// A cable may go meanwhile; a new one is somebody's start.
    #[test]
    fn a_start_is_no_record() {
        let kernel = kernel();
        let mut restoring = Restoring::begin(&kernel);
        kernel.cables.lock().unwrap().remove("veth1");
        assert!(restoring.is_left_over(&kernel, 100, DEAD.into()));
        kernel.cables.lock().unwrap().insert("veth3".to_owned());
        assert!(!restoring.is_left_over(&kernel, 100, DEAD.into()));
    }

    /// A dockerd that dies while it starts is followed by another.
    #[test]
    fn each_dockerd_has_its_own_look() {
        let kernel = kernel();
        let mut restoring = Restoring::begin(&kernel);
        assert!(!restoring.is_left_over(&kernel, 100, LIVES.into()));
        kernel.addresses.lock().unwrap().clear();
        assert!(!restoring.is_left_over(&kernel, 100, LIVES.into()));
        assert!(restoring.is_left_over(&kernel, 200, LIVES.into()));
    }
}
