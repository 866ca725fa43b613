//! `POST /build`: admitted by what its query says, before the first byte of its context goes on (spec 1.2, 1.4).

use dhow_model::placement::{Asked, admit};
use dhow_model::query::query_value;
use dhow_model::{Placement, Platform, Role};

use crate::connection::Shared;
use crate::decisions;
use crate::place::{Guard, Plan, Stop};
use crate::route::query;
use crate::session::Names;
use crate::wire::client::Client;
use crate::wire::head::Request;

impl Shared {
    /// Where a build goes. Its body is never looked at.
    pub(crate) async fn place_build(&self, client: &mut Client, request: &Request) -> Result<Plan, Stop> {
        if self.engines.placement() == Placement::NativeMachine {
            return self.admit_platforms(request).await;
        }
        let names = Names::of(&request.target);
        if let Some(key) = names.upload() {
            return self.park(key, client).await;
        }
        let plan = self.admit_platforms(request).await?;
        let guard = Guard::Building(self.sessions.build(&names, plan.role));
        Ok(Plan { guard: Some(guard), ..plan })
    }

    async fn admit_platforms(&self, request: &Request) -> Result<Plan, Stop> {
        let Ok(list) = query_value(query(&request.target), "platform") else {
            return Ok(Plan::to(Role::Native));
        };
        let host = self.engines.host().await;
        let list = list.unwrap_or_default();
        let platforms = Platform::parse_list(&list, host.native.arch);
        let platforms = platforms.map_err(|bad| Stop::refused(400, bad.to_string()).labelled())?;
        let asked = Asked { platforms, ..Asked::default() };
        let decision = admit(&host, &asked).map_err(|refusal| Stop::from(refusal).labelled())?;
        Ok(Plan { label: Some(decisions::label(&decision)), ..Plan::to(decision.role) })
    }

    /// Where an image is pulled or loaded to, in placement `foreign-machine`: where its platform would run. What runs nowhere
    /// may still be fetched.
    pub(crate) async fn place_by_platform(&self, request: &Request) -> Result<Plan, Stop> {
        let plan = self.admit_platforms(request).await;
        Ok(Plan::to(plan.map_or(Role::Native, |plan| plan.role)))
    }
}
