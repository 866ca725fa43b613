//! The control API: what `dhow` asks of the daemon.

use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dhow_docker::Face;
use dhow_engine::{Engine, Error, Progress as Working, Reporter, Slept, Supervisors};
use dhow_home::{Home, process};
use dhow_model::{Failure, Role};
use dhow_proto::control::control_server::Control;
use dhow_proto::control::progress::What;
use dhow_proto::control::{
    self, DiskCheckRequest, DiskCompactReply, DiskGrowReply, DiskRequest, DiskUsageReply, Done, DownRequest,
    EventsRequest, InspectReply, InspectRequest, PortsReply, PortsRequest, Progress, RescueExportRequest,
    RescueListReply, RescuePart, ResumeRequest, StatusReply, StatusRequest, SuspendRequest, UpRequest,
    VersionReply, VersionRequest,
};
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::{BroadcastStream, ReceiverStream};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{disk, inspect, status, stop};

/// The service.
pub struct Service {
    home: Home,
    engine: Engine,
    face: Face,
    started: SystemTime,
    /// Ends the daemon.
    end: CancellationToken,
}

type Sender = mpsc::Sender<Result<Progress, Status>>;

impl Service {
    /// The service of this engine. `end` is cancelled when the daemon is no longer needed.
    pub fn new(home: Home, engine: Engine, face: Face, end: CancellationToken) -> Self {
        Self { home, engine, face, started: SystemTime::now(), end }
    }
}

#[tonic::async_trait]
impl Control for Service {
    type UpStream = ReceiverStream<Result<Progress, Status>>;
    type DownStream = ReceiverStream<Result<Progress, Status>>;
    type DiskCheckStream = ReceiverStream<Result<Progress, Status>>;
    type RescueExportStream = ReceiverStream<Result<RescuePart, Status>>;
    type SuspendStream = ReceiverStream<Result<Progress, Status>>;
    type ResumeStream = ReceiverStream<Result<Progress, Status>>;
    type EventsStream = Pin<Box<dyn Stream<Item = Result<control::Event, Status>> + Send>>;

    async fn version(&self, _: Request<VersionRequest>) -> Result<Response<VersionReply>, Status> {
        Ok(Response::new(VersionReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: dhow_proto::HOST_PROTOCOL,
            pid: std::process::id(),
        }))
    }

    async fn up(&self, _: Request<UpRequest>) -> Result<Response<Self::UpStream>, Status> {
        let (sender, stream) = mpsc::channel(64);
        let (home, engine) = (self.home.clone(), self.engine.clone());
        // The machine goes on starting when the caller goes away.
        tokio::spawn(async move {
            let last = match up(&home, &engine, &sender).await {
                Ok(done) => What::Done(done),
                Err(failure) => failed(failure),
            };
            tell(&sender, last).await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn down(&self, request: Request<DownRequest>) -> Result<Response<Self::DownStream>, Status> {
        let DownRequest { force, suspend } = request.into_inner();
        let (sender, stream) = mpsc::channel(64);
        let (home, engine, end) = (self.home.clone(), self.engine.clone(), self.end.clone());
        if suspend {
            tokio::spawn(async move {
                tell(&sender, What::Step(format!("putting {} to sleep", stop::names(&engine.on())))).await;
                let slept = engine.suspend(None, "dhow down --suspend", Supervisors::End).await;
                let (last, ended) = slept_all(slept, "was not put to sleep");
                tell(&sender, last).await;
                if ended {
                    end.cancel();
                }
            });
            return Ok(Response::new(ReceiverStream::new(stream)));
        }
        tokio::spawn(async move {
            let config = home.read_config().unwrap_or_default();
            tell(&sender, What::Step(format!("stopping {}", stop::names(&engine.on())))).await;
            let limit = Duration::from_secs(config.limits.stop.into());
            match stop::told(engine.down(force, limit).await) {
                Ok(warnings) => {
                    let done = Done { changed: true, warnings, timeline: Vec::new() };
                    tell(&sender, What::Done(done)).await;
                    end.cancel();
                }
                // What is not off can be stopped again.
                Err(failure) => tell(&sender, failed(failure)).await,
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn suspend(
        &self,
        request: Request<SuspendRequest>,
    ) -> Result<Response<Self::SuspendStream>, Status> {
        let role = role(&request.get_ref().machine)?;
        let (sender, stream) = mpsc::channel(8);
        let engine = self.engine.clone();
        tokio::spawn(async move {
            tell(&sender, What::Step(format!("putting {} to sleep", named(role, &engine)))).await;
            let slept = engine.suspend(role, "dhow suspend", Supervisors::Stay).await;
            tell(&sender, slept_all(slept, "was not put to sleep").0).await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn resume(&self, request: Request<ResumeRequest>) -> Result<Response<Self::ResumeStream>, Status> {
        let role = role(&request.get_ref().machine)?;
        let (sender, stream) = mpsc::channel(8);
        let engine = self.engine.clone();
        tokio::spawn(async move {
            tell(&sender, What::Step(format!("waking {}", named(role, &engine)))).await;
            let woken = engine.resume(role, "dhow resume").await;
            tell(&sender, slept_all(woken, "was not woken").0).await;
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let snapshots = self.engine.snapshots().await;
        let machines =
            snapshots.into_iter().map(|(name, snapshot)| status::machine(&self.home, &name, snapshot));
        let since_1970 = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Response::new(StatusReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            home: self.home.root().display().to_string(),
            docker_socket: self.home.docker_socket().display().to_string(),
            machines: machines.collect(),
            rss_bytes: process::resident_bytes(std::process::id()),
            started_unix_nanos: u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX),
        }))
    }

    async fn ports(&self, _: Request<PortsRequest>) -> Result<Response<PortsReply>, Status> {
        let mut reply = PortsReply::default();
        for (machine, ports) in self.engine.ports().await {
            match ports {
                Ok(ports) => reply.ports.extend(ports.into_iter().map(|port| status::port(&machine, port))),
                Err(error) => reply.warnings.push(error.to_string()),
            }
        }
        Ok(Response::new(reply))
    }

    async fn disk_usage(&self, request: Request<DiskRequest>) -> Result<Response<DiskUsageReply>, Status> {
        Ok(Response::new(disk::usage(&self.engine, &request.get_ref().machine).await))
    }

    async fn disk_compact(
        &self,
        request: Request<DiskRequest>,
    ) -> Result<Response<DiskCompactReply>, Status> {
        Ok(Response::new(disk::compact(&self.engine, &request.get_ref().machine).await))
    }

    async fn disk_grow(&self, request: Request<DiskRequest>) -> Result<Response<DiskGrowReply>, Status> {
        // It goes on to its end when the caller goes away.
        let (home, engine) = (self.home.clone(), self.engine.clone());
        let grown = tokio::spawn(async move { disk::grow(&home, &engine, &request.get_ref().machine).await });
        grown.await.map(Response::new).map_err(|error| Status::internal(error.to_string()))
    }

    async fn disk_check(
        &self,
        request: Request<DiskCheckRequest>,
    ) -> Result<Response<Self::DiskCheckStream>, Status> {
        let (sender, stream) = mpsc::channel(64);
        tokio::spawn(disk::check(self.home.clone(), self.engine.clone(), request.into_inner(), sender));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn rescue_list(&self, request: Request<DiskRequest>) -> Result<Response<RescueListReply>, Status> {
        Ok(Response::new(disk::list(&self.engine, &request.get_ref().machine).await))
    }

    async fn rescue_export(
        &self,
        request: Request<RescueExportRequest>,
    ) -> Result<Response<Self::RescueExportStream>, Status> {
        let (sender, stream) = mpsc::channel(4);
        tokio::spawn(disk::export(self.engine.clone(), request.into_inner(), sender));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectReply>, Status> {
        let found = self.face.inspect(&request.get_ref().container).await;
        let state = found.as_ref().ok().map(|found| self.engine.last(found.role));
        Ok(Response::new(inspect::told(found, state)))
    }

    async fn events(&self, _: Request<EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        let events: broadcast::Receiver<_> = self.engine.events();
        let stream = BroadcastStream::new(events).map(|event| match event {
            Ok(event) => Ok(status::event(&event)),
            Err(lagged) => Err(Status::data_loss(lagged.to_string())),
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

/// Which machine was named, if one was.
#[allow(clippy::result_large_err, reason = "it is the answer of every call")]
fn role(machine: &str) -> Result<Option<Role>, Status> {
    if machine.is_empty() {
        return Ok(None);
    }
    let role = Role::ALL.into_iter().find(|role| role.to_string() == machine);
    role.map(Some)
        .ok_or_else(|| Status::not_found(format!("there is no machine {machine}: name native or foreign")))
}

fn named(role: Option<Role>, engine: &Engine) -> String {
    role.map_or_else(|| stop::names(&engine.on()), |role| role.to_string())
}

/// What came of it for all machines together, and whether that is good.
fn slept_all(slept: Vec<Slept>, not_done: &str) -> (What, bool) {
    let changed = slept.iter().any(|slept| matches!(slept.result, Ok(true)));
    // The headline says already what was not done to which machine.
    let told = |error| match error {
        awake @ Error::Awake { .. } => {
            let Failure { code, hint, .. } = awake.failure();
            let Error::Awake { why, .. } = awake else { return awake };
            Failure::new(code, why, hint).into()
        }
        error => error,
    };
    let warnings: Vec<String> = slept.iter().filter_map(|slept| slept.warning.clone()).collect();
    let each = slept.into_iter().map(|slept| (slept.machine, slept.result.map(|_| Vec::new()).map_err(told)));
    match stop::all(each, not_done, "is as was asked") {
        Ok(_) => (What::Done(Done { changed, warnings, timeline: Vec::new() }), true),
        Err(failure) => (failed(failure), false),
    }
}

async fn up(home: &Home, engine: &Engine, sender: &Sender) -> Result<Done, Failure> {
    let config = home.read_config()?;
    let (progress, mut told) = mpsc::unbounded_channel();
    let reporter = Reporter::to(progress);
    let work = async {
        let done = engine.up(&config, &reporter).await;
        drop(reporter);
        done
    };
    let forward = async {
        while let Some(working) = told.recv().await {
            let what = match working {
                Working::Step(text) => What::Step(text),
                Working::Detail(text) => What::Detail(text),
                Working::Note(text) => What::Note(text),
            };
            tell(sender, what).await;
        }
    };
    let (done, ()) = tokio::join!(work, forward);
    let done = done.map_err(|e| e.failure())?;
    Ok(Done {
        timeline: done.timeline.into_iter().map(status::timed).collect(),
        changed: done.changed,
        warnings: done.warnings,
    })
}

fn failed(failure: Failure) -> What {
    let Failure { code, message, hint } = failure;
    What::Failed(control::Failure { code, message, hint })
}

async fn tell(sender: &Sender, what: What) {
    if sender.send(Ok(Progress { what: Some(what) })).await.is_err() {
        tracing::debug!("the caller went away");
    }
}
