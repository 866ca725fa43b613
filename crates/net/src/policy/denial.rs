//! What is said about what was refused.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use dhow_model::egress::{Action, Addresses, Check, Direction, Name, Pattern, Ports, Range, Rule};

use super::Protocol;
use super::sniff::Unsaid;
use super::spelling::Spelling;

/// What was tried.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Attempt {
    /// A connection, a datagram or an echo of the machine's.
    Out {
        /// By which protocol.
        protocol: Protocol,
        /// To where; port 0 for ICMP.
        to: SocketAddr,
        /// The name that it said, or that DNS answered with the address.
        name: Option<Name>,
    },
    /// A question to DNS.
    Lookup {
        /// For this name, as it was asked.
        name: String,
    },
    /// An answer of a stranger's DNS.
    Answer {
        /// For this name.
        name: Name,
        /// With these addresses.
        addresses: Vec<IpAddr>,
    },
    /// A client of a published port.
    In {
        /// By which protocol.
        protocol: Protocol,
        /// From where.
        from: SocketAddr,
        /// To this port.
        port: u16,
    },
}

/// Who refused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The rule with this number, from 1.
    Rule(usize),
    /// No rule matched, and the default is to deny.
    Default,
    /// Whatever rules there are, a stranger's name does not lead inside.
    Rebinding,
}

/// Why a rule with a name did not help.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Because {
    /// Rule and reason: DNS never answered a name of the rule's with the address.
    NotAnswered(usize),
    /// The connection says a name that DNS did not answer with the address.
    Elsewhere,
    /// The connection says no name that could be checked.
    Unsaid(Unsaid),
    /// Datagrams and echoes say no name.
    Opaque,
    /// Not a name of a host.
    Odd,
}

/// Something that was refused: what, by whom, and which rule would allow it. The text is one line for the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Denial {
    attempt: Attempt,
    cause: Cause,
    because: Option<Because>,
    remedy: Option<Rule>,
}

impl Denial {
    /// What was tried.
    #[must_use]
    pub fn attempt(&self) -> &Attempt {
        &self.attempt
    }

    /// Who refused it.
    #[must_use]
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// The rule that would allow it, standing before the one that refused it; none if no rule could.
    #[must_use]
    pub fn remedy(&self) -> Option<&Rule> {
        self.remedy.as_ref()
    }

    /// The same as text for the configuration file.
    #[must_use]
    pub fn toml(&self) -> Option<String> {
        let pairs = self.remedy.as_ref()?.to_table();
        let lines: String = pairs.into_iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        Some(format!("[[network.egress]]\n{lines}"))
    }

    /// The same for all that is alike: other source ports, and what was said besides.
    pub(super) fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    pub(super) fn out(
        protocol: Protocol,
        (to, spelling): (SocketAddr, &Spelling),
        name: Option<Name>,
        cause: Cause,
        because: Option<Because>,
    ) -> Self {
        // A name helps where it can be checked, or where the rule is told not to.
        let by_name = name.as_ref().filter(|_| !matches!(because, Some(Because::Elsewhere)));
        let check = match because {
            Some(Because::Opaque | Because::Unsaid(_)) => Check::Address,
            _ => Check::Name,
        };
        let mut rule =
            Rule { protocol: protocol.into(), ports: ports(protocol, to.port()), ..Rule::default() };
        match by_name {
            Some(name) => {
                rule.names = vec![Pattern::Exact(name.clone())];
                rule.check = check;
                // A name alone does not lead inside.
                if spelling.is_inside() {
                    rule.addresses = vec![single(to.ip())];
                }
            }
            None => rule.addresses = vec![single(to.ip())],
        }
        Self { attempt: Attempt::Out { protocol, to, name }, cause, because, remedy: Some(rule) }
    }

    pub(super) fn lookup(asked: &str, name: Option<Name>, cause: Cause) -> Self {
        let because = name.is_none().then_some(Because::Odd);
        let remedy = name.map(|name| Rule { names: vec![Pattern::Exact(name)], ..Rule::default() });
        Self { attempt: Attempt::Lookup { name: asked.to_owned() }, cause, because, remedy }
    }

    pub(super) fn answer(name: Name, addresses: Vec<IpAddr>) -> Self {
        let mut ranges: Vec<Addresses> = Vec::new();
        for range in addresses.iter().map(|address| single(*address)) {
            if !ranges.contains(&range) {
                ranges.push(range);
            }
        }
        let rule = Rule { names: vec![Pattern::Exact(name.clone())], addresses: ranges, ..Rule::default() };
        Self {
            attempt: Attempt::Answer { name, addresses },
            cause: Cause::Rebinding,
            because: None,
            remedy: Some(rule),
        }
    }

    pub(super) fn client(protocol: Protocol, from: SocketAddr, port: u16, cause: Cause) -> Self {
        let rule = Rule {
            action: Action::Allow,
            direction: Direction::In,
            addresses: vec![single(from.ip())],
            ports: ports(protocol, port),
            protocol: protocol.into(),
            ..Rule::default()
        };
        Self { attempt: Attempt::In { protocol, from, port }, cause, because: None, remedy: Some(rule) }
    }
}

fn ports(protocol: Protocol, port: u16) -> Ports {
    if protocol == Protocol::Icmp || port == 0 { Ports::default() } else { Ports::single(port) }
}

/// The address as a rule may write it.
fn single(address: IpAddr) -> Addresses {
    Addresses::Range(Range::single(Spelling::pure(address).to_write()))
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: denied by ", self.attempt)?;
        match self.cause {
            Cause::Rule(number) => write!(f, "rule {number}")?,
            Cause::Default => write!(f, "the default")?,
            Cause::Rebinding => write!(f, "a rule of its own, that no stranger's name leads inside")?,
        }
        if let Some(because) = &self.because {
            write!(f, "; {because}")?;
        }
        match (&self.remedy, self.cause) {
            (Some(rule), Cause::Rule(number)) => write!(f, "; to allow it, before rule {number}: {rule}"),
            (Some(rule), _) => write!(f, "; to allow it: {rule}"),
            (None, _) => write!(f, "; no rule can allow it"),
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Out { protocol, to, name } => {
                match protocol {
                    Protocol::Icmp => write!(f, "icmp to {}", to.ip())?,
                    other => write!(f, "{other} to {to}")?,
                }
                match name {
                    Some(name) => write!(f, " ({name})"),
                    None => Ok(()),
                }
            }
            // What a guest asks for may hold control characters.
            Self::Lookup { name } => write!(f, "looking up {}", name.escape_debug()),
            Self::Answer { name, addresses } => {
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                write!(f, "{name} at {}", addresses.join(", "))
            }
            Self::In { protocol, from, port } => write!(f, "{protocol} from {from} to port {port}"),
        }
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnswered(rule) => {
                write!(f, "DNS answered no name of rule {rule} with this address")
            }
            Self::Elsewhere => f.write_str("DNS did not answer the name that it says with this address"),
            Self::Unsaid(unsaid) => unsaid.fmt(f),
            Self::Opaque => f.write_str("it says no name that could be checked, by TCP it would"),
            Self::Odd => f.write_str("this is no name of a host"),
        }
    }
}
