//! Changes of the configuration's text that leave the rest of it alone: comments, order, spacing.

use std::path::Path;

use dhow_model::Config;
use toml_edit::{DocumentMut, Item, Table, Value};

use super::{Error, Result, nearest, parse};

/// The text with `key` set to `value`, which may be written as in TOML or without quotes.
///
/// # Errors
/// When there is no such key, the value is not possible, or the text is not a configuration.
pub fn set(text: &str, path: &Path, key: &str, value: &str) -> Result<String> {
    let (section, name) = split(key)?;
    let mut document = document(text, path)?;
    let typed: Option<Value> = value.parse().ok();
    let quoted = Value::from(value);
    let mut errors = Vec::new();
    for candidate in typed.into_iter().chain([quoted]) {
        put(&mut document, section, name, candidate);
        match Config::parse(&document.to_string()) {
            Ok(_) => return Ok(document.to_string()),
            Err(error) => errors.push(error.to_string()),
        }
    }
    // If what is wrong was there before, the file is to blame and not the value.
    parse(text, path)?;
    // That a number is no text says less than why the text is no size.
    let telling = errors.iter().find(|e| !e.contains("invalid type")).or(errors.first());
    let why = telling.map(|e| reason(e)).unwrap_or_default();
    Err(Error::BadValue { key: key.to_owned(), value: value.to_owned(), why })
}

/// The text without `key`, so that its default holds again. A section that becomes empty goes. A key that is not known goes
/// too, if the text has it: that is how a wrong file is repaired.
///
/// # Errors
/// When there is no such key, or the text is not TOML.
pub fn unset(text: &str, path: &Path, key: &str) -> Result<String> {
    let mut document = document(text, path)?;
    let found = sources(text).iter().any(|k| k == key);
    let (section, name) = if found { key.split_once('.').unwrap_or((key, "")) } else { split(key)? };
    if name.is_empty() {
        document.remove(section);
    }
    if let Some(table) = document.get_mut(section).and_then(Item::as_table_like_mut) {
        table.remove(name);
        if table.is_empty() {
            document.remove(section);
        }
    }
    Ok(document.to_string())
}

/// The keys that the text itself sets, section and key joined by a dot; none where it is not TOML.
#[must_use]
pub fn sources(text: &str) -> Vec<String> {
    let Ok(document) = text.parse::<DocumentMut>() else { return Vec::new() };
    let keys = |(section, item): (&str, &Item)| match item.as_table_like() {
        Some(table) => table.iter().map(|(key, _)| format!("{section}.{key}")).collect(),
        None => vec![section.to_owned()],
    };
    document.iter().flat_map(keys).collect()
}

fn split(key: &str) -> Result<(&str, &str)> {
    let known = Config::KEYS.iter().any(|k| k.name == key);
    key.split_once('.')
        .filter(|_| known)
        .ok_or_else(|| Error::UnknownKey { key: key.to_owned(), nearest: nearest(key) })
}

fn document(text: &str, path: &Path) -> Result<DocumentMut> {
    text.parse().map_err(|e: toml_edit::TomlError| Error::Invalid {
        path: path.to_owned(),
        why: e.to_string(),
        nearest: None,
    })
}

/// Sets the value where it is or would be, and keeps the comment behind it.
fn put(document: &mut DocumentMut, section: &str, name: &str, mut value: Value) {
    let section = document.entry(section).or_insert_with(|| Item::Table(Table::new()));
    let Some(table) = section.as_table_like_mut() else { return };
    match table.get_mut(name) {
        Some(Item::Value(old)) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        _ => {
            table.insert(name, Item::Value(value));
        }
    }
}

/// The last line of the parser's message: the lines before it show where in the file, which means nothing to somebody who
/// typed a value.
fn reason(message: &str) -> String {
    message.trim_end().lines().last().unwrap_or_default().to_owned()
}
