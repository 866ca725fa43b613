//! Where the Docker face finds dockerd: in the guest, through the engine.

use dhow_docker::{ByteStream, Unavailable, Upstream};
use dhow_engine::Engine;

/// dockerd in the native machine.
#[derive(Debug)]
pub struct Guest(pub Engine);

#[async_trait::async_trait]
impl Upstream for Guest {
    async fn dial(&self) -> Result<Box<dyn ByteStream>, Unavailable> {
        match self.0.docker().await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => {
                let failure = error.failure();
                Err(Unavailable { what: failure.message, run: "dhow up".to_owned() })
            }
        }
    }
}
