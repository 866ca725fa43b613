//! The one walk through the rules: pure, the first that matches decides.

use dhow_model::egress::{Action, Check, Direction, Name, Policy, Protocol as Wanted, Rule};
use dhow_model::network;

use super::Protocol;
use super::spelling::Spelling;

/// Where every honest program says a name: HTTP, HTTPS, and the usual other ports for them.
pub const WEB_PORTS: [u16; 8] = [80, 443, 3128, 8000, 8008, 8080, 8443, 8888];

/// Names that Dhow answers itself, besides those in [`network::DOMAIN`]; nobody else can give them an address. Others in
/// `docker.internal` are strangers'.
const OWN: [&str; 2] = ["host.docker.internal", "gateway.docker.internal"];

/// A policy, ready to be walked.
#[derive(Debug)]
pub(super) struct Compiled {
    default: Action,
    /// With their numbers in the policy, from 1.
    out: Vec<(usize, Rule)>,
    clients: Vec<(usize, Rule)>,
    names: bool,
}

/// A destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub protocol: Protocol,
    pub address: Spelling,
    /// 0 for ICMP.
    pub port: u16,
}

/// What a connection says about its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// Nothing yet; it will.
    NotYet,
    /// This.
    Name(&'a Name),
    /// Nothing that could be checked.
    Nothing,
}

/// Who decided: a rule by its number, or the default.
pub(super) type Decider = Option<usize>;

/// How a walk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Decided {
        action: Action,
        by: Decider,
        /// The first rule on the way that would have allowed it, had it shown its name; and the pinned name for it.
        hidden: Option<(usize, Option<Name>)>,
    },
    /// What it says about its name decides.
    Depends,
}

impl Compiled {
    pub(super) fn new(policy: Policy) -> Self {
        let names = policy.rules.0.iter().any(|rule| !rule.names.is_empty());
        let (out, clients) =
            (1..).zip(policy.rules.0).partition(|(_, rule): &(usize, Rule)| rule.direction == Direction::Out);
        Self { default: policy.default, out, clients, names }
    }

    /// Whether any rule is about names, so that it matters what DNS answered.
    pub(super) fn asks_for_names(&self) -> bool {
        self.names
    }

    /// What happens to `target`, whose address has the names `pins`.
    pub(super) fn walk(&self, target: &Target, pins: &[Name], said: Said<'_>) -> Outcome {
        let mut possible = [false; 2];
        let mut hidden: Option<(usize, Option<Name>)> = None;
        for (number, rule) in &self.out {
            if !covers(rule, target) {
                continue;
            }
            match of_name(rule, target, pins, said) {
                Match::No => {}
                // A name tells more than none.
                Match::Hidden(name) => match &hidden {
                    Some((_, known)) if known.is_some() || name.is_none() => {}
                    _ => hidden = Some((*number, name)),
                },
                Match::Perhaps => possible[rule.action as usize] = true,
                Match::Yes => return settle(possible, rule.action, Some(*number), hidden),
            }
        }
        settle(possible, self.default, None, hidden)
    }

    /// Whether a name may be asked for: whether a connection to it could be allowed at all, by what is known before its
    /// address is. Rules for some ports or some addresses do not keep a name from being asked for.
    pub(super) fn resolve(&self, name: Option<&Name>) -> (Action, Decider) {
        for (number, rule) in &self.out {
            let total = rule.ports.is_any() && rule.protocol == Wanted::Any && rule.addresses.is_empty();
            let named = name.is_some_and(|name| rule.names.iter().any(|pattern| pattern.matches(name)));
            // An allowed place needs no name; all of the Internet is used by name.
            let wide = rule.names.is_empty()
                && (rule.addresses.is_empty() || rule.addresses.iter().any(|a| a.is_everywhere()));
            let decides = match rule.action {
                Action::Deny => total && (named || rule.names.is_empty()),
                Action::Allow => named || (wide && rule.protocol != Wanted::Icmp),
            };
            if decides {
                return (rule.action, Some(*number));
            }
        }
        // What Dhow answers itself tells nobody anything.
        if name.is_some_and(is_own) { (Action::Allow, None) } else { (self.default, None) }
    }

    /// Whether an answer may give `name` this address. A stranger who owns an allowed name must not make it a way to
    /// the host, the host's network or the cloud's metadata: a rule has to name that range.
    pub(super) fn admits(&self, name: &Name, address: &Spelling) -> bool {
        if is_own(name) || !address.is_inside() {
            return true;
        }
        let named = |rule: &Rule| rule.names.iter().any(|pattern| pattern.matches(name));
        let trusted = self.out.iter().any(|(_, rule)| rule.action == Action::Allow && named(rule));
        // The address alone decides, when it is connected to.
        let judged = !trusted
            || (self.default == Action::Allow
                && !self.out.iter().any(|(_, rule)| {
                    rule.action == Action::Deny && rule.names.is_empty() && has_address(rule, address)
                }));
        judged
            || self.out.iter().any(|(_, rule)| {
                rule.action == Action::Allow
                    && (rule.names.is_empty() || named(rule))
                    && rule.addresses.iter().any(|a| !a.is_everywhere() && address.allowed_by(a))
            })
    }

    /// Whether the rule with this number is about names.
    pub(super) fn is_named(&self, number: usize) -> bool {
        self.out.iter().any(|(other, rule)| *other == number && !rule.names.is_empty())
    }

    /// What happens to a client of a published port. The default is not about these.
    pub(super) fn client(&self, client: &Target) -> (Action, Decider) {
        let rule = self.clients.iter().find(|(_, rule)| covers(rule, client));
        rule.map_or((Action::Allow, None), |(number, rule)| (rule.action, Some(*number)))
    }
}

enum Match {
    No,
    Yes,
    /// Depends on what the connection says.
    Perhaps,
    /// It would, if the name could be checked; with the name that DNS answered.
    Hidden(Option<Name>),
}

/// Whether the name's condition of a rule is met, for a destination that meets the others.
fn of_name(rule: &Rule, target: &Target, pins: &[Name], said: Said<'_>) -> Match {
    if rule.names.is_empty() {
        return Match::Yes;
    }
    let matches = |name: &Name| rule.names.iter().any(|pattern| pattern.matches(name));
    let pinned = pins.iter().find(|name| matches(name));
    match (rule.action, rule.check, said) {
        (_, Check::Address, _) if pinned.is_some() => Match::Yes,
        (Action::Deny, Check::Address, _) => Match::No,
        (Action::Allow, _, _) if pinned.is_none() => Match::Hidden(None),
        (Action::Allow, _, Said::Name(name)) if matches(name) && pins.contains(name) => Match::Yes,
        (Action::Allow, _, Said::Name(_)) => Match::No,
        (Action::Allow, _, Said::Nothing) => Match::Hidden(pinned.cloned()),
        (_, _, Said::NotYet) => Match::Perhaps,
        (Action::Deny, _, Said::Name(name)) if matches(name) => Match::Yes,
        (Action::Deny, _, Said::Name(_)) => Match::No,
        (Action::Deny, _, Said::Nothing) if pinned.is_some() || is_web(target) => Match::Yes,
        (Action::Deny, _, Said::Nothing) => Match::No,
    }
}

/// Ends a walk: if everything that may have matched on the way does the same, nothing depends on it.
fn settle(
    possible: [bool; 2],
    action: Action,
    by: Decider,
    hidden: Option<(usize, Option<Name>)>,
) -> Outcome {
    let other = match action {
        Action::Allow => Action::Deny,
        Action::Deny => Action::Allow,
    };
    if possible[other as usize] { Outcome::Depends } else { Outcome::Decided { action, by, hidden } }
}

/// Whether a rule's conditions other than its names are met.
fn covers(rule: &Rule, target: &Target) -> bool {
    let protocol = match rule.protocol {
        Wanted::Any => true,
        Wanted::Tcp => target.protocol == Protocol::Tcp,
        Wanted::Udp => target.protocol == Protocol::Udp,
        Wanted::Icmp => target.protocol == Protocol::Icmp,
    };
    let port = match target.protocol {
        Protocol::Icmp => rule.ports.is_any(),
        Protocol::Tcp | Protocol::Udp => rule.ports.contains(target.port),
    };
    protocol && port && has_address(rule, &target.address)
}

fn has_address(rule: &Rule, address: &Spelling) -> bool {
    rule.addresses.is_empty()
        || rule.addresses.iter().any(|addresses| match rule.action {
            Action::Allow => address.allowed_by(addresses),
            Action::Deny => address.denied_by(addresses),
        })
}

fn is_web(target: &Target) -> bool {
    target.protocol != Protocol::Icmp && WEB_PORTS.contains(&target.port)
}

/// Whether Dhow answers for a name itself.
pub(super) fn is_own(name: &Name) -> bool {
    name.is_in(network::DOMAIN) || OWN.contains(&name.as_str())
}
