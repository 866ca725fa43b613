//! A supervisor without a machine, for the engine's tests: it takes the lock, serves the API, and does what the file `act` in
//! the machine's directory says: `ready`, `fail`, `stuck` (never ready), `deaf` (ready, and ignores a graceful stop), `mute`
//! (ready, and refuses to stop at all). Behind its channel stands a dockerd that has one container, named as the machine. Each start is
//! a byte more in the file `starts`.

use std::error::Error;
use std::io::Write as _;
use std::time::Duration;

use dhow_home::lock::FileLock;
use dhow_home::{Home, LastEnd, launch, socket};
use dhow_model::{Failure, MachineName};
use dhow_proto::supervisor::supervisor_server::{Supervisor, SupervisorServer};
use dhow_proto::supervisor::{
    MachineStatus, Phase, PortsReply, PortsRequest, ResumeReply, ResumeRequest, StatusRequest, StopReply,
    StopRequest, SuspendReply, SuspendRequest, WatchRequest,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

struct Fake {
    status: watch::Receiver<MachineStatus>,
    end: CancellationToken,
    act: String,
}

type Stream = tokio_stream::wrappers::ReceiverStream<Result<MachineStatus, Status>>;

#[tonic::async_trait]
impl Supervisor for Fake {
    type WatchStream = Stream;

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<MachineStatus>, Status> {
        Ok(Response::new(self.status.borrow().clone()))
    }

    async fn ports(&self, _: Request<PortsRequest>) -> Result<Response<PortsReply>, Status> {
        Ok(Response::new(PortsReply::default()))
    }

    async fn suspend(&self, _: Request<SuspendRequest>) -> Result<Response<SuspendReply>, Status> {
        Err(Status::failed_precondition("it has no machine that could sleep"))
    }

    async fn resume(&self, _: Request<ResumeRequest>) -> Result<Response<ResumeReply>, Status> {
        Ok(Response::new(ResumeReply::default()))
    }

    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Stream>, Status> {
        let (sender, stream) = mpsc::channel(4);
        let mut status = self.status.clone();
        tokio::spawn(async move {
            loop {
                let now = status.borrow_and_update().clone();
                if sender.send(Ok(now)).await.is_err() || status.changed().await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Stream::new(stream)))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<StopReply>, Status> {
        if self.act == "mute" {
            return Err(Status::internal("it does not want to"));
        }
        if self.act == "deaf" && !request.get_ref().force {
            self.end.cancelled().await;
        }
        self.end.cancel();
        Ok(Response::new(StopReply::default()))
    }
}

/// Accepts every dial (the header's eight bytes, answered with four), and answers every question with the list.
async fn dockerd(listener: UnixListener, name: MachineName) {
    let id = if name == MachineName::native() { "a" } else { "b" }.repeat(64);
    let body = format!("[{{\"Id\":\"{id}\",\"Names\":[\"/{name}\"]}}]");
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    while let Ok((mut stream, _)) = listener.accept().await {
        let answer = answer.clone();
        tokio::spawn(async move {
            let mut request = [0; 4096];
            stream.read_exact(&mut request[..8]).await?;
            stream.write_all(&[0xd5, 1, 0, 0]).await?;
            while stream.read(&mut request).await? > 0 {
                stream.write_all(answer.as_bytes()).await?;
            }
            Ok::<_, std::io::Error>(())
        });
    }
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
    let mut starts = std::fs::File::options().create(true).append(true).open(dir.path().join("starts"))?;
    starts.write_all(b"x")?;
    tokio::spawn(dockerd(socket::listen(&dir.channel_socket())?, name));
    let phase = if ["ready", "deaf", "mute"].contains(&act.as_str()) { Phase::Ready } else { Phase::Booting };
    let status =
        MachineStatus { supervisor_pid: std::process::id(), phase: phase.into(), ..Default::default() };
    let (sender, status) = watch::channel(status);
    let end = CancellationToken::new();
    let fake = Fake { status, end: end.clone(), act: act.clone() };
    let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
    let server = tonic::transport::Server::builder()
        .add_service(SupervisorServer::new(fake))
        .serve_with_incoming_shutdown(incoming, end.clone().cancelled_owned());
    let server = tokio::spawn(server);
    launch::answer(Ok(()))?;
    let failure =
        (act == "fail").then(|| Failure::new("boot-failed", "the guest could not boot", "read its log"));
    if failure.is_some() {
        end.cancel();
    }
    end.cancelled().await;
    LastEnd { supervisor_pid: std::process::id(), failure }.write(&dir)?;
    drop(sender);
    tokio::time::timeout(Duration::from_secs(1), server).await???;
    Ok(())
}
