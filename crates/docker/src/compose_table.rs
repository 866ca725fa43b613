//! What the face keeps of Compose projects: only what the engines cannot tell. Pure, and bounded.
//!
//! ```text
//!   network, volume ──► Unbound: made in native's engine, its request kept
//!                          │ first service
//!                          ├─ native ──► Bound(native): what was kept is forgotten
//!                          └─ foreign ─► Bound(foreign): what was kept is made there and removed from native's engine
//!   Bound lasts here while creates are on their way; then the engine that has the containers is the binding
//! ```

use std::collections::{HashMap, VecDeque};

use dhow_model::Role;
use serde_json::Value;

/// Most projects of which something is kept, and most networks and volumes of one.
const MAX_PROJECTS: usize = 256;
const MAX_THINGS: usize = 256;
/// Most networks whose old ID is still understood.
const MAX_RENAMED: usize = 1024;

/// A network or a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Network,
    Volume,
}

/// A network or volume that was made before its project was bound: the request, to be made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
}

/// The projects.
#[derive(Debug, Default)]
pub(crate) struct Table {
    projects: HashMap<String, Project>,
    /// Old and new ID, oldest first.
    renamed: VecDeque<(String, String)>,
    clock: u64,
}

#[derive(Debug, Default)]
struct Project {
    bound: Option<Role>,
    /// Creates of containers that are on their way.
    creating: usize,
    made: Vec<Made>,
    /// When it was last used, for whose turn it is to be forgotten.
    used: u64,
}

impl Table {
    /// The binding, while creates are on their way; the engines know it otherwise.
    pub(crate) fn role(&self, project: &str) -> Option<Role> {
        self.projects.get(project).filter(|project| project.creating > 0)?.bound
    }

    /// A network or volume was made in native's engine while the project was not bound.
    pub(crate) fn made(&mut self, project: &str, made: Made) {
        let project = self.touch(project);
        project.made.retain(|other| (other.kind, &other.name) != (made.kind, &made.name));
        if project.made.len() < MAX_THINGS {
            project.made.push(made);
        }
    }

    /// What was made for this project while it was not bound.
    pub(crate) fn kept(&self, project: &str) -> &[Made] {
        self.projects.get(project).map_or(&[], |project| &project.made)
    }

    /// A container's create goes to this role. What was kept is settled, and forgotten.
    pub(crate) fn begin(&mut self, project: &str, role: Role) {
        let project = self.touch(project);
        project.bound = Some(role);
        project.creating += 1;
        project.made.clear();
    }

    /// A create was answered.
    pub(crate) fn end(&mut self, project: &str) {
        if let Some(entry) = self.projects.get_mut(project) {
            entry.creating = entry.creating.saturating_sub(1);
            if entry.creating == 0 && entry.made.is_empty() {
                self.projects.remove(project);
            }
        }
    }

    /// A network was made again under another ID.
    pub(crate) fn rename(&mut self, old: &str, new: &str) {
        self.renamed.retain(|(other, _)| other != old);
        if self.renamed.len() >= MAX_RENAMED {
            self.renamed.pop_front();
        }
        self.renamed.push_back((old.to_owned(), new.to_owned()));
    }

    /// The ID that a network has now.
    pub(crate) fn renamed(&self, id: &str) -> Option<&str> {
        self.renamed.iter().find(|(old, _)| old == id).map(|(_, new)| new.as_str())
    }

    /// A container's description with the networks' new IDs in it; `None` if it names no network by an old one.
    pub(crate) fn rewritten(&self, description: &[u8]) -> Option<Vec<u8>> {
        let names = |id: &str| description.windows(id.len()).any(|part| part == id.as_bytes());
        if !self.renamed.iter().any(|(old, _)| names(old)) {
            return None;
        }
        let mut read: Value = serde_json::from_slice(description).ok()?;
        let changed = self.rewrite(&mut read);
        changed.then(|| read.to_string().into_bytes())
    }

    fn rewrite(&self, description: &mut Value) -> bool {
        let mut changed = false;
        let mut update = |value: Option<&mut Value>| {
            if let Some(value) = value
                && let Some(new) = value.as_str().and_then(|id| self.renamed(id))
            {
                *value = new.into();
                changed = true;
            }
        };
        update(description.pointer_mut("/HostConfig/NetworkMode"));
        let endpoints =
            description.pointer_mut("/NetworkingConfig/EndpointsConfig").and_then(Value::as_object_mut);
        if let Some(endpoints) = endpoints {
            for settings in endpoints.values_mut() {
                update(settings.get_mut("NetworkID"));
            }
            let renamed = |key: String| self.renamed(&key).map(str::to_owned).unwrap_or(key);
            let before: Vec<String> = endpoints.keys().cloned().collect();
            *endpoints =
                std::mem::take(endpoints).into_iter().map(|(key, value)| (renamed(key), value)).collect();
            changed |= !endpoints.keys().eq(&before);
        }
        changed
    }

    fn touch(&mut self, name: &str) -> &mut Project {
        self.clock += 1;
        if self.projects.len() >= MAX_PROJECTS && !self.projects.contains_key(name) {
            let idle = self.projects.iter().filter(|(_, project)| project.creating == 0);
            if let Some(oldest) = idle.min_by_key(|(_, project)| project.used).map(|(name, _)| name.clone()) {
                self.projects.remove(&oldest);
            }
        }
        let project = self.projects.entry(name.to_owned()).or_default();
        project.used = self.clock;
        project
    }

    /// How many projects something is kept of.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.projects.len()
    }
}

#[cfg(test)]
#[path = "compose_table_tests.rs"]
mod tests;
