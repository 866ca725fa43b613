//! Published ports: does on the host what the guest's agent asks, in the order in which it asks, and reconciles when the
//! two were apart (spec 4.4). The guest's engine decides what is published; the host says whether it can be had.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use dhow_model::port::{Binding, Protocol};
use dhow_net::dns;
use dhow_net::publish::{Bound, Container, Publisher};
use dhow_proto::agent::{
    self as proto, PortBinding, PortBound, PortRefused, PortReleased, PortsAnswer, PortsRequest,
    ports_answer, ports_request,
};
use dhow_proto::supervisor::PublishedPort;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

use crate::agent::Agent;

/// Between two attempts to reach an agent that is away.
const AGAIN: Duration = Duration::from_millis(100);
/// Between two attempts at a port that was published and could not be had back.
const RETRY: Duration = Duration::from_secs(1);
/// Answers that the agent has not taken yet.
const ANSWERS: usize = 64;

/// The conversation with the agent. It ends when this is dropped; what is published stays until the publisher stops.
pub struct Ports {
    _task: AbortOnDropHandle<()>,
}

impl Ports {
    /// Does what the agent asks from now on.
    #[must_use]
    pub fn start(agent: Agent, publisher: Publisher) -> Self {
        Self { _task: AbortOnDropHandle::new(tokio::spawn(follow(agent, publisher))) }
    }
}

/// Names containers for people.
pub async fn name(publisher: &Publisher, containers: &[dns::Container]) {
    let named = containers.iter().flat_map(|container| {
        let known = Container { id: container.id.clone(), name: container.name.clone() };
        container.addresses.iter().map(move |address| (*address, known.clone()))
    });
    publisher.containers(named.collect::<Vec<_>>()).await;
}

/// What is published, as the API tells it.
#[must_use]
pub fn told(bound: Bound) -> PublishedPort {
    let Bound { binding, since, accepted, container } = bound;
    let (container_id, container_name) = container.map(|c| (c.id, c.name)).unwrap_or_default();
    let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
    PublishedPort {
        protocol: binding.protocol.to_string(),
        host_address: binding.host.ip().to_string(),
        host_port: binding.host.port().into(),
        container_address: binding.container.ip().to_string(),
        container_port: binding.container.port().into(),
        container_id,
        container_name,
        since_unix_nanos: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        accepted,
    }
}

async fn follow(agent: Agent, publisher: Publisher) {
    let mut desk = Desk::new(publisher);
    loop {
        if let Err(why) = once(&agent, &mut desk).await {
            tracing::debug!(%why, "the agent does not ask for ports");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// One connection to the agent, until it breaks.
async fn once(agent: &Agent, desk: &mut Desk) -> Result<(), String> {
    let (answers, out) = mpsc::channel(ANSWERS);
    let mut requests = agent.clone().ports(ReceiverStream::new(out)).await?;
    let mut retry = interval(RETRY);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let request = tokio::select! {
            request = requests.message() => request.map_err(|status| status.to_string())?,
            _ = retry.tick(), if !desk.lost.is_empty() => {
                desk.retry().await;
                continue;
            }
        };
        let Some(PortsRequest { what: Some(what) }) = request else {
            return Err("it ended the conversation".to_owned());
        };
        if let Some(answer) = desk.take(what).await
            && answers.send(answer).await.is_err()
        {
            return Err("it takes no answers".to_owned());
        }
    }
}

/// Knows which number stands for which binding.
struct Desk {
    publisher: Publisher,
    held: BTreeMap<u64, Binding>,
    /// Published when the connection broke, and not to be had since: the container believes in it, so it is tried again.
    lost: BTreeMap<u64, Binding>,
    complained: Option<Instant>,
}

impl Desk {
    fn new(publisher: Publisher) -> Self {
        Self { publisher, held: BTreeMap::new(), lost: BTreeMap::new(), complained: None }
    }

    async fn take(&mut self, what: ports_request::What) -> Option<PortsAnswer> {
        match what {
            ports_request::What::Held(held) => {
                self.reconcile(held.bindings).await;
                None
            }
            ports_request::What::Bind(asked) => Some(self.bind(&asked).await),
            ports_request::What::Release(proto::PortRelease { id, why }) => {
                self.lost.remove(&id);
                if let Some(binding) = self.held.remove(&id) {
                    if !why.is_empty() {
                        tracing::warn!(%binding, %why, "a published port is released without being asked to");
                    }
                    self.publisher.release(&binding).await;
                }
                Some(PortsAnswer { id, what: Some(ports_answer::What::Released(PortReleased {})) })
            }
        }
    }

    async fn bind(&mut self, asked: &PortBinding) -> PortsAnswer {
        let id = asked.id;
        let refused = |kind: &str, text: String| {
            tracing::debug!(kind, "a port was not published: {text}");
            ports_answer::What::Refused(PortRefused { kind: kind.to_owned(), text })
        };
        let what = match understood(asked) {
            None => refused("invalid", "the port binding was not understood".to_owned()),
            Some(_) if self.held.contains_key(&id) || self.lost.contains_key(&id) => {
                refused("invalid", format!("the number {id} stands for another port"))
            }
            Some(binding) => match self.publisher.bind(binding).await {
                Ok(()) => {
                    self.held.insert(id, binding);
                    ports_answer::What::Bound(PortBound {})
                }
                Err(error) => refused(error.kind(), error.to_string()),
            },
        };
        PortsAnswer { id, what: Some(what) }
    }

    /// The agent's list is the truth: what is not in it goes, what is in it and not bound comes.
    async fn reconcile(&mut self, listed: Vec<PortBinding>) {
        let wanted: BTreeMap<u64, Binding> =
            listed.iter().filter_map(|asked| Some((asked.id, understood(asked)?))).collect();
        let unwanted: Vec<u64> = self
            .held
            .iter()
            .filter(|(id, binding)| wanted.get(id) != Some(binding))
            .map(|(id, _)| *id)
            .collect();
        for id in unwanted {
            if let Some(binding) = self.held.remove(&id) {
                self.publisher.release(&binding).await;
            }
        }
        self.lost = wanted.into_iter().filter(|(id, _)| !self.held.contains_key(id)).collect();
        self.retry().await;
    }

    async fn retry(&mut self) {
        for (id, binding) in std::mem::take(&mut self.lost) {
            match self.publisher.bind(binding).await {
                Ok(()) => {
                    self.held.insert(id, binding);
                }
                Err(error) => {
                    self.lost.insert(id, binding);
                    if self.complained.is_none_or(|at| at.elapsed() > 30 * RETRY) {
                        self.complained = Some(Instant::now());
                        tracing::warn!(%error, "a published port could not be had back; it is tried again");
                    }
                }
            }
        }
    }
}

/// What the guest says, if it makes sense.
fn understood(asked: &PortBinding) -> Option<Binding> {
    let protocol = match asked.protocol() {
        proto::Protocol::Tcp => Protocol::Tcp,
        proto::Protocol::Udp => Protocol::Udp,
        proto::Protocol::Unspecified => return None,
    };
    let address = |ip: &str, port: u32| {
        let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
        Some((ip.parse::<IpAddr>().ok()?, port).into())
    };
    Some(Binding {
        protocol,
        host: address(&asked.host_address, asked.host_port)?,
        container: address(&asked.container_address, asked.container_port)?,
    })
}

#[cfg(test)]
#[path = "ports_tests.rs"]
mod tests;
