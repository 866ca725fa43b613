//! Properties: the walk against a naive one, and what a denial promises.

use dhow_model::egress::{
    Action, Addresses, Check, Group, Name, Pattern, Ports, Protocol as Wanted, Range, Rule, Rules,
};
use proptest::prelude::*;

use super::super::compiled::WEB_PORTS;
use super::*;

const NAMES: [&str; 4] = ["a.example", "b.example", "x.a.example", "c.test"];
const PATTERNS: [&str; 5] = ["a.example", "*.a.example", "*.example", "c.test", "*"];
const ADDRESSES: [&str; 6] =
    ["93.184.216.34", "10.0.0.1", "127.0.0.1", "169.254.169.254", "2606:4700::1111", "fd12::1"];
const PORTS: [u16; 4] = [443, 80, 22, 8443];

fn rule() -> impl Strategy<Value = Rule> {
    let addresses = prop_oneof![
        prop::sample::select(ADDRESSES.to_vec()).prop_map(|a| Addresses::Range(Range::single(ip(a)))),
        prop::sample::select(Group::ALL.to_vec()).prop_map(|(group, _)| Addresses::Group(group)),
    ];
    (
        prop::sample::select(vec![Action::Allow, Action::Deny]),
        prop::option::of(addresses),
        prop::option::of(prop::sample::select(PORTS.to_vec())),
        prop::sample::select(vec![Wanted::Any, Wanted::Tcp, Wanted::Udp, Wanted::Icmp]),
        prop::option::of(prop::sample::select(PATTERNS.to_vec())),
        prop::sample::select(vec![Check::Name, Check::Address]),
    )
        .prop_map(|(action, addresses, port, protocol, pattern, check)| Rule {
            action,
            addresses: addresses.into_iter().collect(),
            ports: port.filter(|_| protocol != Wanted::Icmp).map(Ports::single).unwrap_or_default(),
            protocol,
            check: if pattern.is_some() { check } else { Check::Name },
            names: pattern.iter().map(|text| text.parse::<Pattern>().unwrap()).collect(),
            ..Rule::default()
        })
        .prop_filter("sensible", |rule| {
            Policy { default: Action::Deny, rules: Rules(vec![rule.clone()]) }.check().is_ok()
        })
}

fn policies() -> impl Strategy<Value = Policy> {
    (prop::sample::select(vec![Action::Allow, Action::Deny]), prop::collection::vec(rule(), 0..6))
        .prop_map(|(default, rules)| Policy { default, rules: Rules(rules) })
}

/// Pairs of name and address that DNS answered.
fn answers() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    prop::collection::vec(
        (prop::sample::select(NAMES.to_vec()), prop::sample::select(ADDRESSES.to_vec())),
        0..6,
    )
}

fn started(policy: &Policy, answers: &[(&str, &str)], now: Instant) -> Arc<Egress> {
    let egress = with(policy.clone());
    for (name, address) in answers {
        pin(&egress, name, address, now);
    }
    egress
}

/// First match wins, in the plainest words. `said`: the name that the connection says, if it says one.
fn naive(
    policy: &Policy,
    protocol: Protocol,
    address: IpAddr,
    port: u16,
    pins: &[Name],
    said: Option<&Name>,
) -> Action {
    for rule in &policy.rules.0 {
        let wanted = rule.protocol == Wanted::Any || rule.protocol == Wanted::from(protocol);
        let ports = if protocol == Protocol::Icmp { rule.ports.is_any() } else { rule.ports.contains(port) };
        let inside = rule.addresses.is_empty()
            || rule.addresses.iter().any(|a| match rule.action {
                Action::Allow => a.allows(address),
                Action::Deny => a.contains(address),
            });
        let matches = |name: &Name| rule.names.iter().any(|pattern| pattern.matches(name));
        let pinned = pins.iter().any(matches);
        let named = match (rule.names.is_empty(), rule.check, rule.action, said) {
            (true, ..) => true,
            (_, Check::Address, ..) => pinned,
            (_, _, Action::Allow, Some(name)) => matches(name) && pins.contains(name),
            (_, _, Action::Allow, None) => false,
            (_, _, Action::Deny, Some(name)) => matches(name),
            (_, _, Action::Deny, None) => pinned || (protocol != Protocol::Icmp && WEB_PORTS.contains(&port)),
        };
        if wanted && ports && inside && named {
            return rule.action;
        }
    }
    policy.default
}

fn said_and_bytes() -> Vec<(Option<Name>, Vec<u8>)> {
    let mut all =
        vec![(None, b"SSH-2.0-x\r\n".to_vec()), (None, hello("192.0.2.1")), (None, http("192.0.2.1"))];
    for name in NAMES {
        all.push((Some(name.parse().unwrap()), hello(name)));
        all.push((Some(name.parse().unwrap()), http(name)));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Issue 3, point 2: first match wins. What is decided before a connection speaks is what would be decided after it
    /// spoke, whatever it said.
    #[test]
    fn the_walk_is_the_naive_one(policy in policies(), answers in answers()) {
        let now = Instant::now();
        let egress = started(&policy, &answers, now);
        for address in ADDRESSES.map(ip) {
            // What `pin` leaves out is tested by itself.
            let pins = super::super::egress::lock(&egress.pins).names(address, now);
            for port in PORTS {
                for protocol in [Protocol::Udp, Protocol::Icmp] {
                    let verdict = egress.decide(protocol, SocketAddr::new(address, port), now);
                    let expected = naive(&policy, protocol, address, port, &pins, None);
                    prop_assert_eq!(word(&verdict), expected.as_str());
                }
                for (said, bytes) in said_and_bytes() {
                    let verdict = egress.decide(Protocol::Tcp, SocketAddr::new(address, port), now);
                    let expected = naive(&policy, Protocol::Tcp, address, port, &pins, said.as_ref());
                    let answer = after(verdict, &bytes);
                    prop_assert_eq!(answer == "allow", expected == Action::Allow, "{}", answer);
                }
            }
        }
    }

    /// Spec 12.4: the rule that a denial names would have allowed it.
    #[test]
    fn the_rule_in_a_denial_allows_what_was_denied(policy in policies(), answers in answers()) {
        let now = Instant::now();
        let egress = started(&policy, &answers, now);
        let helped = |denial: &Denial| {
            let mut policy = policy.clone();
            let text = denial.toml().unwrap();
            let parsed: Wrapped = toml::from_str(&text).unwrap();
            assert_eq!(parsed.network.egress.0, [denial.remedy().unwrap().clone()]);
            policy.rules.0.insert(0, denial.remedy().unwrap().clone());
            // What DNS answered, it answered before, so the machine knows the same names.
            let helped = with(policy);
            for address in ADDRESSES.map(ip) {
                for name in super::super::egress::lock(&egress.pins).names(address, now) {
                    helped.pin(name.as_str(), &[(address, Duration::from_secs(60))], now);
                }
            }
            helped
        };
        for address in ADDRESSES {
            for port in PORTS {
                for protocol in [Protocol::Udp, Protocol::Icmp] {
                    if let Verdict::Deny(denial) = egress.decide(protocol, at(address, port), now) {
                        let again = helped(&denial).decide(protocol, at(address, port), now);
                        prop_assert_eq!(word(&again), "allow", "{}", denial);
                    }
                }
                for (_, bytes) in said_and_bytes() {
                    let denial = match tcp(&egress, address, port, now) {
                        Verdict::Deny(denial) => denial,
                        Verdict::Inspect(mut inspection) => match inspection.end(&bytes) {
                            Sniffed::Deny(denial) => denial,
                            _ => continue,
                        },
                        Verdict::Allow => continue,
                    };
                    let again = after(tcp(&helped(&denial), address, port, now), &bytes);
                    prop_assert_eq!(again, "allow", "{}", denial);
                }
            }
        }
        for name in NAMES {
            if let Verdict::Deny(denial) = egress.resolve(name) {
                prop_assert_eq!(word(&helped(&denial).resolve(name)), "allow", "{}", denial);
            }
            if let Some(denial) = egress.admit(name, &ADDRESSES.map(ip)).refused {
                prop_assert!(helped(&denial).admit(name, &ADDRESSES.map(ip)).refused.is_none(), "{}", denial);
            }
        }
    }

    /// Whatever a guest makes its DNS answer: an address of the inside is never reached by a name alone.
    #[test]
    fn no_answer_opens_the_inside(answers in answers(), bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let now = Instant::now();
        let policy = policy("deny", &[r#"{ action = "allow", name = "*" }"#, r#"{ action = "allow", name = "*", check = "address" }"#]);
        let egress = started(&policy, &answers, now);
        for address in ["10.0.0.1", "127.0.0.1", "169.254.169.254", "fd12::1"] {
            prop_assert_ne!(after(tcp(&egress, address, 443, now), &bytes), "allow");
        }
    }
}

#[derive(serde::Deserialize)]
struct Wrapped {
    network: Section,
}

#[derive(serde::Deserialize)]
struct Section {
    egress: Rules,
}
