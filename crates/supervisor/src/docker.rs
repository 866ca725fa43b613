//! What dockerd says of its containers and networks, followed as it changes: subscribe first, then list, and list again
//! after each event, so that nothing is missed (spec 4.4, 5.2).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use dhow_channel::Dialer;
use dhow_model::record::own_name;
use dhow_model::{COMPOSE_PROJECT, Port, network};
use dhow_net::dns::Container;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::turns::Turns;

/// For a stream to dockerd, and for its answer to a list.
const LIMIT: Duration = Duration::from_secs(20);
/// Between two attempts while dockerd is away.
const AGAIN: Duration = Duration::from_millis(200);
/// Events come in flocks; one list answers for all of them.
const FLOCK: Duration = Duration::from_millis(20);
/// After these a change is listed again: dockerd tells of some before its own lists have them.
const SETTLES: [Duration; 2] = [Duration::from_millis(150), Duration::from_millis(900)];
/// The largest list that is read, bytes: some ten thousand containers.
const LARGEST: usize = 64 << 20;
/// What changes a name or an address, percent-encoded as a query wants it:
/// `{"type":["container","network"],"event":["start","die","destroy","rename","connect","disconnect","create"]}`.
const EVENTS: &str = "/events?filters=%7B%22type%22%3A%5B%22container%22%2C%22network%22%5D%2C%22event%22%3A%5B%22start\
                      %22%2C%22die%22%2C%22destroy%22%2C%22rename%22%2C%22connect%22%2C%22disconnect%22%2C%22create\
                      %22%5D%7D";

/// Running containers and all networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether dockerd was asked at all.
    pub asked: bool,
    /// Running containers.
    pub containers: Vec<Container>,
    /// The networks' address ranges.
    pub networks: Vec<(IpAddr, u8)>,
}

/// Follows dockerd for as long as somebody listens.
pub async fn follow(dialer: Dialer, turns: Turns, seen: watch::Sender<Seen>) {
    loop {
        let ended = tokio::select! {
            ended = once(&dialer, &turns, &seen) => ended,
            () = seen.closed() => return,
        };
        // dockerd is away, which its own health tells; what was seen stays true of the containers that go on.
        if let Err(why) = ended {
            tracing::debug!(%why, "dockerd's events ended");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn once(dialer: &Dialer, turns: &Turns, seen: &watch::Sender<Seen>) -> Result<(), Why> {
    let turn = turns.question().await;
    let mut events = ask(dialer, EVENTS).await?;
    drop(turn);
    let mut again = SETTLES.iter();
    loop {
        // Events wait in their stream while the machine sleeps, and wake nobody.
        let turn = turns.question().await;
        let containers: Vec<Listed> = list(dialer, "/containers/json").await?;
        let networks: Vec<Network> = list(dialer, "/networks").await?;
        drop(turn);
        let now = Seen {
            asked: true,
            containers: containers.into_iter().map(container).collect(),
            networks: networks.into_iter().flat_map(ranges).collect(),
        };
        seen.send_if_modified(|before| {
            let differs = *before != now;
            *before = now;
            differs
        });
        let wait = again.next();
        let more = async {
            match wait {
                Some(wait) => {
                    tokio::time::timeout(*wait, events.next()).await.map_or(Ok(None), |ended| ended.map(Some))
                }
                None => events.next().await.map(Some),
            }
        };
        match more.await? {
            // Nothing came: listed once more.
            None => continue,
            Some(true) => again = SETTLES.iter(),
            Some(false) => return Ok(()),
        }
        // What comes within the flock's time is answered by the same list.
        let more = async {
            while events.next().await? {}
            Ok::<_, Why>(())
        };
        match tokio::time::timeout(FLOCK, more).await {
            Ok(ended) => return ended,
            Err(_) => continue,
        }
    }
}

/// Why a question was not answered; only ever logged.
type Why = Box<dyn std::error::Error + Send + Sync>;

/// An answer whose connection lives as long as it is read.
struct Answer {
    body: Incoming,
    _connection: AbortOnDropHandle<()>,
}

impl Answer {
    /// Waits for more; false when it ended.
    async fn next(&mut self) -> Result<bool, Why> {
        match self.body.frame().await {
            Some(frame) => frame.map(|_| true).map_err(Into::into),
            None => Ok(false),
        }
    }
}

async fn ask(dialer: &Dialer, path: &str) -> Result<Answer, Why> {
    let asked = async {
        let stream = dialer.dial(Port::DOCKER, LIMIT).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to dockerd ended");
            }
        }));
        let request = hyper::Request::get(path).header("host", "docker").body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        if !response.status().is_success() {
            return Err(format!("{path}: {}", response.status()).into());
        }
        Ok(Answer { body: response.into_body(), _connection: connection })
    };
    tokio::time::timeout(LIMIT, asked).await?
}

async fn list<T: DeserializeOwned>(dialer: &Dialer, path: &str) -> Result<T, Why> {
    let answer = ask(dialer, path).await?;
    let body = tokio::time::timeout(LIMIT, Limited::new(answer.body, LARGEST).collect()).await??;
    Ok(serde_json::from_slice(&body.to_bytes())?)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    labels: Option<BTreeMap<String, String>>,
    network_settings: Option<Settings>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Settings {
    networks: Option<BTreeMap<String, Endpoint>>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "IPAddress", default)]
    v4: String,
    #[serde(rename = "GlobalIPv6Address", default)]
    v6: String,
}

#[derive(Deserialize)]
struct Network {
    #[serde(rename = "IPAM")]
    ipam: Option<Ipam>,
}

#[derive(Deserialize)]
struct Ipam {
    #[serde(rename = "Config")]
    config: Option<Vec<Range>>,
}

#[derive(Deserialize)]
struct Range {
    #[serde(rename = "Subnet", default)]
    subnet: String,
}

/// dockerd's word for the network that is the guest's own.
const HOST_NETWORK: &str = "host";

fn container(listed: Listed) -> Container {
    let labels = listed.labels.unwrap_or_default();
    let label = |name: &str| labels.get(name).cloned();
    let networks = listed.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let mut addresses: Vec<IpAddr> =
        networks.values().flat_map(|end| [&end.v4, &end.v6]).filter_map(|text| text.parse().ok()).collect();
    if networks.contains_key(HOST_NETWORK) {
        addresses.extend([IpAddr::V4(network::GUEST), IpAddr::V6(network::GUEST6)]);
    }
    Container {
        name: own_name(listed.names.iter().map(String::as_str)).unwrap_or_default().to_owned(),
        project: label(COMPOSE_PROJECT),
        service: label("com.docker.compose.service"),
        aliases: Vec::new(),
        addresses,
        id: listed.id,
    }
}

fn ranges(network: Network) -> Vec<(IpAddr, u8)> {
    let configs = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
    configs
        .iter()
        .filter_map(|config| {
            let (address, prefix) = config.subnet.split_once('/')?;
            Some((address.parse().ok()?, prefix.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 5.1.
    #[test]
    fn a_container_is_known_by_its_name_its_project_and_every_address() {
        let listed = r#"{"Id":"ab","Names":["/other/link","/web"],"State":"running",
            "Labels":{"com.docker.compose.project":"shop","com.docker.compose.service":"front"},
            "NetworkSettings":{"Networks":{"a":{"IPAddress":"172.18.0.2","GlobalIPv6Address":"fd00::2"},
            "b":{"IPAddress":"172.19.0.2","GlobalIPv6Address":""}}}}"#;
        let seen = container(serde_json::from_str(listed).unwrap());
        assert_eq!(seen.name, "web");
        assert_eq!((seen.project.as_deref(), seen.service.as_deref()), (Some("shop"), Some("front")));
        let addresses: Vec<String> = seen.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["172.18.0.2", "fd00::2", "172.19.0.2"]);
    }

    #[test]
    fn a_container_on_the_guests_own_network_has_the_guests_addresses() {
        let listed = r#"{"Id":"ab","Names":["/web"],"Labels":null,
            "NetworkSettings":{"Networks":{"host":{"IPAddress":"","GlobalIPv6Address":""}}}}"#;
        let seen = container(serde_json::from_str(listed).unwrap());
        assert_eq!(seen.addresses, [IpAddr::V4(network::GUEST), IpAddr::V6(network::GUEST6)]);
    }

    #[test]
    fn networks_without_addresses_have_no_ranges() {
        let read = |text| ranges(serde_json::from_str(text).unwrap());
        assert_eq!(read(r#"{"Name":"none","IPAM":{"Driver":"default","Config":null}}"#), []);
        let two = r#"{"IPAM":{"Config":[{"Subnet":"172.18.0.0/16"},{"Subnet":"fd00::/64"}]}}"#;
        assert_eq!(read(two), [("172.18.0.0".parse().unwrap(), 16), ("fd00::".parse().unwrap(), 64)]);
    }
}
