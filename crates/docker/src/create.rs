//! `POST /containers/create`: held until it is known where the container goes (spec 1.1 to 1.4).

use dhow_model::placement::{Asked, Bound, admit};
use dhow_model::query::query_value;
use dhow_model::{Placement, Platform, Role};

use crate::binds::Binds;
use crate::connection::Shared;
use crate::decisions;
use crate::description::Description;
use crate::images;
use crate::merge::Machines;
use crate::place::{Guard, Note, Plan, Stop};
use crate::route::{is_before, query};
use crate::trace::TraceId;
use crate::wire::client::Client;
use crate::wire::head::{Expect, Request};

/// The first API version of which dockerd reads `platform` in a create's query.
const PLATFORM: (u32, u32) = (1, 41);
/// Largest description of a container that is read. What names its platform in the query is admitted by that; of anything
/// else that is larger it is not known what it is, and so it is refused.
const MAX_DESCRIPTION: usize = 8 << 20;

impl Shared {
    /// Where a create goes. Its body is read if it can matter, and forwarded unchanged.
    pub(crate) async fn place_create(&self, client: &mut Client, request: &Request) -> Result<Plan, Stop> {
        let query = query(&request.target);
        let (Ok(platform), Ok(name)) = (query_value(query, "platform"), query_value(query, "name")) else {
            // dockerd refuses the query in its own words.
            return Ok(Plan::to(Role::Native));
        };
        let host = self.engines.host().await;
        let platform = platform.filter(|text| !text.is_empty() && !is_before(&request.target, PLATFORM));
        let platform = platform.map(|text| Platform::parse(&text, host.native.arch)).transpose();
        let platform = platform.map_err(|bad| Stop::refused(400, bad.to_string()).labelled())?;
        let mut plan = Plan::to(Role::Native);
        let mut asked = Asked { platforms: platform.into_iter().collect(), ..Asked::default() };
        let abroad = host.placement == Placement::ForeignMachine;
        let machines = self.machines(&request.trace);
        let (mut content, mut turn, mut binds) = (Vec::new(), None, Binds::default());
        // Where machines see all of the host's files no mount is asked about.
        let shares = self.engines.shares(Role::Native);
        if asked.platforms.is_empty() || abroad || shares.is_some() {
            let held = self.hold(client, request, MAX_DESCRIPTION, &mut plan).await?;
            // A named platform decides for what is too large to be read; dockerd refuses what cannot be.
            let read = match &held {
                None if !asked.platforms.is_empty() => Ok(Description::default()),
                // One that the client broke off is small, and dockerd refuses it.
                None if request.expect != Expect::Other
                    && (!client.ended || client.buffer.len() > MAX_DESCRIPTION) =>
                {
                    return Err(too_large().labelled());
                }
                held => Description::read(held.as_deref().unwrap_or_default()),
            };
            let Ok(description) = read else { return Ok(plan) };
            content = held.unwrap_or_default();
            binds = description.binds;
            if let Some(image) = description.image.filter(|_| asked.platforms.is_empty()) {
                asked.image = images::platforms(&image, host.placement, machines).await?;
            }
            if let Some(project) = description.project.filter(|_| abroad) {
                let taken = self.projects.turn(&project, machines).await?;
                asked.project = taken.role().map(|role| Bound { project, role });
                turn = Some(taken);
            }
        }
        let decision = admit(&host, &asked).map_err(|refusal| Stop::from(refusal).labelled())?;
        plan.role = decision.role;
        let shares = match plan.role {
            Role::Native => shares,
            Role::Foreign if binds.is_empty() => None,
            Role::Foreign => self.engines.shares(Role::Foreign),
        };
        if let Some(refusal) = shares.and_then(|shares| binds.refusal(&shares)) {
            return Err(Stop::refused(400, refusal).labelled());
        }
        plan.label = Some(decisions::label(&decision));
        let name = name.filter(|name| !name.is_empty());
        let claim = match &name {
            Some(name) if abroad => {
                let claim = self.workloads.claim(plan.role, name, &request.trace).await;
                Some(claim.map_err(|taken| Stop::refused(409, taken.to_string()))?)
            }
            _ => None,
        };
        if let Some(turn) = turn {
            let mut settled = turn.settle(plan.role, &content, machines).await?;
            plan.body = settled.body.take();
            plan.guard = Some(Guard::Settled(settled));
        }
        plan.note = Note::Create { name, decision, claim };
        Ok(plan)
    }

    /// Where a network or volume is made: with the Compose project that it is labelled with, and natively without one.
    pub(crate) async fn place_thing_made(
        &self,
        client: &mut Client,
        request: &Request,
    ) -> Result<Plan, Stop> {
        let mut plan = Plan::to(Role::Native);
        let held = self.hold(client, request, MAX_DESCRIPTION, &mut plan).await?.unwrap_or_default();
        let project = Description::read(&held).ok().and_then(|read| read.project);
        if let Some(project) = project {
            let machines = self.machines(&request.trace);
            plan.role = self.projects.place(&project, &request.target, &held, machines).await?;
        }
        Ok(plan)
    }

    /// Reads the request's body without taking it away; `None` if it is larger than `limit`, does not end, or waits for
    /// an answer that only dockerd gives.
    pub(crate) async fn hold(
        &self,
        client: &mut Client,
        request: &Request,
        limit: usize,
        plan: &mut Plan,
    ) -> Result<Option<Vec<u8>>, Stop> {
        match request.expect {
            Expect::Other => return Ok(None),
            Expect::Continue => {
                client.say(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
                plan.continued = true;
            }
            Expect::Nothing => {}
        }
        Ok(client.hold(request.body, limit).await?)
    }

    /// What questions about this request go to.
    pub(crate) fn machines<'a>(&'a self, trace: &'a TraceId) -> Machines<'a> {
        Machines { engines: &*self.engines, pools: &self.pools, trace }
    }
}

fn too_large() -> Stop {
    let most = MAX_DESCRIPTION >> 20;
    Stop::refused(400, format!("the description of the container has more than {most} MiB"))
}
