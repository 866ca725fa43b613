//! The containers of one engine: by ID, in order, so that first digits are found without a search; and by name, each with
//! one owner.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound;

use dhow_model::record::Recorded;

use super::{Fit, Text, bare};

/// Most containers of one engine that are recorded. A guest that claims more is asked for each.
const MAX: usize = 32_768;
/// Longest name that is recorded, bytes, and most names of one container: what a hostile guest may take of our memory. Whatever
/// is not recorded is asked for.
const MAX_NAME: usize = 255;
const MAX_NAMES: usize = 8;
/// How many of the removed ones are remembered, so that news of a creation that come late do not revive them.
const MAX_REMOVED: usize = 1024;
/// Digits of a canonical ID.
const ID_LEN: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Containers {
    by_id: BTreeMap<Text, Container>,
    by_name: HashMap<Text, Text>,
    removed: HashSet<Text>,
    removed_in_order: VecDeque<Text>,
}

#[derive(Debug, Default)]
struct Container {
    /// Its own first, then those that links gave it (`parent/alias`).
    names: Vec<Text>,
    /// Its Compose project.
    project: Option<Text>,
}

impl Containers {
    /// None yet, for the engine whose containers were these.
    pub(super) fn succeeding(before: &Self) -> Self {
        Self {
            removed: before.removed.clone(),
            removed_in_order: before.removed_in_order.clone(),
            ..Self::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// Adds a container, or names and a project to one that is there. False if there are too many.
    pub(super) fn add<N>(&mut self, id: &str, names: N, project: Option<&str>) -> bool
    where
        N: IntoIterator<Item = Text>,
    {
        if !is_canonical(id) || self.removed.contains(id) {
            return true;
        }
        let id = match self.by_id.get_key_value(id) {
            Some((id, _)) => id.clone(),
            None if self.by_id.len() >= MAX => return false,
            None => {
                let id = Text::from(id);
                self.by_id.insert(id.clone(), Container::default());
                id
            }
        };
        let project = project.filter(|project| project.len() <= MAX_NAME);
        if let (Some(project), Some(container)) = (project, self.by_id.get_mut(&id)) {
            container.project = Some(project.into());
        }
        for name in names {
            self.give(&id, name);
        }
        true
    }

    /// Gives a container that is there another name of its own.
    pub(super) fn rename(&mut self, id: &str, name: &str) {
        if let Some((id, _)) = self.by_id.get_key_value(id) {
            self.give(&id.clone(), name.into());
        }
    }

    /// Takes a name from whoever has it.
    pub(super) fn detach(&mut self, name: &str) {
        if let Some(owner) = self.by_name.remove(name)
            && let Some(container) = self.by_id.get_mut(&owner)
        {
            container.names.retain(|one| **one != *name);
        }
    }

    pub(super) fn remove(&mut self, id: &str) {
        if !is_canonical(id) {
            return;
        }
        let (id, container) =
            self.by_id.remove_entry(id).unwrap_or_else(|| (id.into(), Container::default()));
        for name in container.names {
            self.by_name.remove(&name);
        }
        if self.removed.insert(id.clone()) {
            self.removed_in_order.push_back(id);
        }
        if self.removed_in_order.len() > MAX_REMOVED
            && let Some(oldest) = self.removed_in_order.pop_front()
        {
            self.removed.remove(&oldest);
        }
    }

    /// The container that dockerd would take for this reference, and by which of its rules; without an ID where dockerd
    /// would say that several begin so.
    pub(super) fn resolve(&self, reference: &str) -> Option<(Fit, Option<Text>)> {
        if reference.is_empty() {
            return None;
        }
        if let Some((id, _)) = self.by_id.get_key_value(reference) {
            return Some((Fit::Id, Some(id.clone())));
        }
        if let Some(id) = self.named(bare(reference)) {
            return Some((Fit::Name, Some(id)));
        }
        let from = (Bound::Included(reference), Bound::Unbounded);
        let mut fitting = self.by_id.range::<str, _>(from).take_while(|(id, _)| id.starts_with(reference));
        let (first, _) = fitting.next()?;
        Some((Fit::Prefix, fitting.next().is_none().then(|| first.clone())))
    }

    /// Who has this name.
    pub(super) fn named(&self, name: &str) -> Option<Text> {
        self.by_name.get(name).cloned()
    }

    /// The name of a container.
    pub(super) fn name(&self, id: &str) -> Option<Text> {
        self.by_id.get(id)?.names.first().cloned()
    }

    /// Whether one of them belongs to this Compose project.
    pub(super) fn has_project(&self, project: &str) -> bool {
        self.by_id.values().any(|container| container.project.as_deref() == Some(project))
    }

    /// All of them, by ID.
    pub(super) fn recorded(&self) -> impl Iterator<Item = Recorded> {
        self.by_id.iter().map(|(id, container)| Recorded {
            id: id.to_string(),
            name: container.own_name().map(ToString::to_string).unwrap_or_default(),
            project: container.project.as_ref().map(ToString::to_string),
        })
    }

    /// A name has one owner, and a container one name of its own.
    fn give(&mut self, id: &Text, name: Text) {
        if name.is_empty() || self.by_name.get(&name) == Some(id) {
            return;
        }
        self.detach(&name);
        let Some(container) = self.by_id.get_mut(id) else { return };
        let is_own = is_own(&name);
        if is_own && container.own_name().is_some() {
            self.by_name.remove(&container.names.remove(0));
        }
        if name.len() <= MAX_NAME && container.names.len() < MAX_NAMES {
            let at = if is_own { 0 } else { container.names.len() };
            container.names.insert(at, name.clone());
            self.by_name.insert(name, id.clone());
        }
    }
}

impl Container {
    fn own_name(&self) -> Option<&Text> {
        self.names.first().filter(|name| is_own(name))
    }
}

/// Whether this is a container's own name, not one that a link gave it.
fn is_own(name: &str) -> bool {
    !name.contains('/')
}

fn is_canonical(id: &str) -> bool {
    id.len() == ID_LEN && id.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}
