//! What the face knows of the machines behind it, and how it reaches their dockerds.

use dhow_model::config::Share;
use dhow_model::placement::{Host, Placement};
use dhow_model::{Record, Role};
use tokio::io::{AsyncRead, AsyncWrite};

/// A two-way byte stream to an engine; shutting it down closes our half, the other can still be read.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

/// Why an engine cannot be reached, for a person: "`what`; run `run`".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}; run `{run}`")]
pub struct Unavailable {
    /// What failed, on what, why.
    pub what: String,
    /// The command that helps.
    pub run: String,
}

/// The engine machines.
#[async_trait::async_trait]
pub trait Engines: Send + Sync + 'static {
    /// Opens one connection to the dockerd of this role's machine; starts that machine, and no other, if it is off and
    /// may be started for a request (spec 3.9, 6.5, 6.7). Has a time limit of its own: the face waits as long as this takes.
    async fn dial(&self, role: Role) -> Result<Box<dyn ByteStream>, Unavailable>;

    /// The roles whose machines run now: asking these boots nothing (spec 2.6, 3.7).
    fn running(&self) -> Vec<Role>;

    /// How workloads are placed, as the daemon was configured when it started. Asked for at every request: without I/O.
    fn placement(&self) -> Placement;

    /// The facts that admission decides on (spec 1.1 to 1.5), as they are now. Asked for at every create and build.
    async fn host(&self) -> Host;

    /// The directories of the host that a role's machine sees (spec 14.1). `None`: it sees all, and no mount is refused.
    fn shares(&self, _: Role) -> Option<Vec<Share>> {
        None
    }

    /// What was in the machine when it stopped, of a machine that does not run (spec 2.6).
    fn record(&self, role: Role) -> Option<Record>;
}
