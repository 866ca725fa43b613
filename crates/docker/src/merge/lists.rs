//! Two engines' answers to one question, merged: pure functions over JSON in which the order of keys and elements is kept.
//!
//! Merging with an engine that has nothing gives the other's answer back. Every element of both appears once.

use std::collections::{HashMap, HashSet};

use dhow_model::query::query_value;
use serde_json::{Map, Value};

use crate::route::Whole;

/// Dockerd makes these for itself in every engine; nobody means the foreign one's by name.
const PREDEFINED: [&str; 3] = ["bridge", "host", "none"];

/// The merged body. `target` is the request's, of which `limit` counts for the whole list.
pub(super) fn merge(what: Whole, target: &str, native: Value, foreign: Value) -> Value {
    match (what, native, foreign) {
        (Whole::Containers, Value::Array(native), Value::Array(foreign)) => {
            let foreign = without_twins(&native, foreign);
            let mut all = newest_first(native, foreign);
            if let Some(limit) = limit(target) {
                all.truncate(limit);
            }
            Value::Array(all)
        }
        (Whole::Images, Value::Array(native), Value::Array(foreign)) => {
            let (native, foreign) = same_images(native, foreign);
            Value::Array(newest_first(native, foreign))
        }
        (Whole::Networks, Value::Array(native), Value::Array(foreign)) => {
            Value::Array(networks(native, foreign))
        }
        (Whole::Volumes, Value::Object(native), Value::Object(foreign)) => {
            Value::Object(volumes(native, foreign))
        }
        (Whole::Info, Value::Object(native), Value::Object(foreign)) => Value::Object(info(native, &foreign)),
        // `null` stands for an empty list.
        (Whole::Containers | Whole::Images | Whole::Networks, Value::Null, other)
        | (Whole::Containers | Whole::Images | Whole::Networks, other, Value::Null) => other,
        (_, native, foreign) => total(native, foreign),
    }
}

/// What an engine's prune did, in words: "has deleted 2 objects and reclaimed 64 bytes".
pub(super) fn deleted(report: &Value) -> String {
    let lists = report.as_object().into_iter().flat_map(Map::values).filter_map(Value::as_array);
    let count: usize = lists.map(Vec::len).sum();
    let objects = if count == 1 { "object" } else { "objects" };
    match report.get("SpaceReclaimed").and_then(Value::as_u64) {
        Some(bytes) => format!("has deleted {count} {objects} and reclaimed {bytes} bytes"),
        None => format!("has deleted {count} {objects}"),
    }
}

/// Two lists, each in its engine's order, by `Created` with the newest first, as dockerd sorts containers and images;
/// native's come first among those of the same second.
fn newest_first(native: Vec<Value>, foreign: Vec<Value>) -> Vec<Value> {
    let created = |value: &Value| value.get("Created").and_then(Value::as_i64);
    let mut all = Vec::with_capacity(native.len() + foreign.len());
    let (mut native, mut foreign) = (native.into_iter().peekable(), foreign.into_iter().peekable());
    while let (Some(one), Some(other)) = (native.peek(), foreign.peek()) {
        let next = if created(one) >= created(other) { native.next() } else { foreign.next() };
        all.extend(next);
    }
    all.extend(native);
    all.extend(foreign);
    all
}

/// `foreign` without what has an ID that is in `native`.
fn without_twins(native: &[Value], foreign: Vec<Value>) -> Vec<Value> {
    let known: Vec<&str> = native.iter().filter_map(id).collect();
    foreign.into_iter().filter(|value| id(value).is_none_or(|id| !known.contains(&id))).collect()
}

fn id(value: &Value) -> Option<&str> {
    value.get("Id").and_then(Value::as_str)
}

/// `limit=` of a container list; dockerd takes what is not a positive number for no limit.
fn limit(target: &str) -> Option<usize> {
    let query = target.split_once('?')?.1;
    let limit = query_value(query, "limit").ok()??;
    limit.parse::<usize>().ok().filter(|limit| *limit > 0)
}

/// An image that both engines have is one image (its ID is a digest of it): shown once, as native shows it, with the names of
/// both. Equal names on different IDs (one name, two platforms) stay two images.
fn same_images(mut native: Vec<Value>, foreign: Vec<Value>) -> (Vec<Value>, Vec<Value>) {
    let places: HashMap<String, usize> =
        native.iter().enumerate().filter_map(|(at, image)| Some((id(image)?.to_owned(), at))).collect();
    let mut further = Vec::with_capacity(foreign.len());
    for image in foreign {
        let twin = id(&image).and_then(|id| places.get(id)).and_then(|at| native.get_mut(*at));
        let Some(Value::Object(twin)) = twin else {
            further.push(image);
            continue;
        };
        for names in ["RepoTags", "RepoDigests"] {
            if let (Some(mine), Some(theirs)) = (twin.get_mut(names), image.get(names)) {
                add_names(mine, theirs);
            }
        }
        // -1: not counted.
        let count = |of: &Value| of.get("Containers").and_then(Value::as_i64).filter(|count| *count >= 0);
        let counts = (twin.get("Containers").and_then(Value::as_i64).filter(|n| *n >= 0), count(&image));
        if let (Some(mine), Some(theirs)) = counts {
            twin.insert("Containers".to_owned(), mine.saturating_add(theirs).into());
        }
    }
    (native, further)
}

/// Adds the names that are not there yet; an image without one has `<none>` or an empty list.
fn add_names(mine: &mut Value, theirs: &Value) {
    let real = |name: &&Value| name.as_str().is_some_and(|name| !name.starts_with("<none>"));
    let new: Vec<Value> = theirs.as_array().into_iter().flatten().filter(real).cloned().collect();
    if new.is_empty() {
        return;
    }
    let mut names: Vec<Value> = mine.as_array().into_iter().flatten().filter(real).cloned().collect();
    let new: Vec<Value> = new.into_iter().filter(|name| !names.contains(name)).collect();
    names.extend(new);
    *mine = Value::Array(names);
}

/// Both engines' networks. `bridge`, `host` and `none` are in both: native's are shown, and the foreign one's only where a
/// filter left native's out.
fn networks(mut native: Vec<Value>, foreign: Vec<Value>) -> Vec<Value> {
    let name = |network: &Value| network.get("Name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let shown: Vec<String> =
        native.iter().map(name).filter(|name| PREDEFINED.contains(&name.as_str())).collect();
    native.extend(foreign.into_iter().filter(|network| !shown.contains(&name(network))));
    native
}

/// Both engines' volumes. A volume's name is its key in Docker's API, and calls by name reach native's first: a name that
/// both have is shown once, as native's, and a warning says that there is another, since whoever prunes or removes
/// by that name should know.
fn volumes(mut native: Map<String, Value>, foreign: Map<String, Value>) -> Map<String, Value> {
    let name = |volume: &Value| volume.get("Name").and_then(Value::as_str).map(str::to_owned);
    let known: HashSet<String> = elements(native.get("Volumes")).filter_map(name).collect();
    let mut twins = Vec::new();
    let mut further = Vec::new();
    for volume in elements(foreign.get("Volumes")) {
        match name(volume).filter(|name| known.contains(name)) {
            Some(twin) => twins.push(twin),
            None => further.push(volume.clone()),
        }
    }
    let said = twins.iter().map(|twin| {
        format!("volume {twin} is in both machines; the one in machine `native` is shown").into()
    });
    let warnings: Vec<Value> = elements(foreign.get("Warnings")).cloned().chain(said).collect();
    for (key, more) in [("Volumes", further), ("Warnings", warnings)] {
        if !more.is_empty() || !native.contains_key(key) {
            let mut all: Vec<Value> = elements(native.get(key)).cloned().collect();
            all.extend(more);
            native.insert(key.to_owned(), Value::Array(all));
        }
    }
    native
}

fn elements(list: Option<&Value>) -> impl Iterator<Item = &Value> {
    list.and_then(Value::as_array).into_iter().flatten()
}

/// Native's description of itself, with what both hold counted together.
fn info(mut native: Map<String, Value>, foreign: &Map<String, Value>) -> Map<String, Value> {
    for count in ["Containers", "ContainersRunning", "ContainersPaused", "ContainersStopped", "Images"] {
        if let (Some(mine), Some(theirs)) = (native.get_mut(count), foreign.get(count)) {
            *mine = total(mine.take(), theirs.clone());
        }
    }
    native
}

/// Numbers added, lists joined, objects key by key; where the two do not fit, native's. What `/system/df` and the prunes
/// answer is made of these, in every version of the API.
fn total(native: Value, foreign: Value) -> Value {
    match (native, foreign) {
        (Value::Number(one), Value::Number(other)) => sum(&one, &other),
        (Value::Array(mut one), Value::Array(other)) => {
            one.extend(other);
            Value::Array(one)
        }
        (Value::Object(mut one), Value::Object(other)) => {
            for (key, theirs) in other {
                match one.get_mut(&key) {
                    Some(mine) => *mine = total(mine.take(), theirs),
                    None => {
                        one.insert(key, theirs);
                    }
                }
            }
            Value::Object(one)
        }
        (Value::Null, other) => other,
        (one, _) => one,
    }
}

fn sum(one: &serde_json::Number, other: &serde_json::Number) -> Value {
    match (one.as_u64(), other.as_u64(), one.as_i64(), other.as_i64()) {
        (Some(one), Some(other), ..) => one.saturating_add(other).into(),
        (_, _, Some(one), Some(other)) => one.saturating_add(other).into(),
        _ => (one.as_f64().unwrap_or_default() + other.as_f64().unwrap_or_default()).into(),
    }
}
