//! `POST /containers/create`: held until it is known where the container goes (spec 1.1 to 1.4).

use dhow_model::placement::{Asked, admit};
use dhow_model::query::query_value;
use dhow_model::{Placement, Platform, Role};

use crate::connection::Shared;
use crate::description::Description;
use crate::images;
use crate::merge::Machines;
use crate::place::{Note, Plan, Stop};
use crate::route::query;
use crate::wire::client::Client;
use crate::wire::head::{Expect, Request};

/// Largest description of a container that is read; a larger one is dockerd's to judge.
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
        let platform = platform.filter(|text| !text.is_empty());
        let platform = platform.map(|text| Platform::parse(&text, host.native.arch)).transpose();
        let platform = platform.map_err(|bad| Stop::refused(400, bad.to_string()).labelled())?;
        let mut plan = Plan::to(Role::Native);
        let mut asked = Asked { platforms: platform.into_iter().collect(), ..Asked::default() };
        let mut project = None;
        if asked.platforms.is_empty() || host.placement == Placement::ForeignMachine {
            let held = self.hold(client, request, MAX_DESCRIPTION, &mut plan).await?;
            let Some(Ok(description)) = held.map(|content| Description::read(&content)) else {
                return Ok(plan);
            };
            if let Some(image) = description.image.filter(|_| asked.platforms.is_empty()) {
                let machines = self.machines(&request.trace);
                asked.image =
                    images::platforms(&image, host.placement, machines).await.map_err(Stop::from)?;
            }
            project = description.project;
        }
        let decision = admit(&host, &asked).map_err(|refusal| Stop::from(refusal).labelled())?;
        plan.role = decision.role;
        plan.label = Some(crate::decisions::label(&decision));
        let name = name.filter(|name| !name.is_empty());
        let claim = match &name {
            Some(name) if host.placement == Placement::ForeignMachine => {
                let claim = self.workloads.claim(plan.role, name, &request.trace).await;
                Some(claim.map_err(|taken| Stop::refused(409, taken.to_string()))?)
            }
            _ => None,
        };
        let _project = project;
        plan.note = Note::Create { name, decision, claim };
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
    pub(crate) fn machines<'a>(&'a self, trace: &'a crate::trace::TraceId) -> Machines<'a> {
        Machines { engines: &*self.engines, pools: &self.pools, trace }
    }
}
