//! Which names our DNS answered with which address, and until when.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use dhow_model::egress::Name;

/// The shortest life: programs connect a little after they asked.
pub(super) const FLOOR: Duration = Duration::from_secs(60);
/// The longest life, whatever an answer says.
pub(super) const CAP: Duration = Duration::from_secs(3600);
/// Pairs of name and address that are kept for one machine: 16,384 of about 200 bytes.
const LIMIT: usize = 16_384;
/// Names of one address: a content network's address can have thousands, which a guest could ask for one by one.
const NAMES: usize = 256;

/// The table. When it is full, what would end soonest goes first.
#[derive(Debug, Default)]
pub(super) struct Pins {
    addresses: HashMap<IpAddr, Vec<Pin>>,
    count: usize,
}

#[derive(Debug)]
struct Pin {
    name: Name,
    until: Instant,
}

impl Pins {
    /// Notes that `name` has `address` for `ttl` from `now` on.
    pub(super) fn add(&mut self, name: &Name, address: IpAddr, ttl: Duration, now: Instant) {
        let until = now + ttl.clamp(FLOOR, CAP);
        if self.count >= LIMIT {
            self.shrink(now);
        }
        let pins = self.addresses.entry(address).or_default();
        if let Some(pin) = pins.iter_mut().find(|pin| pin.name == *name) {
            // Two answers hold as long as the longer one says.
            pin.until = pin.until.max(until);
            return;
        }
        if pins.len() >= NAMES
            && let Some(soonest) = (0..pins.len()).min_by_key(|index| pins[*index].until)
        {
            pins.swap_remove(soonest);
            self.count -= 1;
        }
        pins.push(Pin { name: name.clone(), until });
        self.count += 1;
    }

    /// The names that `address` has now.
    pub(super) fn names(&self, address: IpAddr, now: Instant) -> Vec<Name> {
        let pins = self.addresses.get(&address).map(Vec::as_slice).unwrap_or_default();
        pins.iter().filter(|pin| pin.until > now).map(|pin| pin.name.clone()).collect()
    }

    /// Makes room: what has ended, and if that is not a quarter, the quarter that ends first.
    fn shrink(&mut self, now: Instant) {
        let mut ends: Vec<Instant> = self.addresses.values().flatten().map(|pin| pin.until).collect();
        let quarter = ends.len() / 4;
        let limit = if quarter < ends.len() { *ends.select_nth_unstable(quarter).1 } else { now };
        self.addresses.retain(|_, pins| {
            pins.retain(|pin| pin.until > now && pin.until > limit);
            !pins.is_empty()
        });
        self.count = self.addresses.values().map(Vec::len).sum();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    /// Issue 3: names are pinned to the addresses that our DNS answered, for as long as it said.
    #[test]
    fn a_pin_ends_with_its_answer_within_the_floor_and_the_cap() {
        let start = Instant::now();
        for (ttl, lives) in [(0, 60), (30, 60), (300, 300), (86_400, 3600)] {
            let mut pins = Pins::default();
            pins.add(&name("a.example"), ADDRESS, Duration::from_secs(ttl), start);
            let at = |seconds| pins.names(ADDRESS, start + Duration::from_secs(seconds)).len();
            assert_eq!((at(0), at(lives - 1), at(lives)), (1, 1, 0), "TTL {ttl}");
        }
    }

    #[test]
    fn a_later_answer_prolongs_and_never_shortens() {
        let (start, mut pins) = (Instant::now(), Pins::default());
        pins.add(&name("a.example"), ADDRESS, Duration::from_secs(600), start);
        pins.add(&name("a.example"), ADDRESS, Duration::from_secs(10), start);
        assert_eq!(pins.names(ADDRESS, start + Duration::from_secs(599)).len(), 1);
        assert_eq!(pins.len(), 1);
    }

    /// A guest that asks for names without end cannot make the table grow.
    #[test]
    fn the_table_is_bounded_and_keeps_what_lives_longest() {
        let (start, mut pins) = (Instant::now(), Pins::default());
        pins.add(&name("long.example"), ADDRESS, CAP, start);
        for number in 0..3 * u32::try_from(LIMIT).unwrap() {
            let address = std::net::Ipv4Addr::from(0x0100_0000 + number).into();
            pins.add(
                &name(&format!("n{number}.example")),
                address,
                Duration::from_secs(60 + u64::from(number % 600)),
                start,
            );
            assert!(pins.len() <= LIMIT);
        }
        assert_eq!(pins.names(ADDRESS, start), [name("long.example")]);
    }

    #[test]
    fn one_address_has_a_bounded_number_of_names() {
        let (start, mut pins) = (Instant::now(), Pins::default());
        for number in 0..10_000 {
            pins.add(&name(&format!("n{number}.example")), ADDRESS, FLOOR, start);
        }
        assert_eq!((pins.names(ADDRESS, start).len(), pins.len()), (NAMES, NAMES));
    }
}
