//! The supervisor's API, on a Unix socket of mode 0600 in a directory of mode 0700.

use std::pin::Pin;
use std::time::Duration;

use dhow_proto::supervisor::supervisor_server::{Supervisor, SupervisorServer};
use dhow_proto::supervisor::{
    GrowDiskReply, GrowDiskRequest, LimitMemoryReply, LimitMemoryRequest, MachineStatus, PortsReply,
    PortsRequest, ResumeReply, ResumeRequest, StatusRequest, StopReply, StopRequest, SuspendReply,
    SuspendRequest, WatchRequest,
};
use dhow_proto::{DESCRIPTORS, MESSAGE_LIMIT};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::inbox::{self, Grow, Limit, Resume, Stop, Suspend};
use crate::network::View;
use crate::ports;

/// For a graceful stop when the request names no limit.
const STOP_LIMIT: Duration = Duration::from_secs(45);
/// For the machine's owner to take a request that the hypervisor answers at once.
const PROMPT_LIMIT: Duration = Duration::from_secs(15);

/// What the API is served from.
pub struct Service {
    status: watch::Receiver<MachineStatus>,
    network: View,
    requests: mpsc::Sender<inbox::Request>,
}

impl Service {
    /// The service of this machine.
    #[must_use]
    pub fn new(
        status: watch::Receiver<MachineStatus>,
        network: View,
        requests: mpsc::Sender<inbox::Request>,
    ) -> Self {
        Self { status, network, requests }
    }

    /// Puts a request to the machine's owner, and waits for its answer for as long as the caller does.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> inbox::Request) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        let ending = || Status::unavailable("the supervisor is ending");
        self.requests.send(request(reply)).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())
    }

    /// The same for what the hypervisor of a machine that runs does at once.
    async fn ask_promptly(
        &self,
        request: impl FnOnce(oneshot::Sender<crate::Result<()>>) -> inbox::Request,
    ) -> Result<(), Status> {
        let late = |_| Status::deadline_exceeded("the machine is not running");
        let done = tokio::time::timeout(PROMPT_LIMIT, self.ask(request)).await.map_err(late)??;
        done.map_err(|error| Status::failed_precondition(error.to_string()))
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
        status.port_connections = self.network.port_connections();
        Ok(Response::new(status))
    }

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(Box::pin(WatchStream::new(self.status.clone()).map(Ok))))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<StopReply>, Status> {
        let StopRequest { force, limit_ms } = request.into_inner();
        let limit = if limit_ms == 0 { STOP_LIMIT } else { Duration::from_millis(limit_ms.into()) };
        let stop = |reply| inbox::Request::Stop(Stop { force, leave: false, limit, reply });
        self.ask(stop).await.map(Response::new)
    }

    async fn suspend(&self, request: Request<SuspendRequest>) -> Result<Response<SuspendReply>, Status> {
        let SuspendRequest { why, leave, unless_busy } = request.into_inner();
        let suspend = |reply| inbox::Request::Suspend(Suspend { why, leave, unless_busy, reply });
        self.ask(suspend).await?.map(Response::new).map_err(Status::failed_precondition)
    }

    async fn resume(&self, request: Request<ResumeRequest>) -> Result<Response<ResumeReply>, Status> {
        let ResumeRequest { why } = request.into_inner();
        self.ask(|reply| inbox::Request::Resume(Resume { why, reply })).await.map(Response::new)
    }

    async fn grow_disk(&self, request: Request<GrowDiskRequest>) -> Result<Response<GrowDiskReply>, Status> {
        let bytes = request.into_inner().bytes;
        // One that is not taken in time waits for a machine that starts or stops: it grows at the next start.
        self.ask_promptly(|reply| inbox::Request::Grow(Grow { bytes, reply })).await?;
        Ok(Response::new(GrowDiskReply {}))
    }

    async fn limit_memory(
        &self,
        request: Request<LimitMemoryRequest>,
    ) -> Result<Response<LimitMemoryReply>, Status> {
        let bytes = request.into_inner().bytes;
        self.ask_promptly(|reply| inbox::Request::Limit(Limit { bytes, reply })).await?;
        Ok(Response::new(LimitMemoryReply {}))
    }

    async fn ports(&self, _: Request<PortsRequest>) -> Result<Response<PortsReply>, Status> {
        let bound = self.network.publisher.list().await;
        Ok(Response::new(PortsReply { ports: bound.into_iter().map(ports::told).collect() }))
    }
}
