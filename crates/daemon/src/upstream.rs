//! Between the Docker face and the engine: where the face finds dockerds, and what it hears of the machines.

use dhow_docker::{ByteStream, Engines, Face, Unavailable};
use dhow_engine::{Engine, Observer};
use dhow_home::Home;
use dhow_model::placement::Host;
use dhow_model::{Failure, Placement, Record, Role};

/// The engine machines.
#[derive(Debug)]
pub struct Guests {
    /// The directory, for the configuration.
    pub home: Home,
    /// The machines.
    pub engine: Engine,
}

#[async_trait::async_trait]
impl Engines for Guests {
    async fn dial(&self, role: Role) -> Result<Box<dyn ByteStream>, Unavailable> {
        match self.engine.docker(role).await {
            Ok(stream) => Ok(Box::new(stream)),
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
        let config = self.home.read_config().unwrap_or_else(|failure| {
            tracing::warn!(%failure, "the configuration's translators are not known; the defaults count");
            dhow_model::Config::default()
        });
        self.engine.host(&config).await
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
    use super::*;

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
