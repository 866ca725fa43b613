//! What is in a machine, asked of its dockerd before it is stopped, and kept for as long as it is off (spec 2.6).

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use dhow_channel::Dialer;
use dhow_home::{MachineDir, atomic};
use dhow_model::record::own_name;
use dhow_model::{COMPOSE_PROJECT, Port, Record, Recorded};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio_util::task::AbortOnDropHandle;

use crate::{Error, Result};

/// The largest list that is read from the guest, bytes.
const LARGEST: usize = 16 << 20;
const LIST: &str = "/containers/json?all=1";

/// Why there is no record; only ever logged.
type Why = Box<dyn std::error::Error + Send + Sync>;

/// Asks dockerd what is there, and writes it down. A machine whose dockerd does not answer in time has no record, and is
/// stopped all the same.
pub(crate) async fn take(dir: &MachineDir, dialer: &Dialer, limit: Duration) {
    let taken = async {
        let record = tokio::time::timeout(limit, ask(dialer, limit)).await??;
        let text = serde_json::to_vec_pretty(&record)?;
        atomic::write(&file(dir), &text, 0o600)?;
        Ok::<_, Why>(record.containers.len())
    };
    match taken.await {
        Ok(containers) => tracing::debug!(containers, "wrote down what is in the machine"),
        Err(why) => tracing::warn!(%why, "what is in the machine is not known while it is off"),
    }
}

/// What was in a machine that is off; `None` if nobody could write it down.
pub(crate) fn read(dir: &MachineDir) -> Option<Record> {
    let path = file(dir);
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .inspect_err(|error| tracing::warn!(%error, path = %path.display(), "the record is damaged"))
            .ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "the record cannot be read");
            None
        }
    }
}

/// Removes the record of a machine that starts: it is no longer true.
///
/// # Errors
/// When the file is there and stays.
pub(crate) fn clear(dir: &MachineDir) -> Result<()> {
    let path = file(dir);
    atomic::remove(&path).map_err(|source| Error::File { path, source })
}

fn file(dir: &MachineDir) -> PathBuf {
    dir.path().join("record.json")
}

async fn ask(dialer: &Dialer, limit: Duration) -> Result<Record, Why> {
    let stream = dialer.dial(Port::DOCKER, limit).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to dockerd ended");
        }
    }));
    let request = hyper::Request::get(LIST).header("host", "docker").body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    if !answer.status().is_success() {
        return Err(format!("{LIST}: {}", answer.status()).into());
    }
    let body = Limited::new(answer.into_body(), LARGEST).collect().await?;
    understand(&body.to_bytes())
}

/// The guest's words, of which only what can be an ID and a name is kept.
fn understand(body: &[u8]) -> Result<Record, Why> {
    let listed: Vec<Listed> = serde_json::from_slice(body)?;
    let containers = listed.into_iter().filter_map(Listed::recorded).collect();
    Ok(Record { containers })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    labels: Option<HashMap<String, String>>,
}

impl Listed {
    fn recorded(self) -> Option<Recorded> {
        let id =
            self.id.len() == 64 && self.id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let names = self.names.unwrap_or_default();
        let own = own_name(names.iter().map(String::as_str));
        let named = |name: &&str| {
            name.len() <= 255 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        };
        let name = own.filter(named)?.to_owned();
        let project = self.labels.unwrap_or_default().remove(COMPOSE_PROJECT);
        id.then_some(Recorded { id: self.id, name, project })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 2.6: a container's ID and its own name, and nothing that a hostile guest could put in their place.
    #[test]
    fn ids_and_own_names_are_kept_and_whatever_is_neither_is_left_out() {
        let (one, two) = ("1".repeat(64), "2".repeat(64));
        let listed = serde_json::json!([
            { "Id": one, "Names": ["/web/db", "/db"], "State": "running" },
            { "Id": "../../etc", "Names": ["/evil"] },
            { "Id": two, "Names": ["/a b"] },
            { "Id": two, "Names": null },
            { "Id": two, "Names": ["/kept.1"], "Labels": { "com.docker.compose.project": "shop" } },
        ]);
        let record = understand(listed.to_string().as_bytes()).unwrap();
        let project = Some("shop".to_owned());
        let expected = [(one, "db", None), (two, "kept.1", project)].map(|(id, name, project)| Recorded {
            id,
            name: name.to_owned(),
            project,
        });
        assert_eq!(record.containers, expected);
        assert!(understand(b"{\"message\":\"no\"}").is_err());
    }

    /// Spec 2.6.
    #[test]
    fn a_record_is_read_back_until_it_is_cleared_and_a_damaged_one_is_none() {
        let temp = tempfile::tempdir().unwrap();
        let home = dhow_home::Home::at(temp.path().join("h")).unwrap();
        let dir = home.machine(&dhow_model::Role::Foreign.machine());
        dir.create().unwrap();
        clear(&dir).unwrap();
        assert_eq!(read(&dir), None);
        let only = Recorded { id: "a".repeat(64), name: "x".to_owned(), project: None };
        let record = Record { containers: vec![only] };
        atomic::write(&file(&dir), &serde_json::to_vec(&record).unwrap(), 0o600).unwrap();
        assert_eq!(read(&dir), Some(record));
        atomic::write(&file(&dir), b"{", 0o600).unwrap();
        assert_eq!(read(&dir), None);
        clear(&dir).unwrap();
        assert!(!file(&dir).exists());
    }
}
