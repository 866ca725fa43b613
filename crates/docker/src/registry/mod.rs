//! Which machine holds which container and exec (spec 2).
//!
//! [`Registry`] is a table without I/O, clock or lock: what the face and the engines tell it goes in, and a reference (full
//! ID, name, or the first digits of an ID) is answered *found*, *missing* or *ambiguous*. `containers` is one engine's
//! half, `execs` the bounded list of execs, `change` what one of dockerd's events means. [`Workloads`] is the shell around
//! it: it follows every running engine (`follow`), and asks one (`engine`) where the table cannot be sure.
//!
//! One engine resolves its own references, so only disagreement between engines is ambiguous. The order is dockerd's, over
//! both engines as if they were one: a full ID, then a name, then the first digits of an ID.

mod change;
mod containers;
mod engine;
mod execs;
mod follow;
mod workloads;

use std::sync::Arc;

use dhow_model::Role;
pub use dhow_model::record::{Record, Recorded};

pub use change::Change;
use containers::Containers;
use execs::Execs;
pub use workloads::{Claim, NameTaken, Workloads};

/// A canonical ID or a name; cheap to clone.
pub type Text = Arc<str>;

/// Where a reference leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// One machine has it.
    Found(Entry),
    /// No machine has it.
    Missing,
    /// Both machines have something of this name, or with these first digits: 409, and the full ID is asked for.
    Ambiguous,
}

/// A container or an exec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The machine that has it.
    pub role: Role,
    /// The canonical ID; `None` when several in this one machine begin with the digits given, which its dockerd says itself.
    pub id: Option<Text>,
    /// A container's name without its slash, where it is known.
    pub name: Option<Text>,
}

/// A container of an engine's list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listed {
    /// Its canonical ID.
    pub id: String,
    /// Its names with a slash or without, those of links too.
    pub names: Vec<String>,
    /// Its Compose project.
    pub project: Option<String>,
}

/// How much of one engine is in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Knowledge {
    /// Nothing: no machine, or one that was never asked.
    #[default]
    Nothing,
    /// The machine runs, and the table may lack something: its engine is asked before an answer is given.
    Partial,
    /// The machine runs, and the table follows it.
    Whole,
    /// The machine is off; this was in it when it stopped.
    Asleep,
}

/// How well a reference fits; the better one hides the others, as in dockerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    Id,
    Name,
    Prefix,
}

/// The table.
#[derive(Debug, Default)]
pub struct Registry {
    native: Half,
    foreign: Half,
    execs: Execs,
}

#[derive(Debug, Default)]
struct Half {
    knowledge: Knowledge,
    /// Everything was known once, and only what happened behind Dhow's back since may be missing.
    listed: bool,
    containers: Containers,
}

impl Registry {
    /// An empty table that knows of no engine.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A container that was created through Dhow (spec 2.1). `name` where the client gave one. Whoever had the name, in
    /// either engine, has it no more (spec 2.4): a create is let through only when the name is free, so that was history.
    pub fn create(&mut self, role: Role, id: &str, name: Option<&str>) {
        self.seen(role, id, name, None);
        if let Some(name) = name {
            self.other_mut(role).containers.detach(bare(name));
        }
    }

    /// A container that was renamed through Dhow, by its canonical ID (spec 2.4). As with [`Self::create`], the name moves.
    pub fn rename(&mut self, role: Role, id: &str, name: &str) {
        self.half_mut(role).containers.rename(id, bare(name));
        self.other_mut(role).containers.detach(bare(name));
    }

    /// A container that is gone, by its canonical ID, with its execs (spec 2.5).
    pub fn remove(&mut self, role: Role, id: &str) {
        self.half_mut(role).containers.remove(id);
        self.execs.end_of(role, id);
    }

    /// An exec that was created, by its ID and that of its container (spec 2.1).
    pub fn exec_create(&mut self, role: Role, exec: &str, container: &str) {
        self.execs.create(role, exec, container);
    }

    /// An exec that has ended (spec 2.5). The latest few of these are still found: a client asks for the exit status after
    /// the end.
    pub fn exec_end(&mut self, role: Role, exec: &str) {
        self.execs.end(role, exec);
    }

    /// What an engine said of itself. Other than [`Self::create`] this takes no name from the other engine: should both say
    /// that they have it, it is ambiguous.
    pub fn apply(&mut self, role: Role, change: &Change) {
        match change {
            Change::Created { id, name, project } => self.seen(role, id, name.as_deref(), project.as_deref()),
            Change::Renamed { id, name } => self.half_mut(role).containers.rename(id, bare(name)),
            Change::Died { id } => self.execs.end_of(role, id),
            Change::Destroyed { id } => self.remove(role, id),
            Change::ExecCreated { exec, container } => self.execs.create(role, exec, container),
            Change::ExecEnded { exec } => self.execs.end(role, exec),
        }
    }

    /// The whole truth of a running engine.
    pub fn replace(&mut self, role: Role, listed: impl IntoIterator<Item = Listed>) {
        let mut now = Containers::succeeding(&self.half(role).containers);
        let mut whole = true;
        for Listed { id, names, project } in listed {
            whole &= now.add(&id, names.iter().map(|name| bare(name).into()), project.as_deref());
        }
        self.execs.keep(role, |container| now.has(container));
        let knowledge = if whole { Knowledge::Whole } else { Knowledge::Partial };
        *self.half_mut(role) = Half { knowledge, listed: whole, containers: now };
    }

    /// The machine runs, and what is known of it may lack something from now on.
    pub fn doubt(&mut self, role: Role) {
        self.half_mut(role).knowledge = Knowledge::Partial;
    }

    /// The machine is gone with all that was in it.
    pub fn forget(&mut self, role: Role) {
        *self.half_mut(role) = Half::default();
        self.execs.keep(role, |_| false);
    }

    /// What is in this machine, for the time when it is off (spec 2.6).
    #[must_use]
    pub fn record(&self, role: Role) -> Record {
        Record { containers: self.half(role).containers.recorded().collect() }
    }

    /// The machine is off, and this was in it.
    pub fn adopt(&mut self, role: Role, record: Record) {
        let listed = |one: Recorded| Listed { id: one.id, names: vec![one.name], project: one.project };
        self.replace(role, record.containers.into_iter().map(listed));
        self.sleep(role);
    }

    /// The machine is off, and what is known of it was in it. Its execs have ended with it.
    pub fn sleep(&mut self, role: Role) {
        self.half_mut(role).knowledge = Knowledge::Asleep;
        self.execs.keep(role, |_| false);
    }

    /// How much of this role's engine is in the table.
    #[must_use]
    pub fn knowledge(&self, role: Role) -> Knowledge {
        self.half(role).knowledge
    }

    /// This engine has nothing of this name.
    pub(crate) fn free(&mut self, role: Role, name: &str) {
        self.half_mut(role).containers.detach(bare(name));
    }

    /// Whether everything in this engine was known once, since the machine was there.
    pub(crate) fn was_whole(&self, role: Role) -> bool {
        self.half(role).listed
    }

    /// The container that this reference leads to, as far as the table knows.
    #[must_use]
    pub fn lookup(&self, reference: &str) -> Lookup {
        best(Role::ALL.into_iter().filter_map(|role| self.lookup_in(role, reference)))
    }

    /// The same in one engine, with how well it fits.
    pub(crate) fn lookup_in(&self, role: Role, reference: &str) -> Option<(Fit, Entry)> {
        let (fit, id) = self.half(role).containers.resolve(reference)?;
        let name = id.as_ref().and_then(|id| self.half(role).containers.name(id));
        Some((fit, Entry { role, id, name }))
    }

    /// The machine that has this exec, by its full ID (dockerd takes no other).
    #[must_use]
    pub fn lookup_exec(&self, exec: &str) -> Lookup {
        match self.execs.get(exec) {
            Some((role, id)) => Lookup::Found(Entry { role, id: Some(id), name: None }),
            None => Lookup::Missing,
        }
    }

    /// The ID of the container in the *other* engine that has this name, with which a create or a rename in `role` would
    /// clash; dockerd itself sees to its own.
    #[must_use]
    pub fn name_taken(&self, role: Role, name: &str) -> Option<Text> {
        self.half(other(role)).containers.named(bare(name))
    }

    /// The machines that have containers of this Compose project (spec 3.6).
    #[must_use]
    pub fn roles_of_project(&self, project: &str) -> Vec<Role> {
        Role::ALL.into_iter().filter(|role| self.half(*role).containers.has_project(project)).collect()
    }

    /// How many containers are recorded.
    #[must_use]
    pub fn containers(&self) -> usize {
        self.native.containers.len() + self.foreign.containers.len()
    }

    /// How many execs are recorded, with the latest of the ended ones.
    #[must_use]
    pub fn execs(&self) -> usize {
        self.execs.len()
    }

    fn seen(&mut self, role: Role, id: &str, name: Option<&str>, project: Option<&str>) {
        let half = self.half_mut(role);
        let names = name.map(|name| bare(name).into());
        if !half.containers.add(id, names, project) && half.knowledge == Knowledge::Whole {
            (half.knowledge, half.listed) = (Knowledge::Partial, false);
        }
    }

    fn half(&self, role: Role) -> &Half {
        match role {
            Role::Native => &self.native,
            Role::Foreign => &self.foreign,
        }
    }

    fn half_mut(&mut self, role: Role) -> &mut Half {
        match role {
            Role::Native => &mut self.native,
            Role::Foreign => &mut self.foreign,
        }
    }

    fn other_mut(&mut self, role: Role) -> &mut Half {
        self.half_mut(other(role))
    }
}

/// The one entry that fits best; two machines that fit equally well are ambiguous.
pub(crate) fn best(fitting: impl IntoIterator<Item = (Fit, Entry)>) -> Lookup {
    let mut best: Option<(Fit, Lookup)> = None;
    for (fit, entry) in fitting {
        best = match best {
            Some((before, lookup)) if before < fit => Some((before, lookup)),
            Some((before, _)) if before == fit => Some((fit, Lookup::Ambiguous)),
            _ => Some((fit, Lookup::Found(entry))),
        };
    }
    best.map_or(Lookup::Missing, |(_, lookup)| lookup)
}

/// What a client is told, with 409, when a reference is ambiguous (spec 2.3).
#[must_use]
pub fn ambiguous(reference: &str) -> String {
    format!(
        "both engines have a container that \"{reference}\" may mean: use its full ID, which `docker ps --all --no-trunc` shows"
    )
}

fn other(role: Role) -> Role {
    match role {
        Role::Native => Role::Foreign,
        Role::Foreign => Role::Native,
    }
}

/// A name as the table has it: dockerd takes it with a slash or without.
fn bare(name: &str) -> &str {
    name.strip_prefix('/').unwrap_or(name)
}
