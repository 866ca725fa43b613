//! Context IDs of guests on `AF_VSOCK`, and the rule by which a machine gets one (spec 8.2).

use std::collections::BTreeSet;
use std::fmt;

/// The address of a guest on `AF_VSOCK`: 3 or more, since 0 to 2 are the hypervisor, loopback and the host, and
/// `u32::MAX` stands for "any" (`linux/vm_sockets.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GuestCid(u32);

/// A number that cannot be a guest's context ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot be a guest's context ID: they start at 3 and end below 4294967295")]
pub struct BadCid(pub u64);

impl GuestCid {
    /// The lowest one.
    pub const FIRST: Self = Self(3);

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for GuestCid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl TryFrom<u64> for GuestCid {
    type Error = BadCid;

    fn try_from(number: u64) -> Result<Self, Self::Error> {
        match u32::try_from(number) {
            Ok(cid) if (3..u32::MAX).contains(&cid) => Ok(Self(cid)),
            _ => Err(BadCid(number)),
        }
    }
}

/// The context ID to try next: the machine's `previous` one if nobody holds it, or else the lowest free one above the
/// last that the kernel refused (spec 8.2). `held` are those of running machines, `refused` those that the kernel
/// reported as taken during this start. `None` when all are gone.
#[must_use]
pub fn choose(
    previous: Option<GuestCid>,
    held: &BTreeSet<GuestCid>,
    refused: &BTreeSet<GuestCid>,
) -> Option<GuestCid> {
    let free = |cid: &GuestCid| !held.contains(cid) && !refused.contains(cid);
    previous.filter(free).or_else(|| (GuestCid::FIRST.0..u32::MAX).map(GuestCid).find(free))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cids(numbers: &[u64]) -> BTreeSet<GuestCid> {
        numbers.iter().map(|n| GuestCid::try_from(*n).unwrap()).collect()
    }

    /// Spec 8.2.
    #[test]
    fn the_lowest_free_context_id_is_chosen_and_a_returning_machine_keeps_its_own() {
        type Row = (Option<u64>, &'static [u64], &'static [u64], u64);
        let table: [Row; 6] = [
            (None, &[], &[], 3),
            (None, &[3, 4], &[], 5),
            (None, &[3, 5], &[], 4),
            (None, &[], &[3], 4),
            (Some(7), &[3], &[], 7),
            (Some(7), &[7], &[3], 4),
        ];
        for (previous, held, refused, expected) in table {
            let previous = previous.map(|n| GuestCid::try_from(n).unwrap());
            let chosen = choose(previous, &cids(held), &cids(refused)).unwrap();
            assert_eq!(u64::from(chosen.get()), expected, "{previous:?} {held:?} {refused:?}");
        }
    }

    #[test]
    fn reserved_numbers_are_no_context_ids() {
        for number in [0, 1, 2, u64::from(u32::MAX), 1 << 40] {
            assert!(GuestCid::try_from(number).is_err());
        }
    }
}
