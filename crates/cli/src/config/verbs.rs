//! `dhow config`.

use serde_json::json;

use super::{Error, Setting, Source, load, nearest, parse, read, set, settings, unset, write};
use crate::args::ConfigVerb;
use crate::command::Caller;
use crate::error::Result;
use crate::exit;
use crate::output::Style;

/// Does what was asked about the configuration.
pub fn run(caller: &Caller, verb: &ConfigVerb) -> Result<u8> {
    let path = caller.home.config_file();
    let output = &caller.output;
    match verb {
        ConfigVerb::Show => {
            let settings = settings(&read(&path)?, &path)?;
            let document = json!({ "path": path, "exists": path.exists(), "settings": settings });
            output.answer(&render(&settings, output.verbose, output.stdout), &document)?;
        }
        ConfigVerb::Get { key } => {
            let settings = settings(&read(&path)?, &path)?;
            let setting = settings.iter().find(|s| s.key == key.as_str());
            let setting =
                setting.ok_or_else(|| Error::UnknownKey { key: key.clone(), nearest: nearest(key) })?;
            output.answer(&format!("{}\n", bare(&setting.value)), setting)?;
        }
        ConfigVerb::Set { key, value } => {
            let text = set(&read(&path)?, &path, key, value)?;
            caller.home.create()?;
            write(&path, &text)?;
            changed(caller, key)?;
        }
        ConfigVerb::Unset { key } => {
            let before = read(&path)?;
            let text = unset(&before, &path, key)?;
            if text != before {
                write(&path, &text)?;
            }
            changed(caller, key)?;
        }
        ConfigVerb::Path => {
            output.answer(
                &format!("{}\n", path.display()),
                &json!({ "path": path, "exists": path.exists() }),
            )?;
        }
        ConfigVerb::Check => {
            load(&caller.home)?;
            let words = if path.exists() { "is right" } else { "does not exist: every default holds" };
            let document = json!({ "path": path, "exists": path.exists(), "valid": true });
            output.answer(&format!("{} {words}\n", path.display()), &document)?;
        }
        ConfigVerb::Defaults => {
            let settings = settings("", &path)?;
            output.answer(&defaults(&settings), &json!({ "settings": settings }))?;
        }
    }
    Ok(exit::OK)
}

/// What a change leads to, with the effective value.
fn changed(caller: &Caller, key: &str) -> Result<()> {
    let path = caller.home.config_file();
    let text = read(&path)?;
    // Unsetting is how a wrong file is repaired; it may take more than one.
    parse(&text, &path)?;
    let settings = settings(&text, &path)?;
    let Some(setting) = settings.iter().find(|s| s.key == key) else { return Ok(()) };
    let from = if setting.source == Source::Default { " (default)" } else { "" };
    caller.output.note("it holds from the next `dhow up` on");
    let words =
        if caller.output.quiet { String::new() } else { format!("{key} = {}{from}\n", setting.value) };
    caller.output.answer(&words, setting)
}

fn render(settings: &[Setting], verbose: bool, style: Style) -> String {
    let key_width = settings.iter().map(|s| s.key.len()).max().unwrap_or_default();
    let value_width = settings.iter().map(|s| s.value.len()).max().unwrap_or_default();
    let mut out = String::new();
    for s in settings {
        let source = match s.source {
            Source::File => "file".to_owned(),
            Source::Default => style.dim("default"),
        };
        out.push_str(&format!("{:<key_width$}  {:<value_width$}  {source}\n", s.key, s.value));
        if verbose {
            out.push_str(&format!("{}\n", style.dim(&format!("    {}; default {}", s.doc, s.default))));
        }
    }
    out
}

/// A configuration file that changes nothing: every key, its meaning, and its default behind a `#`.
fn defaults(settings: &[Setting]) -> String {
    let mut out = String::from(
        "# Dhow's configuration. Each key stands here with its default; remove the # to change it.\n",
    );
    let mut section = "";
    for s in settings {
        let (of, key) = s.key.split_once('.').unwrap_or(("", s.key));
        if of != section {
            section = of;
            out.push_str(&format!("\n[{section}]\n"));
        }
        out.push_str(&format!("# {}\n# {key} = {}\n", s.doc, s.default));
    }
    out
}

/// A value without the quotes that TOML needs, for scripts.
fn bare(value: &str) -> String {
    let parsed = value.parse::<toml_edit::Value>().ok();
    parsed.as_ref().and_then(|v| v.as_str()).unwrap_or(value).to_owned()
}

#[cfg(test)]
mod tests {
    use dhow_model::Config;

    use super::*;

    /// Spec 15.3.
    #[test]
    fn the_file_of_defaults_names_every_key_and_changes_nothing() {
        let path = std::path::Path::new("/config.toml");
        let text = defaults(&settings("", path).unwrap());
        assert_eq!(parse(&text, path).unwrap(), Config::default());
        let without_marks: String = text
            .lines()
            .map(|line| {
                line.strip_prefix("# ").filter(|l| l.contains(" = ") && !l.contains(", ")).unwrap_or(line)
            })
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(parse(&without_marks, path).unwrap(), Config::default(), "{without_marks}");
        for key in Config::KEYS {
            assert!(text.contains(key.doc), "{}", key.name);
        }
    }

    #[test]
    fn a_script_gets_a_value_without_quotes() {
        assert_eq!(bare("\"4GiB\""), "4GiB");
        assert_eq!(bare("45"), "45");
    }
}
