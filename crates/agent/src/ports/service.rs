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
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use super::kernel::{Kernel, Proc};
use super::orphans::{self, Orphans};
use super::reconcile::{self, Found, Guest, List, Reconciler};
use super::restore::Restoring;
use super::table::{Answer, Id, Owner, Say, Table};
use super::words::{self, Ask, Told};
use super::{cut_short, list, proxy, table};
use crate::{Error, Result, console, docker, services};

/// For a proxy to say what it wants.
const HELLO: Duration = Duration::from_secs(5);
/// When dockerd is killed, the kernel ends its proxies before it is quite gone itself.
const DEATH: Duration = Duration::from_secs(2);
/// Between two looks whether it is.
const LOOK: Duration = Duration::from_millis(20);
/// Between two looks for what dockerd's death has left half made.
const TIDY: Duration = Duration::from_millis(250);
/// How long such looks go on when no dockerd comes: what was being made has ended by then.
const TIDIED: Duration = Duration::from_secs(60);
/// What dockerd's records say, and nobody is behind.
const LEFT_OVER: &str = "its container did not outlive the dockerd that published it";
/// What dockerd does not list.
const UNLISTED: &str = "no running container publishes it";
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
        proxy: Proxy,
        owner: tokio::sync::oneshot::Sender<Owner>,
    },
    LetGo(Owner),
    Gone {
        owner: Owner,
        dockerd_lives: bool,
    },
    EngineAnswers(u32),
    EngineGone,
    /// Whether dockerd's list is wanted.
    IsDue(tokio::sync::oneshot::Sender<bool>),
    Listed(List, Instant),
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
        Self::start_on(Proc)
    }

    /// The same where containers are not this kernel's: for tests.
    #[must_use]
    pub fn start_on(kernel: impl Kernel) -> Self {
        let (events, inbox) = mpsc::channel(256);
        tokio::spawn(own(inbox, Box::new(kernel)));
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

    /// Tells the task of each dockerd that answers and that ends, and has what is bound compared with what it lists, for
    /// ever. What a dockerd's death leaves half made is ended before the next one looks.
    pub async fn follow(self, mut dockerd: watch::Receiver<services::Status>) {
        tokio::spawn(self.clone().reconcile(docker::SOCKET, dockerd.clone()));
        let mut last = 0;
        let mut died: Option<Instant> = None;
        loop {
            let services::Status { state, pid, .. } = dockerd.borrow_and_update().clone();
            let starts = matches!(state, ServiceState::BackingOff | ServiceState::Starting);
            if state == ServiceState::Running && pid != 0 && pid != last {
                (last, died) = (pid, None);
                self.engine_answers(pid).await;
            } else if starts && last != 0 && pid != last {
                if died.is_none() {
                    self.engine_gone().await;
                }
                let since = *died.get_or_insert_with(Instant::now);
                if since.elapsed() < TIDIED {
                    tidy(pid).await;
                    // Nothing has changed for a while: looked at again.
                    if let Err(_) | Ok(Ok(())) = timeout(TIDY, dockerd.changed()).await {
                        continue;
                    }
                    return;
                }
            }
            if dockerd.changed().await.is_err() {
                return;
            }
        }
    }

    /// Compares what is bound with what dockerd lists, for as long as somebody keeps dockerd running.
    pub async fn reconcile(self, socket: &str, dockerd: watch::Receiver<services::Status>) {
        let mut orphans = Orphans::default();
        while dockerd.has_changed().is_ok() {
            sleep(reconcile::AGAIN).await;
            let status = dockerd.borrow().clone();
            if status.state != ServiceState::Running || !(orphans.is_due() || self.is_due().await) {
                continue;
            }
            // What is made between this and the list is in the list.
            let shims = tokio::task::spawn_blocking(orphans::shims).await.unwrap_or_default();
            match list::containers(socket).await {
                // From a list of one dockerd nothing follows for the next.
                Ok(listed) if dockerd.borrow().pid == status.pid => {
                    let now = Instant::now();
                    for shim in orphans.look(now, &shims, &listed.known) {
                        if let Some(id) = orphans::end(&shim) {
                            console::line(format!(
                                "dhow: container {id} ran, and no dockerd knows it: it is ended"
                            ));
                        }
                    }
                    self.listed(listed, now).await;
                }
                Ok(_) => {}
                Err(error) => console::line(format!("dhow: dockerd does not list its containers: {error}")),
            }
        }
    }

    async fn is_due(&self) -> bool {
        let (answer, due) = tokio::sync::oneshot::channel();
        tell(&self.events, Event::IsDue(answer)).await;
        due.await.unwrap_or(false)
    }

    /// dockerd lists this now.
    pub async fn listed(&self, listed: List, now: Instant) {
        tell(&self.events, Event::Listed(listed, now)).await;
    }

    /// There is no dockerd any more; the next one goes through the records first.
    pub async fn engine_gone(&self) {
        tell(&self.events, Event::EngineGone).await;
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

/// Looks through all processes, which takes a while where there are many.
async fn tidy(dockerd: u32) {
    match tokio::task::spawn_blocking(move || cut_short::end(dockerd)).await {
        Ok(0) | Err(_) => {}
        Ok(count) => console::line(format!(
            "dhow: dockerd died while it started {count} containers: what was there of them is ended"
        )),
    }
}

/// A proxy that lives.
#[derive(Debug)]
struct Proxy {
    told: mpsc::Sender<Told>,
    process: Option<OwnedFd>,
}

struct Owned {
    kernel: Box<dyn Kernel>,
    table: Table,
    proxies: HashMap<Owner, Proxy>,
    last_owner: Owner,
    host: Option<mpsc::Sender<Result<PortsRequest, Status>>>,
    host_number: u64,
    /// The dockerd that answered last.
    dockerd: u32,
    /// Until a dockerd answers.
    restoring: Option<Restoring>,
    reconciler: Reconciler,
}

async fn own(mut inbox: mpsc::Receiver<Event>, kernel: Box<dyn Kernel>) {
    let mut owned = Owned {
        restoring: Some(Restoring::begin(&*kernel)),
        kernel,
        table: Table::default(),
        proxies: HashMap::new(),
        last_owner: 0,
        host: None,
        host_number: 0,
        dockerd: 0,
        reconciler: Reconciler::default(),
    };
    while let Some(event) = inbox.recv().await {
        let say = owned.take(event);
        owned.say(say);
    }
}

impl Owned {
    fn take(&mut self, event: Event) -> Vec<Say> {
        match event {
            Event::Claim { binding, dockerd, proxy, owner } => {
                self.last_owner += 1;
                if owner.send(self.last_owner).is_err() {
                    return Vec::new();
                }
                self.proxies.insert(self.last_owner, proxy);
                if self.is_left_over(&binding, dockerd) {
                    console::line(format!("dhow: {binding} is not published again: {LEFT_OVER}"));
                    return self.table.refuse(self.last_owner, binding, dockerd, LEFT_OVER);
                }
                self.table.claim(self.last_owner, binding, dockerd)
            }
            Event::LetGo(owner) => self.table.let_go(owner),
            Event::Gone { owner, dockerd_lives } => {
                self.proxies.remove(&owner);
                self.table.gone(owner, dockerd_lives)
            }
            Event::EngineAnswers(pid) => {
                (self.dockerd, self.restoring) = (pid, None);
                self.reconciler = Reconciler::default();
                self.table.engine_answers(pid)
            }
            Event::EngineGone => {
                self.restoring = Some(Restoring::begin(&*self.kernel));
                Vec::new()
            }
            Event::IsDue(answer) => {
                let due = self.reconciler.is_due(Instant::now(), self.table.bound().map(|(id, _)| id));
                // Whoever asked has gone.
                answer.send(due).ok();
                Vec::new()
            }
            Event::Listed(listed, now) => self.compare(&listed, now),
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

    fn is_left_over(&mut self, binding: &Binding, dockerd: u32) -> bool {
        let restoring = self.restoring.as_mut().filter(|_| dockerd != self.dockerd);
        restoring.is_some_and(|r| r.is_left_over(&*self.kernel, dockerd, binding.container.ip()))
    }

    fn compare(&mut self, listed: &List, now: Instant) -> Vec<Say> {
        let bound: Vec<(Id, Binding)> = self.table.bound().collect();
        let guest = Guest { starting: self.kernel.has_loose_cable(), addresses: self.kernel.addresses() };
        let Found { unlisted, unbound } = self.reconciler.look(now, &bound, listed, &guest);
        for (protocol, host, name) in unbound {
            console::line(format!(
                "dhow: {name} is said to publish {host}/{protocol}, and nobody listens there: restart the container"
            ));
        }
        let mut say = Vec::new();
        for id in unlisted {
            let (owner, more) = self.table.withdraw(id, UNLISTED);
            say.extend(more);
            let process = owner.and_then(|owner| self.proxies.remove(&owner)).and_then(|proxy| proxy.process);
            if let Some(process) = process {
                // It may have ended meanwhile.
                pidfd_send_signal(process, Signal::KILL).ok();
            }
            if let Some((_, binding)) = bound.iter().find(|(one, _)| *one == id) {
                console::line(format!(
                    "dhow: {binding} is released: {UNLISTED}. dockerd itself may count the port as taken until it is \
                     started again"
                ));
            }
        }
        say
    }

    fn say(&mut self, say: Vec<Say>) {
        for say in say {
            match say {
                Say::Bind(id, binding) => self.send(proto::ports_request::What::Bind(message(id, binding))),
                Say::Release(id) => self.release(id, ""),
                Say::Withdraw(id, why) => self.release(id, why),
                Say::Tell(owner, told) => {
                    // A proxy that is gone needs no word, and one that lives gets two at most.
                    if let Some(proxy) = self.proxies.get(&owner) {
                        proxy.told.try_send(told).ok();
                    }
                }
            }
        }
    }

    fn release(&mut self, id: Id, why: &str) {
        let why = why.to_owned();
        self.send(proto::ports_request::What::Release(proto::PortRelease { id, why }));
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
    let process = stream.peer_cred()?.pid().and_then(Pid::from_raw);
    let process = process.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let (from, mut to) = stream.into_split();
    let mut from = BufReader::new(from);
    let line = timeout(HELLO, words::line(&mut from)).await??.unwrap_or_default();
    let Some(Ask::Bind(binding)) = Ask::parse(&line) else {
        return Err(std::io::Error::other(format!("{line:?}")));
    };
    let ((told, mut tells), (owner, owns)) = (mpsc::channel(4), tokio::sync::oneshot::channel());
    let proxy = Proxy { told, process };
    tell(events, Event::Claim { binding, dockerd: dockerd.pid, proxy, owner }).await;
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
