//! Between the Docker face and the engine: where the face finds dockerds, and what it hears of the machines.

use std::sync::{Mutex, PoisonError};

use dhow_channel::Stream;
use dhow_docker::{ByteStream, Engines, Face, Unavailable};
use dhow_engine::{Engine, Observer, Usage};
use dhow_home::Home;
use dhow_model::config::{Share, TranslatorList, Translators};
use dhow_model::placement::Host;
use dhow_model::{Config, Failure, MachineSpec, Placement, Record, Role};

/// The engine machines.
#[derive(Debug)]
pub struct Guests {
    home: Home,
    engine: Engine,
    /// The configuration as it could last be read.
    config: Mutex<Config>,
}

impl Guests {
    /// The machines of this engine, with the configuration of this directory.
    pub fn new(home: Home, engine: Engine) -> Self {
        // Nothing may translate that no list names (spec 1.3), so a file that cannot be read names nothing.
        let none = Translators { amd64: TranslatorList::default(), arm64: TranslatorList::default() };
        let config = Mutex::new(Config { translators: none, ..Config::default() });
        Self { home, engine, config }
    }

    /// What the file says now, or what it last said before somebody made a mistake in it.
    fn config(&self) -> Config {
        let mut last = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        match self.home.read_config() {
            Ok(config) => last.clone_from(&config),
            Err(failure) => tracing::warn!(%failure, "the configuration counts as it was before"),
        }
        last.clone()
    }
}

#[async_trait::async_trait]
impl Engines for Guests {
    async fn dial(&self, role: Role) -> Result<Box<dyn ByteStream>, Unavailable> {
        match self.engine.docker(role).await {
            Ok(stream) => {
                if let Stream::Unix(socket) = &stream {
                    dhow_docker::widen(socket);
                }
                Ok(Box::new(stream))
            }
            Err(error) => Err(unavailable(role, error.failure())),
        }
    }

    fn running(&self) -> Vec<Role> {
        self.engine.running()
    }

    fn placement(&self) -> Placement {
        self.engine.placement()
    }

    async fn host(&self) -> Host {
        let config = self.config();
        self.engine.host(&config).await
    }

    fn shares(&self, role: Role) -> Option<Vec<Share>> {
        // What the machine was made with; one that was never made will be made as the configuration says.
        let made = std::fs::read(self.home.machine(&role.machine()).spec()).ok();
        let made = made.and_then(|text| serde_json::from_slice::<MachineSpec>(&text).ok());
        Some(made.map_or_else(|| dhow_engine::shares(&self.config()), |spec| spec.shares))
    }

    fn record(&self, role: Role) -> Option<Record> {
        self.engine.record(role)
    }
}

/// The face, which keeps connections into the machines.
pub struct Connections(pub Face);

#[async_trait::async_trait]
impl Observer for Connections {
    fn changed(&self, role: Role, runs: bool) {
        self.0.machine_changed(role, runs);
    }

    async fn stopping(&self, role: Role) {
        // What is in it, the engine asks dockerd itself.
        drop(self.0.machine_stopping(role).await);
    }

    fn resting(&self, role: Role) {
        self.0.machine_rests(role);
    }

    fn usage(&self, role: Role) -> Usage {
        let dhow_docker::Usage { in_flight, begun } = self.0.usage(role);
        Usage { in_flight, begun }
    }
}

/// A failure as the Docker API tells it: its hint shrunk to the command in it.
fn unavailable(role: Role, failure: Failure) -> Unavailable {
    let Failure { message, hint, .. } = failure;
    let command = |word: &&str| word.starts_with("dhow ");
    let run = hint.split('`').find(command).map(str::to_owned);
    let otherwise = match role {
        Role::Native => "dhow up",
        Role::Foreign => "dhow status",
    };
    Unavailable { what: message, run: run.unwrap_or_else(|| otherwise.to_owned()) }
}

#[cfg(test)]
mod tests {
    use dhow_model::Arch;

    use super::*;

    /// Spec 1.3: what cannot be read lets no translator serve that was not named while it could be.
    #[tokio::test]
    async fn a_configuration_that_cannot_be_read_counts_as_it_was_before() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path().join("h")).unwrap();
        home.create().unwrap();
        let write =
            |text: &str| dhow_home::atomic::write(&home.config_file(), text.as_bytes(), 0o600).unwrap();
        write("typo = 1");
        let engine = Engine::open(&home, "/nowhere".into()).unwrap();
        let guests = Guests::new(home.clone(), engine);
        let named = |config: Config| Arch::ALL.map(|arch| config.translators.list(arch).len());
        assert_eq!(named(guests.config()), [0, 0]);
        write("[translators]\namd64 = []\narm64 = [\"qemu\"]\n");
        assert_eq!(named(guests.config()), [0, 1]);
        write("typo = 1");
        assert_eq!(named(guests.config()), [0, 1]);
    }

    /// Spec 3.3: what failed, and one command to run.
    #[test]
    fn what_a_client_is_told_to_run_is_the_command_in_the_hint() {
        for (role, hint, run) in [
            (Role::Native, "dhow up", "dhow up"),
            (Role::Native, "make room on that disk, then run `dhow up`", "dhow up"),
            (
                Role::Foreign,
                "read `dhow logs supervisor`; `dhow down --force` ends it",
                "dhow logs supervisor",
            ),
            (Role::Native, "reinstall Dhow", "dhow up"),
            (Role::Foreign, "", "dhow status"),
        ] {
            let told = unavailable(role, Failure::new("code", "it failed", hint));
            assert_eq!((told.what.as_str(), told.run.as_str()), ("it failed", run));
        }
    }
}
