//! Compose projects with two engines (spec 3.6): a project belongs to the role of its first service, across `up` and `down`.
//!
//! Which role that is is read from the engines, whenever no create is on its way: where the project's containers are; where
//! there are none, its volumes. So nothing has to be remembered over a restart, nor forgotten after a `down`. Compose makes
//! networks and volumes before the first service, when nothing binds the project: they are made in native's engine, and made
//! again in the foreign one when the first service goes there. What stands between is in `compose_table`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dhow_model::{COMPOSE_PROJECT, Role};
use serde_json::{Value, json};
use tokio::sync::OwnedMutexGuard;

use crate::ask::{Answer, Question, Unanswered};
use crate::compose_table::{Kind, Made, Table};
use crate::merge::Machines;
use crate::route::encoded;
use crate::session::Refused;

/// The projects of a face.
#[derive(Clone, Default)]
pub(crate) struct Projects {
    table: Arc<Mutex<Table>>,
    /// Who looks at or binds a project, one at a time.
    turns: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

/// One create's turn at its project: until it is settled, no other create or network of the project is placed.
pub(crate) struct Turn {
    pub(crate) projects: Projects,
    pub(crate) project: String,
    pub(crate) found: Found,
    _alone: Alone,
}

/// A create that goes to its project's role. The binding holds at least until this is dropped, which must not be before the
/// engine has answered.
pub(crate) struct Settled {
    /// The description to send instead of the client's.
    pub(crate) body: Option<Vec<u8>>,
    projects: Projects,
    project: String,
}

/// What the engines say of a project.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Found {
    role: Option<Role>,
    /// The names of its volumes in native's engine.
    pub(crate) volumes: Vec<String>,
}

impl Projects {
    /// Where a network or volume of the project is made: with its containers, and in native's engine while there are none;
    /// then the request is kept.
    pub(crate) async fn place(
        &self,
        project: &str,
        target: &str,
        body: &[u8],
        machines: Machines<'_>,
    ) -> Result<Role, Refused> {
        let turn = self.turn(project, machines).await?;
        if let Some(role) = turn.role() {
            return Ok(role);
        }
        if let Some(made) = made(target, body) {
            self.table().made(project, made);
        }
        Ok(Role::Native)
    }

    /// Waits for this create's turn, and finds out where its project is.
    ///
    /// # Errors
    /// 503 when an engine whose machine runs does not say what it has of the project.
    pub(crate) async fn turn(&self, project: &str, machines: Machines<'_>) -> Result<Turn, Refused> {
        let alone = self.alone(project).await;
        let bound = self.table().role(project);
        let found = match bound {
            Some(role) => Found { role: Some(role), volumes: Vec::new() },
            None => self.find(project, machines).await?,
        };
        Ok(Turn { projects: self.clone(), project: project.to_owned(), found, _alone: alone })
    }

    /// The ID that a network has now which Compose knows by an older one; it is in the foreign engine.
    pub(crate) fn renamed(&self, id: &str) -> Option<String> {
        self.table().renamed(id).map(str::to_owned)
    }

    /// Asks the machines that run, and looks up the records of those that do not.
    async fn find(&self, project: &str, machines: Machines<'_>) -> Result<Found, Refused> {
        let running = machines.engines.running();
        let mut containers: Vec<(i64, Role)> = Vec::new();
        let mut volumes: HashMap<Role, Vec<String>> = HashMap::new();
        for role in running.iter().copied() {
            let listed = list(role, "/containers/json?all=1&", project, machines).await?;
            let created = |one: &Value| one.get("Created").and_then(Value::as_i64).unwrap_or_default();
            containers
                .extend(listed.as_array().into_iter().flatten().map(created).min().map(|at| (at, role)));
        }
        let first = containers.into_iter().min().map(|(_, role)| role);
        let asleep = Role::ALL.into_iter().filter(|role| !running.contains(role)).find(|role| {
            let record = machines.engines.record(*role).unwrap_or_default();
            record.containers.iter().any(|container| container.project.as_deref() == Some(project))
        });
        if let Some(role) = first.or(asleep) {
            return Ok(Found { role: Some(role), volumes: Vec::new() });
        }
        for role in running {
            let listed = list(role, "/volumes?", project, machines).await?;
            let named =
                listed.get("Volumes").and_then(Value::as_array).into_iter().flatten().filter_map(name);
            volumes.insert(role, named.map(str::to_owned).collect());
        }
        let mut of = |role| volumes.remove(&role).unwrap_or_default();
        let (native, foreign) = (of(Role::Native), of(Role::Foreign));
        let table = self.table();
        let kept = |volume: &String| {
            table.kept(project).iter().any(|made| made.kind == Kind::Volume && made.name == *volume)
        };
        let role = match (native.iter().all(kept), foreign.is_empty()) {
            (false, _) => Some(Role::Native),
            (true, false) => Some(Role::Foreign),
            (true, true) => None,
        };
        Ok(Found { role, volumes: native })
    }

    async fn alone(&self, project: &str) -> Alone {
        let lock = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(project.to_owned()).or_default())
        };
        let held = Some(lock.lock_owned().await);
        Alone { turns: Arc::clone(&self.turns), project: project.to_owned(), held }
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// The role that the project is bound to, for admission.
    pub(crate) fn role(&self) -> Option<Role> {
        self.found.role
    }

    /// The create was admitted to `role`: binds the project, and makes its networks and volumes there if they are elsewhere.
    /// `body` is the container's description.
    ///
    /// # Errors
    /// What stood in the way of a network or volume that the service needs.
    pub(crate) async fn settle(
        self,
        role: Role,
        body: &[u8],
        machines: Machines<'_>,
    ) -> Result<Settled, Refused> {
        if role == Role::Foreign && self.found.role != Some(Role::Foreign) {
            self.move_over(machines).await?;
        }
        let Self { projects, project, .. } = self;
        let body = {
            let mut table = projects.table();
            table.begin(&project, role);
            table.rewritten(body)
        };
        Ok(Settled { body, projects, project })
    }
}

impl Drop for Settled {
    fn drop(&mut self) {
        self.projects.table().end(&self.project);
    }
}

/// The only one who looks at or binds a project.
struct Alone {
    turns: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
    project: String,
    held: Option<OwnedMutexGuard<()>>,
}

impl Drop for Alone {
    fn drop(&mut self) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        self.held = None;
        // Nobody waits: the map's is the last.
        if turns.get(&self.project).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            turns.remove(&self.project);
        }
    }
}

/// What a create of a network or volume says.
fn made(target: &str, body: &[u8]) -> Option<Made> {
    let kind = match target.split('?').next()? {
        path if path.ends_with("/networks/create") => Kind::Network,
        path if path.ends_with("/volumes/create") => Kind::Volume,
        _ => return None,
    };
    let read: Value = serde_json::from_slice(body).ok()?;
    let name = name(&read)?.to_owned();
    Some(Made { kind, name, target: target.to_owned(), body: body.to_vec() })
}

pub(crate) fn name(thing: &Value) -> Option<&str> {
    thing.get("Name").and_then(Value::as_str).filter(|name| !name.is_empty())
}

pub(crate) fn id(answer: &Answer) -> Option<String> {
    let read: Value = serde_json::from_slice(&answer.body).ok()?;
    read.get("Id").and_then(Value::as_str).map(str::to_owned)
}

/// What one engine has of a project.
pub(crate) async fn list(
    role: Role,
    path: &str,
    project: &str,
    machines: Machines<'_>,
) -> Result<Value, Refused> {
    let filters = json!({ "label": [format!("{COMPOSE_PROJECT}={project}")] }).to_string();
    let answer = get(role, &format!("{path}filters={}", encoded(&filters)), machines).await?;
    let read = serde_json::from_slice(&answer.body).ok().filter(|_| answer.status == 200);
    read.ok_or_else(|| Refused {
        status: 503,
        message: format!(
            "machine `{role}` does not say what it has of Compose project {project} (status {}); run `dhow logs {role}`",
            answer.status
        ),
    })
}

pub(crate) async fn get(role: Role, target: &str, machines: Machines<'_>) -> Result<Answer, Refused> {
    let question = Question::get(target, machines.trace);
    question.ask(machines.pools.of(role)).await.map_err(|why| unanswered(role, &why))
}

pub(crate) async fn post(
    role: Role,
    target: &str,
    body: &[u8],
    machines: Machines<'_>,
) -> Result<Answer, Refused> {
    let question =
        Question::new("POST", target, machines.trace).header("Content-Type", "application/json").body(body);
    question.ask(machines.pools.of(role)).await.map_err(|why| unanswered(role, &why))
}

pub(crate) fn unanswered(role: Role, why: &Unanswered) -> Refused {
    let message = match why {
        Unanswered::Unavailable(why) => format!("the engine of machine `{role}` cannot be reached: {why}"),
        why => format!("the engine of machine `{role}` did not answer: {why}; run `dhow logs {role}`"),
    };
    Refused { status: 503, message }
}

#[cfg(test)]
#[path = "compose_tests.rs"]
mod tests;
