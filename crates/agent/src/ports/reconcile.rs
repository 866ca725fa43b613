//! What is bound against what dockerd lists. A binding that no running container lists is released, unless its container may
//! be about to run: a start takes seconds, and a minute on a busy computer, between publishing and being listed. All that
//! time it shows in the kernel, first as a cable without a container, then as a process with the container's address. Pure;
//! time comes in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use dhow_model::port::{Binding, Protocol};
use dhow_model::record::own_name;
use tokio::time::Instant;

use super::table::Id;

/// How long after it was bound, or after the dockerd that wants it answered, a binding may be listed by nobody.
pub const GRACE: Duration = Duration::from_secs(25);
/// One list may have been made a moment too early: a second one must say the same, this much later.
pub const AGAIN: Duration = Duration::from_secs(5);
/// No start takes longer: what the kernel still shows then is something else.
const LONGEST: Duration = Duration::from_secs(600);
/// How often what was listed once is looked at again.
const CALM: Duration = Duration::from_secs(300);

/// What dockerd says of its containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    /// The addresses of the host that they publish, and the container's name.
    pub published: BTreeMap<(Protocol, SocketAddr), String>,
    /// Their own addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// The IDs of all containers, those that do not run included.
    pub known: BTreeSet<String>,
}

/// What the guest's kernel says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guest {
    /// A container is being started that has no network yet.
    pub starting: bool,
    /// Addresses that processes have.
    pub addresses: BTreeSet<IpAddr>,
}

/// What a look finds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Bindings that no running container lists: to be released.
    pub unlisted: Vec<Id>,
    /// Containers that publish what is not bound, each told once.
    pub unbound: Vec<(Protocol, SocketAddr, String)>,
}

#[derive(Debug)]
struct Seen {
    since: Instant,
    listed: bool,
    missed: Option<Instant>,
}

/// What earlier looks saw.
#[derive(Debug, Default)]
pub struct Reconciler {
    bindings: BTreeMap<Id, Seen>,
    /// Published and not bound, since when, and whether it was told.
    unbound: BTreeMap<(Protocol, SocketAddr), (Instant, bool)>,
    last: Option<Instant>,
}

impl Reconciler {
    /// Whether a look is due.
    #[must_use]
    pub fn is_due(&self, now: Instant, bound: impl IntoIterator<Item = Id>) -> bool {
        let waits = |id| self.bindings.get(&id).is_none_or(|seen| !seen.listed || seen.missed.is_some());
        self.last.is_none_or(|last| now >= last + CALM)
            || self.unbound.values().any(|(_, told)| !told)
            || bound.into_iter().any(waits)
    }

    /// dockerd answers and lists this, and the kernel shows that, while these are bound.
    pub fn look(&mut self, now: Instant, bound: &[(Id, Binding)], list: &List, guest: &Guest) -> Found {
        self.last = Some(now);
        let ids: BTreeSet<Id> = bound.iter().map(|(id, _)| *id).collect();
        self.bindings.retain(|id, _| ids.contains(id));
        let mut found = Found::default();
        for (id, binding) in bound {
            let seen = self.bindings.entry(*id).or_insert(Seen { since: now, listed: false, missed: None });
            if list.published.contains_key(&(binding.protocol, binding.host)) {
                *seen = Seen { since: now, listed: true, missed: None };
            } else if now < seen.since + grace(binding, list, guest) {
                seen.missed = None;
            } else {
                let missed = *seen.missed.get_or_insert(now);
                if now >= missed + AGAIN {
                    found.unlisted.push(*id);
                }
            }
        }
        found.unbound = self.look_for_unbound(now, bound, list);
        found
    }

    fn look_for_unbound(
        &mut self,
        now: Instant,
        bound: &[(Id, Binding)],
        list: &List,
    ) -> Vec<(Protocol, SocketAddr, String)> {
        let held: BTreeSet<_> = bound.iter().map(|(_, binding)| (binding.protocol, binding.host)).collect();
        let lacks = |address: &(Protocol, SocketAddr)| !held.contains(address);
        self.unbound.retain(|address, _| list.published.contains_key(address) && lacks(address));
        let mut found = Vec::new();
        for (address, name) in list.published.iter().filter(|(address, _)| lacks(address)) {
            let (since, told) = self.unbound.entry(*address).or_insert((now, false));
            if !*told && now >= *since + GRACE {
                *told = true;
                found.push((address.0, address.1, name.clone()));
            }
        }
        found
    }
}

/// How long nobody may list this binding.
fn grace(binding: &Binding, list: &List, guest: &Guest) -> Duration {
    let container = binding.container.ip();
    if list.addresses.contains(&container) {
        // The address is another's now, or its container runs without this port.
        return GRACE;
    }
    if guest.starting || guest.addresses.contains(&container) { LONGEST } else { GRACE }
}

/// As dockerd calls the states of a container that runs.
const RUNNING: [&str; 3] = ["running", "paused", "restarting"];

/// Reads dockerd's list of all containers.
///
/// # Errors
/// What is wrong with it: from half a list nothing must follow.
pub fn parse(list: &[u8]) -> Result<List, serde_json::Error> {
    let containers: Vec<serde_json::Value> = serde_json::from_slice(list)?;
    let mut read = List::default();
    for container in &containers {
        read.known.extend(container["Id"].as_str().map(str::to_owned));
        if !container["State"].as_str().is_some_and(|state| RUNNING.contains(&state)) {
            continue;
        }
        let names = container["Names"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str);
        let name = own_name(names).or(container["Id"].as_str()).unwrap_or_default();
        let ports = container["Ports"].as_array().map(Vec::as_slice).unwrap_or_default();
        let published = ports.iter().filter_map(|port| {
            let number = u16::try_from(port["PublicPort"].as_u64()?).ok()?;
            let host = SocketAddr::new(port["IP"].as_str()?.parse().ok()?, number);
            Some((port["Type"].as_str()?.parse().ok()?, host))
        });
        read.published.extend(published.map(|address| (address, name.to_owned())));
        let networks = container["NetworkSettings"]["Networks"].as_object();
        let ends = networks.into_iter().flat_map(|networks| networks.values());
        let addresses = ends.flat_map(|end| [&end["IPAddress"], &end["GlobalIPv6Address"]]);
        read.addresses.extend(addresses.filter_map(|address| address.as_str()?.parse::<IpAddr>().ok()));
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn binding(port: u16) -> Binding {
        let (host, container) = (([127, 0, 0, 1], port).into(), ([172, 17, 0, 2], 80).into());
        Binding { protocol: Protocol::Tcp, host, container }
    }

    fn listed(ports: &[u16]) -> List {
        let one = |port: &u16| ((Protocol::Tcp, binding(*port).host), "web".to_owned());
        List { published: ports.iter().map(one).collect(), ..List::default() }
    }

    /// Nothing is being started, and nobody has the container's address.
    fn quiet() -> Guest {
        Guest::default()
    }

    fn after(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Issue 3: no listener without container; and a start in progress, a container that runs, one that is listed late keep
    /// theirs.
    #[test]
    fn what_no_running_container_lists_goes_after_the_grace() {
        /// Seconds at which dockerd lists port 80 or does not, and when it is released.
        type Row = (&'static [(u64, bool)], Option<u64>);
        let table: [Row; 7] = [
            (&[(0, false), (10, false), (24, false)], None),
            (&[(0, false), (25, false)], None),
            (&[(0, false), (25, false), (29, false)], None),
            (&[(0, false), (25, false), (30, false)], Some(30)),
            (&[(0, false), (25, false), (27, true), (30, false), (51, false)], None),
            (&[(0, true), (300, true), (600, false)], None),
            (&[(0, true), (300, true), (600, false), (605, false)], Some(605)),
        ];
        for (looks, released) in table {
            let start = Instant::now();
            let mut reconciler = Reconciler::default();
            let mut seen = None;
            for (second, lists) in looks {
                let list = if *lists { listed(&[80]) } else { List::default() };
                let found = reconciler.look(start + after(*second), &[(1, binding(80))], &list, &quiet());
                assert!(found.unbound.is_empty());
                if found.unlisted == [1] {
                    seen = seen.or(Some(*second));
                }
            }
            assert_eq!(seen, released, "{looks:?}");
        }
    }

    /// Issue 3: a start that takes long is none that was cut short.
    #[test]
    fn a_start_in_progress_has_time() {
        let address: IpAddr = [172, 17, 0, 2].into();
        let table = [
            ("nobody has the address", quiet(), List::default(), 30),
            ("a container without a network yet", Guest { starting: true, ..quiet() }, List::default(), 605),
            (
                "a process that dockerd does not list",
                Guest { addresses: [address].into(), ..quiet() },
                List::default(),
                605,
            ),
            (
                "the address is another container's",
                Guest { addresses: [address].into(), starting: true },
                List { addresses: [address].into(), ..List::default() },
                30,
            ),
        ];
        for (what, guest, list, released) in table {
            let start = Instant::now();
            let mut reconciler = Reconciler::default();
            let second = (0..700).step_by(5).find(|second| {
                let found = reconciler.look(start + after(*second), &[(1, binding(80))], &list, &guest);
                found.unlisted == [1]
            });
            assert_eq!(second, Some(released), "{what}");
        }
    }

    /// The same address bound anew is another binding.
    #[test]
    fn a_later_binding_has_a_grace_of_its_own() {
        let start = Instant::now();
        let mut reconciler = Reconciler::default();
        for (second, id) in [(0, 1), (25, 1), (29, 2), (40, 2), (53, 2)] {
            let found =
                reconciler.look(start + after(second), &[(id, binding(80))], &List::default(), &quiet());
            assert_eq!(found, Found::default(), "{second}");
        }
    }

    /// Issue 3: no container without listener, at least not silently.
    #[test]
    fn a_container_whose_port_is_not_bound_is_told_once() {
        let start = Instant::now();
        let mut reconciler = Reconciler::default();
        let told: Vec<usize> = [0, 24, 25, 60, 300]
            .map(|second| reconciler.look(start + after(second), &[], &listed(&[80]), &quiet()).unbound.len())
            .into();
        assert_eq!(told, [0, 0, 1, 0, 0]);
    }

    /// An idle engine is not asked all the time.
    #[test]
    fn looks_are_due_while_something_is_not_as_it_should_be() {
        let start = Instant::now();
        let mut reconciler = Reconciler::default();
        assert!(reconciler.is_due(start, []));
        reconciler.look(start, &[(1, binding(80))], &listed(&[80]), &quiet());
        assert!(!reconciler.is_due(start + after(299), [1]));
        assert!(reconciler.is_due(start + after(300), [1]));
        assert!(reconciler.is_due(start, [1, 2]));
        reconciler.look(start, &[(1, binding(80))], &listed(&[80, 81]), &quiet());
        assert!(reconciler.is_due(start + after(1), [1]));
    }

    proptest! {
        /// Whatever dockerd lists and whenever: a binding of a running container, or one younger than the grace, stays.
        #[test]
        fn what_is_listed_or_young_is_never_released(
            looks in proptest::collection::vec((0u64..20, any::<[bool; 3]>(), any::<[bool; 3]>()), 0..60),
            starting: bool,
        ) {
            let mut now = Instant::now();
            let guest = Guest { starting, ..quiet() };
            let mut reconciler = Reconciler::default();
            let mut since: BTreeMap<Id, Instant> = BTreeMap::new();
            for (pause, bound, lists) in looks {
                now += after(pause);
                let bound: Vec<_> = (0..3u16).filter(|n| bound[usize::from(*n)]).map(|n| (u64::from(n), binding(80 + n))).collect();
                let ports: Vec<u16> = (0..3).filter(|n| lists[usize::from(*n)]).map(|n| 80 + n).collect();
                let list = listed(&ports);
                since.retain(|id, _| bound.iter().any(|(one, _)| one == id));
                for (id, _) in &bound {
                    since.entry(*id).or_insert(now);
                }
                for id in reconciler.look(now, &bound, &list, &guest).unlisted {
                    let (_, binding) = bound[bound.iter().position(|(one, _)| *one == id).unwrap()];
                    prop_assert!(!list.published.contains_key(&(binding.protocol, binding.host)));
                    let grace = if starting { LONGEST } else { GRACE };
                    prop_assert!(now >= since[&id] + grace + AGAIN);
                }
            }
        }
    }

    #[test]
    fn dockerds_list_is_understood() {
        let text = r#"[{"Id":"ab","Names":["/linked/db","/web"],"State":"running","Ports":[
            {"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
            {"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},
            {"PrivatePort":443,"Type":"tcp"},
            {"IP":"0.0.0.0","PrivatePort":9,"PublicPort":9,"Type":"sctp"},
            {"IP":"127.0.0.1","PrivatePort":53,"PublicPort":5353,"Type":"udp"}],
            "NetworkSettings":{"Networks":{"a":{"IPAddress":"172.18.0.2","GlobalIPv6Address":""},"b":{"IPAddress":""}}}},
            {"Id":"cd","Names":[],"State":"paused","Ports":null},
            {"Id":"ef","Names":[],"State":"exited","Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":81,"Type":"tcp"}]}]"#;
        let listed = parse(text.as_bytes()).unwrap();
        assert_eq!(listed.addresses, [[172, 18, 0, 2].into()].into());
        assert_eq!(listed.known, ["ab", "cd", "ef"].map(str::to_owned).into());
        let told: Vec<String> = listed
            .published
            .iter()
            .map(|((protocol, host), name)| format!("{host}/{protocol} {name}"))
            .collect();
        assert_eq!(told, ["0.0.0.0:8080/tcp web", "[::]:8080/tcp web", "127.0.0.1:5353/udp web"]);
        assert!(parse(&text.as_bytes()[..100]).is_err());
        assert!(parse(br#"{"message":"no"}"#).is_err());
    }
}
