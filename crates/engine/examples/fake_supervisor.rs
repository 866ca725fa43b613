//! A supervisor without a machine, for the engine's tests: it takes the lock, serves the API, and does what the file `act` in
//! the machine's directory says: `ready`, `fail`, `stuck` (never ready), `deaf` (ready, and ignores a graceful stop), `mute`
//! (ready, and refuses to stop at all), `idle` (ready, and no container runs), `restless` (ready, and can neither be put to sleep nor
//! limited), `frail` (ready, and dies when it is woken), `spoiled` (ready, and what it slept as cannot be used), `unwell` (ready, no container runs, and
//! soon something in it does not answer). Behind its channel stands a dockerd that has one container, named as the machine; a dial
//! wakes a machine that sleeps. Each start is a byte more in the file `starts`, each wake one in `wakes`; the last limit of
//! the memory is in `limited`.

use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use dhow_home::lock::FileLock;
use dhow_home::{Home, LastEnd, MachineDir, launch, socket};
use dhow_model::{Failure, MachineName};
use dhow_proto::supervisor::supervisor_server::{Supervisor, SupervisorServer};
use dhow_proto::supervisor::{
    GrowDiskReply, GrowDiskRequest, LimitMemoryReply, LimitMemoryRequest, MachineStatus, Phase, PortsReply,
    PortsRequest, ResumeReply, ResumeRequest, Sleep, StatusRequest, StopReply, StopRequest, SuspendReply,
    SuspendRequest, WatchRequest,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// For a machine that is woken to be so.
const WAKE: Duration = Duration::from_millis(50);
/// For a machine that is up to be found without work before it is unwell.
const ILL_AFTER: Duration = Duration::from_millis(300);

#[derive(Clone)]
struct Fake {
    status: Arc<watch::Sender<MachineStatus>>,
    end: CancellationToken,
    act: String,
    dir: MachineDir,
    /// Held while it is put to sleep or woken.
    turn: Arc<Mutex<()>>,
}

type Stream = tokio_stream::wrappers::ReceiverStream<Result<MachineStatus, Status>>;

impl Fake {
    fn phase(&self, phase: Phase) {
        self.status.send_modify(|status| status.phase = phase.into());
    }

    fn sleeps(&self) -> bool {
        self.status.borrow().phase() == Phase::Suspended
    }

    async fn save(&self, why: String) -> std::io::Result<()> {
        let sleep = |status: &mut MachineStatus| {
            status.phase = Phase::Suspending.into();
            status.sleep.get_or_insert_default().why = why;
        };
        self.status.send_modify(sleep);
        std::fs::create_dir_all(self.dir.sleep())?;
        std::fs::File::create(self.dir.sleep().join("state.json"))?;
        tokio::time::sleep(WAKE).await;
        self.phase(Phase::Suspended);
        Ok(())
    }

    /// Wakes what sleeps; what it slept as is used up first.
    async fn wake(&self, by: &str) -> std::io::Result<()> {
        let _turn = self.turn.lock().await;
        if !self.sleeps() {
            return Ok(());
        }
        std::fs::remove_dir_all(self.dir.sleep())?;
        more(&self.dir, "wakes")?;
        let resuming = |status: &mut MachineStatus| {
            status.phase = Phase::Resuming.into();
            status.sleep.get_or_insert_default().woken_by = by.to_owned();
        };
        self.status.send_modify(resuming);
        if self.act == "frail" {
            std::process::abort();
        }
        tokio::time::sleep(WAKE).await;
        if self.act == "spoiled" {
            let aside = |status: &mut MachineStatus| {
                status.phase = Phase::Booting.into();
                status.sleep.get_or_insert_default().set_aside = "the memory is damaged".to_owned();
            };
            self.status.send_modify(aside);
            tokio::time::sleep(2 * WAKE).await;
        }
        self.phase(Phase::Ready);
        Ok(())
    }
}

#[tonic::async_trait]
impl Supervisor for Fake {
    type WatchStream = Stream;

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<MachineStatus>, Status> {
        Ok(Response::new(self.status.borrow().clone()))
    }

    async fn ports(&self, _: Request<PortsRequest>) -> Result<Response<PortsReply>, Status> {
        Ok(Response::new(PortsReply::default()))
    }

    async fn grow_disk(&self, _: Request<GrowDiskRequest>) -> Result<Response<GrowDiskReply>, Status> {
        Err(Status::failed_precondition("it has no disk that could grow"))
    }

    async fn limit_memory(
        &self,
        request: Request<LimitMemoryRequest>,
    ) -> Result<Response<LimitMemoryReply>, Status> {
        let bytes = request.into_inner().bytes;
        if self.act == "restless" {
            return Err(Status::failed_precondition("it has no device that could"));
        }
        dhow_home::atomic::write(&self.dir.path().join("limited"), bytes.to_string().as_bytes(), 0o600)?;
        self.status.send_modify(|status| status.memory_total_bytes = bytes);
        Ok(Response::new(LimitMemoryReply {}))
    }

    async fn suspend(&self, request: Request<SuspendRequest>) -> Result<Response<SuspendReply>, Status> {
        let SuspendRequest { why, leave, unless_busy } = request.into_inner();
        let busy = self.status.borrow().running_containers.is_some_and(|containers| containers > 0);
        if self.act == "restless" || (unless_busy && busy) {
            return Err(Status::failed_precondition("something wants the guest"));
        }
        let _turn = self.turn.lock().await;
        if !self.sleeps() {
            self.save(why).await?;
        }
        if leave {
            self.end.cancel();
        }
        Ok(Response::new(SuspendReply::default()))
    }

    async fn resume(&self, request: Request<ResumeRequest>) -> Result<Response<ResumeReply>, Status> {
        self.wake(&request.into_inner().why).await?;
        Ok(Response::new(ResumeReply::default()))
    }

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Stream>, Status> {
        let (sender, stream) = mpsc::channel(4);
        let mut status = self.status.subscribe();
        let end = self.end.clone();
        tokio::spawn(async move {
            loop {
                let now = status.borrow_and_update().clone();
                if sender.send(Ok(now)).await.is_err() {
                    return;
                }
                tokio::select! {
                    changed = status.changed() => if changed.is_err() { return },
                    () = end.cancelled() => return,
                }
            }
        });
        Ok(Response::new(Stream::new(stream)))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<StopReply>, Status> {
        let force = request.get_ref().force;
        if self.act == "mute" {
            return Err(Status::internal("it does not want to"));
        }
        if self.act == "deaf" && !force {
            self.end.cancelled().await;
        }
        if self.sleeps() && force {
            std::fs::remove_dir_all(self.dir.sleep())?;
        } else {
            self.wake("it is stopped").await?;
        }
        self.end.cancel();
        Ok(Response::new(StopReply::default()))
    }
}

/// Accepts every dial (the header's eight bytes, answered with four) when the machine is awake, and answers every question with the
/// list.
async fn dockerd(listener: UnixListener, name: MachineName, fake: Fake) {
    let id = if name == MachineName::native() { "a" } else { "b" }.repeat(64);
    let body = format!("[{{\"Id\":\"{id}\",\"Names\":[\"/{name}\"]}}]");
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    while let Ok((mut stream, _)) = listener.accept().await {
        let (answer, fake) = (answer.clone(), fake.clone());
        tokio::spawn(async move {
            let mut request = [0; 4096];
            stream.read_exact(&mut request[..8]).await?;
            fake.wake("a stream").await?;
            stream.write_all(&[0xd5, 1, 0, 0]).await?;
            while stream.read(&mut request).await? > 0 {
                stream.write_all(answer.as_bytes()).await?;
            }
            Ok::<_, std::io::Error>(())
        });
    }
}

/// One more of what is counted in this file.
fn more(dir: &MachineDir, what: &str) -> std::io::Result<()> {
    std::fs::File::options().create(true).append(true).open(dir.path().join(what))?.write_all(b"x")
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let name: MachineName = std::env::args().nth(2).ok_or("supervise NAME")?.parse()?;
    let home = Home::locate()?;
    let dir = home.machine(&name);
    let _lock = FileLock::wait_exclusive(&dir.supervisor_lock(), Duration::from_secs(1)).await?;
    LastEnd::clear(&dir)?;
    let act = std::fs::read_to_string(dir.path().join("act"))?;
    let listener = socket::listen(&dir.supervisor_socket())?;
    more(&dir, "starts")?;
    let channel = socket::listen(&dir.channel_socket())?;
    let saved = dir.sleep().exists();
    let phase = match act.as_str() {
        _ if saved => Phase::Suspended,
        "fail" | "stuck" => Phase::Booting,
        _ => Phase::Ready,
    };
    let status = MachineStatus {
        supervisor_pid: std::process::id(),
        phase: phase.into(),
        running_containers: Some(u32::from(act != "idle" && act != "unwell")),
        sleep: saved.then(Sleep::default),
        ..Default::default()
    };
    let end = CancellationToken::new();
    let fake = Fake {
        status: Arc::new(watch::Sender::new(status)),
        end: end.clone(),
        act: act.clone(),
        dir: dir.clone(),
        turn: Arc::default(),
    };
    tokio::spawn(dockerd(channel, name, fake.clone()));
    let waking = fake.clone();
    if act == "unwell" {
        let fake = fake.clone();
        tokio::spawn(async move {
            tokio::time::sleep(ILL_AFTER).await;
            fake.status.send_modify(|status| {
                status.phase = Phase::Degraded.into();
                "dockerd runs and does not answer".clone_into(&mut status.trouble);
            });
        });
    }
    let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
    let server = tonic::transport::Server::builder()
        .add_service(SupervisorServer::new(fake))
        .serve_with_incoming_shutdown(incoming, end.clone().cancelled_owned());
    let server = tokio::spawn(server);
    launch::answer(Ok(()))?;
    if saved {
        waking.wake("a new supervisor").await?;
    }
    let failure =
        (act == "fail").then(|| Failure::new("boot-failed", "the guest could not boot", "read its log"));
    if failure.is_some() {
        end.cancel();
    }
    end.cancelled().await;
    LastEnd { supervisor_pid: std::process::id(), failure }.write(&dir)?;
    tokio::time::timeout(Duration::from_secs(1), server).await???;
    Ok(())
}
