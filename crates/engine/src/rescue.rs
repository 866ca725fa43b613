//! What can be had from a machine in rescue (spec 7.6): its dockerd runs over a copy of the data disk that is thrown away, and
//! gives out images, volumes and containers' files as it would on a sound disk.

use std::time::Duration;

use dhow_channel::Dialer;
use dhow_model::record::own_name;
use dhow_model::{Port, Role, State};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::{Engine, Error, Result};

/// For one dial.
const DIAL: Duration = Duration::from_secs(10);
/// For an answer that is small.
const ANSWER: Duration = Duration::from_secs(120);
/// The largest list that is read from the guest, bytes.
const LARGEST: usize = 16 << 20;
/// What has no content, to make a container from that has a volume.
const EMPTY: &str = "dhow-rescue:empty";
/// Where the volume is in it.
const AT: &str = "/volume";

/// What a thing in a rescue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// An image, as `docker save` writes it.
    Image,
    /// A volume's files.
    Volume,
    /// A container's files, as `docker export` writes them.
    Container,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Image, Self::Volume, Self::Container];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Container => "container",
        }
    }
}

/// A thing that can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thing {
    /// What it is.
    pub kind: Kind,
    /// Its name, as dockerd takes it.
    pub name: String,
    /// How large it is; 0 where that is not known.
    pub bytes: u64,
}

impl Engine {
    /// What can be had from a machine in rescue.
    ///
    /// # Errors
    /// When the machine is not in rescue, or its dockerd does not answer.
    pub async fn rescue_list(&self, role: Role) -> Result<Vec<Thing>> {
        let docker = self.rescuer(role)?;
        let images = docker.json(Method::GET, "/images/json", None).await?;
        let volumes = docker.json(Method::GET, "/volumes", None).await?;
        let containers = docker.json(Method::GET, "/containers/json?all=1", None).await?;
        Ok(things(&images, &volumes, &containers))
    }

    /// Sends one of them as a tar archive, in parts; returns when all of it is sent, or nobody takes it any more.
    ///
    /// # Errors
    /// When the machine is not in rescue, there is no such thing, or it cannot be read to its end.
    pub async fn rescue_export(
        &self,
        role: Role,
        kind: Kind,
        name: &str,
        parts: &mpsc::Sender<Bytes>,
    ) -> Result<()> {
        let docker = self.rescuer(role)?;
        let name = escaped(name);
        match kind {
            Kind::Image => docker.stream(&format!("/images/{name}/get"), parts).await,
            Kind::Container => docker.stream(&format!("/containers/{name}/export"), parts).await,
            Kind::Volume => {
                docker.json(Method::GET, &format!("/volumes/{name}"), None).await?;
                let container = docker.container(&name).await?;
                let sent =
                    docker.stream(&format!("/containers/{container}/archive?path={AT}/."), parts).await;
                docker.json(Method::DELETE, &format!("/containers/{container}?force=1"), None).await?;
                sent
            }
        }
    }

    fn rescuer(&self, role: Role) -> Result<Docker> {
        let state = self.handle(role).last().state.unwrap_or(State::Absent);
        if state != State::Rescue {
            return Err(Error::NotInRescue { role, state });
        }
        Ok(Docker { role, dialer: Dialer::hub(self.dir(role).channel_socket()) })
    }
}

/// The dockerd of a machine in rescue.
struct Docker {
    role: Role,
    dialer: Dialer,
}

impl Docker {
    fn failed(&self, why: impl std::fmt::Display) -> Error {
        Error::Guest { machine: self.role.machine(), why: why.to_string() }
    }

    /// Sends a request on a connection of its own, which lives as long as the second value.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<(hyper::Response<Incoming>, AbortOnDropHandle<()>)> {
        let stream = self.dialer.dial(Port::DOCKER, DIAL).await.map_err(|e| self.failed(e))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|e| self.failed(e))?;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to dockerd ended");
            }
        }));
        let mut request = Request::builder().method(method).uri(path).header("host", "docker");
        let (kind, body) = body.unwrap_or(("", Bytes::new()));
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        let request = request.body(Full::new(body)).map_err(|e| self.failed(e))?;
        let answer = tokio::time::timeout(ANSWER, sender.send_request(request)).await;
        let answer = answer.map_err(|_| self.failed(format!("no answer to {path} in time")))?;
        Ok((answer.map_err(|e| self.failed(e))?, connection))
    }

    async fn body(&self, answer: hyper::Response<Incoming>) -> Result<Bytes> {
        let collected =
            tokio::time::timeout(ANSWER, Limited::new(answer.into_body(), LARGEST).collect()).await;
        let collected = collected.map_err(|_| self.failed("dockerd's answer did not end in time"))?;
        Ok(collected.map_err(|e| self.failed(e))?.to_bytes())
    }

    async fn refused(&self, status: StatusCode, answer: hyper::Response<Incoming>) -> Error {
        let text = self.body(answer).await.unwrap_or_default();
        let said: Value = serde_json::from_slice(&text).unwrap_or_default();
        self.failed(said["message"].as_str().map_or_else(|| status.to_string(), str::to_owned))
    }

    async fn json(&self, method: Method, path: &str, body: Option<(&'static str, Bytes)>) -> Result<Value> {
        let (answer, _connection) = self.ask(method, path, body).await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(self.refused(status, answer).await);
        }
        Ok(serde_json::from_slice(&self.body(answer).await?).unwrap_or_default())
    }

    async fn stream(&self, path: &str, parts: &mpsc::Sender<Bytes>) -> Result<()> {
        let (answer, _connection) = self.ask(Method::GET, path, None).await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(self.refused(status, answer).await);
        }
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            let Ok(part) = frame.map_err(|e| self.failed(e))?.into_data() else { continue };
            if parts.send(part).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A container that has the volume and is never started.
    async fn container(&self, volume: &str) -> Result<String> {
        // A tar archive ends with two blocks of zeros.
        let nothing = Some(("application/x-tar", Bytes::from_static(&[0; 1024])));
        let import = format!("/images/create?fromSrc=-&repo={}", EMPTY.replace(':', "&tag="));
        self.json(Method::POST, &import, nothing).await?;
        let wanted = json!({
            "Image": EMPTY,
            "Cmd": ["none"],
            "HostConfig": { "Binds": [format!("{volume}:{AT}")], "NetworkMode": "none" },
        });
        let wanted = Some(("application/json", Bytes::from(wanted.to_string())));
        let made = self.json(Method::POST, "/containers/create", wanted).await?;
        made["Id"].as_str().map(str::to_owned).ok_or_else(|| self.failed("dockerd named no container"))
    }
}

/// dockerd's lists, of which only names that fit a line are taken.
fn things(images: &Value, volumes: &Value, containers: &Value) -> Vec<Thing> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let thing = |kind, name: &str, bytes: &Value| {
        let fits =
            (1..=512).contains(&name.len()) && !name.chars().any(|c| c.is_control() || c.is_whitespace());
        fits.then(|| Thing { kind, name: name.to_owned(), bytes: bytes.as_u64().unwrap_or(0) })
    };
    let mut found = Vec::new();
    for image in list(images) {
        let tags: Vec<String> = list(&image["RepoTags"])
            .iter()
            .filter_map(|tag| tag.as_str().map(str::to_owned))
            .filter(|tag| tag != "<none>:<none>" && tag != EMPTY)
            .collect();
        let untagged = list(&image["RepoTags"]).is_empty();
        let id = image["Id"].as_str().filter(|_| untagged).map(str::to_owned);
        found.extend(tags.iter().chain(&id).filter_map(|name| thing(Kind::Image, name, &image["Size"])));
    }
    let volumes = list(&volumes["Volumes"]);
    let named = volumes.iter().filter_map(|v| thing(Kind::Volume, v["Name"].as_str()?, &Value::Null));
    found.extend(named);
    for container in list(containers) {
        let names = list(&container["Names"]);
        let name = own_name(names.iter().filter_map(Value::as_str));
        found.extend(name.and_then(|name| thing(Kind::Container, name, &Value::Null)));
    }
    found.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    found
}

/// A name as it stands in a path; dockerd takes the slashes of an image's name as they are.
fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/:@".contains(&byte);
    name.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 7.6: images by each of their names, or their ID where they have none; volumes; containers.
    #[test]
    fn whatever_has_a_name_can_be_had() {
        let images = json!([
            { "Id": "sha256:aa", "RepoTags": ["b:1", "a/b:2"], "Size": 7 },
            { "Id": "sha256:bb", "RepoTags": [], "Size": 8 },
            { "Id": "sha256:cc", "RepoTags": [EMPTY] },
            { "Id": "sha256:dd", "RepoTags": ["evil\u{1b}[2J"] },
        ]);
        let volumes = json!({ "Volumes": [{ "Name": "v" }] });
        let containers = json!([{ "Names": ["/linked/db", "/web"] }, { "Names": [] }]);
        let seen: Vec<_> = things(&images, &volumes, &containers)
            .into_iter()
            .map(|t| (t.kind.as_str(), t.name, t.bytes))
            .collect();
        let expected = [
            ("image", "a/b:2", 7),
            ("image", "b:1", 7),
            ("image", "sha256:bb", 8),
            ("volume", "v", 0),
            ("container", "web", 0),
        ];
        assert_eq!(seen, expected.map(|(kind, name, bytes)| (kind, name.to_owned(), bytes)));
        assert_eq!(things(&json!({}), &Value::Null, &Value::Null), []);
    }

    #[test]
    fn a_name_cannot_leave_its_place_in_the_path() {
        assert_eq!(escaped("a/b:1@sha256:0?x#y z"), "a/b:1@sha256:0%3Fx%23y%20z");
    }
}
