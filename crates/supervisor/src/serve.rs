//! The supervisor's API, on a Unix socket of mode 0600 in a directory of mode 0700.

use std::pin::Pin;
use std::time::Duration;

use dhow_proto::supervisor::supervisor_server::{Supervisor, SupervisorServer};
use dhow_proto::supervisor::{
    MachineStatus, PortsReply, PortsRequest, ResumeReply, ResumeRequest, StatusRequest, StopReply,
    StopRequest, SuspendReply, SuspendRequest, WatchRequest,
};
use dhow_proto::{DESCRIPTORS, MESSAGE_LIMIT};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::network::View;
use crate::ports;

/// For a graceful stop when the request names no limit.
const STOP_LIMIT: Duration = Duration::from_secs(45);

/// A request to stop, answered when the machine is off.
#[derive(Debug)]
pub struct Stop {
    /// Without asking the guest.
    pub force: bool,
    /// For a graceful stop.
    pub limit: Duration,
    /// Where the answer goes.
    pub reply: oneshot::Sender<StopReply>,
}

/// What the API is served from.
pub struct Service {
    status: watch::Receiver<MachineStatus>,
    network: View,
    stop: mpsc::Sender<Stop>,
}

impl Service {
    /// The service of this machine.
    #[must_use]
    pub fn new(status: watch::Receiver<MachineStatus>, network: View, stop: mpsc::Sender<Stop>) -> Self {
        Self { status, network, stop }
    }
}

/// Serves until `cancel`; streams that are open then get the last status and end.
///
/// # Errors
/// When the transport fails.
pub async fn serve(
    listener: UnixListener,
    service: Service,
    cancel: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let service = SupervisorServer::new(service)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    let mut server = tonic::transport::Server::builder();
    let router = server.add_service(service);
    let router = match tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .build_v1()
    {
        Ok(reflection) => router.add_service(reflection),
        Err(error) => {
            tracing::warn!(%error, "the API is served without reflection");
            router
        }
    };
    router.serve_with_incoming_shutdown(UnixListenerStream::new(listener), cancel.cancelled_owned()).await
}

#[tonic::async_trait]
impl Supervisor for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<MachineStatus, Status>> + Send>>;

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<MachineStatus>, Status> {
        let mut status = self.status.borrow().clone();
        status.network = Some(self.network.figures());
        Ok(Response::new(status))
    }

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(Box::pin(WatchStream::new(self.status.clone()).map(Ok))))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<StopReply>, Status> {
        let StopRequest { force, limit_ms } = request.into_inner();
        let limit = if limit_ms == 0 { STOP_LIMIT } else { Duration::from_millis(limit_ms.into()) };
        let (reply, answer) = oneshot::channel();
        let ending = || Status::unavailable("the supervisor is ending");
        self.stop.send(Stop { force, limit, reply }).await.map_err(|_| ending())?;
        answer.await.map(Response::new).map_err(|_| ending())
    }

    async fn suspend(&self, _: Request<SuspendRequest>) -> Result<Response<SuspendReply>, Status> {
        Err(Status::failed_precondition("this machine cannot be put to sleep yet"))
    }

    async fn resume(&self, _: Request<ResumeRequest>) -> Result<Response<ResumeReply>, Status> {
        Err(Status::failed_precondition("this machine cannot sleep yet"))
    }

    async fn ports(&self, _: Request<PortsRequest>) -> Result<Response<PortsReply>, Status> {
        let bound = self.network.publisher.list().await;
        Ok(Response::new(PortsReply { ports: bound.into_iter().map(ports::told).collect() }))
    }
}
