//! A rule's text form. It is read by hand and not derived, so that each error names the rule's number, the key and the
//! value.

use std::str::FromStr;

use toml::{Table, Value};

use super::rule::MAX_RULES;
use super::{Action, Addresses, Check, Direction, EgressError, Pattern, Ports, Protocol, Rule, Rules};

/// Every key that a rule may have.
pub(super) const KEYS: [&str; 8] =
    ["action", "direction", "to", "from", "ports", "protocol", "name", "check"];

impl TryFrom<Vec<Table>> for Rules {
    type Error = EgressError;

    fn try_from(tables: Vec<Table>) -> Result<Self, EgressError> {
        if tables.len() > MAX_RULES {
            return Err(EgressError::TooMany(tables.len()));
        }
        tables
            .into_iter()
            .zip(1..)
            .map(|(table, number)| read(&table, number))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl From<Rules> for Vec<Table> {
    fn from(rules: Rules) -> Self {
        rules.0.iter().map(Rule::to_table).collect()
    }
}

fn read(table: &Table, rule: usize) -> Result<Rule, EgressError> {
    if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(EgressError::UnknownKey { rule, key: key.clone() });
    }
    let actions = [(Action::Allow, "allow"), (Action::Deny, "deny")];
    let action = word(table, rule, "action", &actions)?.ok_or(EgressError::Missing {
        rule,
        key: "action",
        what: "write `action = \"allow\"` or `action = \"deny\"`",
    })?;
    let directions = [(Direction::Out, "out"), (Direction::In, "in")];
    let direction = word(table, rule, "direction", &directions)?.unwrap_or_default();
    let (mine, other) = match direction {
        Direction::Out => ("to", "from"),
        Direction::In => ("from", "to"),
    };
    if table.contains_key(other) {
        let why = match direction {
            Direction::Out => {
                "`from` is for `direction = \"in\"`, the clients of published ports; write `to`"
            }
            Direction::In => "`to` is for `direction = \"out\"`; the clients of published ports are `from`",
        };
        return Err(EgressError::Senseless { rule, why });
    }
    let addresses: Vec<Addresses> = list(table, rule, mine)?;
    separate(&addresses, rule, mine)?;
    let protocols = [Protocol::Any, Protocol::Tcp, Protocol::Udp, Protocol::Icmp].map(|p| (p, p.as_str()));
    let checks = [(Check::Name, "name"), (Check::Address, "address")];
    let read = Rule {
        action,
        direction,
        addresses,
        ports: ports(table, rule)?,
        protocol: word(table, rule, "protocol", &protocols)?.unwrap_or_default(),
        names: list::<Pattern>(table, rule, "name")?,
        check: word(table, rule, "check", &checks)?.unwrap_or_default(),
    };
    read.check(rule)?;
    Ok(read)
}

/// One word of several.
fn word<T: Copy>(
    table: &Table,
    rule: usize,
    key: &'static str,
    words: &[(T, &str)],
) -> Result<Option<T>, EgressError> {
    let Some(value) = table.get(key) else { return Ok(None) };
    let found = words.iter().find(|(_, word)| value.as_str() == Some(word)).map(|(found, _)| *found);
    found.map(Some).ok_or_else(|| {
        let words: Vec<String> = words.iter().map(|(_, word)| format!("\"{word}\"")).collect();
        wrong(rule, key, value, format!("write {}", words.join(" or ")))
    })
}

/// One text, or a list of texts that is not empty.
fn list<T: FromStr<Err = String>>(
    table: &Table,
    rule: usize,
    key: &'static str,
) -> Result<Vec<T>, EgressError> {
    let Some(value) = table.get(key) else { return Ok(Vec::new()) };
    let items = match value {
        // A condition that nothing can meet is a mistake, and one that everything meets a worse one.
        Value::Array(items) if items.is_empty() => {
            return Err(wrong(
                rule,
                key,
                value,
                "the list is empty; leave the key out, or name something".to_owned(),
            ));
        }
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    items
        .iter()
        .map(|item| {
            let text =
                item.as_str().ok_or_else(|| wrong(rule, key, item, "write it in quotes".to_owned()))?;
            text.parse().map_err(|why| wrong(rule, key, item, why))
        })
        .collect()
}

/// A number, a text, or a list of both.
fn ports(table: &Table, rule: usize) -> Result<Ports, EgressError> {
    let Some(value) = table.get("ports") else { return Ok(Ports::default()) };
    let text = |item: &Value| match item {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        other => {
            Err(wrong(rule, "ports", other, "write a port or a text such as \"443,8000-8010\"".to_owned()))
        }
    };
    let text = match value {
        Value::Array(items) if !items.is_empty() => {
            items.iter().map(text).collect::<Result<Vec<_>, _>>()?.join(",")
        }
        one => text(one)?,
    };
    text.parse().map_err(|why| wrong(rule, "ports", value, why))
}

/// Two ranges of one rule that overlap: one of them is not what was meant.
fn separate(addresses: &[Addresses], rule: usize, key: &'static str) -> Result<(), EgressError> {
    for (index, one) in addresses.iter().enumerate() {
        for other in &addresses[..index] {
            let overlap = match (one, other) {
                (Addresses::Range(one), Addresses::Range(other)) => one.overlaps(other),
                (one, other) => one == other,
            };
            if overlap {
                let value = Value::String(one.to_string());
                return Err(wrong(rule, key, &value, format!("overlaps {other} in the same rule; keep one")));
            }
        }
    }
    Ok(())
}

fn wrong(rule: usize, key: &'static str, value: &Value, why: String) -> EgressError {
    EgressError::Value { rule, key, value: value.to_string(), why }
}

impl Rule {
    /// The rule as a TOML table; conditions that are open are left out.
    #[must_use]
    pub fn to_table(&self) -> Table {
        let mut table = Table::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                table.insert(key.to_owned(), value);
            }
        };
        let text = |text: &str| Some(Value::String(text.to_owned()));
        put("action", text(self.action.as_str()));
        let addresses = one_or_more(self.addresses.iter().map(ToString::to_string));
        match self.direction {
            Direction::Out => put("to", addresses),
            Direction::In => {
                put("direction", text("in"));
                put("from", addresses);
            }
        }
        put("name", one_or_more(self.names.iter().map(ToString::to_string)));
        if !self.ports.is_any() {
            let ports = self.ports.to_string();
            put("ports", Some(ports.parse().map_or(Value::String(ports), Value::Integer)));
        }
        put("protocol", text(self.protocol.as_str()).filter(|_| self.protocol != Protocol::Any));
        put("check", text("address").filter(|_| self.check == Check::Address));
        table
    }
}

fn one_or_more(texts: impl Iterator<Item = String>) -> Option<Value> {
    let mut values: Vec<Value> = texts.map(Value::String).collect();
    match values.len() {
        0 => None,
        1 => values.pop(),
        _ => Some(Value::Array(values)),
    }
}
