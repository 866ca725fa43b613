//! The text form, in and out, and what each condition covers.

use std::net::IpAddr;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct File {
    egress: Rules,
}

fn parse(text: &str) -> Result<Vec<Rule>, String> {
    toml::from_str::<File>(text).map(|file| file.egress.0).map_err(|error| error.to_string())
}

fn rule(keys: &str) -> Result<Rule, String> {
    parse(&format!("egress = [{{ {keys} }}]")).map(|mut rules| rules.remove(0))
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Spec 12.2: the text form of issue 3, point 2.
#[test]
fn a_rule_has_the_keys_of_the_guide() {
    let rule = rule(
        r#"action = "deny", to = ["private", "192.0.2.0/24"], ports = "443,8000-8010", protocol = "tcp", name = "*.Example.COM.""#,
    )
    .unwrap();
    assert_eq!((rule.action, rule.protocol, rule.direction), (Action::Deny, Protocol::Tcp, Direction::Out));
    assert!(rule.ports.contains(8005) && !rule.ports.contains(444));
    assert_eq!(rule.names, ["*.example.com".parse().unwrap()]);
    assert_eq!(
        rule.to_string(),
        r#"{ action = "deny", name = "*.example.com", ports = "443,8000-8010", protocol = "tcp", to = ["private", "192.0.2.0/24"] }"#
    );
}

/// Issue 3, "Bad input": clear errors, which name the rule's number, the key and the value.
#[test]
fn what_a_rule_cannot_say_is_an_error_that_names_rule_key_and_value() {
    let cases = [
        (r#"to = "private""#, "egress rule 1: action is missing"),
        (r#"action = "reject""#, r#"egress rule 1: action = "reject": write "allow" or "deny""#),
        (r#"action = "deny", port = 1"#, "egress rule 1: there is no key `port`; the keys are action, "),
        (
            r#"action = "deny", to = "10.0.0.256""#,
            r#"to = "10.0.0.256": `10.0.0.256` is no address; write an IPv4"#,
        ),
        (r#"action = "deny", to = "example.com""#, "`example.com` is no address"),
        (r#"action = "deny", to = "my-host""#, "`my-host` is no address"),
        (r#"action = "deny", to = "10.0.0.0/33""#, "/33 is no length of a prefix; write /0 to /32"),
        (r#"action = "deny", to = "10.0.0.0/+8""#, "/+8 is no length of a prefix"),
        (
            r#"action = "deny", to = "10.1.0.0/8""#,
            r#"10.1.0.0 has bits set behind the first 8; write "10.0.0.0/8""#,
        ),
        (r#"action = "deny", to = "10.0.0.9-10.0.0.1""#, r#"runs backwards; write "10.0.0.1-10.0.0.9""#),
        (r#"action = "deny", to = "10.0.0.1-::2""#, "from an IPv4 to an IPv6 address"),
        (
            r#"action = "deny", to = ["10.0.0.0/8", "10.1.0.0/16"]"#,
            r#"to = "10.1.0.0/16": overlaps 10.0.0.0/8"#,
        ),
        (
            r#"action = "deny", to = "::ffff:10.0.0.1""#,
            r#"spelling of the IPv4 address 10.0.0.1, and judged as that; write "10.0.0.1""#,
        ),
        (r#"action = "deny", to = "64:ff9b::/96""#, r#"write "0.0.0.0/0""#),
        (r#"action = "deny", to = []"#, "to = []: the list is empty"),
        (r#"action = "deny", to = 5"#, "to = 5: write it in quotes"),
        (r#"action = "deny", ports = 70000"#, "ports = 70000: there is no port 70000; ports are 1 to 65535"),
        (r#"action = "deny", ports = 0"#, "there is no port 0"),
        (r#"action = "deny", ports = -1"#, "ports = -1"),
        (r#"action = "deny", ports = "http""#, "`http` is no port"),
        (r#"action = "deny", ports = "" "#, "`` is no port"),
        (r#"action = "deny", ports = "90-80""#, r#"the range 90-80 runs backwards; write "80-90""#),
        (r#"action = "deny", ports = "80,70-90""#, "70-90 overlaps 80; write each port once"),
        (r#"action = "deny", ports = [443, "443"]"#, "443 overlaps 443"),
        (r#"action = "deny", protocol = "sctp""#, r#"write "any" or "tcp" or "udp" or "icmp""#),
        (r#"action = "deny", protocol = "icmp", ports = 1"#, "ICMP has no ports"),
        (r#"action = "deny", name = "a b.example""#, "a name cannot have ' '"),
        (r#"action = "deny", name = "exa/mple.com""#, "a name cannot have '/'"),
        (r#"action = "deny", name = "a..b""#, "two dots have nothing between them"),
        (r#"action = "deny", name = "a.*.b""#, "`*` stands for whole parts at the beginning only"),
        (r#"action = "deny", name = "*a.example""#, "`*` stands for whole parts"),
        (r#"action = "deny", name = "127.0.0.1""#, "an address, not a name"),
        (r#"action = "deny", name = """#, "at least one character"),
        (r#"action = "allow", name = "a.example", protocol = "udp""#, "add `check = \"address\"`"),
        (r#"action = "allow", check = "address""#, "`check` is about names"),
        (
            r#"action = "allow", name = "a.example", check = "sni""#,
            r#"check = "sni": write "name" or "address""#,
        ),
        (r#"action = "deny", from = "10.0.0.1""#, "`from` is for `direction = \"in\"`"),
        (
            r#"action = "deny", direction = "in", to = "10.0.0.1""#,
            "the clients of published ports are `from`",
        ),
        (r#"action = "deny", direction = "in", name = "a.example""#, "a client has no name"),
        (r#"action = "deny", direction = "both""#, r#"write "out" or "in""#),
    ];
    for (keys, words) in cases {
        let error = rule(keys).expect_err(keys);
        assert!(error.contains(words), "{keys}:\n{error}\nlacks {words}");
    }
    let second = parse("egress = [{ action = \"deny\" }, { action = \"deny\", ports = 70000 }]").unwrap_err();
    assert!(second.contains("egress rule 2"), "{second}");
}

#[test]
fn rules_beyond_any_use_are_refused() {
    let many = "{ action = \"deny\" },".repeat(1001);
    assert!(
        parse(&format!("egress = [{many}]")).unwrap_err().contains("1001 egress rules are too many: 1000")
    );
    let rules = Rules(vec![Rule::default(); 1001]);
    assert!(Policy { default: Action::Deny, rules }.check().is_err());
}

#[test]
fn a_name_has_one_spelling() {
    for (text, one) in [
        ("Example.COM.", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("_sip._tcp.example.com", "_sip._tcp.example.com"),
        ("4.3.2.1.in-addr.arpa", "4.3.2.1.in-addr.arpa"),
        ("db", "db"),
        ("0xabc.example", "0xabc.example"),
    ] {
        assert_eq!(name(text).as_str(), one, "{text}");
    }
}

#[test]
fn what_is_an_address_or_nothing_is_no_name() {
    let long = format!("{}.example", "a".repeat(64));
    let longer = "a.".repeat(127) + "com";
    for text in [
        "1.2.3.4",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "017700000001",
        "127.1",
        "a.1",
        "::1",
        "[::1]",
        "",
        ".",
        "..",
        ".a",
        "a\\.b",
        "a\0b",
        "a\nb",
        "a b",
        "a/b",
        "a@b",
        "a:80",
        "a%2eb",
        "\u{202e}a.example",
        &long,
        &longer,
    ] {
        assert!(text.parse::<Name>().is_err(), "{text:?}");
    }
}

#[test]
fn a_pattern_is_a_name_all_below_a_name_or_all_names() {
    for (pattern, yes, no) in [
        ("example.com", vec!["example.com"], vec!["www.example.com", "badexample.com", "example.com.evil"]),
        (
            "*.example.com",
            vec!["www.example.com", "a.b.example.com"],
            vec!["example.com", "badexample.com", "example.com.evil", "com"],
        ),
        ("*", vec!["example.com", "db"], vec![]),
        ("*.bücher.example", vec!["www.xn--bcher-kva.example"], vec!["bucher.example"]),
    ] {
        let pattern: Pattern = pattern.parse().unwrap();
        for text in yes {
            assert!(pattern.matches(&name(text)), "{pattern} {text}");
        }
        for text in no {
            assert!(!pattern.matches(&name(text)), "{pattern} {text}");
        }
    }
}

/// Issue 3: metadata addresses, loopback and private ranges.
#[test]
fn each_group_has_its_addresses() {
    use Group::{LinkLocal, Loopback, Metadata, Private, Public};
    for (address, groups) in [
        ("127.0.0.1", vec![Loopback]),
        ("127.255.255.255", vec![Loopback]),
        ("0.0.0.0", vec![Loopback]),
        ("::1", vec![Loopback]),
        ("::", vec![Loopback]),
        ("198.19.68.254", vec![Loopback]),
        ("198.19.68.1", vec![Loopback]),
        ("fd64:686f:7700::fe", vec![Loopback]),
        ("198.19.68.2", vec![Private]),
        ("10.255.0.1", vec![Private]),
        ("172.15.255.255", vec![Public]),
        ("172.16.0.0", vec![Private]),
        ("172.31.255.255", vec![Private]),
        ("172.32.0.0", vec![Public]),
        ("192.168.1.1", vec![Private]),
        ("100.64.0.1", vec![Private]),
        ("100.100.100.200", vec![Metadata, Private]),
        ("fd12::1", vec![Private]),
        ("fec0::1", vec![Private]),
        ("64:ff9b:1::7f00:1", vec![Private]),
        ("fe80::1", vec![LinkLocal]),
        ("169.254.1.1", vec![LinkLocal]),
        ("169.254.169.254", vec![Metadata, LinkLocal]),
        ("fd00:ec2::254", vec![Metadata, Private]),
        ("fd20:ce::254", vec![Metadata, Private]),
        ("168.63.129.16", vec![Metadata]),
        ("1.1.1.1", vec![Public]),
        ("2606:4700::1111", vec![Public]),
        ("192.0.2.1", vec![]),
        ("224.0.0.1", vec![]),
        ("255.255.255.255", vec![]),
        ("ff02::1", vec![]),
        ("2001:db8::1", vec![]),
    ] {
        let is: Vec<Group> = [Loopback, Metadata, LinkLocal, Private, Public]
            .into_iter()
            .filter(|group| group.contains(ip(address)))
            .collect();
        assert_eq!(is, groups, "{address}");
        assert!(Group::Any.contains(ip(address)));
    }
}

/// Who allows a private network has not thought of the cloud's keys in it.
#[test]
fn allowing_a_network_does_not_allow_metadata_in_it() {
    for (group, address) in [(Group::LinkLocal, "169.254.169.254"), (Group::Private, "fd00:ec2::254")] {
        let group = Addresses::Group(group);
        assert!(group.contains(ip(address)) && !group.allows(ip(address)), "{address}");
    }
    for text in ["metadata", "any", "169.254.0.0/16"] {
        assert!(text.parse::<Addresses>().unwrap().allows(ip("169.254.169.254")), "{text}");
    }
}

#[test]
fn a_range_holds_its_ends_and_nothing_beside() {
    for (text, inside, outside) in [
        ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255"], ["9.255.255.255", "11.0.0.0"]),
        ("0.0.0.0/0", ["0.0.0.0", "255.255.255.255"], ["::", "::ffff:10.0.0.1"]),
        ("192.0.2.1/32", ["192.0.2.1", "192.0.2.1"], ["192.0.2.0", "192.0.2.2"]),
        ("192.0.2.5-192.0.2.9", ["192.0.2.5", "192.0.2.9"], ["192.0.2.4", "192.0.2.10"]),
        (
            "2001:db8::/33",
            ["2001:db8::", "2001:db8:7fff:ffff:ffff:ffff:ffff:ffff"],
            ["2001:db8:8000::", "2001:db7::"],
        ),
        ("::/0", ["::", "ffff::"], ["0.0.0.0", "255.255.255.255"]),
    ] {
        let range: Addresses = text.parse().unwrap();
        assert!(inside.iter().all(|address| range.contains(ip(address))), "{text}");
        assert!(!outside.iter().any(|address| range.contains(ip(address))), "{text}");
        assert_eq!(range.to_string().parse::<Addresses>().unwrap(), range);
    }
}

fn addresses() -> impl Strategy<Value = Addresses> {
    prop_oneof![
        prop::sample::select(Group::ALL.to_vec()).prop_map(|(group, _)| Addresses::Group(group)),
        (any::<u32>(), 0_u8..=32).prop_map(|(bits, prefix)| Addresses::Range(
            Range::prefix(IpAddr::V4(bits.into()), prefix).unwrap()
        )),
        // From 2000::/3, which is no spelling of IPv4.
        (any::<u128>(), 3_u8..=128).prop_map(|(bits, prefix)| {
            let address = IpAddr::V6((bits >> 3 | 1 << 125).into());
            Addresses::Range(Range::prefix(address, prefix).unwrap())
        }),
    ]
}

proptest! {
    /// What is written is read back: in the configuration, in a card, between processes (JSON and TOML alike).
    #[test]
    fn a_rule_survives_its_text(
        action in prop::sample::select(vec![Action::Allow, Action::Deny]),
        addresses in prop::option::of(addresses()),
        first in 1_u16..=40_000, length in 0_u16..1000,
        protocol in prop::sample::select(vec![Protocol::Any, Protocol::Tcp, Protocol::Udp]),
        names in prop::collection::vec("[a-z][a-z0-9-]{0,9}\\.example|\\*\\.[a-z]{1,9}|\\*", 0..3),
    ) {
        let names: Vec<Pattern> = names.iter().map(|name| name.parse().unwrap()).collect();
        let rule = Rule {
            action,
            addresses: addresses.into_iter().collect(),
            ports: format!("{first}-{}", first + length).parse().unwrap(),
            protocol,
            check: if names.is_empty() { Check::Name } else { Check::Address },
            names,
            ..Rule::default()
        };
        let policy = Policy { default: Action::Deny, rules: Rules(vec![rule.clone(), rule]) };
        policy.check().unwrap();
        let text = toml::to_string(&policy).unwrap();
        prop_assert_eq!(&toml::from_str::<Policy>(&text).unwrap(), &policy, "{}", text);
    }

    /// Rules come from people, and names from a guest: whatever they are, there is an answer.
    #[test]
    fn no_text_makes_a_parser_panic(text in "\\PC{0,40}|[0-9a-f:./*-]{0,40}|[0-9,-]{0,12}") {
        let texts = (text.parse::<Addresses>().ok(), text.parse::<Ports>().ok(), text.parse::<Pattern>().ok());
        if let Some(addresses) = texts.0 {
            prop_assert_eq!(addresses.to_string().parse::<Addresses>(), Ok(addresses));
        }
        if let Some(ports) = texts.1 {
            prop_assert_eq!(ports.to_string().parse::<Ports>(), Ok(ports));
        }
        if let Some(pattern) = texts.2 {
            prop_assert_eq!(pattern.to_string().parse::<Pattern>(), Ok(pattern));
        }
    }

    #[test]
    fn a_prefix_holds_exactly_what_shares_its_bits(base in any::<u32>(), other in any::<u32>(), prefix in 0_u8..=32) {
        let range = Range::prefix(IpAddr::V4(base.into()), prefix).unwrap();
        let same = prefix == 0 || base >> (32 - u32::from(prefix)) == other >> (32 - u32::from(prefix));
        prop_assert_eq!(range.contains(IpAddr::V4(other.into())), same);
    }
}

/// Spec 15.3: the guide's examples are a configuration, and its table has every key.
#[test]
fn the_guide_s_examples_are_understood() {
    let guide = include_str!("../../../../docs/configuration.md");
    let examples: Vec<&str> =
        guide.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let configs: Vec<crate::Config> =
        examples.iter().map(|text| crate::Config::parse(text).unwrap()).collect();
    assert_eq!(configs.iter().map(|config| config.network.egress.0.len()).collect::<Vec<_>>(), [2, 2]);
    for key in read::KEYS.iter().filter(|key| **key != "from") {
        assert!(guide.contains(&format!("| `{key}` |")), "{key}");
    }
}
