//! Ethernet frames at one end, the host's sockets at the other: one thread for each machine, and on it one task for each
//! connection, so that nothing inside takes a lock.
//!
//! ```text
//!  hypervisor ◄── Unix stream ──► link ──► station ──┬─► ARP, neighbour discovery, DHCP   answered at once
//!                                  ▲                 ├─► fragments                        made whole
//!                                  │                 ├─► tcp ──► a flow's stack ◄──► host socket
//!                               outbound ◄───────────┼─► udp ──► a flow's socket
//!                                  ▲                 └─► icmp
//!  Handle ── messages ─────────────┴── clients of published ports, Docker's networks
//! ```
//!
//! The guest is hostile: every table has a limit ([`Limits`]), every buffer is counted, and what does not fit or does not
//! parse is dropped and counted by its reason ([`Metrics`]). A hypervisor that goes away takes its guest's connections
//! with it; the next one that connects starts afresh. Unless the gateway is frozen ([`Handle::freeze`]): then a guest that sleeps
//! finds everything as it was when it wakes in another hypervisor.

mod clock;
mod context;
mod counters;
pub(crate) mod destination;
mod dial;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod handle;
mod icmp;
pub(crate) mod ip;
mod limits;
mod link;
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "only vhost-user leaves checksums out"))]
mod offload;
pub(crate) mod outbound;
mod route;
mod station;
mod tcp;
mod udp;
#[cfg(target_os = "linux")]
mod vhost;

use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{LocalSet, spawn_local};
use tokio_util::sync::CancellationToken;

pub(crate) use self::clock::Clock;
pub(crate) use self::context::Context;
pub(crate) use self::counters::Counters;
pub use self::counters::{Kind, Metrics, Reason};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::fuzzing::station as fuzz_station;
pub use self::handle::{Handle, UdpForward};
pub use self::limits::Limits;

use self::handle::Command;
use self::link::Ended;
use self::outbound::{Outbound, Taken};
use self::station::Station;
use crate::dns::Dns;
use crate::policy::Egress;
use crate::{Error, Result};

/// How long a stop waits for the thread.
const STOP: Duration = Duration::from_secs(5);
/// How long the listener rests after it could not accept, which is for want of descriptors.
const REST: Duration = Duration::from_millis(200);

/// What a gateway is made of.
#[derive(Debug)]
pub struct Options {
    /// Whether the guest may reach services on the host's loopback, under `host.docker.internal`.
    pub host_loopback: bool,
    /// What may leave.
    pub policy: Arc<Egress>,
    /// Who answers names.
    pub dns: Arc<Dns>,
    /// What the machine may take of the host; cut to the descriptors that the process may open.
    pub limits: Limits,
}

#[cfg(test)]
impl Options {
    /// Everything is allowed, and no name is asked of anybody.
    pub(crate) fn for_test() -> Options {
        use crate::dns::{Names, Upstreams};
        let policy = Egress::new(dhow_model::egress::Policy::default()).unwrap();
        let dns = Dns::new(Names::new(), Upstreams::fixed(Vec::new()), policy.clone());
        Options { host_loopback: true, policy, dns, limits: Limits::default() }
    }
}

/// Where the hypervisor connects, and what it speaks there.
#[derive(Debug)]
pub enum Listener {
    /// Ethernet frames, each after its length (32 bits, big-endian).
    Stream(UnixListener),
    /// vhost-user: a network device on memory that the hypervisor shares. Several times faster in an emulated guest, since
    /// neither side computes checksums.
    #[cfg(target_os = "linux")]
    VhostUser(UnixListener),
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Listener {
        Listener::Stream(listener)
    }
}

/// A machine's gateway: a thread that lives until [`Gateway::stop`], or until this is dropped.
#[derive(Debug)]
pub struct Gateway {
    handle: Handle,
    cancel: CancellationToken,
    done: oneshot::Receiver<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Gateway {
    /// Starts the gateway: the hypervisor connects to `listener`, and again after it was gone. One connection at a time.
    ///
    /// # Errors
    /// The listener cannot be used, or the host is out of descriptors or threads.
    pub fn start(listener: impl Into<Listener>, options: Options) -> Result<Gateway> {
        let (listener, link) = match listener.into() {
            Listener::Stream(listener) => (listener, Link::Stream),
            #[cfg(target_os = "linux")]
            Listener::VhostUser(listener) => (listener, Link::VhostUser),
        };
        listener.set_nonblocking(true).map_err(Error::Listener)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(Error::Runtime)?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::UnixListener::from_std(listener).map_err(Error::Listener)?
        };
        let limits = options.limits.within_descriptors();
        let (commands, inbox) = mpsc::unbounded_channel();
        let handle = Handle {
            commands,
            counters: Arc::new(Counters::default()),
            flows: Arc::new(Semaphore::new(limits.tcp)),
            wanted: Arc::new(watch::Sender::new(false)),
        };
        let cancel = CancellationToken::new();
        let (finished, done) = oneshot::channel();
        let inside =
            Inside { listener, link, options: Options { limits, ..options }, inbox, cancel: cancel.clone() };
        let shared = (handle.counters.clone(), handle.flows.clone(), handle.wanted.clone());
        let thread = std::thread::Builder::new()
            .name("dhow-gateway".to_owned())
            .spawn(move || {
                inside.run(&runtime, shared);
                // Sockets first, then the word that they are gone.
                drop(runtime);
                drop(finished);
            })
            .map_err(Error::Thread)?;
        Ok(Gateway { handle, cancel, done, thread: Some(thread) })
    }

    /// How to talk to it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Ends every connection, closes every socket and waits for the thread, 5 s at most.
    pub async fn stop(mut self) {
        self.cancel.cancel();
        // An error is the good case: the thread dropped its end.
        if tokio::time::timeout(STOP, &mut self.done).await.is_err() {
            tracing::error!("the gateway's thread did not end in {} s; it is left to itself", STOP.as_secs());
            return;
        }
        // It has nothing left to do but to return.
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the gateway's thread panicked");
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// What the hypervisor speaks.
#[derive(Clone, Copy, Debug)]
enum Link {
    Stream,
    #[cfg(target_os = "linux")]
    VhostUser,
}

impl Link {
    /// Whether it sees to the checksums of what the guest gets.
    fn sums(self) -> bool {
        match self {
            Link::Stream => false,
            #[cfg(target_os = "linux")]
            Link::VhostUser => true,
        }
    }
}

/// What moves to the gateway's thread.
struct Inside {
    listener: tokio::net::UnixListener,
    link: Link,
    options: Options,
    inbox: mpsc::UnboundedReceiver<Command>,
    cancel: CancellationToken,
}

impl Inside {
    fn run(
        self,
        runtime: &Runtime,
        (counters, flows, wanted): (Arc<Counters>, Arc<Semaphore>, Arc<watch::Sender<bool>>),
    ) {
        // Owns every task: what is left of them ends with it.
        let tasks = LocalSet::new();
        tasks.block_on(runtime, async {
            let Inside { listener, link, options, inbox, cancel } = self;
            let context = Rc::new(Context {
                outbound: Outbound::new(counters.clone(), Clock::new(wanted)),
                counters,
                policy: options.policy,
                dns: options.dns,
                host_loopback: options.host_loopback,
                limits: options.limits,
                link_sums: link.sums(),
                guest_networks: std::cell::RefCell::default(),
            });
            let station = Station::new(context, flows);
            // A task among the others: what runs outside of them has a turn after every 61 of theirs, and a guest that
            // floods would have thousands of new flows before the old ones can end.
            let work = tokio::task::spawn_local(async move {
                tokio::select! {
                    () = cancel.cancelled() => {}
                    () = links(listener, link, &station) => {}
                    () = commands(inbox, &station) => {}
                }
            });
            if let Err(error) = work.await {
                tracing::error!(%error, "the gateway ended");
            }
        });
    }
}

/// One hypervisor after the other, for ever.
async fn links(listener: tokio::net::UnixListener, link: Link, station: &Rc<Station>) {
    let mut taken = Taken::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting the hypervisor's network connection");
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        if station.context.outbound.was_forgotten() {
            taken.clear();
        }
        station.context.counters.link();
        tracing::debug!("the hypervisor's network is connected");
        match link {
            Link::Stream => stream_link(stream, station, &mut taken).await,
            #[cfg(target_os = "linux")]
            Link::VhostUser => vhost_link(stream, station, &mut taken).await,
        }
        // A guest that sleeps comes back with another one.
        if !station.context.clock().frozen() {
            station.end_all();
            taken.clear();
        }
    }
}

async fn stream_link(stream: tokio::net::UnixStream, station: &Rc<Station>, taken: &mut Taken) {
    let ended = link::run(stream, station, taken).await;
    if let Ended::Framing(length) = ended {
        station.context.counters.count(Reason::BadFraming);
        tracing::error!(length, "the hypervisor's network connection lost its framing and was closed");
    } else {
        tracing::debug!(?ended, "the hypervisor's network connection ended");
    }
}

#[cfg(target_os = "linux")]
async fn vhost_link(stream: tokio::net::UnixStream, station: &Rc<Station>, taken: &mut Taken) {
    let Context { outbound, counters, .. } = &*station.context;
    outbound.set_linked(true);
    let ended = vhost::run(stream, outbound, taken, counters, |frame| station.frame(frame)).await;
    outbound.set_linked(false);
    match ended {
        vhost::Ended::Closed => tracing::debug!("{ended}"),
        _ => tracing::error!("the network device's connection was closed: {ended}"),
    }
}

/// Does what handles ask for, until the gateway is dropped with every handle.
async fn commands(mut inbox: mpsc::UnboundedReceiver<Command>, station: &Rc<Station>) {
    while let Some(command) = inbox.recv().await {
        match command {
            Command::Tcp { client, from, target, permit } => {
                match client.set_nonblocking(true).and_then(|()| tokio::net::TcpStream::from_std(client)) {
                    Ok(client) => station.tcp.connect(client, from, target, permit),
                    Err(error) => tracing::warn!(%error, "taking over a client of a published port"),
                }
            }
            Command::Udp { socket, target, end, closed } => {
                let udp = station.udp.clone();
                spawn_local(async move {
                    tokio::select! {
                        () = end.cancelled() => {}
                        ended = udp.publish(socket, target) => {
                            if let Err(error) = ended {
                                tracing::warn!(%error, %target, "a published UDP port has ended");
                            }
                        }
                    }
                    drop(closed);
                });
            }
            Command::Device(device) => station.route.carry(device),
            Command::GuestNetworks(networks) => *station.context.guest_networks.borrow_mut() = networks,
            // Who asked is told by the drop of what they sent along.
            Command::Freeze(_done) => station.freeze(),
            Command::Thaw(_done) => station.thaw(),
            #[cfg(test)]
            Command::Panic => std::panic::panic_any("as the test wishes"),
            Command::EndFlows(_done) => {
                station.end_all();
                station.context.outbound.forget();
            }
        }
    }
}
