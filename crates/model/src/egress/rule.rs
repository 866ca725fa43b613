//! A rule, and the policy that is made of them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Addresses, EgressError, Pattern, Ports};

/// Rules that one policy may have: each new connection walks through them.
pub const MAX_RULES: usize = 1000;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Let it pass.
    #[default]
    Allow,
    /// Refuse it, and say which rule would allow it.
    Deny,
}

/// Who begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The machine.
    #[default]
    Out,
    /// A client of a published port. The policy's default is not about these: who publishes a port wants clients.
    In,
}

/// Which protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// All three.
    #[default]
    Any,
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP of either family: echo.
    Icmp,
}

/// What must be known for a connection to count as one to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Check {
    /// DNS answered the name with this address, and the connection says the name itself: TLS (SNI) or HTTP (Host).
    #[default]
    Name,
    /// DNS answered the name with this address; what flows is not looked at. Whatever else is served at the address can
    /// be reached, too.
    Address,
}

/// One rule: an action for what meets every condition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Rule {
    /// What to do.
    pub action: Action,
    /// Who begins.
    pub direction: Direction,
    /// The other end's address is in one of these; none: any. Written `to`, and `from` for direction `in`.
    pub addresses: Vec<Addresses>,
    /// The destination's port (for direction `in`, the published one); no port has ICMP.
    pub ports: Ports,
    /// The protocol.
    pub protocol: Protocol,
    /// The destination has a name that one of these matches; none: no name is asked for.
    pub names: Vec<Pattern>,
    /// What must be known for a name to match.
    pub check: Check,
}

/// The rules of a policy, checked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<toml::Table>", into = "Vec<toml::Table>")]
pub struct Rules(pub Vec<Rule>);

/// What may leave a machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// What happens to what no rule matches.
    pub default: Action,
    /// Read in order; the first that matches decides.
    pub rules: Rules,
}

impl Policy {
    /// Everything is allowed: the engine machine's default.
    #[must_use]
    pub fn allow_all() -> Self {
        Self::default()
    }

    /// Whether there is nothing to look at.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.default == Action::Allow && self.rules.0.iter().all(|rule| rule.action == Action::Allow)
    }

    /// Checks what the text form checks, for policies that are put together in code.
    ///
    /// # Errors
    /// When a rule could not do what it says, or there are too many.
    pub fn check(&self) -> Result<(), EgressError> {
        if self.rules.0.len() > MAX_RULES {
            return Err(EgressError::TooMany(self.rules.0.len()));
        }
        self.rules.0.iter().zip(1..).try_for_each(|(rule, number)| rule.check(number))
    }
}

impl Rule {
    /// Whether the keys go together: a rule that could not be enforced is refused, not taken for one that is.
    pub(super) fn check(&self, rule: usize) -> Result<(), EgressError> {
        let opaque = matches!(self.protocol, Protocol::Udp | Protocol::Icmp);
        let named = !self.names.is_empty();
        let senseless = [
            (
                self.direction == Direction::In && named,
                "a client has no name that could be checked; write its addresses as `from`, or leave out `name`",
            ),
            (
                self.direction == Direction::In && self.protocol == Protocol::Icmp,
                "no ICMP comes in through a published port; leave out `protocol`",
            ),
            (
                self.protocol == Protocol::Icmp && !self.ports.is_any(),
                "ICMP has no ports; leave out `ports`, or write `protocol = \"tcp\"` or \"udp\"",
            ),
            (
                named && opaque && self.action == Action::Allow && self.check == Check::Name,
                "UDP and ICMP say no name that could be checked; add `check = \"address\"` to go by the address that DNS \
                 answered, or leave out `name`",
            ),
            (self.check == Check::Address && !named, "`check` is about names, and the rule has no `name`"),
        ];
        match senseless.into_iter().find(|(wrong, _)| *wrong) {
            Some((_, why)) => Err(EgressError::Senseless { rule, why }),
            None => Ok(()),
        }
    }

    /// Whether the rule is about every destination that there is.
    #[must_use]
    pub fn is_total(&self) -> bool {
        self.direction == Direction::Out
            && self.addresses.is_empty()
            && self.ports.is_any()
            && self.protocol == Protocol::Any
            && self.names.is_empty()
    }
}

impl Action {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl Protocol {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

impl fmt::Display for Rule {
    /// As TOML, in one line: an inline table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> =
            self.to_table().into_iter().map(|(key, value)| format!("{key} = {value}")).collect();
        write!(f, "{{ {} }}", pairs.join(", "))
    }
}
