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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(action: &str, attributes: &str) -> Option<Change> {
        let line = format!(
            r#"{{"status":"x","id":"c1","Type":"container","Action":"{action}","Actor":{{"ID":"c1","Attributes":{{{attributes}}}}},"scope":"local","time":1,"timeNano":1}}"#
        );
        Change::read(line.as_bytes())
    }

    /// 2.5: what each of dockerd's events means.
    #[test]
    fn dockerds_events_are_read() {
        let id = || "c1".to_owned();
        let name = r#""image":"busybox","name":"web""#;
        let labelled = r#""com.docker.compose.project":"shop","maintainer":"x","name":"web""#;
        let exec = r#""execID":"e1","name":"web","exitCode":"0""#;
        let created = |project| Change::Created { id: id(), name: Some("web".into()), project };
        for (action, attributes, expected) in [
            ("create", name, Some(created(None))),
            ("create", labelled, Some(created(Some("shop".into())))),
            (
                "rename",
                r#""name":"web","oldName":"/old""#,
                Some(Change::Renamed { id: id(), name: "web".into() }),
            ),
            ("die", name, Some(Change::Died { id: id() })),
            ("destroy", name, Some(Change::Destroyed { id: id() })),
            (
                "exec_create: sh -c 'a: b'",
                exec,
                Some(Change::ExecCreated { exec: "e1".into(), container: id() }),
            ),
            ("exec_die", exec, Some(Change::ExecEnded { exec: "e1".into() })),
            ("exec_die", name, None),
            ("start", name, None),
            ("health_status: healthy", name, None),
        ] {
            assert_eq!(read(action, attributes), expected, "{action}");
        }
    }

    /// 2.5: what is no event of a container, or no event at all, changes nothing.
    #[test]
    fn anything_else_is_passed_over() {
        for line in [
            "",
            "null",
            "[]",
            "{",
            r#"{"Type":"network","Action":"destroy","Actor":{"ID":"n1"}}"#,
            r#"{"Type":"container","Action":"destroy"}"#,
            r#"{"Type":"container","Action":7,"Actor":{"ID":"c1"}}"#,
        ] {
            assert_eq!(Change::read(line.as_bytes()), None, "{line}");
        }
    }
}
