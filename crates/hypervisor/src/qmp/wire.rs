//! QMP's messages: one JSON object on each line, in either direction.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Error, QemuVersion, Result};

/// Something that happened, unasked.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its name in capitals: `SHUTDOWN`, `STOP`, `RESUME`, `GUEST_PANICKED`, …
    pub name: String,
    /// What it carries; `Null` when nothing.
    pub data: Value,
}

/// QEMU's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// Its version.
    pub version: QemuVersion,
}

/// What arrives after the greeting.
#[derive(Debug)]
pub(super) enum Message {
    Event(Event),
    Reply { id: u64, result: Result<Value, Refusal> },
}

/// QMP's error object.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    pub(super) class: String,
    pub(super) desc: String,
}

fn not_qmp(what: &str, line: &str) -> Error {
    let shown: String = line.chars().take(200).collect();
    Error::QmpProtocol(format!("{what}: {shown:?}"))
}

pub(super) fn greeting(line: &str) -> Result<Greeting> {
    #[derive(Deserialize)]
    struct Outer {
        #[serde(rename = "QMP")]
        qmp: Inner,
    }
    #[derive(Deserialize)]
    struct Inner {
        version: Versions,
    }
    #[derive(Deserialize)]
    struct Versions {
        qemu: QemuVersion,
    }
    let outer: Outer = serde_json::from_str(line).map_err(|_| not_qmp("no greeting", line))?;
    Ok(Greeting { version: outer.qmp.version.qemu })
}

pub(super) fn message(line: &str) -> Result<Message> {
    let mut object: Map<String, Value> =
        serde_json::from_str(line).map_err(|_| not_qmp("not a JSON object", line))?;
    if let Some(name) = object.get("event").and_then(Value::as_str) {
        let name = name.to_owned();
        return Ok(Message::Event(Event { name, data: object.remove("data").unwrap_or_default() }));
    }
    let id = object.get("id").and_then(Value::as_u64);
    let result = match (object.remove("return"), object.remove("error")) {
        (Some(value), None) => Ok(value),
        (None, Some(error)) => {
            Err(serde_json::from_value(error).map_err(|_| not_qmp("not an error object", line))?)
        }
        _ => return Err(not_qmp("neither event, return nor error", line)),
    };
    let id = id.ok_or_else(|| not_qmp("a reply to no command", line))?;
    Ok(Message::Reply { id, result })
}

pub(super) fn command(name: &str, arguments: Map<String, Value>, id: u64) -> String {
    let mut object = Map::new();
    object.insert("execute".to_owned(), name.into());
    if !arguments.is_empty() {
        object.insert("arguments".to_owned(), arguments.into());
    }
    object.insert("id".to_owned(), id.into());
    let mut text = Value::Object(object).to_string();
    text.push('\n');
    text
}
