//! A network in prefix notation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// A network: an address whose bits after the prefix are zero. In text and JSON `172.17.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// The network of an address and a prefix's length; `None` when the length is impossible or a bit after the prefix is
    /// set.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let network = Self { address, prefix };
        let possible = prefix <= if address.is_ipv4() { 32 } else { 128 };
        (possible && network.bits() & !network.mask() == 0).then_some(network)
    }

    /// The network that an address is in.
    #[must_use]
    pub fn around(address: IpAddr, prefix: u8) -> Option<Self> {
        let bits = Self::new(address, if address.is_ipv4() { 32 } else { 128 })?.bits();
        let mask = Self { address, prefix }.mask();
        let address = match address {
            IpAddr::V4(_) => Ipv4Addr::from_bits(u32::try_from((bits & mask) >> 96).ok()?).into(),
            IpAddr::V6(_) => Ipv6Addr::from_bits(bits & mask).into(),
        };
        Self::new(address, prefix)
    }

    /// Its first address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Its prefix's length, bits.
    #[must_use]
    pub const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = Self { address, prefix: 0 }.bits();
        self.address.is_ipv4() == address.is_ipv4() && (bits ^ self.bits()) & self.mask() == 0
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }

    /// Whether an address is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// Left-aligned, so that both families are masked alike.
    fn bits(&self) -> u128 {
        match self.address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        }
    }

    fn mask(&self) -> u128 {
        u128::MAX.checked_shl(128 - u32::from(self.prefix.min(128))).unwrap_or(0)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

/// A word that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a network such as 172.17.0.0/16")]
pub struct NotANetwork(String);

impl std::str::FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            Self::new(address.parse().ok()?, prefix.parse().ok()?)
        };
        parse().ok_or_else(|| NotANetwork(text.chars().take(64).collect()))
    }
}

impl TryFrom<String> for Network {
    type Error = NotANetwork;

    fn try_from(text: String) -> Result<Self, NotANetwork> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_is_what_its_text_says() {
        for text in ["0.0.0.0/0", "172.17.0.0/16", "10.1.2.3/32", "::/0", "fd00:1::/48", "fd00::1/128"] {
            assert_eq!(network(text).to_string(), text);
        }
        for text in
            ["", "10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/-1", "fd00::1/64", "fd00::/129", "a/8"]
        {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        assert_eq!(Network::around("172.17.3.4".parse().unwrap(), 16), Some(network("172.17.0.0/16")));
        assert_eq!(Network::around("fd00:1::9".parse().unwrap(), 64), Some(network("fd00:1::/64")));
    }

    #[test]
    fn networks_overlap_when_one_covers_the_other() {
        let table = [
            ("10.0.0.0/8", "10.9.0.0/16", true),
            ("10.0.0.0/16", "10.1.0.0/16", false),
            ("0.0.0.0/0", "10.1.0.0/16", true),
            ("::/0", "10.1.0.0/16", false),
            ("fd00::/8", "fd64::/48", true),
            ("fd64::/64", "fd64:0:0:1::/64", false),
        ];
        for (one, other, expected) in table {
            assert_eq!(network(one).overlaps(&network(other)), expected, "{one} {other}");
            assert_eq!(network(other).overlaps(&network(one)), expected, "{other} {one}");
        }
    }
}
