//! What the gate knows of the machines: admission, a way to each BuildKit, and where sessions go.

use std::time::Duration;

use dhow_model::placement::{Asked, admit};
use dhow_model::{Placement, Platform, Role};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::{Builder, Code, Read, Refusal};
use crate::connection::Shared;
use crate::engines::ByteStream;
use crate::session::{Building, Names};
use crate::trace::{self, TraceId};

/// How long dockerd may take to turn a connection into one of BuildKit's.
const UPGRADE: Duration = Duration::from_secs(10);
/// Most bytes of its answer's head.
const HEAD: usize = 16 * 1024;

/// The machines behind the face, for one client.
pub(crate) struct Machines<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) trace: &'a TraceId,
}

#[async_trait::async_trait]
impl Builder for Machines<'_> {
    type Guard = Building;

    async fn admit(&self, platforms: &[String]) -> Result<Role, Refusal> {
        if platforms.is_empty() {
            return Ok(Role::Native);
        }
        let host = self.shared.engines.host().await;
        let refused = |why: String| Refusal::new(Code::FailedPrecondition, why);
        let platforms = platforms.iter().map(|name| Platform::parse(name, host.native.arch));
        let platforms = platforms.collect::<Result<_, _>>().map_err(|bad| refused(bad.to_string()))?;
        let asked = Asked { platforms, ..Asked::default() };
        let decision = admit(&host, &asked).map_err(|refusal| refused(refusal.message))?;
        tracing::debug!(role = %decision.role, why = %decision.why, "a build was placed");
        Ok(decision.role)
    }

    async fn open(&self, role: Role) -> Result<Box<dyn ByteStream>, Refusal> {
        let connection = self.shared.pools.of(role).dial().await.map_err(Refusal::unavailable)?;
        let upgraded = timeout(UPGRADE, upgrade(connection.stream, self.trace)).await;
        upgraded.unwrap_or_else(|_| {
            let seconds = UPGRADE.as_secs();
            Err(Refusal::unavailable(format!("BuildKit in machine {role} did not answer within {seconds} s")))
        })
    }

    fn place(&self, session: &str, role: Role) -> Option<Building> {
        self.chooses().then(|| self.shared.sessions.build(&Names::session(session), role))
    }

    fn chooses(&self) -> bool {
        self.shared.engines.placement() == Placement::ForeignMachine
    }
}

/// Asks dockerd for BuildKit's API on this connection.
async fn upgrade(mut stream: Box<dyn ByteStream>, trace: &TraceId) -> Result<Box<dyn ByteStream>, Refusal> {
    let request = format!(
        "POST /grpc HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n{}: {trace}\r\n\r\n",
        trace::HEADER
    );
    stream.write_all(request.as_bytes()).await.map_err(Refusal::unavailable)?;
    stream.flush().await.map_err(Refusal::unavailable)?;
    let (mut head, mut part) = (Vec::new(), [0; 1024]);
    let end = loop {
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        let n = stream.read(&mut part).await.map_err(Refusal::unavailable)?;
        if n == 0 || head.len() > HEAD {
            return Err(Refusal::unavailable("BuildKit's API was not opened: dockerd gave no answer"));
        }
        head.extend_from_slice(&part[..n]);
    };
    if !head.starts_with(b"HTTP/1.1 101 ") {
        let line = String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or_default())
            .into_owned();
        return Err(Refusal::unavailable(format!("BuildKit's API was not opened: dockerd says {line}")));
    }
    Ok(Box::new(Read::new(head.split_off(end), stream)))
}
