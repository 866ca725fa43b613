//! What the guest's kernel knows of containers, whatever dockerd believes: which network devices dockerd has made, and
//! which addresses processes really have.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// How dockerd calls the two ends of a container's cable before the inner one moves into the container (moby 26.1,
/// `libnetwork/drivers/bridge`, `vethPrefix`).
const CABLE: &str = "veth";

/// The kernel, asked. A trait, since in tests containers are elsewhere.
pub trait Kernel: Send + Sync + 'static {
    /// Names of all ends of containers' cables that are in the guest's own network.
    fn cables(&self) -> BTreeSet<String>;
    /// Whether one of these is the inner end for a container that has no network yet: a start is in progress.
    fn has_loose_cable(&self) -> bool;
    /// Addresses of every network that some process is in.
    fn addresses(&self) -> BTreeSet<IpAddr>;
}

/// The kernel that this process runs on, through proc(5).
#[derive(Debug, Clone, Copy)]
pub struct Proc;

impl Kernel for Proc {
    fn cables(&self) -> BTreeSet<String> {
        cables(&fs::read_to_string("/proc/self/net/dev").unwrap_or_default())
    }

    fn has_loose_cable(&self) -> bool {
        // The outer end is a bridge's from the beginning.
        let devices = Path::new("/sys/class/net");
        self.cables().iter().any(|cable| {
            let device = devices.join(cable);
            device.exists() && !device.join("master").exists()
        })
    }

    fn addresses(&self) -> BTreeSet<IpAddr> {
        let mut networks = BTreeSet::new();
        let mut found = BTreeSet::new();
        // Processes that end while this looks have no address any more.
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let process = process.path();
            let Ok(network) = fs::read_link(process.join("ns/net")) else { continue };
            if networks.insert(network) {
                found.extend(addresses_of(&process));
            }
        }
        found
    }
}

fn addresses_of(process: &Path) -> BTreeSet<IpAddr> {
    let read = |name: &str| fs::read_to_string(process.join("net").join(name)).unwrap_or_default();
    let v4 = local_v4(&read("fib_trie")).into_iter().map(IpAddr::V4);
    let v6 = local_v6(&read("if_inet6")).into_iter().map(IpAddr::V6);
    v4.chain(v6).collect()
}

/// `/proc/net/dev`: two lines of headings, then a line `name: numbers…` each.
fn cables(text: &str) -> BTreeSet<String> {
    let names = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).filter(|name| name.starts_with(CABLE)).collect()
}

/// `/proc/net/fib_trie`: below the line `|-- address`, lines of its kinds; `/32 host LOCAL` is an address of a device's.
fn local_v4(text: &str) -> BTreeSet<Ipv4Addr> {
    let mut last: Option<Ipv4Addr> = None;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(last);
        }
    }
    found
}

/// `/proc/net/if_inet6`: a line for each address, first its 32 hexadecimal digits.
fn local_v6(text: &str) -> BTreeSet<Ipv6Addr> {
    let digits = text.lines().filter_map(|line| line.split_whitespace().next());
    digits.filter_map(|digits| u128::from_str_radix(digits, 16).ok()).map(Ipv6Addr::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_cables_are_told_from_other_devices() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes packets\n    lo: 1 2 3\n\
                    docker0: 1 2\nveth1a2b3c4:      0       0\n  eth0:12\nmyveth: 1\n";
        assert_eq!(cables(text), ["veth1a2b3c4".to_owned()].into());
        assert_eq!(cables(""), [].into());
    }

    #[test]
    fn addresses_of_devices_are_told_from_routes() {
        let text = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 172.17.0.0/16 2 0 2\n\
                    \x20       |-- 172.17.0.0\n           /16 link UNICAST\n        |-- 172.17.0.2\n           /32 host LOCAL\n\
                    \x20       |-- 172.17.255.255\n           /32 link BROADCAST\n";
        assert_eq!(local_v4(text), [Ipv4Addr::new(172, 17, 0, 2)].into());
        let text = "fd000000000000000000000000000002 02 40 00 80     eth0\nnonsense\n\n";
        assert_eq!(local_v6(text), ["fd00::2".parse().unwrap()].into());
    }

    #[test]
    fn this_process_has_its_own_addresses() {
        assert!(Proc.addresses().contains(&IpAddr::from([127, 0, 0, 1])));
    }
}
