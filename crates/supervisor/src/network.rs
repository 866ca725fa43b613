//! The machine's network, put together: the gateway, names, published ports, and what dockerd tells of its containers.

use std::sync::Arc;
use std::time::Duration;

use dhow_channel::Dialer;
use dhow_home::{Home, MachineDir, socket};
use dhow_model::{MachineName, MachineSpec};
use dhow_net::dns::{Dns, Names, Upstreams};
#[cfg(target_os = "linux")]
use dhow_net::gateway::Listener;
use dhow_net::gateway::{Gateway, Handle, Limits, Options};
use dhow_net::policy::Egress;
use dhow_net::publish::Publisher;
use dhow_net::route::{self, Place, Route};
use dhow_proto::supervisor as proto;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::docker::{self, Seen};
use crate::ports::{self, Ports};
use crate::turns::Turns;
use crate::{Error, Result};

/// Between two attempts to have the guest let the host's own interface through.
const AGAIN: Duration = Duration::from_secs(2);

/// A running network. What it holds of the host goes with [`Network::stop`].
pub struct Network {
    gateway: Gateway,
    names: Arc<Names>,
    publisher: Publisher,
    route: Option<Arc<Route>>,
    running: Arc<watch::Sender<Option<u32>>>,
}

/// What others may ask of it, from any task.
#[derive(Clone)]
pub struct View {
    handle: Handle,
    /// The published ports.
    pub publisher: Publisher,
    route: Option<watch::Receiver<route::Status>>,
}

impl Network {
    /// Starts everything that does not need the guest; the hypervisor connects to the machine's network socket.
    ///
    /// # Errors
    /// When the socket or a thread cannot be had, or the configuration's rules cannot be enforced.
    pub fn start(
        home: &Home,
        dir: &MachineDir,
        spec: &MachineSpec,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let policy = Egress::new(spec.network.policy()).map_err(Error::Egress)?;
        let names = Names::new();
        names.of_engine(home.tag());
        let dns = Dns::new(Arc::clone(&names), Upstreams::system(), Arc::clone(&policy) as _);
        let native = spec.name == MachineName::native();
        // One port, and one way to the host: they are the engine machine's, whose addresses all others have, too.
        if native && spec.dns.port != 0 {
            tokio::spawn(serve_host(Arc::clone(&dns), spec.dns.port, cancel.clone()));
        }
        let path = dir.network_socket();
        let listener = socket::listen(&path)
            .and_then(tokio::net::UnixListener::into_std)
            .map_err(|source| Error::Serve { path, source })?;
        let host_loopback = spec.network.host_loopback;
        // As `prepare` tells the hypervisor.
        #[cfg(target_os = "linux")]
        let listener = Listener::VhostUser(listener);
        let gateway =
            Gateway::start(listener, Options { host_loopback, policy, dns, limits: Limits::default() })
                .map_err(Error::Network)?;
        let carrier: Arc<Handle> = Arc::new(gateway.handle());
        let forward = Arc::clone(&carrier);
        let publisher = Publisher::new(forward, spec.name.clone(), home.machines_dir());
        let route = native.then(|| Route::start(Place::default(), carrier));
        let route = match route {
            Some(Ok(route)) => Some(Arc::new(route)),
            Some(Err(error)) => {
                tracing::debug!(%error, "the host has no route to containers");
                None
            }
            None => None,
        };
        Ok(Self { gateway, names, publisher, route, running: Arc::default() })
    }

    /// What others may ask.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            handle: self.gateway.handle(),
            publisher: self.publisher.clone(),
            route: self.route.as_ref().map(|route| route.changes()),
        }
    }

    /// Follows the guest until `cancel`: the ports that its engine publishes, its containers' names, addresses and networks.
    /// The answer, cancelled, ends the stream of dockerd's events only: a dockerd that stops waits 5 s for those who listen.
    pub fn follow(
        &self,
        dialer: Dialer,
        agent: Agent,
        turns: Turns,
        cancel: CancellationToken,
    ) -> CancellationToken {
        let listening = cancel.child_token();
        let listens = listening.clone();
        let (sender, seen) = watch::channel(Seen::default());
        // Of a guest that boots nothing is known.
        self.running.send_replace(None);
        let told = Telling {
            names: Arc::clone(&self.names),
            view: self.view(),
            route: self.route.clone(),
            running: Arc::clone(&self.running),
        };
        let route = self.route.clone();
        tokio::spawn(async move {
            let _ports = Ports::start(agent.clone(), told.view.publisher.clone());
            let admitted = admit(route.as_ref().map(|route| route.changes()), agent);
            let told = told.tell(seen);
            let events = listens.run_until_cancelled_owned(docker::follow(dialer, turns, sender));
            // Ports are let go one by one as containers stop, long after the events are of interest.
            let followed = async { tokio::join!(events, told, admitted, std::future::pending::<()>()) };
            cancel.run_until_cancelled(followed).await;
        });
        listening
    }

    /// How many containers run, once dockerd was asked.
    #[must_use]
    pub fn running(&self) -> watch::Receiver<Option<u32>> {
        self.running.subscribe()
    }

    /// The guest is about to sleep: its connections stay, and its time stands still.
    pub async fn freeze(&self) {
        self.gateway.handle().freeze().await;
    }

    /// The guest goes on.
    pub async fn thaw(&self) {
        self.gateway.handle().thaw().await;
    }

    /// The guest that slept will never go on: its connections end.
    pub async fn end_flows(&self) {
        let handle = self.gateway.handle();
        handle.end_flows().await;
        handle.thaw().await;
    }

    /// Completes when there is something for a guest that sleeps.
    pub fn wanted(&self) -> impl Future<Output = ()> + Send + use<> {
        self.gateway.handle().wanted()
    }

    /// Completes when the guest has no network any more, since its gateway failed.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        self.gateway.handle().ended()
    }

    /// Closes every listener and connection.
    pub async fn stop(self) {
        self.publisher.stop().await;
        // Whoever else had it was cancelled; if not quite yet, dropping it ends it as well.
        if let Some(route) = self.route.and_then(Arc::into_inner) {
            route.stop().await;
        }
        self.gateway.stop().await;
    }
}

impl View {
    /// Connections of clients through published ports now.
    #[must_use]
    pub fn port_connections(&self) -> u32 {
        u32::try_from(self.handle.port_connections()).unwrap_or(u32::MAX)
    }

    /// Flows, bytes and drops now.
    #[must_use]
    pub fn figures(&self) -> proto::Network {
        let metrics = self.handle.metrics();
        let flows = |kinds: &[&str]| kinds.iter().filter_map(|kind| metrics.flows.get(kind)).sum();
        proto::Network {
            tcp_flows: flows(&["tcp_in", "tcp_out"]),
            udp_flows: flows(&["udp_in", "udp_out"]),
            icmp_flows: flows(&["icmp"]),
            half_open: flows(&["tcp_half_open"]),
            bytes_to_guest: metrics.bytes_to_guest,
            bytes_from_guest: metrics.bytes_from_guest,
            drops: metrics.drops.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
            unreached: self.route.as_ref().map(|route| unreached(&route.borrow())).unwrap_or_default(),
        }
    }
}

/// What the host should reach of containers' own addresses and does not, in a person's words.
fn unreached(route: &route::Status) -> Vec<String> {
    let all =
        route.trouble.iter().map(|why| format!("the host does not reach containers' own addresses: {why}"));
    let one = route.refused.iter().map(|(network, why)| {
        format!("the host does not reach containers of {network} at their own addresses: {why}")
    });
    all.chain(one).collect()
}

async fn serve_host(dns: Arc<Dns>, port: u16, cancel: CancellationToken) {
    // A port that is taken is tried again inside; `dhow dns status` tells.
    if let Err(error) = dns.serve_host(port, cancel).await {
        tracing::warn!(%error, "the host is not told containers' names");
    }
}

/// Those who want to know what dockerd tells.
struct Telling {
    names: Arc<Names>,
    view: View,
    route: Option<Arc<Route>>,
    running: Arc<watch::Sender<Option<u32>>>,
}

impl Telling {
    /// Tells everybody of each change.
    async fn tell(self, mut seen: watch::Receiver<Seen>) {
        let Self { names, view, route, running } = self;
        while seen.changed().await.is_ok() {
            let Seen { asked, containers, networks } = seen.borrow_and_update().clone();
            let count = u32::try_from(containers.len()).unwrap_or(u32::MAX);
            running.send_replace(asked.then_some(count));
            ports::name(&view.publisher, &containers).await;
            names.replace(containers);
            if let Some(route) = &route {
                let routed: Vec<_> =
                    networks.iter().filter_map(|(at, prefix)| route::Network::around(*at, *prefix)).collect();
                route.networks(&routed);
            }
            view.handle.guest_networks(networks);
        }
    }
}

/// Opens the guest's filter for the host's own interface once there is one.
async fn admit(changes: Option<watch::Receiver<route::Status>>, mut agent: Agent) {
    let Some(mut changes) = changes else { return };
    while changes.wait_for(|status| status.device.is_some()).await.is_ok() {
        match agent.admit_host().await {
            Ok(()) => return,
            // dockerd has not made its chains yet, or the agent is away.
            Err(why) => tracing::debug!(%why, "the host is not let through to containers yet"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issue 3, point 5: a network of the host's is left alone, and whoever asks is told which.
    #[test]
    fn a_network_that_the_host_has_itself_is_told_with_what_has_it() {
        let refused = ("172.17.0.0/16".parse().unwrap(), "conflict with docker0 172.17.0.0/16".to_owned());
        let status = route::Status { refused: vec![refused], ..route::Status::default() };
        let words = "the host does not reach containers of 172.17.0.0/16 at their own addresses: \
                     conflict with docker0 172.17.0.0/16";
        assert_eq!(unreached(&status), [words]);
        let trouble = Some("the program ended".to_owned());
        assert_eq!(unreached(&route::Status { trouble, ..route::Status::default() }).len(), 1);
        assert_eq!(unreached(&route::Status::default()), [""; 0]);
    }
}
