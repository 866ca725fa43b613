//! Ports as a rule writes them: `443`, `"443,8000-8010"`.

use std::fmt;
use std::str::FromStr;

/// Ports from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortRange {
    /// The lowest, 1 or more.
    pub first: u16,
    /// The highest, not below the lowest.
    pub last: u16,
}

/// The ports of a rule; none written means all.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Ports(Vec<PortRange>);

impl Ports {
    /// One port.
    #[must_use]
    pub fn single(port: u16) -> Self {
        Self(vec![PortRange { first: port, last: port }])
    }

    /// Whether the rule leaves ports open.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a port is one of these.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.0.is_empty() || self.0.iter().any(|range| range.first <= port && port <= range.last)
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut ranges: Vec<PortRange> = Vec::new();
        for piece in text.split(',') {
            let range = range(piece.trim())?;
            if let Some(other) = ranges.iter().find(|r| r.first <= range.last && range.first <= r.last) {
                return Err(format!("{range} overlaps {other}; write each port once"));
            }
            ranges.push(range);
        }
        Ok(Self(ranges))
    }
}

fn range(text: &str) -> Result<PortRange, String> {
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first.trim())?, port(last.trim())?),
        None => (port(text)?, port(text)?),
    };
    if last < first {
        return Err(format!("the range {first}-{last} runs backwards; write \"{last}-{first}\""));
    }
    Ok(PortRange { first, last })
}

fn port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse::<u16>().ok().filter(|number| digits && *number > 0);
    number.ok_or_else(|| {
        if digits {
            format!("there is no port {text}; ports are 1 to 65535")
        } else {
            format!(
                "`{text}` is no port; write 1 to 65535, a range such as \"8000-8010\", or several with commas"
            )
        }
    })
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&ranges.join(","))
    }
}
