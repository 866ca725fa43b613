//! The agent's side: takes proxies' claims from a Unix socket and the host's answers from the `Ports` stream. One task owns
//! the [`Table`]; everything else sends it messages.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dhow_model::port::{Binding, Protocol};
use dhow_proto::agent::{self as proto, PortBinding, PortsAnswer, PortsRequest, ServiceState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use super::table::{Answer, Id, Owner, Say, Table};
use super::words::{self, Ask, Told};
use super::{proxy, table};
use crate::{Error, Result, console, services};

/// For a proxy to say what it wants.
const HELLO: Duration = Duration::from_secs(5);
/// When dockerd is killed, the kernel ends its proxies before it is quite gone itself.
const DEATH: Duration = Duration::from_secs(2);
/// Between two looks whether it is.
const LOOK: Duration = Duration::from_millis(20);
/// Requests that the host has not taken yet: more than the table can ask for at once.
const REQUESTS: usize = 3 * table::LIMIT;

/// What the host is sent.
pub type Requests = mpsc::Receiver<Result<PortsRequest, Status>>;

/// The task that owns the bindings.
#[derive(Debug, Clone)]
pub struct Ports {
    events: mpsc::Sender<Event>,
}

#[derive(Debug)]
enum Event {
    Claim {
        binding: Binding,
        dockerd: u32,
        told: mpsc::Sender<Told>,
        owner: tokio::sync::oneshot::Sender<Owner>,
    },
    LetGo(Owner),
    Gone {
        owner: Owner,
        dockerd_lives: bool,
    },
    EngineAnswers(u32),
    Host(mpsc::Sender<Result<PortsRequest, Status>>, tokio::sync::oneshot::Sender<u64>),
    Answered {
        host: u64,
        id: Id,
        answer: Answer,
    },
}

impl Ports {
    /// Starts the task on the current runtime.
    #[must_use]
    pub fn start() -> Self {
        let (events, inbox) = mpsc::channel(256);
        tokio::spawn(own(inbox));
        Self { events }
    }

    /// Lets proxies in: a socket for them, and the proxy itself where dockerd is told to look. To be called on a runtime.
    ///
    /// # Errors
    /// When either cannot be made.
    pub fn listen(&self) -> Result<()> {
        // The executable of process 1 can be run although its file is gone, through its link in /proc.
        symlink("/proc/1/exe", proxy::PATH).map_err(Error::file("make", proxy::PATH))?;
        self.listen_at(Path::new(words::SOCKET))
    }

    /// The same, somewhere else and without the proxy: for tests.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn listen_at(&self, socket: &Path) -> Result<()> {
        let listener = UnixListener::bind(socket).map_err(Error::file("make", socket))?;
        fs::set_permissions(socket, fs::Permissions::from_mode(0o600))
            .map_err(Error::file("protect", socket))?;
        tokio::spawn(accept(listener, self.events.clone()));
        Ok(())
    }

    /// Tells the task of each dockerd that answers, for ever.
    pub async fn follow(self, mut dockerd: watch::Receiver<services::Status>) {
        let mut last = 0;
        loop {
            let pid = {
                let status = dockerd.borrow_and_update();
                if status.state == ServiceState::Running { status.pid } else { 0 }
            };
            if pid != 0 && pid != last {
                last = pid;
                self.engine_answers(pid).await;
            }
            if dockerd.changed().await.is_err() {
                return;
            }
        }
    }

    /// The dockerd of this process ID answers, and so has claimed what it wants.
    pub async fn engine_answers(&self, pid: u32) {
        tell(&self.events, Event::EngineAnswers(pid)).await;
    }

    /// The host is there: its answers come from `answers`, and it gets what is returned. An earlier one hears no more.
    pub async fn host<S>(&self, mut answers: S) -> Requests
    where
        S: Stream<Item = Result<PortsAnswer, Status>> + Send + Unpin + 'static,
    {
        let (requests, out) = mpsc::channel(REQUESTS);
        let (number, numbered) = tokio::sync::oneshot::channel();
        tell(&self.events, Event::Host(requests, number)).await;
        let events = self.events.clone();
        tokio::spawn(async move {
            let Ok(host) = numbered.await else { return };
            while let Some(Ok(PortsAnswer { id, what })) = answers.next().await {
                let answer = match what {
                    Some(proto::ports_answer::What::Bound(_)) => Answer::Bound,
                    Some(proto::ports_answer::What::Refused(refused)) => Answer::Refused(refused.text),
                    Some(proto::ports_answer::What::Released(_)) => Answer::Released,
                    None => continue,
                };
                tell(&events, Event::Answered { host, id, answer }).await;
            }
        });
        out
    }
}

/// The task ends only with the agent.
async fn tell(events: &mpsc::Sender<Event>, event: Event) {
    if events.send(event).await.is_err() {
        console::line("dhow: published ports are not looked after any more");
    }
}

#[derive(Default)]
struct Owned {
    table: Table,
    proxies: HashMap<Owner, mpsc::Sender<Told>>,
    last_owner: Owner,
    host: Option<mpsc::Sender<Result<PortsRequest, Status>>>,
    host_number: u64,
}

async fn own(mut inbox: mpsc::Receiver<Event>) {
    let mut owned = Owned::default();
    while let Some(event) = inbox.recv().await {
        let say = owned.take(event);
        owned.say(say);
    }
}

impl Owned {
    fn take(&mut self, event: Event) -> Vec<Say> {
        match event {
            Event::Claim { binding, dockerd, told, owner } => {
                self.last_owner += 1;
                if owner.send(self.last_owner).is_err() {
                    return Vec::new();
                }
                self.proxies.insert(self.last_owner, told);
                self.table.claim(self.last_owner, binding, dockerd)
            }
            Event::LetGo(owner) => self.table.let_go(owner),
            Event::Gone { owner, dockerd_lives } => {
                self.proxies.remove(&owner);
                self.table.gone(owner, dockerd_lives)
            }
            Event::EngineAnswers(pid) => self.table.engine_answers(pid),
            Event::Host(requests, number) => {
                self.host_number += 1;
                self.host = number.send(self.host_number).is_ok().then_some(requests);
                let (held, say) = self.table.connected();
                let bindings = held.into_iter().map(|(id, binding)| message(id, binding)).collect();
                self.send(proto::ports_request::What::Held(proto::PortsHeld { bindings }));
                say
            }
            // What an earlier connection said last may be about what was asked anew on this one.
            Event::Answered { host, .. } if host != self.host_number => Vec::new(),
            Event::Answered { id, answer, .. } => self.table.answered(id, answer),
        }
    }

    fn say(&mut self, say: Vec<Say>) {
        for say in say {
            match say {
                Say::Bind(id, binding) => self.send(proto::ports_request::What::Bind(message(id, binding))),
                Say::Release(id) => {
                    self.send(proto::ports_request::What::Release(proto::PortRelease { id }));
                }
                Say::Tell(owner, told) => {
                    // A proxy that is gone needs no word, and one that lives gets two at most.
                    if let Some(proxy) = self.proxies.get(&owner) {
                        proxy.try_send(told).ok();
                    }
                }
            }
        }
    }

    /// A host that is away is told everything when it comes back; one that takes nothing is cut off to come back.
    fn send(&mut self, what: proto::ports_request::What) {
        let sent = self.host.as_ref().map(|host| host.try_send(Ok(PortsRequest { what: Some(what) })));
        if matches!(sent, Some(Err(_))) {
            self.host = None;
        }
    }
}

fn message(id: Id, binding: Binding) -> PortBinding {
    let protocol = match binding.protocol {
        Protocol::Tcp => proto::Protocol::Tcp,
        Protocol::Udp => proto::Protocol::Udp,
    };
    let address = |address: SocketAddr| (IpAddr::to_string(&address.ip()), u32::from(address.port()));
    let ((host_address, host_port), (container_address, container_port)) =
        (address(binding.host), address(binding.container));
    PortBinding { id, protocol: protocol.into(), host_address, host_port, container_address, container_port }
}

/// Proxies come and go for ever, within a bound.
async fn accept(listener: UnixListener, events: mpsc::Sender<Event>) {
    let places = Arc::new(Semaphore::new(table::LIMIT + 64));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let events = events.clone();
                tokio::spawn(async move {
                    let _place = place;
                    if let Err(error) = converse(stream, &events).await {
                        console::line(format!("dhow: a docker-proxy was not understood: {error}"));
                    }
                });
            }
            Err(error) => {
                console::line(format!("dhow: a docker-proxy could not be heard: {error}"));
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, events: &mpsc::Sender<Event>) -> std::io::Result<()> {
    let dockerd = Dockerd::of(&stream)?;
    let (from, mut to) = stream.into_split();
    let mut from = BufReader::new(from);
    let line = timeout(HELLO, words::line(&mut from)).await??.unwrap_or_default();
    let Some(Ask::Bind(binding)) = Ask::parse(&line) else {
        return Err(std::io::Error::other(format!("{line:?}")));
    };
    let ((told, mut tells), (owner, owns)) = (mpsc::channel(4), tokio::sync::oneshot::channel());
    tell(events, Event::Claim { binding, dockerd: dockerd.pid, told, owner }).await;
    let Ok(owner) = owns.await else { return Ok(()) };
    // A line that is read in part is kept: reading is never dropped half-way.
    let mut reading = std::pin::pin!(read_asks(from, owner, events));
    loop {
        tokio::select! {
            () = &mut reading => break,
            Some(told) = tells.recv() => if to.write_all(told.line().as_bytes()).await.is_err() { break },
        }
    }
    let dockerd_lives = dockerd.lives(DEATH).await;
    tell(events, Event::Gone { owner, dockerd_lives }).await;
    Ok(())
}

/// Until the proxy is gone or says what no proxy says.
async fn read_asks(
    mut from: BufReader<tokio::net::unix::OwnedReadHalf>,
    owner: Owner,
    events: &mpsc::Sender<Event>,
) {
    while let Ok(Some(line)) = words::line(&mut from).await {
        if Ask::parse(&line) != Some(Ask::Release) {
            return;
        }
        tell(events, Event::LetGo(owner)).await;
    }
}

/// The process that runs a proxy.
struct Dockerd {
    pid: u32,
    /// Readable once it has ended; absent when it had before we looked.
    ended: Option<OwnedFd>,
}

impl Dockerd {
    /// The parent of whoever is at the other end.
    fn of(stream: &UnixStream) -> std::io::Result<Self> {
        let proxy = stream.peer_cred()?.pid().unwrap_or(0);
        let parent = parent_of(proxy).unwrap_or(0);
        let ended = Pid::from_raw(parent).and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok());
        Ok(Self { pid: u32::try_from(parent).unwrap_or(0), ended })
    }

    /// Whether it is still there after `patience`, in which it would end if it were about to.
    async fn lives(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while let Some(ended) = &self.ended {
            let mut look = [PollFd::new(ended, PollFlags::IN)];
            if poll(&mut look, Some(&Timespec::default())).is_ok_and(|ready| ready > 0) {
                return false;
            }
            if Instant::now() >= deadline {
                return true;
            }
            sleep(LOOK).await;
        }
        false
    }
}

/// Field 4 of proc(5)'s `stat`, after the name in parentheses, which may hold anything.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
