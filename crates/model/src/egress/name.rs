//! Names of hosts in one spelling, and patterns of them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use idna::AsciiDenyList;

/// A host's name in its one spelling: ASCII (IDNA, RFC 5891 as UTS 46 maps it), lower case, without the last dot. Labels
/// hold letters, digits, `-` and `_`. What a program would take for an address (`127.1`, `0x7f.1`) is not a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

/// What a rule says about names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// `*`: any name.
    Any,
    /// `example.com`: this one.
    Exact(Name),
    /// `*.example.com`: all below it, at any depth, and not itself.
    Below(Name),
}

/// The longest name in text form, without its last dot (RFC 1035, 3.1).
const LONGEST: usize = 253;
/// The longest label.
const LONGEST_LABEL: usize = 63;

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is `domain` or below it.
    #[must_use]
    pub fn is_in(&self, domain: &str) -> bool {
        &*self.0 == domain || is_below(&self.0, domain)
    }
}

fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Long before anything is computed from it: the text may be a guest's.
        if text.len() > 4 * LONGEST {
            return Err(format!("a name has at most {LONGEST} characters"));
        }
        let ascii = if text.is_ascii() {
            Cow::Owned(text.to_ascii_lowercase())
        } else {
            idna::domain_to_ascii_cow(text.as_bytes(), AsciiDenyList::URL).map_err(|_| {
                "this is no name of a host: it has characters that no name may have".to_owned()
            })?
        };
        let name = ascii.strip_suffix('.').unwrap_or(&ascii);
        if name.is_empty() {
            return Err("a name has at least one character".to_owned());
        }
        if name.len() > LONGEST {
            return Err(format!("a name has at most {LONGEST} characters"));
        }
        for label in name.split('.') {
            check(label)?;
        }
        if ends_in_a_number(name) {
            return Err("this is an address, not a name; write it as `to`".to_owned());
        }
        Ok(Self(name.into()))
    }
}

fn check(label: &str) -> Result<(), String> {
    if label.is_empty() {
        return Err("two dots have nothing between them, or the name begins with a dot".to_owned());
    }
    if label.len() > LONGEST_LABEL {
        return Err(format!("each part of a name has at most {LONGEST_LABEL} characters"));
    }
    let odd =
        label.chars().find(|c| !(c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_')));
    match odd {
        Some(odd) => Err(format!("a name cannot have {odd:?}; it has letters, digits, `-`, `_` and dots")),
        None => Ok(()),
    }
}

/// Whether programs would read it as an IPv4 address in one of its spellings (WHATWG URL, "ends in a number").
fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    last.bytes().all(|b| b.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl Pattern {
    /// Whether a name matches.
    #[must_use]
    pub fn matches(&self, name: &Name) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == name,
            Self::Below(domain) => is_below(&name.0, &domain.0),
        }
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        if name.contains('*') {
            return Err(
                "`*` stands for whole parts at the beginning only: \"*.example.com\", or \"*\" for any name"
                    .to_owned(),
            );
        }
        let name = name.parse()?;
        Ok(if below { Self::Below(name) } else { Self::Exact(name) })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(name) => name.fmt(f),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}
