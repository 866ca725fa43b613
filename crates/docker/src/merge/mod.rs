//! Lists are whole (spec 3.7): what both engines have to say about one question becomes one answer.
//!
//! Used only where two machines run. [`Whole`] says which calls these are, `lists` merges what was answered (pure),
//! `around` makes `since` and `before` work where only one engine has the thing that they name, `reply` writes the answer, `events` interleaves the two live streams, [`holders`] finds which engine has a network, a
//! volume or an image.
//!
//! An engine that refuses (4xx, 5xx) is passed on as it is, native's first; one that cannot be reached although its machine
//! runs is a 503 that names the machine. There is never half a list.

#[cfg(test)]
mod answer_tests;
mod around;
mod events;
#[cfg(test)]
pub(crate) mod fake;
mod holder;
mod lists;
mod reply;
#[cfg(test)]
mod tests;

use std::time::Duration;

use dhow_model::Role;
use serde_json::Value;

use crate::ask::{Answer, Question, Unanswered};
use crate::engines::Engines;
use crate::pool::Pools;
use crate::route::Whole;
use crate::trace::TraceId;
use crate::wire::head::Request;

pub(crate) use events::events;
pub(crate) use holder::{Holders, Thing, holders};

/// How long an engine may take over a list.
const LIST_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take to count bytes on its disk, or to delete.
const DISK_LIMIT: Duration = Duration::from_secs(600);

/// What the questions of one request go to.
#[derive(Clone, Copy)]
pub(crate) struct Machines<'a> {
    pub(crate) engines: &'a dyn Engines,
    pub(crate) pools: &'a Pools,
    pub(crate) trace: &'a TraceId,
}

/// Asks both engines and makes one answer of theirs: a whole message, after which the connection can be kept if the client
/// wants to. To be called only while both machines run; the events are [`events`]' to answer.
pub(crate) async fn answer(what: Whole, request: &Request, machines: Machines<'_>) -> Vec<u8> {
    let limit = if what == Whole::DiskUsage || is_prune(what) { DISK_LIMIT } else { LIST_LIMIT };
    let ask = |role| {
        let question = Question::new(&request.method, &request.target, machines.trace).within(limit);
        async move { question.ask(machines.pools.of(role)).await }
    };
    let (native, foreign) = tokio::join!(ask(Role::Native), ask(Role::Foreign));
    let outcome = if is_prune(what) {
        prune(what, native, foreign)
    } else {
        let answers = around::complete(what, &request.target, (native, foreign), machines).await;
        combine(what, &request.target, answers)
    };
    outcome.unwrap_or_else(|refused| refused).bytes(request.keep_alive, machines.trace)
}

type Asked = Result<Answer, Unanswered>;

/// The two answers as one.
fn combine(
    what: Whole,
    target: &str,
    (native, foreign): (Asked, Asked),
) -> Result<reply::Reply, reply::Reply> {
    let native = succeeded(Role::Native, native)?;
    let foreign = succeeded(Role::Foreign, foreign)?;
    let merged = lists::merge(what, target, read(Role::Native, &native)?, read(Role::Foreign, &foreign)?);
    Ok(reply::Reply::like(native, &merged))
}

/// What both have deleted. A failure says what the other engine did all the same, since that cannot be taken back.
fn prune(what: Whole, native: Asked, foreign: Asked) -> Result<reply::Reply, reply::Reply> {
    let native = succeeded(Role::Native, native).map_err(|refused| (Role::Native, refused));
    let foreign = succeeded(Role::Foreign, foreign).map_err(|refused| (Role::Foreign, refused));
    match (native, foreign) {
        (Ok(native), Ok(foreign)) => combine(what, "", (Ok(native), Ok(foreign))),
        (Err((_, refused)), Err(_)) => Err(refused),
        (Ok(done), Err((failed, refused))) | (Err((failed, refused)), Ok(done)) => {
            let deleted: Value = serde_json::from_slice(&done.body).unwrap_or_default();
            let why = refused.message();
            let did = lists::deleted(&deleted);
            Err(refused.saying(format!("machine `{failed}`: {why}; the other machine {did}")))
        }
    }
}

/// An answer that holds a result; otherwise what the client is told instead.
fn succeeded(role: Role, asked: Asked) -> Result<Answer, reply::Reply> {
    match asked {
        Ok(answer) if answer.status == 200 => Ok(answer),
        Ok(refused) => Err(reply::Reply::as_is(refused)),
        Err(why) => Err(reply::Reply::unreachable(role, &why)),
    }
}

fn read(role: Role, answer: &Answer) -> Result<Value, reply::Reply> {
    serde_json::from_slice(&answer.body).map_err(|why| reply::Reply::unreadable(role, &why))
}

/// For `fuzz/`: what two engines have said, as the client gets it.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn of_two(what: Whole, native: &[u8], foreign: &[u8], trace: &TraceId) -> Vec<u8> {
    let said = |body: &[u8]| Ok(Answer { status: 200, headers: Vec::new(), body: body.to_vec() });
    let asked = (said(native), said(foreign));
    combine(what, "", asked).unwrap_or_else(|refused| refused).bytes(true, trace)
}

fn is_prune(what: Whole) -> bool {
    use Whole::{PruneBuilds, PruneContainers, PruneImages, PruneNetworks, PruneVolumes};
    matches!(what, PruneContainers | PruneImages | PruneVolumes | PruneNetworks | PruneBuilds)
}
