//! The calls that checks are made of.

use std::time::Duration;

use dhow_model::Arch;
use serde_json::{Value, json};

use super::{Body, CALL, Docker, escaped, frames};
use crate::error::{Error, Result};
use crate::seen::{End, Seen};

/// On everything that a run makes, with the run's name as its value.
pub(crate) const LABEL: &str = "dhow.verify";
/// For an answer to come back after a container has ended, or was killed.
const AFTER: Duration = Duration::from_secs(60);
/// For containers to be created and started on a busy computer.
const START: Duration = Duration::from_secs(120);

/// A container to run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spec {
    pub image: String,
    pub command: Vec<String>,
    pub environment: Vec<String>,
    pub user: String,
    /// A network of the engine's, and what the container is called there; otherwise none at all.
    pub network: Option<(String, String)>,
    /// Compose's labels, or others.
    pub labels: Vec<(String, String)>,
}

/// One that was started.
#[derive(Debug)]
pub(crate) struct Program<'d> {
    docker: &'d Docker,
    id: String,
}

/// How an image is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builder {
    Classic,
    BuildKit,
}

impl Docker {
    /// Runs a program to its end, and removes its container. What the engine cannot do is part of what is seen.
    pub(crate) async fn seen(&self, run: &str, arch: Arch, spec: &Spec, limit: Duration) -> Seen {
        let program = match self.started(run, arch, spec).await {
            Ok(program) => program,
            Err(error) => return Seen::error(&error),
        };
        let seen = program.ended(limit).await;
        program.remove().await;
        seen
    }

    /// Creates and starts a container of this architecture.
    pub(crate) async fn started(&self, run: &str, arch: Arch, spec: &Spec) -> Result<Program<'_>> {
        let target = format!("/containers/create?platform={}", escaped(&format!("linux/{arch}")));
        let created = self.json("POST", &target, Body::Json(creation(run, spec)), START).await?;
        let Some(id) = created["Id"].as_str() else {
            let cause = "it has no Id".to_owned();
            return Err(Error::Answer { what: "POST /containers/create".to_owned(), cause });
        };
        let program = Program { docker: self, id: id.to_owned() };
        let start = self.call("POST", &format!("/containers/{id}/start"), Body::Nothing, START).await;
        match start {
            Ok(_) => Ok(program),
            Err(error) => {
                program.remove().await;
                Err(error)
            }
        }
    }

    /// Whether it answers.
    pub(crate) async fn ping(&self) -> Result<()> {
        self.call("GET", "/_ping", Body::Nothing, CALL).await.map(drop)
    }

    /// `docker version`.
    pub(crate) async fn version(&self) -> Result<Value> {
        self.json("GET", "/version", Body::Nothing, CALL).await
    }

    /// `docker info`.
    pub(crate) async fn info(&self) -> Result<Value> {
        self.json("GET", "/info", Body::Nothing, CALL).await
    }

    /// An image's architecture; `None` when it is not there.
    pub(crate) async fn image_arch(&self, image: &str) -> Result<Option<String>> {
        let target = format!("/images/{}/json", escaped(image));
        match self.json("GET", &target, Body::Nothing, CALL).await {
            Ok(image) => Ok(image["Architecture"].as_str().map(str::to_owned)),
            Err(Error::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes an image of one layer from an archive.
    pub(crate) async fn import(&self, archive: Body, image: &str, arch: Arch, limit: Duration) -> Result<()> {
        let (repository, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
        let path = escaped("ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let target = format!(
            "/images/create?fromSrc=-&repo={}&tag={}&platform={}&changes={path}",
            escaped(repository),
            escaped(tag),
            escaped(&format!("linux/{arch}"))
        );
        let told = self.call("POST", &target, archive, limit).await?;
        progress(&told, "POST /images/create").map(drop)
    }

    /// Pulls an image.
    pub(crate) async fn pull(&self, image: &str, arch: Arch, limit: Duration) -> Result<()> {
        let (repository, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
        let target = format!(
            "/images/create?fromImage={}&tag={}&platform={}",
            escaped(repository),
            escaped(tag),
            escaped(&format!("linux/{arch}"))
        );
        let told = self.call("POST", &target, Body::Nothing, limit).await?;
        progress(&told, "POST /images/create").map(drop)
    }

    /// Removes an image; one that is not there is no error.
    pub(crate) async fn remove_image(&self, image: &str) -> Result<()> {
        let target = format!("/images/{}?force=true", escaped(image));
        match self.call("DELETE", &target, Body::Nothing, AFTER).await {
            Err(Error::Refused { status: 404, .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Builds an image from a context. What its commands said is the answer.
    pub(crate) async fn build(
        &self,
        builder: Builder,
        context: Vec<u8>,
        image: &str,
        arch: Arch,
        limit: Duration,
    ) -> Result<Vec<Value>> {
        let version = if builder == Builder::BuildKit { 2 } else { 1 };
        let target = format!(
            "/build?version={version}&t={}&platform={}&rm=1&forcerm=1&nocache=1&networkmode=none",
            escaped(image),
            escaped(&format!("linux/{arch}"))
        );
        let told = self.call("POST", &target, Body::Tar(context), limit).await?;
        progress(&told, "POST /build")
    }

    /// Makes a network as Compose does.
    pub(crate) async fn network(&self, name: &str, labels: &[(String, String)]) -> Result<()> {
        let body =
            json!({ "Name": name, "CheckDuplicate": true, "Driver": "bridge", "Labels": object(labels) });
        self.call("POST", "/networks/create", Body::Json(body), START).await.map(drop)
    }

    /// Removes a network; one that is not there is no error.
    pub(crate) async fn remove_network(&self, name: &str) -> Result<()> {
        match self.call("DELETE", &format!("/networks/{}", escaped(name)), Body::Nothing, AFTER).await {
            Err(Error::Refused { status: 404, .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    /// The containers of a run that are still there.
    pub(crate) async fn containers_of(&self, run: &str) -> Result<Vec<String>> {
        let filters = json!({ "label": [format!("{LABEL}={run}")] }).to_string();
        let target = format!("/containers/json?all=1&filters={}", escaped(&filters));
        let listed = self.json("GET", &target, Body::Nothing, CALL).await?;
        let ids = listed.as_array().into_iter().flatten().filter_map(|c| c["Id"].as_str());
        Ok(ids.map(str::to_owned).collect())
    }

    /// Removes a container with its volumes, running or not.
    pub(crate) async fn remove_container(&self, id: &str) -> Result<()> {
        self.call("DELETE", &format!("/containers/{id}?force=1&v=1"), Body::Nothing, AFTER).await.map(drop)
    }

    /// Removes what earlier runs left that were killed: stopped containers, and networks, of an hour ago and older.
    pub(crate) async fn prune_leftovers(&self) -> Result<()> {
        let filters = escaped(&json!({ "label": [LABEL], "until": ["1h"] }).to_string());
        for kind in ["containers", "networks"] {
            self.call("POST", &format!("/{kind}/prune?filters={filters}"), Body::Nothing, AFTER).await?;
        }
        Ok(())
    }
}

impl Program<'_> {
    /// A limit, on the computer where it runs.
    pub(crate) fn limit(&self, limit: Duration) -> Duration {
        self.docker.limit(limit)
    }

    /// Waits for its end and reads what it said.
    pub(crate) async fn ended(&self, limit: Duration) -> Seen {
        match self.watched(limit).await {
            Ok(seen) => seen,
            Err(error) => Seen::error(&error),
        }
    }

    async fn watched(&self, limit: Duration) -> Result<Seen> {
        let wait = format!("/containers/{}/wait?condition=not-running", self.id);
        let waited = match self.docker.json("POST", &wait, Body::Nothing, limit).await {
            Err(Error::Late { .. }) => {
                // An engine that is gone is not the program's fault.
                self.docker.ping().await?;
                let (stdout, stderr) = self.output().await?;
                return Ok(Seen { end: End::TimedOut(self.docker.limit(limit)), stdout, stderr });
            }
            other => other?,
        };
        let (stdout, stderr) = self.output().await?;
        let state = self.state().await?;
        let words = |value: &Value| value.as_str().filter(|words| !words.is_empty()).map(str::to_owned);
        let end = if state["OOMKilled"] == true {
            End::OutOfMemory
        } else if let Some(why) = words(&waited["Error"]["Message"]).or_else(|| words(&state["Error"])) {
            End::Refused(why)
        } else {
            match waited["StatusCode"].as_i64() {
                Some(status) => End::Exited(status),
                None => {
                    let cause = "it has no StatusCode".to_owned();
                    return Err(Error::Answer { what: format!("POST {wait}"), cause });
                }
            }
        };
        Ok(Seen { end, stdout, stderr })
    }

    /// Both outputs, as far as they are.
    pub(crate) async fn output(&self) -> Result<(Vec<u8>, Vec<u8>)> {
        let target = format!("/containers/{}/logs?stdout=1&stderr=1", self.id);
        let framed = self.docker.call("GET", &target, Body::Nothing, AFTER).await?;
        frames::apart(&framed).ok_or_else(|| Error::Answer {
            what: "GET /containers/…/logs".to_owned(),
            cause: "its frames are torn".to_owned(),
        })
    }

    /// `State` of the container's description.
    pub(crate) async fn state(&self) -> Result<Value> {
        let target = format!("/containers/{}/json", self.id);
        Ok(self.docker.json("GET", &target, Body::Nothing, CALL).await?["State"].take())
    }

    /// Sends it a signal, as `docker kill` does.
    pub(crate) async fn signal(&self, signal: &str) -> Result<()> {
        let target = format!("/containers/{}/kill?signal={signal}", self.id);
        self.docker.call("POST", &target, Body::Nothing, CALL).await.map(drop)
    }

    /// Removes it. What cannot be removed now is removed at the end of the run.
    pub(crate) async fn remove(&self) {
        self.docker.remove_container(&self.id).await.ok();
    }
}

fn creation(run: &str, spec: &Spec) -> Value {
    let mut labels = object(&spec.labels);
    labels[LABEL] = json!(run);
    let mut body = json!({
        "Image": spec.image,
        "Entrypoint": [],
        "Cmd": spec.command,
        "Env": spec.environment,
        "User": spec.user,
        "Labels": labels,
        "HostConfig": {
            "NetworkMode": spec.network.as_ref().map_or("none", |(network, _)| network.as_str()),
            // Whatever the engine's default: outputs are read from it.
            "LogConfig": { "Type": "json-file" },
        },
    });
    if let Some((network, name)) = &spec.network {
        body["NetworkingConfig"] = json!({ "EndpointsConfig": { network: { "Aliases": [name] } } });
    }
    body
}

fn object(labels: &[(String, String)]) -> Value {
    labels.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect()
}

/// The messages of long work, one a line; the one that says that it failed is the answer.
fn progress(told: &[u8], what: &str) -> Result<Vec<Value>> {
    let mut messages = Vec::new();
    for message in serde_json::Deserializer::from_slice(told).into_iter::<Value>() {
        let message =
            message.map_err(|error| Error::Answer { what: what.to_owned(), cause: error.to_string() })?;
        let failed = message["errorDetail"]["message"].as_str().or(message["error"].as_str());
        if let Some(words) = failed {
            let said: Vec<&str> = messages.iter().filter_map(|m: &Value| m["stream"].as_str()).collect();
            let said = said.concat();
            let tail: String =
                said.trim().chars().rev().take(200).collect::<Vec<_>>().into_iter().rev().collect();
            let message = if tail.is_empty() { words.to_owned() } else { format!("{words}; before: {tail}") };
            return Err(Error::Refused { what: what.to_owned(), status: 200, message });
        }
        messages.push(message);
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_failed_behind_a_good_status_is_an_error() {
        let good = b"{\"stream\":\"Step 1\"}\r\n{\"aux\":{\"ID\":\"sha256:1\"}}\r\n";
        assert_eq!(progress(good, "x").unwrap().len(), 2);
        let bad = b"{\"stream\":\"Step 1\\n\"}\n{\"errorDetail\":{\"message\":\"returned a non-zero code: 3\"},\"error\":\"e\"}\n";
        let words = progress(bad, "x").unwrap_err().to_string();
        assert!(words.contains("non-zero code: 3; before: Step 1"), "{words}");
        assert!(progress(b"{\"stream\":", "x").is_err());
    }

    #[test]
    fn a_container_reaches_no_network_unless_it_is_given_one() {
        let alone = creation("r", &Spec::default());
        assert_eq!(alone["HostConfig"]["NetworkMode"], "none");
        assert_eq!(alone["Labels"][LABEL], "r");
        let network = Some(("net".to_owned(), "web".to_owned()));
        let beside = creation("r", &Spec { network, ..Spec::default() });
        assert_eq!(beside["NetworkingConfig"]["EndpointsConfig"]["net"]["Aliases"][0], "web");
    }
}
