//! The agent's gRPC service, as `agent.proto` says it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dhow_proto::agent::agent_server::Agent;
use dhow_proto::agent::{
    AdmitHostReply, AdmitHostRequest, AwakeReply, AwakeRequest, BootRequest, BootStep, CheckDataReply,
    CheckDataRequest, DiskUsageReply, DiskUsageRequest, GrowDataReply, GrowDataRequest, HealthReply,
    HealthRequest, HelloReply, HelloRequest, PortsAnswer, PortsRequest, PutTranslatorReply, QuiesceReply,
    QuiesceRequest, SetClockReply, SetClockRequest, ShutdownRequest, ShutdownStep, TellChangesReply,
    TellChangesRequest, TranslatorPart, Translators, TrimReply, TrimRequest, UseTranslatorsRequest,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::guest::Guest;
use crate::reaper::Reaper;
use crate::{
    admit, awake, changes, check, clock, console, disk, facts, history, quiesce, shutdown, trim, usage,
};

/// What this agent can do beyond the protocol's first version.
const CAPABILITIES: [&str; 6] = ["docker", "shutdown", "ports", "translators", "sleep", "changes"];

/// Answers the host.
#[derive(Debug, Clone)]
pub struct Rpc(pub Arc<Guest>);

#[tonic::async_trait]
impl Agent for Rpc {
    type BootStream = ReceiverStream<Result<BootStep, Status>>;
    type ShutdownStream = ReceiverStream<Result<ShutdownStep, Status>>;
    type PortsStream = ReceiverStream<Result<PortsRequest, Status>>;

    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let hello = request.into_inner();
        match clock::set(hello.unix_nanos) {
            Ok(0) => {}
            Ok(moved) => console::line(format!("dhow: the host moved the clock by {} ms", moved / 1_000_000)),
            Err(error) => console::line(format!("dhow: {error}")),
        }
        let (kernel, machine) = facts::kernel();
        Ok(Response::new(HelloReply {
            protocol: dhow_proto::AGENT_PROTOCOL,
            capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: self.0.boot_id.clone(),
            kernel,
            machine,
        }))
    }

    async fn boot(&self, _: Request<BootRequest>) -> Result<Response<Self::BootStream>, Status> {
        Ok(Response::new(history::follow(self.0.steps.history(), |step| step.last)))
    }

    async fn health(&self, _: Request<HealthRequest>) -> Result<Response<HealthReply>, Status> {
        Ok(Response::new(self.0.health().await))
    }

    async fn set_clock(&self, request: Request<SetClockRequest>) -> Result<Response<SetClockReply>, Status> {
        let moved_nanos = clock::set(request.into_inner().unix_nanos)
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(SetClockReply { moved_nanos }))
    }

    async fn shutdown(
        &self,
        request: Request<ShutdownRequest>,
    ) -> Result<Response<Self::ShutdownStream>, Status> {
        let limit = match request.into_inner().limit_ms {
            0 => shutdown::DEFAULT_LIMIT,
            limit => Duration::from_millis(limit.into()),
        };
        let steps = shutdown::begin(&self.0, limit);
        Ok(Response::new(history::follow(steps, |step| step.name == shutdown::LAST)))
    }

    async fn admit_host(&self, _: Request<AdmitHostRequest>) -> Result<Response<AdmitHostReply>, Status> {
        let reaper = self.0.reaper.clone();
        let admitted = tokio::task::spawn_blocking(move || admit::host(&reaper)).await;
        match admitted {
            Ok(Ok(())) => Ok(Response::new(AdmitHostReply {})),
            Ok(Err(error)) => Err(Status::internal(error.to_string())),
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }

    async fn put_translator(
        &self,
        parts: Request<Streaming<TranslatorPart>>,
    ) -> Result<Response<PutTranslatorReply>, Status> {
        let put = self.0.translators.put(parts.into_inner()).await;
        put.map_err(|error| Status::failed_precondition(error.to_string()))?;
        Ok(Response::new(PutTranslatorReply {}))
    }

    async fn use_translators(
        &self,
        request: Request<UseTranslatorsRequest>,
    ) -> Result<Response<Translators>, Status> {
        let wanted = request.into_inner().translators;
        let used = self.0.translators.replace(wanted, self.0.reaper.clone()).await;
        let used = used.map_err(|error| Status::failed_precondition(error.to_string()))?;
        self.0.translators.tell(&self.0, Some(&used));
        Ok(Response::new(used))
    }

    async fn disk_usage(&self, _: Request<DiskUsageRequest>) -> Result<Response<DiskUsageReply>, Status> {
        Ok(Response::new(usage::usage().await))
    }

    async fn trim(&self, _: Request<TrimRequest>) -> Result<Response<TrimReply>, Status> {
        let bytes = on_the_disk(&self.0, |_, reaper| trim::trim(reaper)).await?;
        Ok(Response::new(TrimReply { bytes }))
    }

    async fn grow_data(&self, request: Request<GrowDataRequest>) -> Result<Response<GrowDataReply>, Status> {
        let bytes = request.into_inner().bytes;
        let total_bytes = on_the_disk(&self.0, move |_, reaper| trim::grow(bytes, reaper)).await?;
        Ok(Response::new(GrowDataReply { total_bytes }))
    }

    async fn check_data(
        &self,
        request: Request<CheckDataRequest>,
    ) -> Result<Response<CheckDataReply>, Status> {
        let repair = request.into_inner().repair;
        let checked = on_the_disk(&self.0, move |disk, reaper| check::check(disk, repair, reaper)).await?;
        Ok(Response::new(checked))
    }

    async fn quiesce(&self, request: Request<QuiesceRequest>) -> Result<Response<QuiesceReply>, Status> {
        let limit = match request.into_inner().limit_ms {
            0 => quiesce::DEFAULT_LIMIT,
            limit => Duration::from_millis(limit.into()),
        };
        let quiet = tokio::task::spawn_blocking(move || quiesce::quiesce(limit)).await;
        quiet.map(Response::new).map_err(|error| Status::internal(error.to_string()))
    }

    async fn awake(&self, request: Request<AwakeRequest>) -> Result<Response<AwakeReply>, Status> {
        let AwakeRequest { unix_nanos, entropy } = request.into_inner();
        let awake = awake::awake(unix_nanos, &entropy);
        for error in &awake.errors {
            console::line(format!("dhow: after sleeping: {error}"));
        }
        Ok(Response::new(awake))
    }

    async fn tell_changes(
        &self,
        request: Request<TellChangesRequest>,
    ) -> Result<Response<TellChangesReply>, Status> {
        Ok(Response::new(changes::tell(request.into_inner().changes).await))
    }

    async fn ports(
        &self,
        answers: Request<Streaming<PortsAnswer>>,
    ) -> Result<Response<Self::PortsStream>, Status> {
        Ok(Response::new(ReceiverStream::new(self.0.ports.host(answers.into_inner()).await)))
    }
}

/// Work of programs on the data disk, one at a time: two of them would be in each other's way.
async fn on_the_disk<T: Send + 'static>(
    guest: &Arc<Guest>,
    work: impl FnOnce(&Path, &Reaper) -> crate::Result<T> + Send + 'static,
) -> Result<T, Status> {
    static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let one = ONE.lock().await;
    let reaper = guest.reaper.clone();
    let done = tokio::task::spawn_blocking(move || work(&disk::find(disk::DATA)?.device, &reaper)).await;
    drop(one);
    let done = done.map_err(|error| Status::internal(error.to_string()))?;
    done.map_err(|error| Status::failed_precondition(error.to_string()))
}
