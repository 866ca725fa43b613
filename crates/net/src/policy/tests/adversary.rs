//! What a hostile guest tries, one test for each line of issue 3's "Adversarial egress suite" that is decided here. The same
//! with real programs and sockets: `tests/egress.rs`.

use super::*;
use crate::dns::Gate;

const ALLOW: &str =
    r#"{ action = "allow", name = ["good.example", "*.good.example"], ports = "80,443", protocol = "tcp" }"#;
const INSIDE: &str = r#"{ action = "deny", to = ["loopback", "private", "link-local", "metadata"] }"#;

/// Every spelling of an address that can be on the wire: what programs spell besides (`0x7f.1`, `2130706433`), they turn into
/// these themselves.
fn spellings(address: &str) -> Vec<IpAddr> {
    let IpAddr::V4(v4) = ip(address) else { return vec![ip(address)] };
    let [a, b, c, d] = v4.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let teredo = !u32::from(v4);
    let texts = [
        address.to_owned(),
        format!("::ffff:{address}"),
        format!("::{address}"),
        format!("::ffff:0:{address}"),
        format!("64:ff9b::{address}"),
        format!("2002:{high:x}:{low:x}::1"),
        format!("2001:0:1:1:0:0:{:x}:{:x}", teredo >> 16, teredo & 0xffff),
    ];
    texts.iter().map(|text| ip(text)).collect()
}

/// "Metadata addresses, loopback and private ranges through every spelling", "IPv6-mapped addresses", "the host alias".
#[test]
fn no_spelling_of_an_inside_address_passes() {
    let (egress, now) = (egress("allow", &[INSIDE]), Instant::now());
    let inside = [
        "127.0.0.1",
        "127.8.9.1",
        "0.0.0.0",
        "10.1.2.3",
        "172.31.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "198.19.68.254",
        "198.19.68.253",
        "198.19.68.2",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "fd00:ec2::254",
        "fec0::1",
        "fd64:686f:7700::fe",
        "64:ff9b:1::a00:1",
    ];
    for address in inside.iter().flat_map(|address| spellings(address)) {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
            let verdict = egress.decide(protocol, SocketAddr::new(address, 80), now);
            assert_eq!(word(&verdict), "deny", "{protocol} {address}");
        }
    }
    for address in spellings("1.1.1.1").into_iter().chain([ip("2606:4700::1111")]) {
        assert_eq!(
            word(&egress.decide(Protocol::Tcp, SocketAddr::new(address, 80), now)),
            "allow",
            "{address}"
        );
    }
}

/// The host by an address of its interface: its firewall does not see what it connects to itself, so that this is not one
/// address of the Internet more.
#[test]
fn the_host_s_public_address_is_not_public() {
    const OWN: &str = "93.184.216.34";
    let own = || Own::new(|address| address == ip(OWN));
    let now = Instant::now();
    let spellings = spellings(OWN);
    for (default, rule, expected) in [
        ("allow", INSIDE, "deny"),
        ("deny", r#"{ action = "allow", to = "public" }"#, "deny"),
        ("deny", r#"{ action = "allow", to = "loopback" }"#, "allow"),
        ("deny", r#"{ action = "allow", to = "93.184.216.0/24" }"#, "allow"),
    ] {
        let egress = Egress::with(policy(default, &[rule]), own()).unwrap();
        for address in &spellings {
            let verdict = egress.decide(Protocol::Tcp, SocketAddr::new(*address, 22), now);
            assert_eq!(word(&verdict), expected, "{rule} {address}");
        }
    }
    let egress = Egress::with(policy("deny", &[ALLOW]), own()).unwrap();
    assert!(egress.admit("www.good.example", &[ip(OWN)]).refused.is_some(), "rebinding");
    pin(&egress, "www.good.example", OWN, now);
    assert_eq!(word(&tcp(&egress, OWN, 443, now)), "deny");
}

/// The other way round: allowing the Internet opens nothing of the inside.
#[test]
fn allowing_what_is_public_allows_no_spelling_of_what_is_not() {
    let (egress, now) = (egress("deny", &[r#"{ action = "allow", to = "public" }"#]), Instant::now());
    for address in
        ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.100.100.200", "168.63.129.16", "198.19.68.254"]
            .iter()
            .flat_map(|address| spellings(address))
    {
        let verdict = egress.decide(Protocol::Tcp, SocketAddr::new(address, 80), now);
        assert_eq!(word(&verdict), "deny", "{address}");
    }
    assert_eq!(word(&tcp(&egress, "2002:7f00:1::", 80, now)), "deny");
    assert_eq!(word(&tcp(&egress, "1.1.1.1", 80, now)), "allow");
}

/// An explicit range of a tunnel does not open what is inside the tunnel.
#[test]
fn allowing_all_of_ipv6_does_not_allow_ipv4_in_its_clothes() {
    let (egress, now) = (egress("deny", &[r#"{ action = "allow", to = "::/0" }"#]), Instant::now());
    for address in spellings("10.0.0.1") {
        assert_eq!(
            word(&egress.decide(Protocol::Tcp, SocketAddr::new(address, 80), now)),
            "deny",
            "{address}"
        );
    }
    assert_eq!(word(&tcp(&egress, "2606:4700::1111", 80, now)), "allow");
}

/// "DNS rebinding": the owner of an allowed name answers with an address of the inside.
#[test]
fn an_allowed_name_does_not_lead_inside() {
    let (egress, now) = (egress("deny", &[ALLOW]), Instant::now());
    let outside = ip("93.184.216.34");
    for address in
        ["127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200", "198.19.68.254"]
            .iter()
            .flat_map(|address| spellings(address))
            .chain(["::1", "fd00:ec2::254", "fe80::1", "fd12::1"].map(ip))
    {
        let admitted = egress.admit("www.good.example", &[outside, address]);
        assert_eq!(admitted.addresses, [outside], "{address}");
        assert!(admitted.refused.is_some());
        // Whoever forgets to ask `admit` cannot pin it either.
        egress.pin("www.good.example", &[(address, Duration::from_secs(60))], now);
        let verdict = egress.decide(Protocol::Tcp, SocketAddr::new(address, 80), now);
        assert_ne!(after(verdict, &http("www.good.example")), "allow", "{address}");
        let answers = [(outside, Duration::from_secs(60)), (address, Duration::from_secs(60))];
        assert!(Gate::pin(&*egress, "www.good.example", &answers, now).is_some(), "{address}");
    }
}

/// A range that a rule names is meant.
#[test]
fn a_company_s_own_names_may_lead_inside_where_a_rule_says_so() {
    let rule = r#"{ action = "allow", name = "*.corp.example", to = "10.20.0.0/16", check = "address" }"#;
    let (egress, now) = (egress("deny", &[rule, ALLOW]), Instant::now());
    assert!(egress.admit("db.corp.example", &[ip("10.20.1.1")]).refused.is_none());
    assert!(egress.admit("db.corp.example", &[ip("10.21.1.1")]).refused.is_some());
    assert!(egress.admit("www.good.example", &[ip("10.20.1.1")]).refused.is_some(), "another name");
    pin(&egress, "db.corp.example", "10.20.1.1", now);
    assert_eq!(word(&tcp(&egress, "10.20.1.1", 5432, now)), "allow");
}

/// Where private addresses are allowed anyway, names may have them (split DNS).
#[test]
fn nothing_is_filtered_that_is_allowed_by_its_address() {
    let open = egress("allow", &[r#"{ action = "deny", ports = 25 }"#, ALLOW]);
    let admitted = open.admit("www.good.example", &[ip("10.0.0.1")]);
    assert!(admitted.refused.is_some(), "a rule that denies may be about this address");
    let open = egress("allow", &[r#"{ action = "deny", to = "169.254.0.0/16" }"#, ALLOW]);
    assert!(open.admit("www.good.example", &[ip("10.0.0.1")]).refused.is_none());
    assert!(open.admit("www.good.example", &[ip("169.254.169.254")]).refused.is_some());
}

/// "IP literals": an address that DNS did not answer is no way to a name.
#[test]
fn knowing_an_address_by_heart_does_not_help() {
    let (egress, now) = (egress("deny", &[ALLOW]), Instant::now());
    for bytes in [hello("www.good.example"), http("www.good.example"), hello("93.184.216.34")] {
        assert_ne!(after(tcp(&egress, "93.184.216.34", 443, now), &bytes), "allow");
    }
}

/// "SNI and Host mismatch": at an allowed name's address, another name.
#[test]
fn another_name_at_an_allowed_address_does_not_pass() {
    let (egress, now) = (egress("deny", &[ALLOW]), Instant::now());
    pin(&egress, "www.good.example", "93.184.216.34", now);
    for (bytes, passes) in [
        (hello("www.good.example"), true),
        (http("www.good.example"), true),
        (hello("evil.example"), false),
        (hello("good.example"), false),
        (hello("www.good.example.evil.example"), false),
        (hello("wwwXgood.example"), false),
        (http("evil.example"), false),
        (http("www.good.example@evil.example"), false),
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: www.good.example\r\n\r\n".to_vec(), false),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: www.good.example\r\n\r\n".to_vec(), false),
        (b"GET / HTTP/1.1\r\nHost: www.good.example\r\nHost: evil.example\r\n\r\n".to_vec(), false),
        (b"GET / HTTP/1.1\r\nHost: www.good.example\0\r\n\r\n".to_vec(), false),
        (b"\x16\x03\x01".to_vec(), false),
        (b"G".to_vec(), false),
        (vec![0; 100], false),
    ] {
        let answer = after(tcp(&egress, "93.184.216.34", 443, now), &bytes);
        assert_eq!(answer == "allow", passes, "{:?}: {answer}", String::from_utf8_lossy(&bytes));
    }
}

/// However the bytes come, one by one or at once, the answer is one, and nothing is let out before it.
#[test]
fn cutting_the_first_bytes_changes_nothing() {
    let (egress, now) = (egress("deny", &[ALLOW]), Instant::now());
    pin(&egress, "www.good.example", "93.184.216.34", now);
    for (bytes, passes) in
        [(hello("www.good.example"), true), (hello("evil.example"), false), (http("evil.example"), false)]
    {
        let mut inspection = inspection(tcp(&egress, "93.184.216.34", 443, now));
        let answers: Vec<Sniffed> =
            (0..=bytes.len()).map(|length| inspection.feed(&bytes[..length])).collect();
        assert!(matches!(answers[0], Sniffed::NeedMore));
        assert_eq!(answers.iter().any(|answer| matches!(answer, Sniffed::Allow)), passes);
        assert_eq!(answers.iter().any(|answer| matches!(answer, Sniffed::Deny(_))), !passes);
    }
}

/// "DNS over TCP to other servers": another server is a destination like any other.
#[test]
fn another_dns_server_is_not_reached() {
    let (egress, now) = (egress("deny", &[ALLOW]), Instant::now());
    for (protocol, port) in
        [(Protocol::Udp, 53), (Protocol::Tcp, 53), (Protocol::Tcp, 853), (Protocol::Udp, 853)]
    {
        let verdict = egress.decide(protocol, at("8.8.8.8", port), now);
        assert_eq!(word(&verdict), "deny", "{protocol} {port}");
    }
    // DNS over HTTPS at an address of an allowed name says its own name.
    pin(&egress, "www.good.example", "93.184.216.34", now);
    assert_ne!(after(tcp(&egress, "93.184.216.34", 443, now), &hello("dns.evil.example")), "allow");
}

/// "DNS tunnelling to a denied zone".
#[test]
fn no_question_reaches_a_zone_that_is_not_allowed() {
    let egress = egress("deny", &[ALLOW]);
    for name in
        ["aGVsbG8.evil.example", "evil.example", "good.example.evil.example", "xgood.example", "example", "a"]
    {
        assert!(Gate::resolve(&*egress, name).is_some(), "{name}");
    }
    for name in ["good.example", "www.good.example", "_443._tcp.good.example"] {
        assert!(Gate::resolve(&*egress, name).is_none(), "{name}");
    }
}

/// "Redirects": a redirect is a new connection, judged by itself.
#[test]
fn a_redirect_gains_nothing() {
    let (egress, now) = (egress("deny", &[ALLOW]), Instant::now());
    assert_eq!(word(&egress.resolve("evil.example")), "deny");
    assert_eq!(word(&tcp(&egress, "169.254.169.254", 80, now)), "deny");
    assert_eq!(word(&tcp(&egress, "127.0.0.1", 80, now)), "deny");
}

/// "QUIC": what cannot be checked is refused, with a hint; programs go on by TCP.
#[test]
fn quic_is_refused_wherever_a_name_counts() {
    let now = Instant::now();
    let allow = egress("deny", &[ALLOW.replace(", protocol = \"tcp\"", "").as_str()]);
    pin(&allow, "www.good.example", "93.184.216.34", now);
    let denial = denied(allow.decide(Protocol::Udp, at("93.184.216.34", 443), now)).to_string();
    assert!(denial.contains("by TCP it would") && denial.contains("check = \"address\""), "{denial}");
    let deny = egress("allow", &[r#"{ action = "deny", name = "evil.example" }"#]);
    let denial = denied(deny.decide(Protocol::Udp, at("93.184.216.34", 443), now)).to_string();
    assert!(denial.contains("rule 1") && denial.contains("by TCP it would"), "{denial}");
    assert_eq!(word(&deny.decide(Protocol::Udp, at("93.184.216.34", 123), now)), "allow");
}

/// An Encrypted Client Hello hides its inner name; what is judged is the outer one, and that is not the allowed one.
#[test]
fn an_encrypted_hello_passes_only_by_its_outer_name() {
    let (egress, now) = (egress("deny", &[ALLOW]), Instant::now());
    pin(&egress, "www.good.example", "93.184.216.34", now);
    assert_ne!(after(tcp(&egress, "93.184.216.34", 443, now), &hello("public.cdn.example")), "allow");
    assert_eq!(after(tcp(&egress, "93.184.216.34", 443, now), &hello("www.good.example")), "allow");
}

/// A guest that asks and knocks without end costs a bounded amount of memory, and the log a bounded number of lines.
#[test]
fn a_flood_is_bounded() {
    let (egress, now) = (egress("deny", &[r#"{ action = "allow", name = "*" }"#]), Instant::now());
    for number in 0..40_000_u32 {
        let address = IpAddr::V4((0x0b00_0000 + number).into());
        egress.pin(&format!("n{number}.example"), &[(address, Duration::from_secs(9999))], now);
        if let Verdict::Deny(denial) = egress.decide(Protocol::Udp, SocketAddr::new(address, 1), now) {
            egress.log(&denial, now);
        }
    }
    assert!(super::super::egress::lock(&egress.pins).len() <= 16_384);
}
