//! The Docker context that leads the `docker` command to this engine (spec 15.2): made and made current with each `up`,
//! the previous one restored on `down`.
//!
//! Every step is one atomic write, in an order that a crash cannot hurt: the context itself, then the record of what was
//! current before (in Dhow's directory), then Docker's `config.json`. Whatever is left half-way, the next `up` completes
//! and the next `down` undoes.

mod docker;
mod record;
mod rules;
mod verbs;

use std::io;
use std::path::{Path, PathBuf};

use dhow_home::Home;
use dhow_model::Config;
use dhow_model::config::Activate;
use serde::Serialize;

use docker::Docker;
use record::Record;
pub use rules::{DEFAULT, Entry, Wanted};
pub(crate) use verbs::run;

/// The module's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the Docker context cannot be made, made current or restored. Nothing was overwritten.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither `DOCKER_CONFIG` nor `HOME` says where Docker's directory is.
    #[error("Docker's directory is not known\nneither DOCKER_CONFIG nor HOME is set")]
    Nowhere,
    /// Docker would refuse the name.
    #[error("`{0}` cannot name a Docker context\nuse 2 or more letters, digits and _.+- and not `default`")]
    BadName(String),
    /// A context of that name is not ours.
    #[error("the Docker context {name} is not ours\n{why}")]
    Foreign {
        /// Its name.
        name: String,
        /// Why it is not.
        why: String,
    },
    /// A file of Docker's is not what it should be.
    #[error("{path} cannot be understood\n{why}; it is as it was")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file cannot be read or written.
    #[error("{path} cannot be {done}\n{source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// read, written, removed.
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
            Self::Nowhere => "context-nowhere",
            Self::BadName(_) => "context-bad-name",
            Self::Foreign { .. } => "context-foreign",
            Self::Malformed { .. } => "context-malformed",
            Self::Io { .. } => "context-io",
        }
    }

    /// What to type or do next.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Nowhere => "set DOCKER_CONFIG to an absolute path".to_owned(),
            Self::BadName(_) => "dhow config set docker.context NAME".to_owned(),
            Self::Foreign { name, .. } => format!(
                "`docker context rm {name}` if you do not need it, or `dhow config set docker.context NAME` for another name"
            ),
            Self::Malformed { path, .. } => format!("repair {} or move it away", path.display()),
            Self::Io { path, .. } => format!("check the owner and mode of {}", path.display()),
        }
    }
}

/// This engine's context, and Docker's directory in which it stands.
#[derive(Debug, Clone)]
pub struct Context {
    wanted: Wanted,
    activate: bool,
    docker: Docker,
    record: Record,
}

/// How the context is, for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct State {
    /// The engine's context.
    pub name: String,
    /// Where it leads.
    pub host: String,
    /// Whether it exists.
    pub exists: bool,
    /// Whether it is the current one.
    pub current: bool,
    /// The one that is current.
    pub current_name: String,
    /// What `down` makes current again; absent if there is nothing to restore.
    pub previous: Option<String>,
    /// Docker's directory.
    pub docker_config: PathBuf,
    /// Why docker does not use the current context, if it does not.
    pub overridden: Option<String>,
}

impl Context {
    /// The context of the engine in `home`, in Docker's directory as the environment names it.
    ///
    /// # Errors
    /// When Docker's directory is not known or the configured name is not possible.
    pub fn of(home: &Home, config: &Config) -> Result<Self> {
        Self::at(home, config, Docker::locate()?)
    }

    fn at(home: &Home, config: &Config, docker: Docker) -> Result<Self> {
        let name = rules::name(&config.docker.context, home.is_default(), &home.tag())?;
        let activate = match config.docker.activate {
            Activate::Always => true,
            Activate::Never => false,
            Activate::Auto => home.is_default(),
        };
        let wanted = Wanted {
            name,
            host: format!("unix://{}", home.docker_socket().display()),
            home: home.root().display().to_string(),
        };
        Ok(Self { wanted, activate, docker, record: Record::of(home) })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.wanted.name
    }

    /// Its endpoint.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.wanted.host
    }

    /// What `up` does: makes the context, and makes it current where the configuration asks for that. An earlier one of
    /// this engine under another name is removed.
    ///
    /// # Errors
    /// When a context of the name is not ours, or a file cannot be read or written.
    pub fn set_up(&self) -> Result<State> {
        for entry in self.record.read()? {
            if entry.docker_config == self.docker.dir() && entry.context != self.wanted.name {
                self.undo(&entry)?;
                self.delete(&entry)?;
                self.record.forget(&entry)?;
            }
        }
        if self.activate {
            self.make_current()?
        } else {
            self.create()?
        }
        self.state()
    }

    /// Makes the context, and leaves the current one as it is.
    ///
    /// # Errors
    /// As [`Context::set_up`].
    pub fn create(&self) -> Result<()> {
        let found = self.docker.meta(&self.wanted.name)?;
        if rules::judge(found.as_deref(), &self.wanted)? == rules::Found::Nothing {
            self.docker.write_meta(&self.wanted.name, &rules::meta(&self.wanted))?;
        }
        if self.entry()?.is_none() {
            self.record.put(self.new_entry(None))?;
        }
        Ok(())
    }

    /// Makes the context where it is missing, and makes it current.
    ///
    /// # Errors
    /// As [`Context::set_up`].
    pub fn make_current(&self) -> Result<()> {
        self.create()?;
        let current = self.docker.current()?;
        let remembered = self.entry()?.and_then(|entry| entry.previous);
        let previous = rules::previous(&current, &self.wanted.name, remembered.as_deref());
        self.record.put(self.new_entry(Some(previous)))?;
        if current == self.wanted.name { Ok(()) } else { self.docker.set_current(&self.wanted.name) }
    }

    /// What `down` does: wherever ours is still current, what was current before comes back. The context itself stays. The
    /// answer says what became current, if anything did.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn restore(&self) -> Result<Option<String>> {
        let mut restored = None;
        for entry in self.record.read()? {
            restored = self.undo(&entry)?.or(restored);
            self.record.put(Entry { previous: None, ..entry })?;
        }
        Ok(restored)
    }

    /// Restores, and removes every context that this engine made.
    ///
    /// # Errors
    /// As [`Context::restore`]. A context that is no longer ours is left alone.
    pub fn remove(&self) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for entry in self.record.read()? {
            self.undo(&entry)?;
            if self.delete(&entry)? {
                removed.push(entry.context.clone());
            }
            self.record.forget(&entry)?;
        }
        // The record may be lost.
        if self.delete(&self.new_entry(None))? {
            removed.push(self.wanted.name.clone());
        }
        Ok(removed)
    }

    /// How it is now.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn state(&self) -> Result<State> {
        let name = self.wanted.name.clone();
        let found = self.docker.meta(&name)?;
        let current_name = self.docker.current()?;
        Ok(State {
            exists: rules::judge(found.as_deref(), &self.wanted).is_ok_and(|f| f == rules::Found::Ours),
            current: current_name == name,
            current_name,
            previous: self.entry()?.and_then(|entry| entry.previous),
            docker_config: self.docker.dir().to_owned(),
            overridden: self.overridden(),
            host: self.wanted.host.clone(),
            name,
        })
    }

    /// A warning when the environment makes the Docker client ignore the current context.
    #[must_use]
    pub fn overridden(&self) -> Option<String> {
        let host = std::env::var("DOCKER_HOST").ok();
        let context = std::env::var("DOCKER_CONTEXT").ok();
        rules::overridden(host.as_deref(), context.as_deref(), &self.wanted)
    }

    fn undo(&self, entry: &Entry) -> Result<Option<String>> {
        let docker = Docker::at(entry.docker_config.clone());
        let next = rules::restored(&docker.current()?, entry, |name| docker.exists(name));
        if let Some(next) = &next {
            docker.set_current(next)?;
        }
        Ok(next)
    }

    fn delete(&self, entry: &Entry) -> Result<bool> {
        let docker = Docker::at(entry.docker_config.clone());
        let wanted = Wanted { name: entry.context.clone(), ..self.wanted.clone() };
        let found = docker.meta(&wanted.name)?;
        let ours = rules::judge(found.as_deref(), &wanted).is_ok_and(|f| f == rules::Found::Ours);
        if ours {
            if docker.current()? == wanted.name {
                docker.set_current(DEFAULT)?;
            }
            docker.remove_meta(&wanted.name)?;
        }
        Ok(ours)
    }

    fn entry(&self) -> Result<Option<Entry>> {
        let ours = |e: &Entry| e.docker_config == self.docker.dir() && e.context == self.wanted.name;
        Ok(self.record.read()?.into_iter().find(ours))
    }

    fn new_entry(&self, previous: Option<String>) -> Entry {
        Entry { docker_config: self.docker.dir().to_owned(), context: self.wanted.name.clone(), previous }
    }
}

fn io_error(path: &Path, done: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { path: path.to_owned(), done, source }
}

#[cfg(test)]
mod tests;
