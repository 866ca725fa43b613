//! What a name means, without any I/O.
//!
//! Names are compared as *keys*: labels in lower case, joined by dots, without a dot at the end, and every byte that is not a
//! letter, a digit, `-` or `_` written `\DDD`. A key can therefore not pretend to have other labels than the name has.
//!
//! Docker's names are wider than DNS labels, `[a-zA-Z0-9][a-zA-Z0-9_.-]*`:
//! - a dot separates labels: `a.b` answers to `a.b.dhow.internal`;
//! - an underscore stays, and where nothing else has the name with hyphens instead, that one answers too, since host names in
//!   URLs and certificates have none: `my_app` answers to `my_app.dhow.internal` and `my-app.dhow.internal`;
//! - what gives an empty label, one over 63 bytes or a name over 253 has no name here.
//!
//! `host` and `gateway` are reserved: a container of that name does not take the host's.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dhow_model::network::{DOMAIN, GATEWAY, GATEWAY6, HOST, HOST6};

use super::names::Container;
use super::server::From;

/// The names that Docker's clients know for the host.
const DOCKER_HOST: &str = "host.docker.internal";
const DOCKER_GATEWAY: &str = "gateway.docker.internal";
/// Labels under our domain that no container takes.
const RESERVED: [&str; 2] = ["host", "gateway"];
/// Reverse zones of the machine's own network.
const REVERSE4: &str = "68.19.198.in-addr.arpa";
const REVERSE6: &str = "0.0.0.0.0.0.7.7.f.6.8.6.4.6.d.f.ip6.arpa";
/// A name's longest presentation without the dot at its end (RFC 1035, 2.3.4).
const NAME: usize = 253;
/// A label's (RFC 1035, 2.3.4).
const LABEL: usize = 63;

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// It exists, perhaps without a record of the type that is asked for.
    Known {
        /// The zone that says so.
        zone: String,
        /// A and AAAA.
        addresses: Vec<IpAddr>,
        /// PTR.
        pointers: Vec<String>,
    },
    /// It is ours to know, and does not exist.
    Missing {
        /// The zone that says so.
        zone: String,
    },
    /// Others know.
    Elsewhere,
}

/// Every name of the containers that run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    /// Names under our domain, without it.
    forward: HashMap<String, Vec<IpAddr>>,
    /// Names that have others below them: `shop` where `web.shop` is.
    above: HashSet<String>,
    reverse: HashMap<IpAddr, Vec<String>>,
}

impl Table {
    /// The table of these containers.
    pub(crate) fn of(containers: &[Container]) -> Self {
        let mut table = Self::default();
        let mut hyphenated = Vec::new();
        for container in containers.iter().filter(|c| !c.addresses.is_empty()) {
            for name in names(container) {
                if name.contains('_') {
                    hyphenated.push((name.replace('_', "-"), &container.addresses));
                }
                table.add(name, &container.addresses);
            }
            if let Some(name) = own_name(container) {
                for address in &container.addresses {
                    let names = table.reverse.entry(*address).or_default();
                    names.push(format!("{name}.{DOMAIN}"));
                    names.dedup();
                }
            }
        }
        let taken: HashSet<String> = table.forward.keys().cloned().collect();
        for (name, addresses) in hyphenated {
            if !taken.contains(&name) && !RESERVED.contains(&name.as_str()) {
                table.add(name, addresses);
            }
        }
        table
    }

    fn add(&mut self, name: String, addresses: &[IpAddr]) {
        let mut rest = name.as_str();
        while let Some((_, above)) = rest.split_once('.') {
            self.above.insert(above.to_owned());
            rest = above;
        }
        let known = self.forward.entry(name).or_default();
        for address in addresses {
            if !known.contains(address) {
                known.push(*address);
            }
        }
    }

    /// What is known of the name with this key, for one who asks from there.
    pub(crate) fn find(&self, key: &str, from: From) -> Found {
        if key == DOCKER_HOST || key == DOCKER_GATEWAY {
            return known(key, host(key == DOCKER_HOST, from));
        }
        if let Some(under) = under(key, DOMAIN) {
            return self.find_under(under, from);
        }
        if key.ends_with(".arpa") {
            return self.find_reverse(key);
        }
        Found::Elsewhere
    }

    fn find_under(&self, under: &str, from: From) -> Found {
        if RESERVED.contains(&under) {
            return known(DOMAIN, host(under == "host", from));
        }
        match self.forward.get(under) {
            Some(addresses) => known(DOMAIN, addresses.clone()),
            // RFC 8020: what has names below it exists, though without records.
            None if under.is_empty() || self.above.contains(under) => known(DOMAIN, Vec::new()),
            None => Found::Missing { zone: DOMAIN.to_owned() },
        }
    }

    fn find_reverse(&self, key: &str) -> Found {
        let zone = [REVERSE4, REVERSE6].into_iter().find(|zone| under(key, zone).is_some());
        let address = reversed(key);
        let pointers = match address {
            Some(address) if dhow_model::network::is_host(address) => vec![DOCKER_HOST.to_owned()],
            Some(address) if dhow_model::network::is_gateway(address) => vec![DOCKER_GATEWAY.to_owned()],
            Some(address) => self.reverse.get(&address).cloned().unwrap_or_default(),
            None => Vec::new(),
        };
        match (zone, address) {
            (zone, _) if !pointers.is_empty() => {
                Found::Known { zone: zone.unwrap_or(key).to_owned(), addresses: Vec::new(), pointers }
            }
            (Some(zone), Some(_)) => Found::Missing { zone: zone.to_owned() },
            (Some(zone), None) => known(zone, Vec::new()),
            (None, _) => Found::Elsewhere,
        }
    }
}

fn known(zone: &str, addresses: Vec<IpAddr>) -> Found {
    Found::Known { zone: zone.to_owned(), addresses, pointers: Vec::new() }
}

/// Where the host is: on the machine's network for the guest, on its own loopback for itself.
fn host(host: bool, from: From) -> Vec<IpAddr> {
    match (from, host) {
        (From::Host, _) => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        (From::Guest, true) => vec![HOST.into(), HOST6.into()],
        (From::Guest, false) => vec![GATEWAY.into(), GATEWAY6.into()],
    }
}

/// The part of `key` before `zone`; empty for the zone itself.
fn under<'a>(key: &'a str, zone: &str) -> Option<&'a str> {
    let before = key.strip_suffix(zone)?;
    if before.is_empty() { Some(before) } else { before.strip_suffix('.') }
}

/// Every name of a container under our domain, each once.
fn names(container: &Container) -> BTreeSet<String> {
    let service = match (&container.service, &container.project) {
        (Some(service), Some(project)) => name(&format!("{service}.{project}")),
        _ => None,
    };
    let aliases = container.aliases.iter().filter_map(|alias| name(alias));
    own_name(container).into_iter().chain(service).chain(aliases).collect()
}

fn own_name(container: &Container) -> Option<String> {
    name(&container.name)
}

/// The key under our domain for a name of Docker's, if it can have one.
fn name(word: &str) -> Option<String> {
    let key = word.to_ascii_lowercase();
    let fits = |label: &str| (1..=LABEL).contains(&label.len()) && label.bytes().all(plain);
    let whole = key.len() + 1 + DOMAIN.len() <= NAME && key.split('.').all(fits);
    (whole && !RESERVED.contains(&key.as_str())).then_some(key)
}

/// Whether a byte of a key stands for itself.
pub(crate) const fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// The address whose reverse name this is (RFC 1035, 3.5; RFC 3596, 2.5).
fn reversed(key: &str) -> Option<IpAddr> {
    if let Some(octets) = key.strip_suffix(".in-addr.arpa") {
        let mut address = [0u8; 4];
        let mut labels = octets.split('.').rev();
        for octet in &mut address {
            let label = labels.next()?;
            *octet = label.parse().ok().filter(|octet: &u8| octet.to_string() == label)?;
        }
        return labels.next().is_none().then(|| address.into());
    }
    let mut address = 0u128;
    let mut labels = key.strip_suffix(".ip6.arpa")?.split('.').rev();
    for _ in 0..32 {
        let [digit] = labels.next()?.as_bytes() else { return None };
        address = address << 4 | u128::from(char::from(*digit).to_digit(16)?);
    }
    labels.next().is_none().then(|| Ipv6Addr::from(address).into())
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
