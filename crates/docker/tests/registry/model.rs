//! The registry as a person would write it down: lists that are searched from end to end. And the things that can happen.

use dhow_docker::registry::{Change, Listed, Lookup, Record, Recorded, Registry};
use dhow_model::Role;
use proptest::prelude::*;

/// Containers of each role that there can be.
const IDS: usize = 12;
/// Names, one of which begins IDs, and one of which *is* an ID.
const NAMES: [&str; 6] =
    ["web", "db", "ab", "ac", "cache", "ab00000000000000000000000000000000000000000000000000000000000001"];
/// Execs of each role that there can be.
const EXECS: usize = 8;

/// IDs of both roles begin with the same few digits, and are never the same.
pub fn id(role: Role, n: usize) -> String {
    format!("{}{:060x}{:02x}", ["ab", "ac", "b0"][n % 3], 0, 2 * n + usize::from(role == Role::Foreign))
}

pub fn exec(role: Role, n: usize) -> String {
    format!("{role}-{n}")
}

/// Everything that somebody might type.
pub fn references() -> Vec<String> {
    let ids: Vec<String> =
        Role::ALL.into_iter().flat_map(|role| (0..IDS).map(move |n| id(role, n))).collect();
    let mut all: Vec<String> = ["", "/", "a", "ab", "ac", "b", "b0", "ab0", "c", "/ab", "//web", "nobody"]
        .map(String::from)
        .to_vec();
    all.extend(ids.iter().map(|id| id[..63].to_owned()));
    all.extend(ids);
    all.extend(NAMES.iter().flat_map(|name| [(*name).to_owned(), format!("/{name}")]));
    all
}

/// Something that happens.
#[derive(Debug, Clone)]
pub enum Op {
    /// Created through Dhow.
    Create(Role, usize, Option<usize>),
    /// Renamed through Dhow.
    Rename(Role, usize, usize),
    /// Removed through Dhow.
    Remove(Role, usize),
    /// The engine says so.
    Created(Role, usize, usize),
    Renamed(Role, usize, usize),
    Destroyed(Role, usize),
    Died(Role, usize),
    ExecCreate(Role, usize, usize),
    ExecEnd(Role, usize),
    /// The engine was listed: after a start of Dhow's, a break of its events, or behind Dhow's back.
    Replace(Role, Vec<(usize, usize)>),
    /// The machine is gone.
    Forget(Role),
    /// The machine stops, its record is kept, and Dhow begins anew with it.
    SleepAndAdopt(Role),
    Sleep(Role),
    Doubt(Role),
}

pub fn ops() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 0..60)
}

fn op() -> impl Strategy<Value = Op> {
    let role = || prop::sample::select(Role::ALL.to_vec());
    let (n, name, e) = (|| 0..IDS, || 0..NAMES.len(), || 0..EXECS);
    prop_oneof![
        8 => (role(), n(), prop::option::of(name())).prop_map(|(r, n, name)| Op::Create(r, n, name)),
        3 => (role(), n(), name()).prop_map(|(r, n, name)| Op::Rename(r, n, name)),
        3 => (role(), n()).prop_map(|(r, n)| Op::Remove(r, n)),
        3 => (role(), n(), name()).prop_map(|(r, n, name)| Op::Created(r, n, name)),
        2 => (role(), n(), name()).prop_map(|(r, n, name)| Op::Renamed(r, n, name)),
        2 => (role(), n()).prop_map(|(r, n)| Op::Destroyed(r, n)),
        1 => (role(), n()).prop_map(|(r, n)| Op::Died(r, n)),
        5 => (role(), e(), n()).prop_map(|(r, e, n)| Op::ExecCreate(r, e, n)),
        3 => (role(), e()).prop_map(|(r, e)| Op::ExecEnd(r, e)),
        1 => (role(), prop::collection::vec((n(), name()), 0..6)).prop_map(|(r, list)| Op::Replace(r, list)),
        1 => role().prop_map(Op::Forget),
        1 => role().prop_map(Op::SleepAndAdopt),
        1 => role().prop_map(Op::Sleep),
        1 => role().prop_map(Op::Doubt),
    ]
}

#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    pub role: Role,
    pub id: String,
    pub name: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Exec {
    pub role: Role,
    pub id: String,
    pub container: String,
    pub ended: bool,
}

/// What should be known.
#[derive(Debug, Default)]
pub struct Model {
    pub containers: Vec<Container>,
    pub execs: Vec<Exec>,
    removed: Vec<(Role, String)>,
}

/// How a reference fits, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Id,
    Name,
    Digits,
}

impl Model {
    /// Both, after all of this.
    pub fn after(ops: &[Op]) -> (Self, Registry) {
        let (mut model, mut registry) = (Self::default(), Registry::new());
        ops.iter().for_each(|op| model.step(&mut registry, op));
        (model, registry)
    }

    /// Lets this happen to both.
    pub fn step(&mut self, registry: &mut Registry, op: &Op) {
        match *op {
            Op::Create(role, n, name) => {
                registry.create(role, &id(role, n), name.map(|name| NAMES[name]));
                if let Some(name) = name {
                    self.detach(Some(other(role)), NAMES[name]);
                }
                self.add(role, n, name);
            }
            Op::Rename(role, n, name) => {
                registry.rename(role, &id(role, n), NAMES[name]);
                self.detach(Some(other(role)), NAMES[name]);
                self.rename(role, n, name);
            }
            Op::Remove(role, n) => {
                registry.remove(role, &id(role, n));
                self.remove(role, n);
            }
            Op::Created(role, n, name) => {
                let name_said = Some(format!("/{}", NAMES[name]));
                registry.apply(role, &Change::Created { id: id(role, n), name: name_said, project: None });
                self.add(role, n, Some(name));
            }
            Op::Renamed(role, n, name) => {
                registry.apply(role, &Change::Renamed { id: id(role, n), name: NAMES[name].to_owned() });
                self.rename(role, n, name);
            }
            Op::Destroyed(role, n) => {
                registry.apply(role, &Change::Destroyed { id: id(role, n) });
                self.remove(role, n);
            }
            Op::Died(role, n) => {
                registry.apply(role, &Change::Died { id: id(role, n) });
                self.execs.retain(|exec| exec.role != role || exec.container != id(role, n));
            }
            Op::ExecCreate(role, e, n) => {
                registry.exec_create(role, &exec(role, e), &id(role, n));
                if !self.execs.iter().any(|one| one.id == exec(role, e)) {
                    self.execs.push(Exec { role, id: exec(role, e), container: id(role, n), ended: false });
                }
            }
            Op::ExecEnd(role, e) => {
                registry.exec_end(role, &exec(role, e));
                // The other engine has no say in it.
                registry.exec_end(other(role), &exec(role, e));
                self.execs.iter_mut().filter(|one| one.id == exec(role, e)).for_each(|one| one.ended = true);
            }
            Op::Replace(role, ref list) => {
                registry.replace(role, listed(role, list));
                self.containers.retain(|one| one.role != role);
                list.iter().for_each(|(n, name)| self.add(role, *n, Some(*name)));
                let containers = &self.containers;
                let there = |exec: &Exec| containers.iter().any(|one| one.id == exec.container);
                self.execs.retain(|exec| exec.role != role || there(exec));
            }
            Op::Forget(role) => {
                registry.forget(role);
                self.removed.retain(|(r, _)| *r != role);
                self.containers.retain(|one| one.role != role);
                self.execs.retain(|exec| exec.role != role);
            }
            Op::SleepAndAdopt(role) => {
                let record = registry.record(role);
                registry.forget(role);
                registry.adopt(role, record);
                self.removed.retain(|(r, _)| *r != role);
                self.execs.retain(|exec| exec.role != role);
            }
            Op::Sleep(role) => {
                registry.sleep(role);
                self.execs.retain(|exec| exec.role != role);
            }
            Op::Doubt(role) => registry.doubt(role),
        }
    }

    /// What a lookup should say: by role, since several of one role are for its dockerd to tell apart.
    pub fn lookup(&self, reference: &str) -> Result<Option<Role>, ()> {
        let fits = |one: &Container| {
            let name = reference.strip_prefix('/').unwrap_or(reference);
            if reference.is_empty() {
                None
            } else if one.id == reference {
                Some(Fit::Id)
            } else if one.name.as_deref() == Some(name) {
                Some(Fit::Name)
            } else {
                one.id.starts_with(reference).then_some(Fit::Digits)
            }
        };
        let fitting: Vec<(Fit, Role)> =
            self.containers.iter().filter_map(|one| Some((fits(one)?, one.role))).collect();
        let Some(best) = fitting.iter().map(|(fit, _)| *fit).min() else { return Ok(None) };
        let mut roles = fitting.iter().filter(|(fit, _)| *fit == best).map(|(_, role)| *role);
        let first = roles.next();
        if roles.all(|role| Some(role) == first) { Ok(first) } else { Err(()) }
    }

    fn add(&mut self, role: Role, n: usize, name: Option<usize>) {
        if self.removed.contains(&(role, id(role, n))) {
            return;
        }
        if !self.containers.iter().any(|one| one.id == id(role, n)) {
            self.containers.push(Container { role, id: id(role, n), name: None });
        }
        if let Some(name) = name {
            self.rename(role, n, name);
        }
    }

    fn rename(&mut self, role: Role, n: usize, name: usize) {
        if self.containers.iter().any(|one| one.id == id(role, n)) {
            self.detach(Some(role), NAMES[name]);
            let owner = self.containers.iter_mut().find(|one| one.id == id(role, n));
            owner.expect("it is there").name = Some(NAMES[name].to_owned());
        }
    }

    fn remove(&mut self, role: Role, n: usize) {
        self.removed.push((role, id(role, n)));
        self.containers.retain(|one| one.id != id(role, n));
        self.execs.retain(|exec| exec.role != role || exec.container != id(role, n));
    }

    fn detach(&mut self, role: Option<Role>, name: &str) {
        let theirs = |one: &&mut Container| {
            role.is_none_or(|role| one.role == role) && one.name.as_deref() == Some(name)
        };
        self.containers.iter_mut().filter(theirs).for_each(|one| one.name = None);
    }
}

/// What the registry says, as the model puts it.
pub fn said(lookup: &Lookup) -> Result<Option<Role>, ()> {
    match lookup {
        Lookup::Found(entry) => Ok(Some(entry.role)),
        Lookup::Missing => Ok(None),
        Lookup::Ambiguous => Err(()),
    }
}

pub fn listed(role: Role, list: &[(usize, usize)]) -> Vec<Listed> {
    let one = |(n, name): &(usize, usize)| Listed {
        id: id(role, *n),
        names: vec![format!("/{}", NAMES[*name])],
        project: None,
    };
    list.iter().map(one).collect()
}

pub fn record(containers: &[(&str, &str)]) -> Record {
    let one = |(id, name): &(&str, &str)| Recorded { id: (*id).into(), name: (*name).into(), project: None };
    Record { containers: containers.iter().map(one).collect() }
}

pub fn other(role: Role) -> Role {
    if role == Role::Native { Role::Foreign } else { Role::Native }
}
