//! For which platforms an image is there (spec 1.2).

use dhow_model::{Placement, Platform, Role};
use serde::Deserialize;

use crate::ask::{Question, Unanswered};
use crate::merge::Machines;
use crate::route::encoded;

/// Largest description of an image that is read, bytes.
const MAX_IMAGE: usize = 8 << 20;

/// An image, as `GET /images/{name}/json` tells of it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

/// The platforms of an image in each engine that counts; none where it is absent, or not for Linux.
///
/// The native engine is asked even if its machine has to start for it, unless the foreign one has the image: the create would
/// start it all the same. The foreign one is asked if it runs.
///
/// # Errors
/// An engine did not say.
pub(crate) async fn platforms(
    image: &str,
    placement: Placement,
    machines: Machines<'_>,
) -> Result<Vec<(Role, Platform)>, Unanswered> {
    let running = machines.engines.running();
    let foreign_runs = placement == Placement::ForeignMachine && running.contains(&Role::Foreign);
    if !foreign_runs {
        return Ok(of(Role::Native, image, machines).await?.into_iter().collect());
    }
    let (native, foreign) = match running.contains(&Role::Native) {
        true => tokio::join!(of(Role::Native, image, machines), of(Role::Foreign, image, machines)),
        false => match of(Role::Foreign, image, machines).await {
            Ok(Some(found)) => (Ok(None), Ok(Some(found))),
            other => (of(Role::Native, image, machines).await, other),
        },
    };
    match (native?, foreign) {
        (native, Ok(foreign)) => Ok(native.into_iter().chain(foreign).collect()),
        // What the native engine has does not depend on the other.
        (Some(native), Err(_)) => Ok(vec![native]),
        (None, Err(why)) => Err(why),
    }
}

/// The platform of an image in one engine.
pub(crate) async fn of(
    role: Role,
    image: &str,
    machines: Machines<'_>,
) -> Result<Option<(Role, Platform)>, Unanswered> {
    let target = format!("/images/{}/json", encoded(image));
    let answer =
        Question::get(&target, machines.trace).at_most(MAX_IMAGE).ask(machines.pools.of(role)).await?;
    if answer.status != 200 {
        return Ok(None);
    }
    let read = serde_json::from_slice::<Described>(&answer.body).ok();
    let platform = read.and_then(|it| Platform::of_image(&it.os, &it.architecture, &it.variant).ok());
    Ok(platform.map(|platform| (role, platform)))
}
