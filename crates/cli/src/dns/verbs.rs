//! `dhow dns`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use dhow_model::network::DOMAIN;
use serde::Serialize;
use serde_json::json;
use tokio::process::Command;

use super::ask::{self, Answer};
use super::file::{self, State};
use super::host;
use super::plan::{self, PLACES, Plan};
use super::{Error, Result};
use crate::args::DnsVerb;
use crate::command::Caller;
use crate::exit;
use crate::output::Style;

/// How long a resolver may take to read its configuration again.
const RELOAD: Duration = Duration::from_secs(30);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Does what was asked about the host's resolver.
pub async fn run(caller: &Caller, verb: &DnsVerb) -> crate::error::Result<u8> {
    let port = crate::config::load(&caller.home)?.dns.port;
    let (DnsVerb::Status { place } | DnsVerb::Install { place, .. } | DnsVerb::Uninstall { place, .. }) =
        verb;
    let scene = Scene::of(caller, place.root.as_deref().unwrap_or(Path::new("/")), port).await;
    match verb {
        DnsVerb::Status { .. } => scene.status().await,
        DnsVerb::Install { dry_run, .. } => scene.install(*dry_run).await,
        DnsVerb::Uninstall { dry_run, .. } => scene.uninstall(*dry_run).await,
    }
}

struct Scene<'a> {
    caller: &'a Caller,
    root: PathBuf,
    /// Whether `root` is this host's own, whose resolver can be asked and told.
    live: bool,
    port: u16,
    plan: Result<Plan>,
}

/// What `status` found.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The domain that containers' names are in.
    pub domain: &'static str,
    /// Our port on 127.0.0.1; 0 for none.
    pub port: u16,
    /// The host's resolver, where it is one that we can tell.
    pub resolver: Option<String>,
    /// Its file; or the one that we left elsewhere.
    pub path: Option<PathBuf>,
    /// Whether the file is there and says what it should.
    pub file: Answer,
    /// Whether our port answers.
    pub listener: Answer,
    /// Whether programs on the host find our names.
    pub host: Answer,
}

impl<'a> Scene<'a> {
    async fn of(caller: &'a Caller, root: &Path, port: u16) -> Self {
        let live = root == Path::new("/");
        let macos = cfg!(target_os = "macos");
        let version = if live && !macos { systemd().await } else { None };
        let seen = host::look(root, macos, version);
        Self { caller, root: root.to_owned(), live, port, plan: plan::plan(&seen, port) }
    }

    async fn status(self) -> crate::error::Result<u8> {
        let limit = self.caller.time_limit.unwrap_or(ANSWER);
        let (path, file) = self.file();
        let unasked = |why: &str| Answer { works: false, found: why.to_owned() };
        let listener = match self.port {
            0 => unasked("dns.port is 0 in the configuration"),
            port => {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                ask::port(address, &self.caller.home.tag(), limit.min(ANSWER))
            }
        };
        let host = if self.live {
            ask::resolver(limit).await
        } else {
            unasked("another host's files cannot be asked")
        };
        let resolver = self.plan.as_ref().ok().map(|plan| plan.resolver.clone());
        let status = Status { domain: DOMAIN, port: self.port, resolver, path, file, listener, host };
        let works = status.file.works && status.listener.works && (status.host.works || !self.live);
        self.caller.output.answer(&render(&status, self.caller.output.stdout), &status)?;
        Ok(if works { exit::OK } else { exit::FAILED })
    }

    /// The file that matters, and how it is.
    fn file(&self) -> (Option<PathBuf>, Answer) {
        let bad = |found: String| Answer { works: false, found };
        let Ok(plan) = &self.plan else {
            let left = PLACES
                .iter()
                .map(|p| self.root.join(p))
                .find(|p| matches!(file::state(p), Ok(State::Ours(_))));
            let why = self.plan.as_ref().err().map_or_else(String::new, |e| second_line(&e.to_string()));
            return match left {
                Some(path) => (Some(path.clone()), bad(format!("{} is left over: {why}", path.display()))),
                None => (None, bad(why)),
            };
        };
        let path = self.root.join(&plan.path);
        let shown = path.display();
        let answer = match file::state(&path) {
            Ok(State::Ours(ours)) if ours.body == plan.body => {
                Answer { works: true, found: format!("{shown} is installed") }
            }
            Ok(State::Ours(_)) => bad(format!("{shown} says something else than the configuration does now")),
            Ok(State::Absent) => bad(format!("{shown} is not there")),
            Ok(State::Foreign(why)) => bad(format!("{shown} is not ours: {why}")),
            Err(error) => bad(error.to_string().replace('\n', ": ")),
        };
        (Some(path), answer)
    }

    async fn install(self, dry_run: bool) -> crate::error::Result<u8> {
        let output = &self.caller.output;
        let plan = match &self.plan {
            Ok(plan) => plan,
            Err(_) => return self.plan.map(|_| exit::OK).map_err(Into::into),
        };
        let path = self.root.join(&plan.path);
        if let State::Foreign(why) = file::state(&path)? {
            return Err(Error::Foreign { path, why }.into());
        }
        let reload = if self.live { &plan.reload[..] } else { &[] };
        let document = |changed: bool| {
            json!({
                "changed": changed, "dry_run": dry_run, "resolver": plan.resolver, "path": path,
                "content": plan.body, "reload": reload.join(" "),
            })
        };
        if dry_run {
            let mut words =
                format!("Would write {}:\n\n{}\n", path.display(), indented(&file::preview(&plan.body)));
            if !reload.is_empty() {
                words.push_str(&format!("Would run: {}\n", reload.join(" ")));
            }
            output.answer(&words, &document(false))?;
            return Ok(exit::OK);
        }
        let before = file::state(&path)?;
        let changed = file::put(&path, &plan.body, &self.sudo("install"))?;
        if changed && let Err(why) = run_command(reload).await {
            // As it was: an earlier one of ours, or nothing.
            match before {
                State::Ours(ours) => file::put(&path, &ours.body, "").map(|_| ())?,
                _ => file::take_away(&path, "").map(|_| ())?,
            }
            return Err(Error::Reload { command: reload.join(" "), why }.into());
        }
        let words = if changed {
            format!("{} sends {DOMAIN} to Dhow now: {}\n", plan.resolver, path.display())
        } else {
            format!("{} is installed already; nothing changed.\n", path.display())
        };
        output.answer(&words, &document(changed))?;
        Ok(exit::OK)
    }

    async fn uninstall(self, dry_run: bool) -> crate::error::Result<u8> {
        let output = &self.caller.output;
        let (mut ours, mut foreign) = (Vec::new(), None);
        for place in PLACES {
            let path = self.root.join(place);
            match file::state(&path)? {
                State::Absent => {}
                State::Ours(_) => ours.push((place, path)),
                State::Foreign(why) => foreign = foreign.or(Some(Error::Foreign { path, why })),
            }
        }
        if let Some(error) = foreign.filter(|_| ours.is_empty()) {
            return Err(error.into());
        }
        let mut words = String::new();
        let mut reloads = Vec::new();
        for (place, path) in &ours {
            if dry_run {
                words.push_str(&format!("Would remove {}\n", path.display()));
            } else {
                file::take_away(path, &self.sudo("uninstall"))?;
                words.push_str(&format!("Removed {}\n", path.display()));
            }
            reloads.extend(Some(plan::reload_of(place)).filter(|r| self.live && !r.is_empty()));
        }
        reloads.dedup();
        for reload in &reloads {
            if dry_run {
                words.push_str(&format!("Would run: {}\n", reload.join(" ")));
            } else if let Err(why) = run_command(reload).await {
                output.warn(&format!(
                    "`{}` {why}\ntype it so that the resolver forgets {DOMAIN}",
                    reload.join(" ")
                ));
            }
        }
        if ours.is_empty() {
            words.push_str("The host's resolver was not told of Dhow; nothing changed.\n");
        }
        let removed: Vec<_> = ours.iter().map(|(_, path)| path).collect();
        let document =
            json!({ "changed": !dry_run && !ours.is_empty(), "dry_run": dry_run, "removed": removed });
        output.answer(&words, &document)?;
        Ok(exit::OK)
    }

    /// What to type for root's rights; nothing here ever types it by itself.
    fn sudo(&self, verb: &str) -> String {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("dhow"));
        let (program, home) = (quoted(&program), quoted(self.caller.home.root()));
        let root = if self.live { String::new() } else { format!(" --root {}", quoted(&self.root)) };
        format!("sudo {program} --home {home} dns {verb}{root}")
    }
}

/// A path as a shell takes it for one word.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=,".contains(c);
    if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', "'\\''")) }
}

fn second_line(words: &str) -> String {
    words.split_once('\n').map_or(words, |(_, rest)| rest).to_owned()
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// systemd's version, from itself.
async fn systemd() -> Option<u32> {
    let mut command = Command::new("systemctl");
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(ANSWER, command.output()).await.ok()?.ok()?;
    host::version(&String::from_utf8_lossy(&output.stdout))
}

/// Runs a command that tells a resolver to look again; says how it failed.
async fn run_command(words: &[&str]) -> Result<(), String> {
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(RELOAD, command.output()).await {
        Err(_) => Err(format!("did not end within {} s", RELOAD.as_secs())),
        Ok(Err(error)) => Err(format!("cannot be run: {error}")),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.lines().next().unwrap_or("it says nothing").to_owned();
            Err(format!("ended with {}: {said}", output.status))
        }
    }
}

/// The status as a person reads it.
pub fn render(status: &Status, style: Style) -> String {
    let line = |what: &str, answer: &Answer, hint: &str| {
        let mark = if answer.works { style.good("works") } else { style.bad("no   ") };
        let mut line = format!("{what:<9} {mark}  {}\n", answer.found.replace('\n', "\n                 "));
        if !answer.works && !hint.is_empty() {
            line.push_str(&format!("                 {} {hint}\n", style.bold("try:")));
        }
        line
    };
    let listener = if status.port == 0 { "dhow config unset dns.port" } else { "dhow up" };
    let file = if status.resolver.is_some() {
        "dhow dns install"
    } else {
        "dhow dns install, which says what to do"
    };
    let host = if status.file.works && status.listener.works { "the resolver's own log" } else { "" };
    let mut out = format!(
        "names            NAME.{d} for containers, SERVICE.PROJECT.{d} for Compose, host.{d} for this computer\n",
        d = status.domain
    );
    if let Some(resolver) = &status.resolver {
        out.push_str(&format!("resolver         {resolver}\n"));
    }
    out.push_str(&line("listener", &status.listener, listener));
    out.push_str(&line("file", &status.file, file));
    out.push_str(&line("host", &status.host, host));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_to_type_survives_the_shell() {
        for (path, expected) in [
            ("/usr/bin/dhow", "/usr/bin/dhow"),
            ("/home/a b/.dhow", "'/home/a b/.dhow'"),
            ("/it's/$HOME", r"'/it'\''s/$HOME'"),
        ] {
            assert_eq!(quoted(Path::new(path)), expected);
        }
    }
}
