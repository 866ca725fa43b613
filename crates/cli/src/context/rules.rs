//! What to write and what to restore, as functions of what is there. Nothing here touches a file.
//!
//! A context is ours when it bears our mark with this directory's path and leads to this directory's socket. Docker keeps
//! unknown keys of `Metadata` (`AdditionalFields` of its `DockerContext`), so the mark survives its `context update`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::{Error, Result};

/// The context that always exists and needs no file.
pub const DEFAULT: &str = "default";

/// Our mark in a context's metadata: the directory whose engine it leads to.
const MARK: &str = "DhowHome";

/// The context that should be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Its Docker endpoint, `unix:///…/docker.sock`.
    pub host: String,
    /// Dhow's directory, which marks it as ours.
    pub home: String,
}

/// What a context of the wanted name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// There is none.
    Nothing,
    /// It is the wanted one.
    Ours,
}

/// What was changed in one of Docker's directories, remembered in Dhow's own, so that it can be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Docker's directory.
    pub docker_config: PathBuf,
    /// The context that we made there.
    pub context: String,
    /// What was current before we made ours current; absent if we did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
}

/// The name of this directory's context: the configured one, or `dhow`, with the directory's tag where it is not the
/// user's default one.
///
/// # Errors
/// When Docker would refuse the name (`^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$` in its `cli/context/store`) or keeps it for itself.
pub fn name(configured: &str, is_default: bool, tag: &str) -> Result<String> {
    if configured.is_empty() {
        return Ok(if is_default { "dhow".to_owned() } else { format!("dhow-{tag}") });
    }
    let first = configured.starts_with(|c: char| c.is_ascii_alphanumeric());
    let rest = configured.chars().all(|c| c.is_ascii_alphanumeric() || "_.+-".contains(c));
    if first && rest && configured.len() > 1 && configured != DEFAULT {
        Ok(configured.to_owned())
    } else {
        Err(Error::BadName(configured.to_owned()))
    }
}

/// Where Docker keeps a context's metadata, below its directory: named by the SHA-256 of the context's name.
#[must_use]
pub fn meta_file(docker_config: &Path, name: &str) -> PathBuf {
    let digest: String = Sha256::digest(name).iter().map(|b| format!("{b:02x}")).collect();
    docker_config.join("contexts/meta").join(digest).join("meta.json")
}

/// The context's metadata, as Docker reads it.
#[must_use]
pub fn meta(wanted: &Wanted) -> String {
    let home = &wanted.home;
    json!({
        "Name": wanted.name,
        "Metadata": { "Description": format!("Dhow's engine in {home}"), MARK: home },
        "Endpoints": { "docker": { "Host": wanted.host, "SkipTLSVerify": false } },
    })
    .to_string()
}

/// What the context of the wanted name is, given its metadata file's content.
///
/// # Errors
/// When it is somebody else's: it is never overwritten.
pub fn judge(content: Option<&str>, wanted: &Wanted) -> Result<Found> {
    let Some(content) = content else { return Ok(Found::Nothing) };
    let foreign = |why: String| Err(Error::Foreign { name: wanted.name.clone(), why });
    let Ok(found) = serde_json::from_str::<Value>(content) else {
        return foreign("its metadata is no JSON".to_owned());
    };
    match found.pointer("/Metadata").and_then(|m| m.get(MARK)).and_then(Value::as_str) {
        Some(home) if home == wanted.home => {}
        Some(home) => return foreign(format!("it belongs to the engine in {home}")),
        None => return foreign("it was not made by Dhow".to_owned()),
    }
    match found.pointer("/Endpoints/docker/Host").and_then(Value::as_str) {
        Some(host) if host == wanted.host => Ok(Found::Ours),
        host => foreign(format!("it was changed and now leads to {}", host.unwrap_or("nowhere"))),
    }
}

/// The current context that `config.json` names; [`DEFAULT`] where it names none.
///
/// # Errors
/// When it is not a JSON object or the name is no text.
pub fn current(config: Option<&str>, path: &Path) -> Result<String> {
    match parse(config, path)?.get("currentContext") {
        None => Ok(DEFAULT.to_owned()),
        Some(Value::String(name)) if name.is_empty() => Ok(DEFAULT.to_owned()),
        Some(Value::String(name)) => Ok(name.clone()),
        Some(_) => Err(malformed(path, "currentContext is no text")),
    }
}

/// `config.json` with another current context, and every other key as it was. Docker indents with tabs.
///
/// # Errors
/// When it is not a JSON object.
pub fn with_current(config: Option<&str>, path: &Path, name: &str) -> Result<String> {
    let mut keys = parse(config, path)?;
    if name == DEFAULT {
        keys.shift_remove("currentContext");
    } else {
        keys.insert("currentContext".to_owned(), Value::String(name.to_owned()));
    }
    let mut text = Vec::new();
    let mut pretty = Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"\t"));
    keys.serialize(&mut pretty).map_err(|e| malformed(path, &e.to_string()))?;
    String::from_utf8(text).map_err(|e| malformed(path, &e.to_string()))
}

/// What to remember as the previous context when ours, `ours`, becomes current: what is current now, unless that is ours
/// already, since then an earlier `up` remembered, and if its record is lost, the default.
#[must_use]
pub fn previous(current: &str, ours: &str, remembered: Option<&str>) -> String {
    if current == ours { remembered.unwrap_or(DEFAULT).to_owned() } else { current.to_owned() }
}

/// What to make current when ours ends; `None` when the user has chosen another one since, which stays. A previous one
/// that is gone is replaced by the default.
#[must_use]
pub fn restored(current: &str, entry: &Entry, exists: impl Fn(&str) -> bool) -> Option<String> {
    if current != entry.context {
        return None;
    }
    let previous = entry.previous.as_deref().unwrap_or(DEFAULT);
    Some(if previous != entry.context && exists(previous) { previous } else { DEFAULT }.to_owned())
}

/// A warning when the environment makes the Docker client ignore the current context.
#[must_use]
pub fn overridden(
    docker_host: Option<&str>,
    docker_context: Option<&str>,
    wanted: &Wanted,
) -> Option<String> {
    let set = |value: Option<&'_ str>| value.filter(|v| !v.is_empty()).map(str::to_owned);
    // The client looks at DOCKER_HOST first (`resolveContextName` in its `cli/command`).
    if let Some(host) = set(docker_host) {
        return (host != wanted.host).then(|| {
            format!(
                "DOCKER_HOST is set to {host}, so docker does not use the context {}; unset DOCKER_HOST",
                wanted.name
            )
        });
    }
    set(docker_context).filter(|name| *name != wanted.name).map(|name| {
        format!(
            "DOCKER_CONTEXT is set to {name}, so docker does not use the context {}; unset DOCKER_CONTEXT",
            wanted.name
        )
    })
}

fn parse(config: Option<&str>, path: &Path) -> Result<Map<String, Value>> {
    // Docker itself takes an empty file for an empty object.
    match config.filter(|text| !text.trim().is_empty()) {
        None => Ok(Map::new()),
        Some(text) => serde_json::from_str(text).map_err(|e| malformed(path, &e.to_string())),
    }
}

fn malformed(path: &Path, why: &str) -> Error {
    Error::Malformed { path: path.to_owned(), why: why.to_owned() }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
