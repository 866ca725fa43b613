//! What each condition does.

use super::*;

/// Issue 3, point 2: the engine machine's default allows everything; the host's own things are not the policy's.
#[test]
fn an_open_policy_allows_everything_and_keeps_nothing() {
    let (open, now) = (egress("allow", &[]), Instant::now());
    for address in ["192.0.2.1", "127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "198.19.68.254"] {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
            assert_eq!(word(&open.decide(protocol, at(address, 443), now)), "allow");
        }
    }
    assert_eq!(word(&open.resolve("anything. at\\all")), "allow");
    assert_eq!(open.admit("a.example", &[ip("10.0.0.1")]).addresses, [ip("10.0.0.1")]);
    pin(&open, "a.example", "192.0.2.1", now);
    assert_eq!(open.pins.lock().unwrap().len(), 0);
}

/// Issue 3, point 2: "by direction, address range, port, protocol …, first match wins".
#[test]
fn the_first_rule_that_matches_decides() {
    let egress = egress(
        "allow",
        &[
            r#"{ action = "allow", to = "10.0.0.5", ports = "80,443", protocol = "tcp" }"#,
            r#"{ action = "deny", to = ["10.0.0.0/8", "link-local"] }"#,
            r#"{ action = "deny", ports = 25, protocol = "tcp" }"#,
            r#"{ action = "deny", protocol = "icmp", to = "192.0.2.1" }"#,
            r#"{ action = "deny", direction = "in", from = "203.0.113.0/24", ports = "8000-8010" }"#,
        ],
    );
    let now = Instant::now();
    use Protocol::{Icmp, Tcp, Udp};
    for (protocol, address, port, expected) in [
        (Tcp, "10.0.0.5", 443, "allow"),
        (Tcp, "10.0.0.5", 22, "deny"),
        (Udp, "10.0.0.5", 443, "deny"),
        (Icmp, "10.0.0.5", 0, "deny"),
        (Tcp, "10.0.0.6", 443, "deny"),
        (Tcp, "::ffff:10.0.0.5", 443, "allow"),
        (Tcp, "11.0.0.5", 443, "allow"),
        (Tcp, "192.0.2.1", 25, "deny"),
        (Udp, "192.0.2.1", 25, "allow"),
        (Icmp, "192.0.2.1", 0, "deny"),
        (Icmp, "192.0.2.2", 0, "allow"),
        (Udp, "fe80::1", 546, "deny"),
    ] {
        assert_eq!(
            word(&egress.decide(protocol, at(address, port), now)),
            expected,
            "{protocol} {address} {port}"
        );
    }
    for (client, port, expected) in [
        ("203.0.113.7", 8005, "deny"),
        ("203.0.113.7", 80, "allow"),
        ("::ffff:203.0.113.7", 8005, "deny"),
        ("198.51.100.1", 8005, "allow"),
        // Rules for what goes out are not about clients.
        ("10.0.0.6", 80, "allow"),
    ] {
        assert_eq!(word(&egress.accept(Tcp, at(client, 50_000), port)), expected, "{client} {port}");
    }
}

/// Who publishes a port wants clients: the default is about what goes out.
#[test]
fn a_default_of_deny_does_not_close_published_ports() {
    let closed = egress("deny", &[r#"{ action = "deny", direction = "in", from = "loopback" }"#]);
    assert_eq!(word(&closed.accept(Protocol::Tcp, at("192.0.2.1", 1), 80)), "allow");
    assert_eq!(word(&closed.accept(Protocol::Tcp, at("::1", 1), 80)), "deny");
}

/// The machine's own DNS is judged by what is asked; the rest of the gateway is the host.
#[test]
fn the_gateway_s_dns_is_always_there_and_nothing_else_of_it() {
    let (closed, now) = (egress("deny", &[]), Instant::now());
    for gateway in ["198.19.68.1", "fd64:686f:7700::1"] {
        assert_eq!(word(&closed.decide(Protocol::Udp, at(gateway, 53), now)), "allow");
        assert_eq!(word(&closed.decide(Protocol::Tcp, at(gateway, 53), now)), "allow");
        assert_eq!(word(&closed.decide(Protocol::Icmp, at(gateway, 0), now)), "allow");
        assert_eq!(word(&closed.decide(Protocol::Tcp, at(gateway, 80), now)), "deny");
        assert_eq!(word(&closed.decide(Protocol::Udp, at(gateway, 5353), now)), "deny");
    }
}

const WEB: &str = r#"{ action = "allow", name = ["*.example.com", "b.example"], ports = "443,80,5432" }"#;

/// Issue 3, point 2: "names pinned to the addresses that our DNS answered, checked against TLS SNI and HTTP Host".
#[test]
fn a_name_is_allowed_at_its_addresses_for_connections_that_say_it() {
    let (egress, now) = (egress("deny", &[WEB]), Instant::now());
    pin(&egress, "Www.Example.com.", "192.0.2.1", now);
    pin(&egress, "b.example", "192.0.2.2", now);
    pin(&egress, "c.example", "192.0.2.3", now);
    for (address, port, bytes, expected) in [
        ("192.0.2.1", 443, hello("www.example.com"), "allow"),
        ("192.0.2.1", 80, http("WWW.example.com:80"), "allow"),
        ("192.0.2.2", 443, hello("b.example"), "allow"),
        ("192.0.2.1", 443, hello("b.example"), "DNS did not answer the name that it says with this address"),
        ("192.0.2.1", 443, hello("other.example.com"), "DNS did not answer the name"),
        ("192.0.2.1", 443, hello("evil.example"), "DNS did not answer the name"),
        ("192.0.2.1", 443, hello("192.0.2.1"), "TLS without a server's name"),
        ("192.0.2.1", 80, http("192.0.2.1"), "HTTP without a host's name"),
        ("192.0.2.1", 443, b"SSH-2.0-x\r\n".to_vec(), "neither TLS nor HTTP"),
        ("192.0.2.1", 443, vec![], "it ended before it said a name"),
        ("192.0.2.1", 80, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), "HTTP/2 without TLS"),
        ("192.0.2.1", 22, hello("www.example.com"), "denied by the default"),
        ("192.0.2.3", 443, hello("c.example"), "DNS answered no name of rule 1 with this address"),
        ("192.0.2.4", 443, hello("www.example.com"), "DNS answered no name of rule 1"),
    ] {
        let answer = after(tcp(&egress, address, port, now), &bytes);
        assert!(answer.contains(expected), "{address} {port} {expected}: {answer}");
    }
}

#[test]
fn a_name_counts_for_as_long_as_its_answer_holds() {
    let (egress, now) = (egress("deny", &[WEB]), Instant::now());
    pin(&egress, "b.example", "192.0.2.2", now);
    let later = |seconds| word(&tcp(&egress, "192.0.2.2", 443, now + Duration::from_secs(seconds)));
    assert_eq!((later(299), later(300)), ("inspect", "deny"));
    // A connection that began in time is judged by what held then.
    let mut begun = inspection(tcp(&egress, "192.0.2.2", 443, now + Duration::from_secs(299)));
    assert!(matches!(begun.feed(&hello("b.example")), Sniffed::Allow));
}

/// What cannot be checked is refused, unless the rule says that it need not be.
#[test]
fn the_address_is_enough_only_where_the_rule_says_so() {
    let name = r#"{ action = "allow", name = "b.example" }"#;
    let address = r#"{ action = "allow", name = "b.example", check = "address" }"#;
    let now = Instant::now();
    for (rule, expected) in [(name, ["inspect", "deny", "deny"]), (address, ["allow", "allow", "allow"])] {
        let egress = egress("deny", &[rule]);
        pin(&egress, "b.example", "192.0.2.2", now);
        let verdicts = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp]
            .map(|p| word(&egress.decide(p, at("192.0.2.2", 443), now)));
        assert_eq!(verdicts, expected, "{rule}");
        assert_eq!(word(&tcp(&egress, "192.0.2.9", 443, now)), "deny");
    }
}

/// Under a default of allow, a name is denied to be looked up and to be said; on the web's ports something must be said.
#[test]
fn a_denied_name_is_neither_looked_up_nor_said() {
    let deny = r#"{ action = "deny", name = ["evil.example", "*.evil.example"] }"#;
    let (egress, now) = (egress("allow", &[deny]), Instant::now());
    for (name, expected) in [
        ("evil.example", "deny"),
        ("a.EVIL.example.", "deny"),
        ("notevil.example", "allow"),
        ("good.example", "allow"),
    ] {
        assert_eq!(word(&egress.resolve(name)), expected, "{name}");
    }
    pin(&egress, "good.example", "192.0.2.1", now);
    for (address, port, bytes, expected) in [
        ("192.0.2.1", 443, hello("good.example"), "allow"),
        ("192.0.2.1", 443, hello("evil.example"), "rule 1"),
        ("192.0.2.9", 8443, hello("x.evil.example"), "rule 1"),
        ("192.0.2.9", 9999, hello("x.evil.example"), "rule 1"),
        ("192.0.2.9", 80, http("evil.example."), "rule 1"),
        ("192.0.2.9", 80, http("192.0.2.9"), "HTTP without a host's name"),
        ("192.0.2.9", 443, hello("192.0.2.9"), "TLS without a server's name"),
        ("192.0.2.9", 443, b"SSH-2.0-x\r\n".to_vec(), "neither TLS nor HTTP"),
        ("192.0.2.9", 22, b"SSH-2.0-x\r\n".to_vec(), "allow"),
        ("192.0.2.9", 5432, vec![0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f], "allow"),
        ("192.0.2.9", 25, vec![], "allow"),
    ] {
        let answer = after(tcp(&egress, address, port, now), &bytes);
        assert!(answer.contains(expected), "{address} {port} {expected}: {answer}");
    }
}

/// A rule that decides before the names are asked for spares the inspection.
#[test]
fn nothing_is_inspected_where_no_name_changes_the_end() {
    let now = Instant::now();
    for (default, rules, expected) in [
        (
            "allow",
            vec![r#"{ action = "deny", ports = 25 }"#, r#"{ action = "allow", name = "a.example" }"#],
            "allow",
        ),
        ("deny", vec![r#"{ action = "deny", name = "b.example" }"#], "deny"),
        (
            "allow",
            vec![r#"{ action = "allow", to = "192.0.2.0/24" }"#, r#"{ action = "deny", name = "*" }"#],
            "allow",
        ),
        (
            "deny",
            vec![r#"{ action = "deny", to = "192.0.2.0/24" }"#, r#"{ action = "allow", name = "*" }"#],
            "deny",
        ),
        ("deny", vec![r#"{ action = "allow", name = "*" }"#], "inspect"),
        ("allow", vec![r#"{ action = "deny", name = "*" }"#], "inspect"),
    ] {
        let egress = egress(default, &rules);
        pin(&egress, "a.example", "192.0.2.1", now);
        assert_eq!(word(&tcp(&egress, "192.0.2.1", 443, now)), expected, "{default} {rules:?}");
    }
}

/// Issue 3, "DNS tunnelling to a denied zone": a question is a message, too.
#[test]
fn only_names_that_a_rule_can_allow_are_looked_up() {
    for (default, rules, name, expected) in [
        ("deny", vec![], "a.example", "deny"),
        ("deny", vec![WEB], "www.example.com", "allow"),
        ("deny", vec![WEB], "example.com", "deny"),
        ("deny", vec![WEB], "c2VjcmV0.evil.example", "deny"),
        ("deny", vec![WEB], "1.2.0.192.in-addr.arpa", "deny"),
        ("deny", vec![r#"{ action = "allow", name = "*" }"#], "a.example", "allow"),
        // An address is known without a name, and one place is no reason for all names.
        ("deny", vec![r#"{ action = "allow", to = "10.0.0.5" }"#], "a.example", "deny"),
        ("deny", vec![r#"{ action = "allow", to = ["private", "loopback"] }"#], "a.example", "deny"),
        ("deny", vec![r#"{ action = "allow", protocol = "icmp" }"#], "a.example", "deny"),
        ("deny", vec![r#"{ action = "allow", to = "public", ports = 443 }"#], "a.example", "allow"),
        ("deny", vec![r#"{ action = "allow", ports = 443 }"#], "a.example", "allow"),
        ("deny", vec![r#"{ action = "allow", to = "0.0.0.0/0" }"#], "a.example", "allow"),
        // Denied in part only.
        ("allow", vec![r#"{ action = "deny", name = "a.example", ports = 80 }"#], "a.example", "allow"),
        ("allow", vec![r#"{ action = "deny", to = "10.0.0.0/8" }"#], "a.example", "allow"),
        ("deny", vec![r#"{ action = "deny" }"#, r#"{ action = "allow", name = "*" }"#], "a.example", "deny"),
        (
            "deny",
            vec![
                r#"{ action = "deny", name = "b.example.com" }"#,
                r#"{ action = "allow", name = "*.example.com" }"#,
            ],
            "b.example.com",
            "deny",
        ),
        // Answered by Dhow, and told to nobody.
        ("deny", vec![], "db.dhow.internal", "allow"),
        ("deny", vec![], "host.docker.internal", "allow"),
        ("deny", vec![], "c2VjcmV0.docker.internal", "deny"),
        ("deny", vec![], "c2VjcmV0.host.docker.internal", "deny"),
        ("deny", vec![r#"{ action = "deny" }"#], "host.docker.internal", "deny"),
        // No name of a host: no rule can mean it.
        ("deny", vec![r#"{ action = "allow", name = "*" }"#], "evil\\046example.com", "deny"),
        ("deny", vec![WEB], "evil\\.example.com", "deny"),
        ("allow", vec![r#"{ action = "deny", name = "a.example" }"#], "my printer._ipp._tcp.local", "allow"),
    ] {
        assert_eq!(word(&egress(default, &rules).resolve(name)), expected, "{default} {rules:?} {name}");
    }
}

/// The host's services by name, without a question to anybody.
#[test]
fn the_host_s_own_names_can_be_allowed() {
    let rule = r#"{ action = "allow", name = "host.docker.internal", ports = 11434, check = "address" }"#;
    let (egress, now) = (egress("deny", &[rule]), Instant::now());
    for host in ["198.19.68.254", "fd64:686f:7700::fe"] {
        assert_eq!(word(&tcp(&egress, host, 11434, now)), "allow");
        assert_eq!(word(&tcp(&egress, host, 22, now)), "deny");
    }
    assert_eq!(word(&tcp(&egress, "198.19.68.1", 11434, now)), "deny");
    // Nobody else can give a name of ours an address.
    assert_eq!(word(&tcp(&egress, "192.0.2.1", 11434, now)), "deny");
}

/// Spec 12.4: "a denial is logged with the rule that would allow it".
#[test]
fn a_denial_says_what_by_whom_and_which_rule_would_allow_it() {
    let (egress, now) = (egress("deny", &[WEB, r#"{ action = "deny", to = "private" }"#]), Instant::now());
    pin(&egress, "b.example", "192.0.2.2", now);
    let lines = [
        denied(tcp(&egress, "::ffff:10.0.0.1", 22, now)),
        denied(tcp(&egress, "192.0.2.77", 443, now)),
        denied(egress.decide(Protocol::Udp, at("192.0.2.2", 443), now)),
        denied(egress.decide(Protocol::Icmp, at("2001:db8::1", 0), now)),
        denied(egress.resolve("c.example")),
        egress.admit("b.example", &[ip("127.0.0.1"), ip("192.0.2.2")]).refused.unwrap(),
    ]
    .map(|denial| denial.to_string());
    assert_eq!(
        lines.join("\n"),
        r#"tcp to [::ffff:10.0.0.1]:22: denied by rule 2; to allow it, before rule 2: { action = "allow", ports = 22, protocol = "tcp", to = "10.0.0.1" }
tcp to 192.0.2.77:443: denied by the default; DNS answered no name of rule 1 with this address; to allow it: { action = "allow", ports = 443, protocol = "tcp", to = "192.0.2.77" }
udp to 192.0.2.2:443 (b.example): denied by the default; it says no name that could be checked, by TCP it would; to allow it: { action = "allow", check = "address", name = "b.example", ports = 443, protocol = "udp" }
icmp to 2001:db8::1: denied by the default; to allow it: { action = "allow", protocol = "icmp", to = "2001:db8::1" }
looking up c.example: denied by the default; to allow it: { action = "allow", name = "c.example" }
b.example at 127.0.0.1: denied by a rule of its own, that no stranger's name leads inside; to allow it: { action = "allow", name = "b.example", to = "127.0.0.1" }"#
    );
    let toml = denied(egress.resolve("c.example")).toml().unwrap();
    assert_eq!(toml, "[[network.egress]]\naction = \"allow\"\nname = \"c.example\"\n");
}

/// What a guest asks for reaches the log on one line.
#[test]
fn a_hostile_name_cannot_write_lines_of_its_own() {
    let line = denied(egress("deny", &[]).resolve("a\n2026 ERROR all is lost\x1b[2J")).to_string();
    assert!(!line.contains('\n') && !line.contains('\x1b'), "{line}");
    assert!(line.contains("no rule can allow it"), "{line}");
}
