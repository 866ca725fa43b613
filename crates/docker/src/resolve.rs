//! From a container's name or short ID to its canonical ID, by asking the engine (spec 3.4).

use crate::ask::Question;
use crate::pool::Pool;
use crate::route::encoded;
use crate::trace::TraceId;

/// Largest description of a container that is read.
const MAX_CONTENT: usize = 8 << 20;

/// Dockerd's answers that name a container: `inspect` and `create` both have it.
#[derive(serde::Deserialize)]
struct Named {
    #[serde(rename = "Id")]
    id: String,
}

/// The ID in dockerd's JSON.
pub(crate) fn id_in(content: &[u8]) -> Option<String> {
    serde_json::from_slice::<Named>(content).ok().map(|named| named.id).filter(|id| !id.is_empty())
}

/// Asks for the canonical ID. `None` if the engine knows no such container, or does not say: the call itself is
/// forwarded all the same, and dockerd's answer to it is what the client sees.
pub(crate) async fn canonical_id(pool: &Pool, reference: &str, trace: &TraceId) -> Option<String> {
    let target = format!("/containers/{}/json", encoded(reference));
    match Question::get(&target, trace).at_most(MAX_CONTENT).ask(pool).await {
        Ok(answer) if answer.status == 200 => id_in(&answer.body),
        Ok(_) => None,
        Err(why) => {
            tracing::debug!(%trace, reference, %why, "the container's ID was not resolved");
            None
        }
    }
}
