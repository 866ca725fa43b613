//! The whole command line before an engine that is not there: try texts and flows by hand, and test them from outside
//! (`tests/flows.rs`). `DHOW_FAKE` names what its daemon does wrong, words separated by commas.

use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dhow_cli::{
    Asset, AssetsCommand, AssetsDone, Check, Failure, House, Problem, Report, TranslatorCommand,
    TranslatorsDone,
};
use dhow_home::lock::FileLock;
use dhow_home::{Home, launch};
use dhow_model::{Arch, Config, MachineName};
use dhow_proto::HOST_PROTOCOL;
use dhow_proto::control::control_server::{Control, ControlServer};
use dhow_proto::control::progress::What;
use dhow_proto::control::{
    DiskCheckRequest, DiskCompactReply, DiskGrowReply, DiskRequest, DiskUsageReply, Done, DownRequest, Event,
    EventsRequest, Failure as Failed, InspectReply, InspectRequest, Machine, PortsReply, PortsRequest,
    Progress, PublishedPort, RescueExportRequest, RescueListReply, RescuePart, ResumeRequest, Service,
    StatusReply, StatusRequest, SuspendRequest, TimedStep, UpRequest, VersionReply, VersionRequest, Workload,
    inspect_reply,
};
use tokio::sync::{Notify, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status};

fn main() -> ExitCode {
    dhow_cli::main(&Fake)
}

struct Fake;

fn wrong(word: &str) -> bool {
    std::env::var("DHOW_FAKE").unwrap_or_default().split(',').any(|w| w == word)
}

impl House for Fake {
    fn daemon(&self, home: &Home, _: bool) -> ExitCode {
        if wrong("die") {
            eprintln!("cannot bear this world");
            return ExitCode::from(7);
        }
        if wrong("refuse") {
            let failure = Failure::new("disk-full", "the disk is full\n12 KiB are free", "free 2 GiB");
            launch::answer(Err(&failure)).ok();
            return ExitCode::FAILURE;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime.map(|runtime| runtime.block_on(serve(home))) {
            Ok(Ok(())) => ExitCode::SUCCESS,
            Ok(Err(error)) => {
                launch::answer(Err(&Failure::new("fake", error.to_string(), ""))).ok();
                ExitCode::FAILURE
            }
            Err(_) => ExitCode::FAILURE,
        }
    }

    fn supervise(&self, home: &Home, machine: &MachineName, _: dhow_model::Purpose) -> ExitCode {
        eprintln!("would supervise {machine} in {}", home.root().display());
        ExitCode::SUCCESS
    }

    fn probe_kvm(&self) -> ExitCode {
        ExitCode::from(9)
    }

    fn translators(
        &self,
        _: &Home,
        _: &Config,
        command: &TranslatorCommand,
        _: &mut dyn Report,
    ) -> Result<TranslatorsDone, Failure> {
        Ok(TranslatorsDone { summary: format!("{command:?}"), translators: Vec::new() })
    }

    fn assets(
        &self,
        _: &Home,
        _: &Config,
        command: &AssetsCommand,
        report: &mut dyn Report,
    ) -> Result<AssetsDone, Failure> {
        let asset = |name: &str, state: &str| Asset {
            set: "5e7".to_owned(),
            name: name.to_owned(),
            version: "6.12.48-1".to_owned(),
            arch: Arch::Amd64,
            path: format!("/assets/5e7/{name}").into(),
            bytes: 31 << 20,
            sha256: "ab".repeat(32),
            state: state.to_owned(),
        };
        match command {
            AssetsCommand::Build { arch, .. } => {
                report.step(&format!("building boot assets for {arch}"));
                report.bytes(1 << 20, Some(4 << 20));
                report.detail("unpacking linux-image");
                Ok(AssetsDone {
                    summary: format!("Built boot assets for {arch}."),
                    assets: vec![asset("kernel", "ready"), asset("root", "ready")],
                    problems: Vec::new(),
                })
            }
            AssetsCommand::Verify { .. } => Ok(AssetsDone {
                summary: "1 of 2 files is damaged.".to_owned(),
                assets: vec![asset("kernel", "ready"), asset("root", "damaged")],
                problems: vec![Problem {
                    path: "/assets/5e7/root".into(),
                    message: "byte 4096 differs".to_owned(),
                    hint: "dhow assets build".to_owned(),
                }],
            }),
            AssetsCommand::Import { file } => Err(Failure::new(
                "bundle-damaged",
                format!("{} is no bundle\nits first bytes are wrong", file.display()),
                "export it again",
            )),
            other => Ok(AssetsDone { summary: format!("{other:?}"), ..AssetsDone::default() }),
        }
    }

    fn doctor(&self, _: &Home) -> Vec<Check> {
        if wrong("sick") {
            return vec![Check::bad(
                "qemu",
                "there is no qemu-system-x86_64 in PATH",
                "apt install qemu-system-x86",
            )];
        }
        vec![Check::good("qemu", "version 10.0.2")]
    }
}

async fn serve(home: &Home) -> std::io::Result<()> {
    let lock = FileLock::wait_exclusive(&home.daemon_lock(), Duration::from_secs(2)).await;
    let lock = lock.map_err(std::io::Error::other)?;
    if wrong("mute") {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let listener = dhow_home::socket::listen(&home.control_socket())?;
    let end = Arc::new(Notify::new());
    let engine = Engine {
        home: home.clone(),
        up: Arc::default(),
        asleep: Arc::default(),
        forced: Arc::default(),
        end: Arc::clone(&end),
    };
    launch::answer(Ok(()))?;
    tonic::transport::Server::builder()
        .add_service(ControlServer::new(engine))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async move { end.notified().await })
        .await
        .map_err(std::io::Error::other)?;
    dhow_home::socket::remove(&home.control_socket())?;
    drop(lock);
    Ok(())
}

struct Engine {
    home: Home,
    up: Arc<AtomicBool>,
    asleep: Arc<AtomicBool>,
    forced: Arc<Notify>,
    end: Arc<Notify>,
}

type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Sends what a daemon would, and stops when nobody listens.
struct Teller(mpsc::Sender<Result<Progress, Status>>);

impl Teller {
    async fn tell(&self, what: What) {
        self.0.send(Ok(Progress { what: Some(what) })).await.ok();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn telling() -> (Teller, Response<Answer<Progress>>) {
    let (sender, receiver) = mpsc::channel(16);
    (Teller(sender), Response::new(Box::pin(ReceiverStream::new(receiver))))
}

fn timeline() -> Vec<TimedStep> {
    let step = |place: &str, name: &str, began_us, took_us, detail: &str| TimedStep {
        r#where: place.to_owned(),
        name: name.to_owned(),
        began_us,
        took_us,
        detail: detail.to_owned(),
    };
    vec![
        step("daemon", "assets", 0, 12_000, ""),
        step("host", "hypervisor", 12_000, 180_000, "qemu 10.0.2"),
        step("guest", "dockerd", 3_400_000, 5_100_000, "26.1\x1b[31m"),
    ]
}

fn no_disk() -> Status {
    Status::failed_precondition("the fake has no disk")
}

#[tonic::async_trait]
impl Control for Engine {
    type UpStream = Answer<Progress>;
    type DownStream = Answer<Progress>;
    type SuspendStream = Answer<Progress>;
    type ResumeStream = Answer<Progress>;
    type DiskCheckStream = Answer<Progress>;
    type RescueExportStream = Answer<RescuePart>;
    type EventsStream = Answer<Event>;

    async fn version(&self, _: Request<VersionRequest>) -> Result<Response<VersionReply>, Status> {
        if wrong("stuck") {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        Ok(Response::new(VersionReply {
            version: if wrong("version") { "9.9.9" } else { dhow_cli::VERSION }.to_owned(),
            protocol: if wrong("protocol") { 99 } else { HOST_PROTOCOL },
            pid: std::process::id(),
        }))
    }

    async fn up(&self, _: Request<UpRequest>) -> Result<Response<Self::UpStream>, Status> {
        let (teller, answer) = telling();
        let up = Arc::clone(&self.up);
        tokio::spawn(async move {
            if up.load(Ordering::SeqCst) {
                teller.tell(What::Done(Done::default())).await;
                return;
            }
            teller.tell(What::Step("building boot assets".to_owned())).await;
            teller.tell(What::Detail("unpacking\x1b[2J linux-image".to_owned())).await;
            teller.tell(What::Step("starting native".to_owned())).await;
            if wrong("fail-up") {
                let failed = Failed {
                    code: "kernel-panic".to_owned(),
                    message: "native did not start\nits kernel panicked".to_owned(),
                    hint: "dhow logs console".to_owned(),
                };
                return teller.tell(What::Failed(failed)).await;
            }
            if wrong("silent-up") {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            if wrong("vanish") {
                std::process::abort();
            }
            if wrong("drift") {
                teller.tell(What::Note("native was made anew: memory".to_owned())).await;
            }
            up.store(true, Ordering::SeqCst);
            teller.tell(What::Done(Done { timeline: timeline(), changed: true, warnings: Vec::new() })).await;
        });
        Ok(answer)
    }

    async fn down(&self, request: Request<DownRequest>) -> Result<Response<Self::DownStream>, Status> {
        let (teller, answer) = telling();
        let DownRequest { force, suspend } = request.into_inner();
        if force {
            self.forced.notify_waiters();
        }
        let (forced, end) = (Arc::clone(&self.forced), Arc::clone(&self.end));
        tokio::spawn(async move {
            let step = if suspend { "putting native to sleep" } else { "stopping native" };
            teller.tell(What::Step(step.to_owned())).await;
            if wrong("slow-down") && !force {
                forced.notified().await;
            }
            let warnings = if force { vec!["native was powered off".to_owned()] } else { Vec::new() };
            teller.tell(What::Done(Done { timeline: Vec::new(), changed: true, warnings })).await;
            end.notify_one();
        });
        Ok(answer)
    }

    async fn disk_usage(&self, _: Request<DiskRequest>) -> Result<Response<DiskUsageReply>, Status> {
        Err(no_disk())
    }

    async fn disk_compact(&self, _: Request<DiskRequest>) -> Result<Response<DiskCompactReply>, Status> {
        Err(no_disk())
    }

    async fn disk_grow(&self, _: Request<DiskRequest>) -> Result<Response<DiskGrowReply>, Status> {
        Err(no_disk())
    }

    async fn disk_check(
        &self,
        _: Request<DiskCheckRequest>,
    ) -> Result<Response<Self::DiskCheckStream>, Status> {
        Err(no_disk())
    }

    async fn rescue_list(&self, _: Request<DiskRequest>) -> Result<Response<RescueListReply>, Status> {
        Err(no_disk())
    }

    async fn rescue_export(
        &self,
        _: Request<RescueExportRequest>,
    ) -> Result<Response<Self::RescueExportStream>, Status> {
        Err(no_disk())
    }

    async fn suspend(
        &self,
        request: Request<SuspendRequest>,
    ) -> Result<Response<Self::SuspendStream>, Status> {
        let (teller, answer) = telling();
        let (asleep, up) = (Arc::clone(&self.asleep), self.up.load(Ordering::SeqCst));
        let foreign = request.get_ref().machine == "foreign";
        tokio::spawn(async move {
            teller.tell(What::Step("putting native to sleep".to_owned())).await;
            if foreign || wrong("fail-suspend") {
                let failed = Failed {
                    code: "not-suspended".to_owned(),
                    message: "native was not put to sleep\nnative: the disk is full".to_owned(),
                    hint: "dhow status".to_owned(),
                };
                return teller.tell(What::Failed(failed)).await;
            }
            let changed = up && !asleep.swap(true, Ordering::SeqCst);
            teller.tell(What::Done(Done { changed, ..Done::default() })).await;
        });
        Ok(answer)
    }

    async fn resume(&self, _: Request<ResumeRequest>) -> Result<Response<Self::ResumeStream>, Status> {
        let (teller, answer) = telling();
        let asleep = Arc::clone(&self.asleep);
        tokio::spawn(async move {
            let changed = asleep.swap(false, Ordering::SeqCst);
            teller.tell(What::Done(Done { changed, ..Done::default() })).await;
        });
        Ok(answer)
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let state = match (self.up.load(Ordering::SeqCst), self.asleep.load(Ordering::SeqCst)) {
            (_, true) => "suspended",
            (true, false) => "running",
            (false, false) => "stopped",
        };
        let service =
            Service { name: "dockerd".to_owned(), state: "running".to_owned(), ..Service::default() };
        Ok(Response::new(StatusReply {
            version: dhow_cli::VERSION.to_owned(),
            pid: std::process::id(),
            home: self.home.root().display().to_string(),
            docker_socket: self.home.docker_socket().display().to_string(),
            machines: vec![Machine {
                name: "native".to_owned(),
                state: state.to_owned(),
                arch: "amd64".to_owned(),
                accelerator: "tcg".to_owned(),
                channel: "serial".to_owned(),
                cpus: 2,
                memory_bytes: 4 << 30,
                disk_bytes: 64 << 30,
                services: vec![service],
                timeline: timeline(),
                ..Machine::default()
            }],
            rss_bytes: 9 << 20,
            started_unix_nanos: 0,
        }))
    }

    async fn ports(&self, _: Request<PortsRequest>) -> Result<Response<PortsReply>, Status> {
        let port = PublishedPort {
            machine: "native".to_owned(),
            protocol: "tcp".to_owned(),
            host_address: "127.0.0.1".to_owned(),
            host_port: 8080,
            container_address: "172.17.0.2".to_owned(),
            container_port: 80,
            container_name: "web".to_owned(),
            ..PublishedPort::default()
        };
        Ok(Response::new(PortsReply { ports: vec![port], warnings: Vec::new() }))
    }

    async fn inspect(&self, request: Request<InspectRequest>) -> Result<Response<InspectReply>, Status> {
        let what = match request.into_inner().container.as_str() {
            "web" => inspect_reply::What::Found(Workload {
                id: "5d3f".repeat(16),
                name: "web".to_owned(),
                role: "native".to_owned(),
                machine: "native".to_owned(),
                state: "running".to_owned(),
                known: "decided".to_owned(),
                why: "no platform was asked for, which means linux/amd64".to_owned(),
                ..Workload::default()
            }),
            other => inspect_reply::What::Failed(Failed {
                code: "container-missing".to_owned(),
                message: format!("there is no container {other}"),
                hint: "docker ps --all".to_owned(),
            }),
        };
        Ok(Response::new(InspectReply { what: Some(what) }))
    }

    async fn events(&self, _: Request<EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }
}
