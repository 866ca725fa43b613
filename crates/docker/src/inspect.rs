//! Where a workload is, and why: what `dhow inspect` tells.

use dhow_model::placement::{Asked, admit};
use dhow_model::{Placement, Platform, Role, TranslatorName};
use serde::Deserialize;

use crate::ask::{Question, Unanswered};
use crate::connection::Shared;
use crate::engines::Unavailable;
use crate::error::{Error, Result};
use crate::face::Face;
use crate::images;
use crate::registry::{self, Lookup};
use crate::route::encoded;
use crate::trace::TraceId;

/// Largest description of a container that is read, bytes.
const MAX_CONTAINER: usize = 8 << 20;

/// A container's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The machine that has it.
    pub role: Role,
    /// Its canonical ID.
    pub id: String,
    /// Its name, without a slash; empty if its machine is off and no name was recorded.
    pub name: String,
    /// What its image was built for; `None` if the image is gone, or the machine is off.
    pub platform: Option<Platform>,
    /// What runs its programs; `None`: the machine's own processor, or, where `reason` says so, that it is not known.
    pub translator: Option<TranslatorName>,
    /// Why it is there.
    pub reason: Reason,
}

/// Where the knowledge comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The decision at its creation.
    Decided(String),
    /// What would be decided now for its image; it was created before the daemon started, or not through Dhow.
    Derived(String),
    /// Neither can be said; this is why.
    Unknown(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    id: String,
    name: String,
    /// The image's ID.
    image: String,
}

impl Face {
    /// Where the container is that dockerd would take for this reference (ID, short ID or name), and why. Boots nothing: of a
    /// machine that is off the record is told.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`], [`Error::Ambiguous`], [`Error::Unavailable`].
    pub async fn inspect(&self, reference: &str) -> Result<Inspection> {
        self.shared().inspect(reference, &TraceId::random()).await
    }
}

impl Shared {
    async fn inspect(&self, reference: &str, trace: &TraceId) -> Result<Inspection> {
        let running = self.engines.running();
        let missing = || Error::NoSuchContainer(reference.to_owned());
        let alone = self.engines.placement() == Placement::NativeMachine;
        let runs = running.contains(&Role::Native);
        let (role, id) = match alone && (runs || self.engines.record(Role::Native).is_none()) {
            true => (Role::Native, None),
            false => match self.workloads.find(reference, trace).await? {
                Lookup::Missing => return Err(missing()),
                Lookup::Ambiguous => return Err(Error::Ambiguous(registry::ambiguous(reference))),
                Lookup::Found(entry) if !running.contains(&entry.role) => {
                    let id = entry.id.ok_or_else(missing)?.to_string();
                    let name = entry.name.map(|name| name.to_string()).unwrap_or_default();
                    return Ok(self.asleep(entry.role, id, name));
                }
                Lookup::Found(entry) => (entry.role, entry.id),
            },
        };
        if !running.contains(&role) {
            let what = format!("the {role} machine is off, so its containers cannot be looked at");
            return Err(Unavailable { what, run: "dhow up".to_owned() }.into());
        }
        let target = format!("/containers/{}/json", encoded(id.as_deref().unwrap_or(reference)));
        let question = Question::get(&target, trace).at_most(MAX_CONTAINER);
        let answer = question.ask(self.pools.of(role)).await?;
        let found = match answer.status {
            200 => serde_json::from_slice::<Described>(&answer.body).map_err(|why| why.to_string()),
            404 => return Err(missing()),
            status => Err(format!("{status}: {}", String::from_utf8_lossy(&answer.body).trim())),
        };
        let found = found.map_err(|why| Unavailable {
            what: format!("the {role} engine did not describe the container: {why}"),
            run: "dhow logs".to_owned(),
        })?;
        self.explain(role, found, trace).await
    }

    async fn explain(&self, role: Role, found: Described, trace: &TraceId) -> Result<Inspection> {
        let machines = self.machines(trace);
        let platform = images::of(role, &found.image, machines).await?.map(|(_, platform)| platform);
        let (translator, reason) = match (self.decisions.of(&found.id), &platform) {
            (Some(decision), _) => (decision.translator, Reason::Decided(decision.why)),
            (None, Some(platform)) => {
                let image = vec![(role, platform.clone())];
                match admit(&self.engines.host().await, &Asked { image, ..Asked::default() }) {
                    Ok(decision) if decision.role == role => {
                        (decision.translator, Reason::Derived(decision.why))
                    }
                    Ok(decision) => {
                        let why =
                            format!("today it would go to the {} machine: {}", decision.role, decision.why);
                        (None, Reason::Unknown(why))
                    }
                    Err(refusal) => (None, Reason::Unknown(format!("today it would be refused: {refusal}"))),
                }
            }
            (None, None) => (None, Reason::Unknown("its image is no longer there".to_owned())),
        };
        let name = found.name.trim_start_matches('/').to_owned();
        Ok(Inspection { role, id: found.id, name, platform, translator, reason })
    }

    fn asleep(&self, role: Role, id: String, name: String) -> Inspection {
        let decision = self.decisions.of(&id);
        let (translator, reason) = match decision {
            Some(decision) => (decision.translator, Reason::Decided(decision.why)),
            None => (None, Reason::Unknown(format!("the {role} machine is off or sleeps"))),
        };
        Inspection { role, id, name, platform: None, translator, reason }
    }
}

impl From<Unanswered> for Error {
    fn from(why: Unanswered) -> Self {
        let why = match why {
            Unanswered::Unavailable(why) => why,
            why => Unavailable { what: why.to_string(), run: "dhow logs".to_owned() },
        };
        why.into()
    }
}
