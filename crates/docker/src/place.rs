//! Which engine a request goes to, and what is to be noted of its answer.
//!
//! With everything in the native machine only creates and builds are decided on; all else goes there as it is. With two
//! machines a call follows what it is about: a container or an exec to where the registry finds it, an image, a volume or
//! a network to the engine that has it, native first.

use dhow_model::placement::{Decision, Refusal};
use dhow_model::query::query_value;
use dhow_model::{Placement, Role};

use crate::answer::Said;
use crate::ask::Unanswered;
use crate::compose::Settled;
use crate::connection::Shared;
use crate::decisions;
use crate::description::Description;
use crate::engines::Unavailable;
use crate::error::Broken;
use crate::hooks::LifecycleCall;
use crate::merge::{Holders, Thing, holders};
use crate::registry::{self, Claim, Entry, Lookup};
use crate::resolve;
use crate::route::{Action, NetworkAction, Route, query};
use crate::session::{self, Building, Joined, Parked};
use crate::session_table::Key;
use crate::trace::TraceId;
use crate::wire::client::Client;
use crate::wire::head::Request;

/// Largest description of a network or a volume that is read.
const MAX_DESCRIPTION: usize = 8 << 20;

/// What becomes of a request.
pub(crate) struct Plan {
    /// Where it goes.
    pub(crate) role: Role,
    /// What the hooks are told.
    pub(crate) call: Option<LifecycleCall>,
    /// What the registry is told if it succeeds.
    pub(crate) note: Note,
    /// The value of `X-Dhow-Placement` on the answer.
    pub(crate) label: Option<String>,
    /// `100 Continue` was sent, so that the body could be read.
    pub(crate) continued: bool,
    /// What is sent instead of the client's body.
    pub(crate) body: Option<Vec<u8>>,
    /// Dropped when the request has ended, with what it became.
    #[allow(dead_code, reason = "held, not read")]
    pub(crate) guard: Option<Guard>,
}

/// What lasts as long as a request.
#[allow(dead_code, reason = "held, not read")]
pub(crate) enum Guard {
    Joined(Joined),
    Building(Building),
    Settled(Settled),
}

/// What an answer means for the registry.
pub(crate) enum Note {
    Nothing,
    /// A new container, with its name where the client gave one; the claim keeps the name until then.
    Create {
        name: Option<String>,
        decision: Decision,
        claim: Option<Claim>,
    },
    /// A new exec of this container.
    Exec {
        container: String,
    },
    /// A new name for this container.
    Rename {
        id: String,
        name: String,
        _claim: Claim,
    },
    /// The container goes.
    Remove {
        id: String,
    },
}

/// Why a request goes nowhere.
pub(crate) enum Stop {
    /// The face answers it.
    Said(Said),
    /// The engine that it needs cannot be reached.
    Unavailable(Unavailable),
    /// The client's own part broke.
    Broken(Broken),
}

impl Plan {
    pub(crate) fn to(role: Role) -> Self {
        Self { role, call: None, note: Note::Nothing, label: None, continued: false, body: None, guard: None }
    }
}

impl Stop {
    pub(crate) fn refused(status: u16, message: String) -> Self {
        Self::Said(Said { status, message, label: None })
    }

    /// Tells in the header too that the call was refused.
    pub(crate) fn labelled(self) -> Self {
        match self {
            Self::Said(said) => {
                let label = Some(decisions::refused(&said.message));
                Self::Said(Said { label, ..said })
            }
            other => other,
        }
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::refused(refusal.status, refusal.message)
    }
}

impl From<session::Refused> for Stop {
    fn from(refused: session::Refused) -> Self {
        Self::refused(refused.status, refused.message)
    }
}

impl From<Unavailable> for Stop {
    fn from(why: Unavailable) -> Self {
        Self::Unavailable(why)
    }
}

impl From<Broken> for Stop {
    fn from(why: Broken) -> Self {
        Self::Broken(why)
    }
}

impl From<Unanswered> for Stop {
    fn from(why: Unanswered) -> Self {
        match why {
            Unanswered::Unavailable(why) => Self::Unavailable(why),
            why => Self::Unavailable(Unavailable { what: why.to_string(), run: "dhow logs".to_owned() }),
        }
    }
}

impl Shared {
    /// Where a request goes. May read its body, which is forwarded unchanged all the same.
    pub(crate) async fn place(
        &self,
        client: &mut Client,
        request: &Request,
        route: &Route,
    ) -> Result<Plan, Stop> {
        let mut plan = match (route, self.engines.placement()) {
            (Route::Create, _) => self.place_create(client, request).await?,
            (Route::Build, _) => self.place_build(client, request).await?,
            (Route::Container { reference, action }, Placement::NativeMachine) => {
                self.place_at_home(reference, *action, &request.trace).await
            }
            (_, Placement::NativeMachine) => Plan::to(Role::Native),
            (route, Placement::ForeignMachine) => self.place_by_owner(client, request, route).await?,
        };
        if let Note::Create { .. } = plan.note {
            plan.call = Some(LifecycleCall {
                action: Action::Create,
                id: String::new(),
                reference: String::new(),
                trace: request.trace.clone(),
            });
        } else if let Some(call) = &plan.call {
            self.hooks.before(call).await;
        }
        Ok(plan)
    }

    /// One machine: the container's ID is asked for only where the hooks want it.
    async fn place_at_home(&self, reference: &str, action: Action, trace: &TraceId) -> Plan {
        let mut plan = Plan::to(Role::Native);
        if action.is_lifecycle()
            && let Some(id) = resolve::canonical_id(self.pools.of(Role::Native), reference, trace).await
        {
            plan.call =
                Some(LifecycleCall { action, id, reference: reference.to_owned(), trace: trace.clone() });
        }
        plan
    }

    /// Two machines: to the one that has what the call is about.
    async fn place_by_owner(
        &self,
        client: &mut Client,
        request: &Request,
        route: &Route,
    ) -> Result<Plan, Stop> {
        let trace = &request.trace;
        let value = |key| query_value(query(&request.target), key).ok().flatten();
        match route {
            Route::Container { reference, action } => self.place_container(reference, *action, request).await,
            Route::Commit => match value("container") {
                Some(reference) => Ok(Plan::to(self.role_of(&reference, trace).await?)),
                None => Ok(Plan::to(Role::Native)),
            },
            Route::Exec { id, .. } => match self.workloads.find_exec(id, trace).await? {
                Lookup::Found(entry) => Ok(Plan::to(entry.role)),
                Lookup::Missing => Ok(Plan::to(Role::Native)),
                Lookup::Ambiguous => Err(Stop::refused(409, registry::ambiguous(id))),
            },
            Route::Image { reference, .. } => self.place_thing(Thing::Image, reference, trace).await,
            Route::Save => match value("names") {
                Some(reference) => self.place_thing(Thing::Image, &reference, trace).await,
                None => Ok(Plan::to(Role::Native)),
            },
            Route::Pull | Route::Load => self.place_by_platform(request).await,
            Route::VolumeCreate | Route::NetworkCreate => self.place_thing_made(client, request).await,
            Route::Volume { name } => self.place_thing(Thing::Volume, name, trace).await,
            Route::Network { reference, action } => {
                let mut plan = Plan::to(Role::Native);
                if matches!(action, NetworkAction::Connect | NetworkAction::Disconnect) {
                    let held = self.hold(client, request, MAX_DESCRIPTION, &mut plan).await?;
                    let read = held.and_then(|content| Description::read(&content).ok());
                    if let Some(container) = read.and_then(|read| read.container) {
                        plan.role = self.role_of(&container, trace).await?;
                        return Ok(plan);
                    }
                }
                let role = self.place_thing(Thing::Network, reference, trace).await?.role;
                Ok(Plan { role, ..plan })
            }
            Route::Session => self.park(session::key(request)?, client).await,
            Route::BuildCancel => {
                let builder = value("id").and_then(|id| self.sessions.builder(&id));
                Ok(Plan::to(builder.unwrap_or(Role::Native)))
            }
            _ => Ok(Plan::to(Role::Native)),
        }
    }

    /// A connection that is a part of a build which some other request names.
    pub(crate) async fn park(&self, key: Key, client: &mut Client) -> Result<Plan, Stop> {
        match self.sessions.park(key, client).await {
            Parked::To(role, joined) => Ok(Plan { guard: Some(Guard::Joined(joined)), ..Plan::to(role) }),
            Parked::Refused(refused) => Err(refused.into()),
            Parked::Gone => Err(Stop::Broken(Broken::ClientGone)),
        }
    }

    async fn place_container(
        &self,
        reference: &str,
        action: Action,
        request: &Request,
    ) -> Result<Plan, Stop> {
        let trace = &request.trace;
        let Some(entry) = self.find(reference, trace).await? else { return Ok(Plan::to(Role::Native)) };
        let mut plan = Plan::to(entry.role);
        let Some(id) = entry.id.map(|id| id.to_string()) else { return Ok(plan) };
        plan.note = match action {
            Action::Remove => Note::Remove { id: id.clone() },
            Action::Exec => Note::Exec { container: id.clone() },
            Action::Rename => match query_value(query(&request.target), "name") {
                Ok(Some(name)) if !name.is_empty() => {
                    let claim = self.workloads.claim(entry.role, &name, trace).await.map_err(|taken| {
                        Stop::refused(409, format!("Error when allocating new name: {taken}"))
                    })?;
                    Note::Rename { id: id.clone(), name, _claim: claim }
                }
                _ => Note::Nothing,
            },
            _ => Note::Nothing,
        };
        if action.is_lifecycle() {
            let reference = reference.to_owned();
            plan.call = Some(LifecycleCall { action, id, reference, trace: trace.clone() });
        }
        Ok(plan)
    }

    /// The container, if any engine has it.
    pub(crate) async fn find(&self, reference: &str, trace: &TraceId) -> Result<Option<Entry>, Stop> {
        match self.workloads.find(reference, trace).await? {
            Lookup::Found(entry) => Ok(Some(entry)),
            Lookup::Missing => Ok(None),
            Lookup::Ambiguous => Err(Stop::refused(409, registry::ambiguous(reference))),
        }
    }

    async fn role_of(&self, reference: &str, trace: &TraceId) -> Result<Role, Stop> {
        Ok(self.find(reference, trace).await?.map_or(Role::Native, |entry| entry.role))
    }

    async fn place_thing(&self, thing: Thing, reference: &str, trace: &TraceId) -> Result<Plan, Stop> {
        let found = holders(thing, reference, self.machines(trace)).await;
        Ok(Plan::to(match found.map_err(|(_, why)| Stop::from(why))? {
            Holders::One(role) => role,
            Holders::Both | Holders::None => Role::Native,
        }))
    }
}
