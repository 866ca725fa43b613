//! `dhow doctor`: what the engine needs, what was found, what to do.

use std::path::PathBuf;

use dhow_home::Home;
use dhow_model::{Config, Failure};
use serde_json::json;

use crate::command::Caller;
use crate::config;
use crate::context::Context;
use crate::error::Result;
use crate::exit;
use crate::house::{Check, House, Verdict};
use crate::output::Style;
use crate::text;

/// Runs every check. The exit status is 1 if something keeps the engine from running.
///
/// # Errors
/// When the answer cannot be written.
pub fn doctor(house: &dyn House, caller: &Caller) -> Result<u8> {
    let (config, file) = configuration(&caller.home);
    let mut checks = vec![file];
    checks.extend(house.doctor(&caller.home));
    checks.push(docker_client());
    checks.push(docker_context(&caller.home, &config));
    let healthy = checks.iter().all(|check| check.verdict != Verdict::Bad);
    let document = json!({ "healthy": healthy, "checks": checks });
    caller.output.answer(&render(&checks, caller.output.stdout), &document)?;
    Ok(if healthy { exit::OK } else { exit::FAILED })
}

/// The configuration, and what is wrong with it.
fn configuration(home: &Home) -> (Config, Check) {
    let path = home.config_file();
    match config::load(home) {
        Ok(config) => {
            let found = if path.exists() {
                path.display().to_string()
            } else {
                "every default; there is no file".to_owned()
            };
            (config, Check::good("configuration file", found))
        }
        Err(error) => (Config::default(), Check::bad("configuration file", error.to_string(), error.hint())),
    }
}

fn docker_client() -> Check {
    let name = "docker client";
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).map(|dir| dir.join("docker")).find(is_program);
    match found {
        Some(path) => Check::good(name, path.display().to_string()),
        None => Check::warning(
            name,
            "there is no `docker` in PATH; the engine runs without it",
            "install your system's package of the Docker client, often docker-cli or docker.io",
        ),
    }
}

fn is_program(path: &PathBuf) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn docker_context(home: &Home, config: &Config) -> Check {
    let name = "docker context";
    let state = Context::of(home, config).and_then(|context| context.state());
    match state {
        Err(error) => {
            let failure = Failure::new(error.code(), error.to_string(), error.hint());
            Check::bad(name, failure.message, failure.hint)
        }
        Ok(state) => match state.overridden {
            Some(warning) => {
                let (found, hint) = warning.split_once("; ").unwrap_or((&warning, ""));
                Check::warning(name, found, hint)
            }
            None if state.current => Check::good(name, format!("{} is current", state.name)),
            None if state.exists => {
                Check::good(name, format!("{} is current, {} leads here", state.current_name, state.name))
            }
            None => Check::good(
                name,
                format!("{} is current; `dhow up` makes {}", state.current_name, state.name),
            ),
        },
    }
}

fn render(checks: &[Check], style: Style) -> String {
    let width = checks.iter().map(|c| c.name.chars().count()).max().unwrap_or_default();
    let mut out = String::new();
    for check in checks {
        let mark = match check.verdict {
            Verdict::Good => style.good("good   "),
            Verdict::Warning => style.warning("warning"),
            Verdict::Bad => style.bad("bad    "),
        };
        let indent = " ".repeat(width + 11);
        let words = text::harmless(&check.found).trim_end().replace('\n', &format!("\n{indent}"));
        out.push_str(&format!("{mark}  {:<width$}  {words}\n", check.name));
        if !check.hint.is_empty() {
            let hint = text::harmless(&check.hint).replace('\n', &format!("\n{indent}     "));
            out.push_str(&format!("{indent}{} {hint}\n", style.bold("try:")));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 9.3: what was found and what to do.
    #[test]
    fn each_check_says_what_it_found_and_what_to_do() {
        let checks = [
            Check::good("qemu", "version 10.0.2, /usr/bin/qemu-system-x86_64"),
            Check::warning(
                "kvm",
                "/dev/kvm is there, but a guest does not run on it\ninternal error 1",
                "nothing; the engine emulates",
            ),
            Check::bad("space", "0.2 GiB are free", "free at least 2 GiB"),
        ];
        insta::assert_snapshot!(render(&checks, Style::PLAIN), @r#"
        good     qemu   version 10.0.2, /usr/bin/qemu-system-x86_64
        warning  kvm    /dev/kvm is there, but a guest does not run on it
                        internal error 1
                        try: nothing; the engine emulates
        bad      space  0.2 GiB are free
                        try: free at least 2 GiB
        "#);
    }
}
