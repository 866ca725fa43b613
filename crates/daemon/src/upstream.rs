//! Where the Docker face finds dockerd: in the guest, through the engine.

use dhow_docker::{ByteStream, Engines, Unavailable};
use dhow_engine::Engine;
use dhow_model::placement::{Guest as Machine, Host, Placement};
use dhow_model::{Arch, Record, Role};

/// The engine machines, as far as there are any yet: dockerd in the native one.
#[derive(Debug)]
pub struct Guest(pub Engine);

#[async_trait::async_trait]
impl Engines for Guest {
    async fn dial(&self, role: Role) -> Result<Box<dyn ByteStream>, Unavailable> {
        if role != Role::Native {
            let what = format!("there is no {role} engine machine");
            return Err(Unavailable { what, run: "dhow up".to_owned() });
        }
        match self.0.docker().await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => {
                let failure = error.failure();
                Err(Unavailable { what: failure.message, run: "dhow up".to_owned() })
            }
        }
    }

    fn running(&self) -> Vec<Role> {
        vec![Role::Native]
    }

    fn placement(&self) -> Placement {
        Placement::NativeMachine
    }

    async fn host(&self) -> Host {
        Host {
            name: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
            placement: self.placement(),
            native: Machine::from(Arch::host().unwrap_or(Arch::Amd64)),
            translators: Vec::new(),
            foreign: Err("there is none yet".to_owned()),
        }
    }

    fn record(&self, _: Role) -> Option<Record> {
        None
    }
}
