//! The machine's network, put together: the gateway, names, published ports, and what dockerd tells of its containers.

use std::sync::Arc;

use dhow_channel::Dialer;
use dhow_home::{Home, MachineDir, socket};
use dhow_model::{Config, MachineSpec};
use dhow_net::dns::{Dns, Names, Upstreams};
use dhow_net::gateway::{Gateway, Handle, Limits, Options};
use dhow_net::policy::Egress;
use dhow_net::publish::Publisher;
use dhow_proto::supervisor as proto;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::docker::{self, Seen};
use crate::ports::{self, Ports};
use crate::{Error, Result};

/// A running network. What it holds of the host goes with [`Network::stop`].
pub struct Network {
    gateway: Gateway,
    names: Arc<Names>,
    publisher: Publisher,
}

/// What others may ask of it, from any task.
#[derive(Clone)]
pub struct View {
    handle: Handle,
    /// The published ports.
    pub publisher: Publisher,
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
        config: &Config,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let policy = Egress::new(config.network.policy()).map_err(Error::Egress)?;
        let names = Names::new();
        let dns = Dns::new(Arc::clone(&names), Upstreams::system(), Arc::clone(&policy) as _);
        if config.dns.port != 0 {
            tokio::spawn(serve_host(Arc::clone(&dns), config.dns.port, cancel.clone()));
        }
        let path = dir.network_socket();
        let listener = socket::listen(&path)
            .and_then(tokio::net::UnixListener::into_std)
            .map_err(|source| Error::Serve { path, source })?;
        let host_loopback = config.network.host_loopback;
        let gateway = Gateway::start(listener, Options { host_loopback, policy, dns, limits: Limits::default() })
            .map_err(Error::Network)?;
        let forward = Arc::new(gateway.handle());
        let publisher = Publisher::new(forward, spec.name.clone(), home.machines_dir());
        Ok(Self { gateway, names, publisher })
    }

    /// What others may ask.
    #[must_use]
    pub fn view(&self) -> View {
        View { handle: self.gateway.handle(), publisher: self.publisher.clone() }
    }

    /// Follows the guest until `cancel`: the ports that its engine publishes, its containers' names, addresses and networks.
    pub fn follow(&self, dialer: Dialer, agent: Agent, cancel: CancellationToken) {
        let (sender, seen) = watch::channel(Seen::default());
        let (names, view) = (Arc::clone(&self.names), self.view());
        tokio::spawn(async move {
            let _ports = Ports::start(agent, view.publisher.clone());
            let followed = async { tokio::join!(docker::follow(dialer, sender), tell(seen, names, view)) };
            cancel.run_until_cancelled(followed).await;
        });
    }

    /// Closes every listener and connection.
    pub async fn stop(self) {
        self.publisher.stop().await;
        self.gateway.stop().await;
    }
}

impl View {
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
        }
    }
}

async fn serve_host(dns: Arc<Dns>, port: u16, cancel: CancellationToken) {
    // A port that is taken is tried again inside; `dhow dns status` tells.
    if let Err(error) = dns.serve_host(port, cancel).await {
        tracing::warn!(%error, "the host is not told containers' names");
    }
}

/// Tells everybody of each change.
async fn tell(mut seen: watch::Receiver<Seen>, names: Arc<Names>, view: View) {
    while seen.changed().await.is_ok() {
        let Seen { containers, networks } = seen.borrow_and_update().clone();
        ports::name(&view.publisher, &containers).await;
        names.replace(containers);
        view.handle.guest_networks(networks);
    }
}
