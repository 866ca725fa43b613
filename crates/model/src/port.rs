//! A published port: where the host listens and where in the guest that leads (spec 4).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What can be published. SCTP cannot, and has no variant that could be taken for something else (spec 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl Protocol {
    /// As Docker writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no protocol that can be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotPublishable(String);

impl fmt::Display for NotPublishable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dhow publishes TCP and UDP ports; {} is not supported", self.0.to_uppercase())
    }
}

impl std::error::Error for NotPublishable {}

impl FromStr for Protocol {
    type Err = NotPublishable;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            other => Err(NotPublishable(other.to_owned())),
        }
    }
}

/// One binding of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// What is carried.
    pub protocol: Protocol,
    /// Where the host listens: one address, or all of one family; never port 0.
    pub host: SocketAddr,
    /// Where it leads: the container's address and port, in the guest's networks.
    pub container: SocketAddr,
}

impl Binding {
    /// Whether the kernel could not hold both at once: the same protocol, family and port, and addresses of which one
    /// covers the other. An IPv6 listener of ours never takes IPv4 along.
    #[must_use]
    pub fn conflicts(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.host.ip(), other.host.ip());
        self.protocol == other.protocol
            && self.host.port() == other.host.port()
            && ours.is_ipv4() == theirs.is_ipv4()
            && (ours == theirs || ours.is_unspecified() || theirs.is_unspecified())
    }

    /// Protocol and family in one word, as Go's libraries and so Docker's errors write them: `tcp4`, `udp6`.
    #[must_use]
    pub const fn network(&self) -> &'static str {
        match (self.protocol, self.host.ip()) {
            (Protocol::Tcp, IpAddr::V4(_)) => "tcp4",
            (Protocol::Tcp, IpAddr::V6(_)) => "tcp6",
            (Protocol::Udp, IpAddr::V4(_)) => "udp4",
            (Protocol::Udp, IpAddr::V6(_)) => "udp6",
        }
    }
}

impl fmt::Display for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} -> {}", self.host, self.protocol, self.container)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(protocol: Protocol, host: &str) -> Binding {
        Binding { protocol, host: host.parse().unwrap(), container: "172.17.0.2:80".parse().unwrap() }
    }

    /// Spec 4.1: two containers never share a binding.
    #[test]
    fn what_the_kernel_could_not_hold_at_once_conflicts() {
        let table = [
            ("0.0.0.0:80", "0.0.0.0:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "0.0.0.0:81", false),
            ("0.0.0.0:80", "[::]:80", false),
            ("[::]:80", "[::1]:80", true),
            ("[::1]:80", "[::2]:80", false),
        ];
        for (one, two, expected) in table {
            let (a, b) = (binding(Protocol::Tcp, one), binding(Protocol::Tcp, two));
            assert_eq!(a.conflicts(&b), expected, "{one} and {two}");
            assert_eq!(b.conflicts(&a), expected, "{two} and {one}");
            assert!(!a.conflicts(&binding(Protocol::Udp, two)), "{one} and {two}/udp");
        }
    }

    /// Spec 4.1: SCTP is refused, never treated as TCP.
    #[test]
    fn only_tcp_and_udp_are_protocols() {
        assert_eq!("tcp".parse(), Ok(Protocol::Tcp));
        assert_eq!("udp".parse(), Ok(Protocol::Udp));
        for word in ["sctp", "TCP", "", "tcp "] {
            assert!(word.parse::<Protocol>().is_err(), "{word}");
        }
        assert!("sctp".parse::<Protocol>().unwrap_err().to_string().contains("SCTP is not supported"));
    }

    #[test]
    fn a_binding_reads_as_docker_shows_it() {
        let six = binding(Protocol::Udp, "[::]:53");
        assert_eq!(six.to_string(), "[::]:53/udp -> 172.17.0.2:80");
        assert_eq!(six.network(), "udp6");
    }
}
