//! A Compose project's networks and volumes go where its first service goes (spec 3.6).

use std::time::Duration;

use dhow_model::Role;
use serde_json::{Value, json};

use crate::ask::{Answer, Question};
use crate::compose::{Turn, get, id, list, name, post, unanswered};
use crate::compose_table::{Kind, Made};
use crate::merge::Machines;
use crate::route::encoded;
use crate::session::Refused;

/// How long an engine may take to count the bytes in its volumes.
const USAGE_LIMIT: Duration = Duration::from_secs(120);

impl Turn {
    /// Makes the project's networks and volumes where its first service goes; what it leaves in native's engine is removed.
    pub(crate) async fn move_over(&self, machines: Machines<'_>) -> Result<(), Refused> {
        let volumes = self.empty_volumes(machines).await?;
        self.move_networks(machines).await?;
        for made in volumes {
            let answer = post(Role::Foreign, &made.target, &made.body, machines).await?;
            if answer.status != 201 {
                return Err(self.not_moved("volume", &made.name, &answer));
            }
            remove(&format!("/volumes/{}", encoded(&made.name)), machines).await?;
        }
        Ok(())
    }

    /// Makes the project's networks that native's engine has in the foreign one. A network without containers holds nothing
    /// that would be lost.
    async fn move_networks(&self, machines: Machines<'_>) -> Result<(), Refused> {
        if !machines.engines.running().contains(&Role::Native) {
            return Ok(());
        }
        let listed = list(Role::Native, "/networks?", &self.project, machines).await?;
        for network in listed.as_array().into_iter().flatten() {
            let (Some(old), Some(name)) = (network.get("Id").and_then(Value::as_str), name(network)) else {
                continue;
            };
            let (target, body) = match self.kept(Kind::Network, name) {
                Some(made) => (made.target, made.body),
                None => ("/networks/create".to_owned(), description_of(network).to_string().into_bytes()),
            };
            let made = post(Role::Foreign, &target, &body, machines).await?;
            let new = match made.status {
                201 => id(&made),
                // The name is there.
                409 => id(&get(Role::Foreign, &format!("/networks/{}", encoded(name)), machines).await?),
                _ => None,
            };
            let new = new.ok_or_else(|| self.not_moved("network", name, &made))?;
            self.projects.table().rename(old, &new);
            remove(&format!("/networks/{}", encoded(old)), machines).await?;
        }
        Ok(())
    }

    /// The volumes that were made while nothing bound the project. They are empty, unless something else has written to one
    /// since: that one stays where its data is, and so does its project.
    async fn empty_volumes(&self, machines: Machines<'_>) -> Result<Vec<Made>, Refused> {
        let kept = |name: &String| self.kept(Kind::Volume, name);
        let moving: Vec<Made> = self.found.volumes.iter().filter_map(kept).collect();
        if moving.is_empty() {
            return Ok(moving);
        }
        let usage = Question::get("/system/df?type=volume", machines.trace).within(USAGE_LIMIT);
        let usage = usage.ask(machines.pools.of(Role::Native)).await;
        let usage = usage.map_err(|why| unanswered(Role::Native, &why))?;
        let usage: Value = serde_json::from_slice(&usage.body).unwrap_or_default();
        match moving.iter().find(|made| !is_empty(&made.name, &usage)) {
            None => Ok(moving),
            Some(full) => Err(Refused {
                status: 409,
                message: format!(
                    "volume {} of Compose project {} has data in machine `native`, so the project's services cannot go \
                     to machine `foreign`; run `docker volume rm {}` if the data is not needed",
                    full.name, self.project, full.name
                ),
            }),
        }
    }

    fn kept(&self, kind: Kind, name: &str) -> Option<Made> {
        let table = self.projects.table();
        table.kept(&self.project).iter().find(|made| made.kind == kind && made.name == name).cloned()
    }

    fn not_moved(&self, what: &str, name: &str, answer: &Answer) -> Refused {
        let said = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        let why = said.get("message").and_then(Value::as_str).unwrap_or("it did not say why");
        let message = format!(
            "{what} {name} of Compose project {} cannot be made in machine `foreign`, where its first service goes: {why}",
            self.project
        );
        Refused { status: if answer.status >= 400 { answer.status } else { 502 }, message }
    }
}

/// The create that makes a network like this one.
fn description_of(network: &Value) -> Value {
    let keys = [
        "Name",
        "Driver",
        "Scope",
        "EnableIPv4",
        "EnableIPv6",
        "IPAM",
        "Internal",
        "Attachable",
        "Ingress",
        "ConfigOnly",
        "ConfigFrom",
        "Options",
        "Labels",
    ];
    let known = keys.into_iter().filter_map(|key| Some((key.to_owned(), network.get(key)?.clone())));
    let mut description: Value = Value::Object(known.collect());
    // An address range that dockerd chose by itself is not told from one that was asked for; its gateway would not fit
    // any other, so both stay as they are.
    if description.pointer("/ConfigFrom/Network") == Some(&json!("")) {
        description["ConfigFrom"] = Value::Null;
    }
    description
}

/// Whether an engine says that a volume holds nothing. One that it does not count is not taken for empty.
fn is_empty(name: &str, usage: &Value) -> bool {
    let volumes = usage.get("Volumes").and_then(Value::as_array).into_iter().flatten();
    let mut named = volumes.filter(|volume| volume.get("Name").and_then(Value::as_str) == Some(name));
    let size = named.next().and_then(|volume| volume.pointer("/UsageData/Size")?.as_i64());
    size == Some(0)
}

/// Removes what is not needed any more from native's engine; what is in use there stays.
async fn remove(target: &str, machines: Machines<'_>) -> Result<(), Refused> {
    let question = Question::new("DELETE", target, machines.trace);
    let answer = question.ask(machines.pools.of(Role::Native)).await;
    let answer = answer.map_err(|why| unanswered(Role::Native, &why))?;
    if !matches!(answer.status, 204 | 404) {
        tracing::info!(
            target,
            status = answer.status,
            "what a Compose project made stays in machine `native`"
        );
    }
    Ok(())
}
