//! Address ranges, and the groups of addresses that have names.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::network;

/// Addresses from `first` to `last`, both included, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Range {
    first: IpAddr,
    last: IpAddr,
}

/// Addresses that have a name of their own. A rule that names none of these and no range means every address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// Every address.
    Any,
    /// The host itself: its loopback, by `host.docker.internal`, `gateway.docker.internal` and every other spelling. The
    /// addresses of its interfaces count as these, which is for `dhow_net::policy` to find out.
    Loopback,
    /// Where clouds tell a machine its identity and its keys.
    Metadata,
    /// Addresses that count on one link only (RFC 3927, RFC 4291).
    LinkLocal,
    /// Addresses of private networks: RFC 1918, shared (RFC 6598), unique local (RFC 4193), benchmarks (RFC 2544).
    Private,
    /// Every address that the whole Internet can reach: what is in no other group and not set aside (RFC 6890).
    Public,
}

/// One condition on an address, as a rule writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Addresses {
    /// A group by its name.
    Group(Group),
    /// A single address, `10.0.0.0/8`, or `10.0.0.1-10.0.0.9`.
    Range(Range),
}

/// Addresses at which clouds hand out a machine's identity and keys; from the documentation of AWS (the third to sixth
/// are those of its containers), Google, Azure, Alibaba, Oracle and Scaleway.
const METADATA: &[IpAddr] = &[
    v4(169, 254, 169, 254),
    v6(0xfd00, 0xec2, 0x254),
    v4(169, 254, 170, 2),
    v4(169, 254, 170, 23),
    v6(0xfd00, 0xec2, 0x23),
    v6(0xfd20, 0xce, 0x254),
    v4(168, 63, 129, 16),
    v4(100, 100, 100, 200),
    v4(192, 0, 0, 192),
    v4(169, 254, 42, 42),
    v6(0xfd00, 0x42, 0x42),
];

/// First address and length of the prefix, for each group that is made of ranges.
type Prefixes = &'static [(IpAddr, u8)];
const LOOPBACK: Prefixes =
    &[(v4(127, 0, 0, 0), 8), (v4(0, 0, 0, 0), 8), (v6(0, 0, 1), 128), (v6(0, 0, 0), 128)];
const LINK_LOCAL: Prefixes = &[(v4(169, 254, 0, 0), 16), (v6(0xfe80, 0, 0), 10)];
const PRIVATE: Prefixes = &[
    (v4(10, 0, 0, 0), 8),
    (v4(172, 16, 0, 0), 12),
    (v4(192, 168, 0, 0), 16),
    (v4(100, 64, 0, 0), 10),
    (v4(198, 18, 0, 0), 15),
    (v6(0xfc00, 0, 0), 7),
    // Site-local, deprecated (RFC 3879), and still somebody's inside.
    (v6(0xfec0, 0, 0), 10),
    // An operator's own translation to IPv4 (RFC 8215): where the IPv4 address stands depends on the operator.
    (IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0)), 48),
];
/// Set aside (RFC 6890) and in no other group: nobody is there, or many.
const SET_ASIDE: Prefixes = &[
    (v4(192, 0, 0, 0), 24),
    (v4(192, 0, 2, 0), 24),
    (v4(192, 88, 99, 0), 24),
    (v4(198, 51, 100, 0), 24),
    (v4(203, 0, 113, 0), 24),
    (v4(224, 0, 0, 0), 3),
    (v6(0x100, 0, 0), 64),
    (v6(0x2001, 0xdb8, 0), 32),
    (v6(0x3fff, 0, 0), 20),
    (v6(0x5f00, 0, 0), 16),
    (v6(0xff00, 0, 0), 8),
];

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

/// The first two segments and the last.
const fn v6(a: u16, b: u16, last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, last))
}

impl Group {
    /// Every group with its word.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Any, "any"),
        (Self::Loopback, "loopback"),
        (Self::Metadata, "metadata"),
        (Self::LinkLocal, "link-local"),
        (Self::Private, "private"),
        (Self::Public, "public"),
    ];

    /// Whether an address is in the group. `2002:7f00:1::` is not in `loopback` here: which other address an address
    /// stands for is said before, by `dhow_net::policy`.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let within = |prefixes: Prefixes| {
            prefixes
                .iter()
                .any(|(first, prefix)| Range::prefix(*first, *prefix).is_some_and(|r| r.contains(address)))
        };
        match self {
            Self::Any => true,
            Self::Loopback => {
                within(LOOPBACK)
                    || network::is_host(address)
                    || network::is_gateway(address)
                    || address == IpAddr::V4(network::HOST_INTERFACE)
                    || address == IpAddr::V6(network::HOST_INTERFACE6)
            }
            Self::Metadata => METADATA.contains(&address),
            Self::LinkLocal => within(LINK_LOCAL),
            Self::Private => within(PRIVATE) && !Self::Loopback.contains(address),
            Self::Public => {
                !within(LOOPBACK)
                    && !within(LINK_LOCAL)
                    && !within(PRIVATE)
                    && !within(SET_ASIDE)
                    && !METADATA.contains(&address)
            }
        }
    }

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(group, _)| *group == self).map_or("any", |(_, word)| word)
    }
}

impl Range {
    /// One address.
    #[must_use]
    pub const fn single(address: IpAddr) -> Self {
        Self { first: address, last: address }
    }

    /// The addresses that share their first `prefix` bits with `address`; none if no address has that many.
    #[must_use]
    pub fn prefix(address: IpAddr, prefix: u8) -> Option<Self> {
        let prefix = u32::from(prefix);
        Some(match address {
            IpAddr::V4(address) => {
                let host = u32::MAX.checked_shr(prefix).unwrap_or(0);
                let bits = u32::from(address);
                (prefix <= 32).then(|| Self {
                    first: Ipv4Addr::from(bits & !host).into(),
                    last: Ipv4Addr::from(bits | host).into(),
                })?
            }
            IpAddr::V6(address) => {
                let host = u128::MAX.checked_shr(prefix).unwrap_or(0);
                let bits = u128::from(address);
                (prefix <= 128).then(|| Self {
                    first: Ipv6Addr::from(bits & !host).into(),
                    last: Ipv6Addr::from(bits | host).into(),
                })?
            }
        })
    }

    /// The first address.
    #[must_use]
    pub const fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address.
    #[must_use]
    pub const fn last(&self) -> IpAddr {
        self.last
    }

    /// Whether an address is one of these.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        // `IpAddr` orders every IPv4 address before every IPv6 one, so families do not mix.
        self.first <= address && address <= self.last
    }

    /// Whether the two share an address.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The length of the prefix, if that is what the range is.
    fn prefix_length(&self) -> Option<u8> {
        let longest = if self.first.is_ipv4() { 32 } else { 128 };
        (0..=longest).find(|length| Self::prefix(self.first, *length).as_ref() == Some(self))
    }
}

impl Addresses {
    /// Whether an address is one of these.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match self {
            Self::Group(group) => group.contains(address),
            Self::Range(range) => range.contains(address),
        }
    }

    /// Whether an allowing rule covers an address with this. As [`Self::contains`], except that who allows a private
    /// network has not thought of the cloud's metadata in it: these are allowed by `metadata`, by `any` or by a range.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        let thoughtless = matches!(self, Self::Group(Group::Private | Group::LinkLocal));
        self.contains(address) && !(thoughtless && Group::Metadata.contains(address))
    }

    /// Whether these are everything that there is, or at least the whole Internet of one family: not a place that
    /// somebody picked.
    #[must_use]
    pub fn is_everywhere(&self) -> bool {
        match self {
            Self::Group(group) => matches!(group, Group::Any | Group::Public),
            // Half of IPv4, or the eighth of IPv6 that is in use (2000::/3).
            Self::Range(range) => match (range.first, range.last) {
                (IpAddr::V4(first), IpAddr::V4(last)) => u32::from(last) - u32::from(first) >= u32::MAX >> 1,
                (IpAddr::V6(first), IpAddr::V6(last)) => {
                    u128::from(last) - u128::from(first) >= u128::MAX >> 3
                }
                _ => false,
            },
        }
    }
}

impl FromStr for Addresses {
    type Err = String;

    /// The error is a sentence's end: what is wrong, and what to write.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((group, _)) = Group::ALL.iter().find(|(_, word)| *word == text) {
            return Ok(Self::Group(*group));
        }
        let range = if let Some((address, length)) = text.split_once('/') {
            prefix(address, length)?
        } else if let Some((first, last)) =
            text.split_once('-').filter(|(first, _)| first.contains(['.', ':']))
        {
            let (first, last) = (address(first)?, address(last)?);
            if first.is_ipv4() != last.is_ipv4() {
                return Err("a range from an IPv4 to an IPv6 address".to_owned());
            }
            if last < first {
                return Err(format!("the range runs backwards; write \"{last}-{first}\""));
            }
            Range { first, last }
        } else {
            Range::single(address(text)?)
        };
        if let Some(plain) = plain(&range) {
            return Err(format!(
                "this is a spelling of the IPv4 address {plain}, and judged as that; write \"{plain}\""
            ));
        }
        Ok(Self::Range(range))
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.trim().parse().map_err(|_| {
        let words: Vec<&str> = Group::ALL.iter().map(|(_, word)| *word).collect();
        format!(
            "`{}` is no address; write an IPv4 or IPv6 address, a range such as \"10.0.0.0/8\" or \
             \"10.0.0.1-10.0.0.9\", or one of {}",
            text.trim(),
            words.join(", ")
        )
    })
}

fn prefix(text: &str, length: &str) -> Result<Range, String> {
    let address = address(text)?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    // `u8` would take "+8" and "08"; nobody means these.
    let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    let range = length.parse().ok().filter(|_| digits).and_then(|length| Range::prefix(address, length));
    let range = range.ok_or_else(|| format!("/{length} is no length of a prefix; write /0 to /{longest}"))?;
    if range.first != address {
        return Err(format!(
            "{address} has bits set behind the first {length}; write \"{}/{length}\" for the network or \"{address}\" \
             for the one address",
            range.first
        ));
    }
    Ok(range)
}

/// The IPv4 addresses that an IPv4-mapped or NAT64 range stands for: connections to these are judged as IPv4, so that a
/// rule for the other spelling would never match.
fn plain(range: &Range) -> Option<String> {
    let (IpAddr::V6(first), IpAddr::V6(last)) = (range.first, range.last) else { return None };
    let inside = |address: Ipv6Addr| match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            let [.., a, b, c, d] = address.octets();
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    };
    let (first, last) = (inside(first)?, inside(last)?);
    Some(Range { first: first.into(), last: last.into() }.to_string())
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(f, "{}", self.first);
        }
        match self.prefix_length() {
            Some(length) => write!(f, "{}/{length}", self.first),
            None => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(group) => f.write_str(group.as_str()),
            Self::Range(range) => range.fmt(f),
        }
    }
}
