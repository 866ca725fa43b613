//! The table with what keeps it true: which machine has this container or this exec, asked by the face.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dhow_model::Role;
use dhow_model::record::Record;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::engine::{self, Said};
use super::{Change, Fit, Knowledge, Lookup, Registry, Text, bare, best, follow, other};
use crate::engines::{Engines, Unavailable};
use crate::pool::Pools;
use crate::trace::TraceId;

/// Longest wait for a follower to end when its machine is about to stop.
const END_LIMIT: Duration = Duration::from_secs(2);
/// Longest wait for a last list of what is in a machine that is about to stop.
const LAST_LIMIT: Duration = Duration::from_secs(3);
/// After this long a machine that was about to stop and runs still is followed again.
const LEAVING_LIMIT: Duration = Duration::from_secs(120);
/// How often a record that is not there is looked for.
const RECORD_EVERY: Duration = Duration::from_millis(500);
/// Longest wait for somebody else's create of the same name.
const CLAIM_LIMIT: Duration = Duration::from_secs(30);

/// The workloads of all engines. Clones are the same.
#[derive(Clone)]
pub struct Workloads {
    core: Arc<Core>,
    /// Ended with the last clone.
    followers: Arc<Mutex<Followers>>,
    /// Names that are about to be given.
    claims: Arc<Mutex<HashMap<Text, Arc<AsyncMutex<()>>>>>,
}

/// What followers share with the face.
pub(super) struct Core {
    pub(super) engines: Arc<dyn Engines>,
    pub(super) pools: Pools,
    table: Mutex<Registry>,
}

#[derive(Default)]
struct Followers {
    /// Whoever follows an engine.
    by_role: HashMap<Role, Follower>,
    /// Machines that are about to stop, and since when: they may run for a while yet, and are left alone.
    leaving: HashMap<Role, Instant>,
    /// When the record of a machine that is off was asked for, which reads a file.
    recorded: HashMap<Role, Instant>,
}

struct Follower {
    cancel: CancellationToken,
    task: AbortOnDropHandle<()>,
}

/// A name that nobody else gets until this is dropped.
#[derive(Debug)]
pub struct Claim {
    name: Text,
    _held: Option<OwnedMutexGuard<()>>,
}

/// The other engine has a container of this name: dockerd's own words, with 409. A rename says `Error when allocating new
/// name: ` before them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that \
     container to be able to reuse that name."
)]
pub struct NameTaken {
    /// The name, without a slash.
    pub name: Text,
    /// The canonical ID of the container that has it.
    pub id: Text,
}

impl Workloads {
    /// Knows nothing yet and follows nobody.
    #[must_use]
    pub fn new(engines: Arc<dyn Engines>) -> Self {
        let pools = Pools::new(&engines);
        let core = Core { engines, pools, table: Mutex::default() };
        Self { core: Arc::new(core), followers: Arc::default(), claims: Arc::default() }
    }

    /// The table itself, for what the face sees happen. Locked: not to be held across an await.
    pub fn table(&self) -> MutexGuard<'_, Registry> {
        self.core.table()
    }

    /// Follows the engine of a machine that runs now; does nothing if it is followed already. In a Tokio runtime.
    pub fn started(&self, role: Role) {
        self.followers().leaving.remove(&role);
        self.follow(role);
    }

    /// Ends the stream of events of a machine that is about to stop, for which dockerd would wait, and every idle connection
    /// of ours. Answers what is in it; from now on lookups are answered from that.
    pub async fn stopping(&self, role: Role) -> Record {
        self.followers().leaving.insert(role, Instant::now());
        self.unfollow(role).await;
        let pool = self.core.pools.of(role);
        let was_whole = self.core.table().was_whole(role);
        if !was_whole && self.core.engines.running().contains(&role) {
            match timeout(LAST_LIMIT, engine::list(pool, &TraceId::random())).await {
                Ok(Ok(listed)) => self.core.table().replace(role, listed),
                Ok(Err(why)) => {
                    tracing::warn!(%role, %why, "what is in the machine that stops is not wholly known")
                }
                Err(_) => {
                    tracing::warn!(%role, "the engine that stops did not list its containers within 3 s")
                }
            }
        }
        pool.clear();
        let mut table = self.core.table();
        table.sleep(role);
        table.record(role)
    }

    /// Closes idle connections to the engine of a machine that is about to sleep. It is followed still: the stream of its events stays
    /// open, and goes on when it wakes.
    pub fn rests(&self, role: Role) {
        self.core.pools.of(role).clear();
    }

    /// Ends all that is followed, for a daemon that ends; the machines go on.
    pub async fn end(&self) {
        for role in Role::ALL {
            self.unfollow(role).await;
            self.core.pools.of(role).clear();
        }
    }

    /// The machine that has the container which dockerd would take for this reference: a full ID, a name with or without a
    /// slash, or the first digits of an ID, percent-decoded. Engines that run are asked where the table is not sure, and a
    /// machine that is off is answered from its record; none is started (spec 2.2, 2.6).
    ///
    /// # Errors
    /// An engine that runs cannot be asked, and the answer depends on it.
    pub async fn find(&self, reference: &str, trace: &TraceId) -> Result<Lookup, Unavailable> {
        let running = self.meet();
        let (lookup, unsure) = {
            let table = self.core.table();
            let fits_id = |role| matches!(table.lookup_in(role, reference), Some((Fit::Id, _)));
            let unsure = |role: &Role| table.knowledge(*role) != Knowledge::Whole;
            let lookup = table.lookup(reference);
            match lookup {
                Lookup::Found(entry) if fits_id(entry.role) => return Ok(Lookup::Found(entry)),
                Lookup::Missing => (lookup, running),
                _ => (lookup, running.into_iter().filter(unsure).collect()),
            }
        };
        if unsure.is_empty() {
            return Ok(lookup);
        }
        self.ask(reference, &unsure, trace).await
    }

    /// The machine that has this exec, by its full ID; as [`Self::find`].
    ///
    /// # Errors
    /// An engine that runs cannot be asked, and none of the others has it.
    pub async fn find_exec(&self, exec: &str, trace: &TraceId) -> Result<Lookup, Unavailable> {
        let running = self.meet();
        if let found @ Lookup::Found(_) = self.core.table().lookup_exec(exec) {
            return Ok(found);
        }
        let ask = |role: Role| {
            let asked = running.contains(&role);
            async move {
                if asked {
                    engine::exec(self.core.pools.of(role), exec, trace).await
                } else {
                    (Said::HasNot, None)
                }
            }
        };
        let (native, foreign) = tokio::join!(ask(Role::Native), ask(Role::Foreign));
        let (mut fitting, mut silent) = (Vec::new(), None);
        for (role, (said, container)) in [(Role::Native, native), (Role::Foreign, foreign)] {
            match said {
                Said::Has(fit, entry) => {
                    if let Some(container) = container {
                        self.core.table().exec_create(role, exec, &container);
                    }
                    fitting.push((fit, entry));
                }
                Said::HasNot => {}
                Said::Nothing(why) => silent = Some(unanswered(role, exec, &why)),
            }
        }
        match (best(fitting), silent) {
            (Lookup::Missing, Some(why)) => Err(why),
            (lookup, _) => Ok(lookup),
        }
    }

    /// Takes a name for a container that is about to be created or renamed in `role`, so that both engines together have
    /// each name once, as one dockerd would. Held until the engine has answered. Its own engine's names are for the engine
    /// itself to see to.
    ///
    /// # Errors
    /// The other engine has a container of this name.
    pub async fn claim(&self, role: Role, name: &str, trace: &TraceId) -> Result<Claim, NameTaken> {
        let claim = self.hold(bare(name)).await;
        let (name, other) = (Text::clone(&claim.name), other(role));
        let runs = self.meet().contains(&other);
        let (recorded, whole) = {
            let table = self.core.table();
            (table.name_taken(role, &name), table.knowledge(other) == Knowledge::Whole)
        };
        let taken = |id| Err(NameTaken { name: name.clone(), id });
        match recorded {
            None if whole || !runs => return Ok(claim),
            Some(id) if !runs => return taken(id),
            _ => {}
        }
        // What the table says may be history: the engine's word about the end of a container comes a little later.
        match engine::container(self.core.pools.of(other), &name, trace).await {
            Said::Has(Fit::Name, entry) if entry.name.as_ref() == Some(&name) => {
                taken(entry.id.unwrap_or_default())
            }
            Said::Has(..) | Said::HasNot => {
                self.core.table().free(other, &name);
                Ok(claim)
            }
            // One engine's silence stops no work in the other; should both have the name in the end, it is ambiguous.
            Said::Nothing(why) => {
                tracing::debug!(%trace, role = %other, %name, %why, "the engine did not say whether it has this name");
                recorded.map_or(Ok(claim), taken)
            }
        }
    }

    /// Makes the table meet the machines as they are: follows those that run, reads the record of those that do not. Answers
    /// which can be asked.
    fn meet(&self) -> Vec<Role> {
        let mut running = self.core.engines.running();
        self.followers()
            .leaving
            .retain(|role, since| running.contains(role) && since.elapsed() < LEAVING_LIMIT);
        running.retain(|role| !self.followers().leaving.contains_key(role));
        for role in Role::ALL {
            // What was not wholly known when the machine stopped is made good by its record.
            let is_sure = self.core.table().was_whole(role);
            if running.contains(&role) {
                self.follow(role);
            } else if !is_sure
                && self.may_read_record(role)
                && let Some(record) = self.core.engines.record(role)
            {
                self.core.table().adopt(role, record);
            }
        }
        running
    }

    /// Asks these engines, and takes the others from the table.
    async fn ask(&self, reference: &str, unsure: &[Role], trace: &TraceId) -> Result<Lookup, Unavailable> {
        let ask = |role: Role| async move {
            match unsure.contains(&role) {
                true => Some(engine::container(self.core.pools.of(role), reference, trace).await),
                false => None,
            }
        };
        let (native, foreign) = tokio::join!(ask(Role::Native), ask(Role::Foreign));
        let (mut fitting, mut silent) = (Vec::new(), Vec::new());
        let mut table = self.core.table();
        for (role, said) in [(Role::Native, native), (Role::Foreign, foreign)] {
            match said {
                Some(Said::Has(fit, entry)) => {
                    if let (Some(id), Some(name)) = (&entry.id, &entry.name) {
                        let (id, name) = (id.to_string(), Some(name.to_string()));
                        table.apply(role, &Change::Created { id, name, project: None });
                    }
                    fitting.push((fit, entry));
                }
                Some(Said::HasNot) => {}
                Some(Said::Nothing(why)) => {
                    silent.push((table.was_whole(role), unanswered(role, reference, &why)));
                    fitting.extend(table.lookup_in(role, reference));
                }
                None => fitting.extend(table.lookup_in(role, reference)),
            }
        }
        drop(table);
        let by_id = fitting.iter().any(|(fit, _)| *fit == Fit::Id);
        let lookup = best(fitting);
        // What was wholly known can have changed only behind Dhow's back: good enough to say that another has it, not to
        // say that nobody has.
        let matters = |was_whole: &bool| lookup == Lookup::Missing || !(was_whole | by_id);
        match silent.into_iter().find(|(was_whole, _)| matters(was_whole)) {
            Some((_, why)) => Err(why),
            None => Ok(lookup),
        }
    }

    async fn hold(&self, name: &str) -> Claim {
        let name = Text::from(name);
        let lock = {
            let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
            claims.retain(|_, lock| Arc::strong_count(lock) > 1);
            Arc::clone(claims.entry(name.clone()).or_default())
        };
        let held = timeout(CLAIM_LIMIT, lock.lock_owned()).await.ok();
        if held.is_none() {
            tracing::warn!(%name, "another create of this name takes longer than 30 s, and is no more waited for");
        }
        Claim { name, _held: held }
    }

    fn follow(&self, role: Role) {
        let mut followers = self.followers();
        if followers.by_role.get(&role).is_some_and(|follower| !follower.task.is_finished()) {
            return;
        }
        self.core.table().doubt(role);
        let (core, cancel) = (Arc::clone(&self.core), CancellationToken::new());
        let until = cancel.clone();
        let task = tokio::spawn(async move { follow::follow(&core, role, &until).await });
        followers.by_role.insert(role, Follower { cancel, task: AbortOnDropHandle::new(task) });
    }

    fn may_read_record(&self, role: Role) -> bool {
        let mut followers = self.followers();
        if followers.recorded.get(&role).is_some_and(|since| since.elapsed() < RECORD_EVERY) {
            return false;
        }
        followers.recorded.insert(role, Instant::now());
        true
    }

    fn followers(&self) -> MutexGuard<'_, Followers> {
        self.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn unfollow(&self, role: Role) {
        let follower = self.followers().by_role.remove(&role);
        let Some(Follower { cancel, task }) = follower else { return };
        cancel.cancel();
        match timeout(END_LIMIT, task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%role, %error, "following the engine failed"),
            Err(_) => tracing::warn!(%role, "following the engine did not end within 2 s, and was aborted"),
        }
    }
}

impl Core {
    pub(super) fn table(&self) -> MutexGuard<'_, Registry> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unanswered(role: Role, reference: &str, why: &str) -> Unavailable {
    Unavailable {
        what: format!("the {role} engine could not be asked whether it has \"{reference}\": {why}"),
        run: "dhow status".into(),
    }
}
