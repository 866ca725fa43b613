//! The policy as a whole: tables (`table`), what a hostile guest tries (`adversary`), and properties (`property`).

mod adversary;
mod property;
mod table;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dhow_model::egress::Policy;
use serde::Deserialize;

use super::own::Own;
use super::sniff::hello::hello;
use super::{Denial, Egress, Inspection, Protocol, Sniffed, Verdict};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Network {
    egress_default: dhow_model::egress::Action,
    #[serde(default)]
    egress: dhow_model::egress::Rules,
}

/// The policy of a `[network]` section.
fn policy(default: &str, rules: &[&str]) -> Policy {
    let text = format!("egress-default = \"{default}\"\negress = [{}]", rules.join(", "));
    let network: Network = toml::from_str(&text).unwrap();
    Policy { default: network.egress_default, rules: network.egress }
}

fn egress(default: &str, rules: &[&str]) -> Arc<Egress> {
    with(policy(default, rules))
}

/// The addresses of the computer that the tests run on do not matter.
fn with(policy: Policy) -> Arc<Egress> {
    Egress::with(policy, Own::new(|_| false)).unwrap()
}

fn ip(address: &str) -> IpAddr {
    address.parse().unwrap()
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(address), port)
}

fn pin(egress: &Egress, name: &str, address: &str, now: Instant) {
    egress.pin(name, &[(ip(address), Duration::from_secs(300))], now);
}

fn http(host: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

/// In a word: `allow`, `deny`, `inspect`.
fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Inspect(_) => "inspect",
        Verdict::Deny(_) => "deny",
    }
}

fn tcp(egress: &Egress, address: &str, port: u16, now: Instant) -> Verdict {
    egress.decide(Protocol::Tcp, at(address, port), now)
}

fn inspection(verdict: Verdict) -> Inspection {
    match verdict {
        Verdict::Inspect(inspection) => inspection,
        other => panic!("{other:?}"),
    }
}

fn denied(verdict: Verdict) -> Denial {
    match verdict {
        Verdict::Deny(denial) => denial,
        other => panic!("{other:?}"),
    }
}

/// What becomes of a connection that sends these bytes first: `allow` or the denial's text.
fn after(verdict: Verdict, bytes: &[u8]) -> String {
    match verdict {
        Verdict::Allow => "allow".to_owned(),
        Verdict::Deny(denial) => denial.to_string(),
        Verdict::Inspect(mut inspection) => match inspection.end(bytes) {
            Sniffed::Allow => "allow".to_owned(),
            Sniffed::Deny(denial) => denial.to_string(),
            Sniffed::NeedMore => panic!("the end is the end"),
        },
    }
}
