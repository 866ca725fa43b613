//! Which engine has a network, a volume or an image that a call names. Containers and execs are the registry's.

use dhow_model::Role;

use super::Machines;
use crate::ask::{Question, Unanswered};
use crate::route;

/// A kind of thing that a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Thing {
    Network,
    Volume,
    Image,
}

/// Who has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holders {
    One(Role),
    /// Native's is meant, as the lists show it.
    Both,
    None,
}

/// Asks every machine that runs. `reference` is the name or ID, decoded.
///
/// # Errors
/// When an engine whose machine runs does not answer: the thing may be there, so nothing else can be said.
pub(crate) async fn holders(
    thing: Thing,
    reference: &str,
    machines: Machines<'_>,
) -> Result<Holders, (Role, Unanswered)> {
    let running = machines.engines.running();
    let reference = route::encoded(reference);
    let target = match thing {
        Thing::Network => format!("/networks/{reference}"),
        Thing::Volume => format!("/volumes/{reference}"),
        Thing::Image => format!("/images/{reference}/json"),
    };
    let has = |role| {
        let target = &target;
        let there = running.contains(&role);
        async move {
            if !there {
                return Ok(false);
            }
            let question = Question::get(target, machines.trace);
            let answer = question.ask(machines.pools.of(role)).await.map_err(|why| (role, why))?;
            // What is not plainly missing is that engine's to answer: an ambiguous prefix, a malformed name.
            Ok(answer.status != 404)
        }
    };
    let (native, foreign) = tokio::join!(has(Role::Native), has(Role::Foreign));
    // Native's is meant where both have it, so it does not depend on an engine that says nothing.
    if let (Ok(true), Err((role, why))) = (&native, &foreign) {
        tracing::debug!(%role, %why, reference, "the engine did not say whether it has this too");
        return Ok(Holders::One(Role::Native));
    }
    Ok(match (native?, foreign?) {
        (true, true) => Holders::Both,
        (true, false) => Holders::One(Role::Native),
        (false, true) => Holders::One(Role::Foreign),
        (false, false) => Holders::None,
    })
}
