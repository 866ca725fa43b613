//! What one of dockerd's events means for the table.

use serde::Deserialize;

/// The events that are asked for, percent-encoded as a query wants it: `{"type":["container"],"event":["create",
/// "destroy","die","rename","exec_create","exec_die"]}`. A prune tells of each container that it destroys.
pub(crate) const FILTERS: &str = "%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B%22create%22%2C%22destroy\
                                  %22%2C%22die%22%2C%22rename%22%2C%22exec_create%22%2C%22exec_die%22%5D%7D";

/// News from an engine. IDs are canonical, names with or without a slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// There is a new container, or one that was not known.
    Created {
        /// Its ID.
        id: String,
        /// Its name.
        name: Option<String>,
        /// Its Compose project.
        project: Option<String>,
    },
    /// A container has another name.
    Renamed {
        /// Its ID.
        id: String,
        /// Its new name.
        name: String,
    },
    /// A container has stopped, and its execs with it.
    Died {
        /// Its ID.
        id: String,
    },
    /// A container is gone.
    Destroyed {
        /// Its ID.
        id: String,
    },
    /// There is a new exec.
    ExecCreated {
        /// Its ID.
        exec: String,
        /// Its container's ID.
        container: String,
    },
    /// An exec has ended.
    ExecEnded {
        /// Its ID.
        exec: String,
    },
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(rename = "Action", default)]
    action: String,
    #[serde(rename = "Actor")]
    actor: Actor,
}

#[derive(Deserialize)]
struct Actor {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(rename = "Attributes", default)]
    attributes: Attributes,
}

#[derive(Deserialize, Default)]
struct Attributes {
    name: Option<String>,
    #[serde(rename = "execID")]
    exec: Option<String>,
    /// A container's labels stand among the attributes.
    #[serde(rename = "com.docker.compose.project")]
    project: Option<String>,
}

impl Change {
    /// Reads one event; `None` for what changes nothing here.
    pub(crate) fn read(line: &[u8]) -> Option<Self> {
        let event: Event = serde_json::from_slice(line).ok()?;
        if event.kind != "container" {
            return None;
        }
        let (id, Attributes { name, exec, project }) = (event.actor.id, event.actor.attributes);
        // The action of an exec goes on with its command: "exec_create: sh -c true".
        let action = event.action.split(':').next().unwrap_or_default();
        Some(match action {
            "create" => Self::Created { id, name, project },
            "rename" => Self::Renamed { id, name: name? },
            "die" => Self::Died { id },
            "destroy" => Self::Destroyed { id },
            "exec_create" => Self::ExecCreated { exec: exec?, container: id },
            "exec_die" => Self::ExecEnded { exec: exec? },
            _ => return None,
        })
    }
}
