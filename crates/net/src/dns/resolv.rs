//! `/etc/resolv.conf` as resolv.conf(5) says, without any I/O.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

/// The most name servers that are asked; the C library knows three.
const SERVERS: usize = 6;
/// Where name servers listen.
pub(crate) const PORT: u16 = 53;

/// Who is asked, and how patiently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Name servers, in the order in which they are asked.
    pub(crate) servers: Vec<SocketAddr>,
    /// How long one is waited for.
    pub(crate) timeout: Duration,
    /// How many times each is asked.
    pub(crate) attempts: u32,
    /// Ask over TCP only.
    pub(crate) tcp: bool,
}

impl Default for Settings {
    /// Without `options`: less patient than the C library (5 s), so that a second name server is asked before the one
    /// who asked us gives up.
    fn default() -> Self {
        Self { servers: Vec::new(), timeout: Duration::from_secs(2), attempts: 2, tcp: false }
    }
}

/// Reads a file; `scope` knows the number of a link by its name. What is not understood is passed over, as the C library
/// does.
pub(crate) fn parse(text: &str, scope: impl Fn(&str) -> Option<u32>) -> Settings {
    let mut settings = Settings::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                let server = words.next().and_then(|word| server(word, &scope));
                if let Some(server) = server.filter(|s| !settings.servers.contains(s))
                    && settings.servers.len() < SERVERS
                {
                    settings.servers.push(server);
                }
            }
            Some("options") => words.for_each(|word| option(&mut settings, word)),
            // `search` and `ndots` are for those who ask: names reach us whole.
            _ => {}
        }
    }
    settings
}

fn server(word: &str, scope: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    let Some((address, link)) = word.split_once('%') else {
        return Some(SocketAddr::new(word.parse::<IpAddr>().ok()?, PORT));
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let scope = link.parse().ok().or_else(|| scope(link))?;
    Some(SocketAddrV6::new(address, PORT, 0, scope).into())
}

fn option(settings: &mut Settings, word: &str) {
    let number = |value: &str| value.parse::<u64>().ok();
    match word.split_once(':') {
        Some(("timeout", value)) => {
            if let Some(seconds) = number(value) {
                settings.timeout = Duration::from_secs(seconds.clamp(1, 5));
            }
        }
        Some(("attempts", value)) => {
            if let Some(times) = number(value) {
                settings.attempts = u32::try_from(times.clamp(1, 5)).unwrap_or(1);
            }
        }
        None if word == "use-vc" => settings.tcp = true,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Vec<String> {
        let scope = |link: &str| (link == "eth0").then_some(7);
        parse(text, scope).servers.iter().map(ToString::to_string).collect()
    }

    /// Spec 5.4: the host's own resolvers, in their order.
    #[test]
    fn name_servers_keep_their_order_and_their_link() {
        let text = "# nameserver 9.9.9.9\n; nameserver 9.9.9.9\n\tnameserver  192.0.2.1 trailing\nsearch example.com\n\
                    nameserver 2001:db8::1\nnameserver fe80::1%eth0\nnameserver fe80::2%3\n nameserver 192.0.2.1\n";
        assert_eq!(servers(text), ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%7]:53", "[fe80::2%3]:53"]);
    }

    #[test]
    fn what_is_no_name_server_is_passed_over() {
        for text in [
            "",
            "nameserver",
            "nameserver example.com",
            "nameserver fe80::1%gone",
            "nameserver 1.2.3",
            "nameserver 192.0.2.1%eth0",
            "\0\u{fffd}nameserver",
        ] {
            assert!(servers(text).is_empty(), "{text:?}");
        }
        let many: String = (1..50).map(|n| format!("nameserver 192.0.2.{n}\n")).collect();
        assert_eq!(servers(&many).len(), SERVERS);
    }

    #[test]
    fn options_say_how_patient_we_are_within_reason() {
        let read = |options: &str| {
            let settings = parse(options, |_| None);
            (settings.timeout.as_secs(), settings.attempts, settings.tcp)
        };
        assert_eq!(read(""), (2, 2, false));
        assert_eq!(read("options timeout:1 attempts:3 use-vc rotate edns0"), (1, 3, true));
        assert_eq!(read("options timeout:0 attempts:0"), (1, 1, false));
        assert_eq!(read("options timeout:3600 attempts:99"), (5, 5, false));
        assert_eq!(read("options timeout:x attempts: ndots:5"), (2, 2, false));
    }
}
