//! The configuration file as the command line sees it: read with a person's errors, and changed in place, comments and
//! order kept (spec 15.3). What the keys are and mean stands in `dhow_model::config`.

mod edit;
mod verbs;

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use dhow_home::{Home, atomic};
use dhow_model::Config;
use serde::Serialize;

pub use edit::{set, sources, unset};
pub(crate) use verbs::run;

/// The module's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the configuration cannot be used or changed. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not what it should be.
    #[error("{path} cannot be used\n{why}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        why: String,
        /// A key that may have been meant.
        nearest: Option<&'static str>,
    },
    /// There is no such key.
    #[error("there is no key `{key}`\n{}", match nearest { Some(n) => format!("did you mean `{n}`?"), None => "no key has a similar name".to_owned() })]
    UnknownKey {
        /// What was typed.
        key: String,
        /// The key that may have been meant.
        nearest: Option<&'static str>,
    },
    /// The value is not possible.
    #[error("{key} cannot be set to {value}\n{why}")]
    BadValue {
        /// The key.
        key: String,
        /// What was typed.
        value: String,
        /// Why not.
        why: String,
    },
    /// The file cannot be read or written.
    #[error("{path} cannot be {done}\n{source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// read, written.
        done: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "config-invalid",
            Self::UnknownKey { .. } => "config-unknown-key",
            Self::BadValue { .. } => "config-bad-value",
            Self::Io { .. } => "config-io",
        }
    }

    /// What to type or do next.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Invalid { path, nearest, .. } => match nearest {
                Some(nearest) => format!("write `{nearest}` in {}, if that was meant", path.display()),
                None => format!("correct {}; `dhow config defaults` lists every key", path.display()),
            },
            Self::UnknownKey { .. } => "dhow config defaults".to_owned(),
            Self::BadValue { key, .. } => match Config::KEYS.iter().find(|k| k.name == key.as_str()) {
                Some(key) => format!("{}: {}", key.name, key.doc),
                None => String::new(),
            },
            Self::Io { path, .. } => format!("check the owner and mode of {}", path.display()),
        }
    }
}

/// A key with what it is set to and where that comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Section and key, joined by a dot.
    pub key: &'static str,
    /// Its effective value, as TOML writes it.
    pub value: String,
    /// Where the value comes from.
    pub source: Source,
    /// Its default, as TOML writes it.
    pub default: String,
    /// What it means, with its range.
    pub doc: &'static str,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The configuration file.
    File,
    /// Its default.
    Default,
}

/// The configuration of the engine in `home`; every default where there is no file.
///
/// # Errors
/// When the file cannot be read or is not a configuration.
pub fn load(home: &Home) -> Result<Config> {
    let path = home.config_file();
    parse(&read(&path)?, &path)
}

/// The text of the configuration file; empty where there is none.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(Error::Io { path: path.to_owned(), done: "read", source }),
    }
}

/// Replaces the configuration file, which keeps its mode, and its place where it is a symbolic link.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mode = real.metadata().map_or(0o600, |m| m.permissions().mode() & 0o777);
    atomic::write(&real, text.as_bytes(), mode).map_err(|source| Error::Io {
        path: path.to_owned(),
        done: "written",
        source,
    })
}

/// Every key with its effective value, in the order in which they are documented.
///
/// # Errors
/// When the text is not a configuration.
pub fn settings(text: &str, path: &Path) -> Result<Vec<Setting>> {
    let config = parse(text, path)?;
    let in_file = sources(text);
    let defaults = Config::default().values();
    let of = |((key, value), (default, doc)): ((&'static str, String), (String, &'static str))| Setting {
        key,
        value,
        source: if in_file.iter().any(|k| k == key) { Source::File } else { Source::Default },
        default,
        doc,
    };
    let more = defaults.into_iter().map(|(_, default)| default).zip(Config::KEYS.iter().map(|k| k.doc));
    Ok(config.values().into_iter().zip(more).map(of).collect())
}

/// Checks the text of a configuration file.
///
/// # Errors
/// When it is none; the error suggests the key that may have been meant.
pub fn parse(text: &str, path: &Path) -> Result<Config> {
    Config::parse(text).map_err(|error| {
        let unknown = sources(text).into_iter().find(|key| Config::KEYS.iter().all(|k| k.name != key));
        Error::Invalid {
            path: path.to_owned(),
            why: error.to_string(),
            nearest: unknown.and_then(|key| nearest(&key)),
        }
    })
}

/// The key that was probably meant: the one with the fewest letters to change, if they are few.
#[must_use]
pub fn nearest(typed: &str) -> Option<&'static str> {
    let name = |key: &'static str| key.split_once('.').map_or(key, |(_, name)| name);
    let distance = |key: &'static str| {
        // A key without its section is as good as the whole.
        strsim::damerau_levenshtein(typed, key).min(strsim::damerau_levenshtein(typed, name(key)))
    };
    // Of keys that are equally near, the first of the list is the most used.
    let best = Config::KEYS.iter().map(|key| (distance(key.name), key.name)).min_by_key(|best| best.0)?;
    (best.0 <= 1 + typed.len() / 4).then_some(best.1)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
