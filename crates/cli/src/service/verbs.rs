//! `dhow service`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use dhow_home::{Home, atomic};
use serde::Serialize;
use tokio::process::Command;

use super::unit::{self, Facts};
use super::{Error, Result};
use crate::args::ServiceVerb;
use crate::command::Caller;
use crate::exit;
use crate::launch;
use crate::output::Style;
use crate::owned::{self, Owner};

const MARK: &str =
    "# Written by `dhow service install`, which `dhow service uninstall` undoes; sha256 of what follows: ";
/// For the service manager to answer; ending the daemon saves machines to disk.
const TELL: Duration = Duration::from_secs(10);
const END: Duration = Duration::from_secs(200);
/// What the daemon takes from the caller's surroundings.
const KEPT: [&str; 4] = ["DHOW_ASSETS", "DHOW_AGENTS", "DHOW_MIRROR", "DHOW_LOG"];

/// Does what was asked about the service.
pub async fn run(caller: &Caller, verb: &ServiceVerb) -> crate::error::Result<u8> {
    if !cfg!(target_os = "linux") {
        let why = format!(
            "{} has no systemd; units for its own service manager are not written yet",
            std::env::consts::OS
        );
        return Err(Error::Unsupported { why }.into());
    }
    let scene = Scene::of(&caller.home)?;
    match verb {
        ServiceVerb::Status => scene.status(caller).await,
        ServiceVerb::Install { dry_run } => scene.install(caller, *dry_run).await,
        ServiceVerb::Uninstall { dry_run } => scene.uninstall(caller, *dry_run).await,
    }
}

/// The files that are the service.
pub(super) struct Scene {
    home: Home,
    /// Where the user's units are.
    units: PathBuf,
    socket: String,
    service: String,
}

/// What `status` tells, and what `install` and `uninstall` end with.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// Whether both units are there and are ours.
    pub(super) installed: bool,
    /// Whether the socket comes with the next login.
    pub(super) enabled: bool,
    /// Whether the service manager listens now; null when it cannot be asked.
    active: Option<bool>,
    /// Whether the command changed anything.
    changed: bool,
    /// The units.
    files: Vec<PathBuf>,
    /// What a person should know.
    warnings: Vec<String>,
}

impl Scene {
    fn of(home: &Home) -> Result<Self> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
        let config = config.filter(|path| path.is_absolute()).ok_or_else(|| Error::Unsupported {
            why: "neither XDG_CONFIG_HOME nor HOME says where the user's units are".to_owned(),
        })?;
        Ok(Self::at(home, config.join("systemd").join("user")))
    }

    /// With the user's units in this directory.
    pub(super) fn at(home: &Home, units: PathBuf) -> Self {
        let name = if home.is_default() { "dhow".to_owned() } else { format!("dhow-{}", home.tag()) };
        Self {
            home: home.clone(),
            units,
            socket: format!("{name}.socket"),
            service: format!("{name}.service"),
        }
    }

    /// Each unit's path and text.
    pub(super) fn wanted(&self) -> Result<[(PathBuf, String); 2]> {
        let program = std::env::current_exe().map_err(|source| Error::Io {
            path: "dhow".into(),
            done: "found",
            source,
        })?;
        let kept = KEPT.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
        let facts = Facts {
            program,
            home: self.home.root().to_owned(),
            sockets: vec![self.home.docker_socket(), self.home.control_socket()],
            environment: kept.filter(|(_, value)| !value.is_empty()).collect(),
        };
        let socket = unit::socket(&facts)?;
        let service = unit::service(&facts, &self.socket)?;
        Ok([(self.units.join(&self.socket), socket), (self.units.join(&self.service), service)])
    }

    /// What makes the socket come with the login: what `systemctl enable` makes, so that it works without a service manager too.
    pub(super) fn link(&self) -> PathBuf {
        self.units.join("sockets.target.wants").join(&self.socket)
    }

    pub(super) fn answer(&self, changed: bool) -> Result<Answer> {
        let wanted = self.wanted()?;
        let mut installed = true;
        for (path, _) in &wanted {
            installed &= matches!(look(path)?, Owner::Us(_));
        }
        let enabled = std::fs::read_link(self.link()).is_ok_and(|to| to == wanted[0].0);
        let files = wanted.map(|(path, _)| path).to_vec();
        Ok(Answer { installed, enabled, active: None, changed, files, warnings: Vec::new() })
    }

    /// Writes both units and the link; whether that changed anything.
    pub(super) fn put(&self) -> Result<bool> {
        let wanted = self.wanted()?;
        for (path, _) in &wanted {
            is_ours(path)?;
        }
        let mut changed = false;
        make_dir(&self.units)?;
        for (path, text) in &wanted {
            if look(path)? != Owner::Us(text.clone()) {
                let written = atomic::write(path, owned::render(MARK, text).as_bytes(), 0o644);
                written.map_err(|source| Error::Io { path: path.clone(), done: "written", source })?;
                changed = true;
            }
        }
        let (link, to) = (self.link(), &wanted[0].0);
        match std::fs::read_link(&link) {
            Ok(found) if found == *to => {}
            Ok(_) => return Err(Error::Foreign { path: link, why: "it leads elsewhere" }),
            Err(_) => {
                make_dir(link.parent().unwrap_or(&self.units))?;
                let linked = std::os::unix::fs::symlink(to, &link);
                linked.map_err(|source| Error::Io { path: link, done: "written", source })?;
                changed = true;
            }
        }
        Ok(changed)
    }

    /// Removes the link and both units; whether there were any.
    pub(super) fn take_away(&self) -> Result<bool> {
        let wanted = self.wanted()?;
        for (path, _) in &wanted {
            is_ours(path)?;
        }
        let link = self.link();
        let mut changed = false;
        let linked = std::fs::read_link(&link).is_ok_and(|to| to == wanted[0].0);
        for path in linked.then_some(&link).into_iter().chain(wanted.iter().map(|(path, _)| path)) {
            if path.symlink_metadata().is_ok() {
                let removed = atomic::remove(path);
                removed.map_err(|source| Error::Io { path: path.clone(), done: "removed", source })?;
                changed = true;
            }
        }
        // `systemctl` leaves no empty directory either.
        std::fs::remove_dir(self.units.join("sockets.target.wants")).ok();
        Ok(changed)
    }

    async fn status(self, caller: &Caller) -> crate::error::Result<u8> {
        let mut answer = self.answer(false)?;
        answer.active = self.is_active().await;
        let works = answer.installed && answer.enabled;
        caller.output.answer(&render(&answer, caller.output.stdout), &answer)?;
        Ok(if works { exit::OK } else { exit::FAILED })
    }

    async fn install(self, caller: &Caller, dry_run: bool) -> crate::error::Result<u8> {
        if dry_run {
            let mut words = String::new();
            for (path, text) in self.wanted()? {
                is_ours(&path)?;
                words.push_str(&format!("{} would be\n\n{text}\n", path.display()));
            }
            caller.output.answer(&words, &self.answer(false)?)?;
            return Ok(exit::OK);
        }
        caller.home.create()?;
        let active = self.is_active().await;
        if active != Some(true) && launch::held(&caller.home.daemon_lock())? {
            return Err(Error::Running.into());
        }
        let changed = self.put()?;
        let mut answer = self.answer(changed)?;
        if active.is_none() {
            answer.warnings.push(format!(
                "the user's service manager cannot be asked from here; at the next login it listens, or after: systemctl --user daemon-reload && systemctl --user start {}",
                self.socket
            ));
        } else {
            tell(&["daemon-reload"], TELL).await?;
            tell(&["start", &self.socket], TELL).await?;
            answer.active = Some(true);
        }
        done(caller, &answer)
    }

    async fn uninstall(self, caller: &Caller, dry_run: bool) -> crate::error::Result<u8> {
        for (path, _) in self.wanted()? {
            is_ours(&path)?;
        }
        if dry_run {
            let answer = self.answer(false)?;
            let there = answer.files.iter().filter(|path| path.exists());
            let words: String = there.map(|path| format!("{} would be removed\n", path.display())).collect();
            caller.output.answer(&words, &answer)?;
            return Ok(exit::OK);
        }
        let active = self.is_active().await;
        if active == Some(true) {
            // The daemon saves machines to disk before it ends.
            tell(&["stop", &self.socket, &self.service], END).await?;
        }
        let changed = self.take_away()?;
        if active.is_some() {
            tell(&["daemon-reload"], TELL).await?;
        }
        let mut answer = self.answer(changed)?;
        answer.active = active.map(|_| false);
        done(caller, &answer)
    }

    /// Whether the service manager listens; `None` when it cannot be asked.
    async fn is_active(&self) -> Option<bool> {
        let words = ["show", "--property=ActiveState", "--value", &self.socket];
        let mut command = Command::new("systemctl");
        command.arg("--user").args(words).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(TELL, command.output()).await.ok()?.ok()?;
        output.status.success().then(|| output.stdout.trim_ascii() == b"active")
    }
}

fn done(caller: &Caller, answer: &Answer) -> crate::error::Result<u8> {
    for warning in &answer.warnings {
        caller.output.warn(warning);
    }
    let words = if caller.output.quiet { String::new() } else { render(answer, caller.output.stdout) };
    caller.output.answer(&words, answer)?;
    Ok(exit::OK)
}

fn look(path: &Path) -> Result<Owner> {
    owned::look(path, MARK).map_err(|source| Error::Io { path: path.to_owned(), done: "read", source })
}

/// Only what is ours, or nobody's, is touched.
fn is_ours(path: &Path) -> Result<()> {
    match look(path)? {
        Owner::Other(why) => Err(Error::Foreign { path: path.to_owned(), why }),
        Owner::Us(_) | Owner::Nobody => Ok(()),
    }
}

fn make_dir(path: &Path) -> Result<()> {
    let made = std::fs::create_dir_all(path);
    made.map_err(|source| Error::Io { path: path.to_owned(), done: "written", source })
}

async fn tell(words: &[&str], limit: Duration) -> Result<()> {
    let failed = |why: String| Error::Told { command: format!("systemctl --user {}", words.join(" ")), why };
    let mut command = Command::new("systemctl");
    command.arg("--user").args(words).stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(limit, command.output()).await {
        Err(_) => Err(failed(format!("did not end within {} s", limit.as_secs()))),
        Ok(Err(error)) => Err(failed(format!("could not be run: {error}"))),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let said = crate::text::harmless(String::from_utf8_lossy(&output.stderr).trim());
            Err(failed(format!("ended with {}: {said}", output.status)))
        }
    }
}

fn render(answer: &Answer, style: Style) -> String {
    let state = match (answer.installed && answer.enabled, answer.active) {
        (true, Some(true)) => style.good("installed, and the service manager listens"),
        (true, Some(false)) => style.warning("installed, and the service manager does not listen"),
        (true, None) => style.warning("installed; the service manager cannot be asked from here"),
        (false, _) if answer.installed => style.warning("installed, but it does not come with the login"),
        (false, _) => style.dim("not installed"),
    };
    let mut words = format!("service  {state}\n");
    for file in &answer.files {
        words.push_str(&format!(
            "         {}{}\n",
            file.display(),
            if file.exists() { "" } else { " (not there)" }
        ));
    }
    words
}
