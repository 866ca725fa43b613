//! Targets, and JSON that is read: where a request goes, what a create is of, lists that are merged, events, and what the face says
//! itself.

use std::collections::BTreeSet;
use std::fmt;

use dhow_model::placement::Decision;
use dhow_model::query::query_value;
use dhow_model::{Arch, Platform, Role};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::answer::Said;
use crate::binds::Binds;
use crate::decisions;
use crate::description::Description;
use crate::merge;
use crate::registry::{Change, Lookup, Registry};
use crate::route::{Action, Route, Whole, encoded, query, route};
use crate::trace::TraceId;
use crate::wire::body::Body;
use crate::wire::head;

/// A request target, with a method by the first byte: its route, and the platforms in its query.
pub fn target(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let Ok(target) = std::str::from_utf8(rest) else { return };
    let method = ["GET", "POST", "PUT", "DELETE", "HEAD"][usize::from(*first) % 5];
    match route(method, target) {
        Route::Container { reference, action } => {
            assert!(!reference.is_empty());
            let plain = reference.split('/').all(|part| !matches!(part, "" | "." | ".."));
            if plain && matches!(action, Action::Start) {
                let again = route("POST", &format!("/v1.44/containers/{}/start?x", encoded(&reference)));
                assert_eq!(again, Route::Container { reference, action });
            }
        }
        Route::Exec { id, .. } => assert!(!id.is_empty()),
        Route::Image { reference, .. } | Route::Network { reference, .. } => assert!(!reference.is_empty()),
        _ => {}
    }
    let list = query_value(query(target), "platform").ok().flatten().unwrap_or_default();
    for arch in Arch::ALL {
        let one = Platform::parse(&list, arch);
        if let Ok(platform) = &one {
            assert_eq!(Platform::parse(&platform.to_string(), arch).as_ref(), Ok(platform));
            assert_eq!(Platform::parse_list(&list, arch), Ok(vec![platform.clone()]));
        }
        let told = match Platform::parse_list(&list, arch) {
            Ok(platforms) => platforms.iter().map(ToString::to_string).collect(),
            Err(why) => why.to_string(),
        };
        assert!(told.len() < 6000 && !told.chars().any(char::is_control), "{told:?}");
    }
}

/// The body of a create, against Go's rules.
pub fn create(bytes: &[u8]) {
    // What directories are read is told by the tests of `binds`.
    let read = Description::read(bytes).ok().map(|read| Description { binds: Binds::default(), ..read });
    if let Some(expected) = by_gos_rules(bytes) {
        assert_eq!(read, Some(expected));
    }
}

/// The body of a call of BuildKit's API.
pub fn solve(bytes: &[u8]) {
    crate::buildkit::fuzz(bytes);
}

/// Two engines' lists with a zero byte between; the first byte says of what.
pub fn lists(bytes: &[u8]) {
    const KINDS: [Whole; 8] = [
        Whole::Containers,
        Whole::Images,
        Whole::Volumes,
        Whole::Networks,
        Whole::DiskUsage,
        Whole::Info,
        Whole::PruneContainers,
        Whole::PruneImages,
    ];
    let Some((first, rest)) = bytes.split_first() else { return };
    let what = KINDS[usize::from(*first) % KINDS.len()];
    let mut halves = rest.splitn(2, |byte| *byte == 0);
    let (native, foreign) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    let trace = TraceId::random();
    let written = merge::of_two(what, native, foreign, &trace);
    let Some(body) = whole_answer(&written, &trace) else { return };
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    let (Some(native), Some(foreign)) = (read(native), read(foreign)) else { return };
    let merged = read(body);
    assert!(merged.is_some(), "{what:?}: {}", String::from_utf8_lossy(body));
    if matches!(what, Whole::Containers | Whole::Images) && native.is_array() && foreign.is_array() {
        let all: BTreeSet<String> = ids(&native).union(&ids(&foreign)).cloned().collect();
        assert_eq!(ids(&merged.unwrap_or_default()), all, "{what:?}");
    }
}

/// Dockerd's events, a line each, from either engine in turn.
pub fn news(bytes: &[u8]) {
    let mut registry = Registry::new();
    let (mut created, mut executed) = (0, 0);
    for (n, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let Some(change) = Change::read(line) else { continue };
        let role = Role::ALL[n % 2];
        registry.apply(role, &change);
        match change {
            Change::Created { id, name, .. } => {
                created += 1;
                if let Some(name) = name.filter(|name| !name.is_empty()) {
                    let _lookup: Lookup = registry.lookup(&name);
                }
                let _lookup: Lookup = registry.lookup(&id);
            }
            Change::Renamed { name, .. } => {
                let _lookup: Lookup = registry.lookup(&name);
            }
            Change::ExecCreated { .. } => executed += 1,
            Change::Destroyed { id } => assert!(
                !matches!(registry.lookup(&id), Lookup::Found(entry) if entry.role == role && entry.id.as_deref() == Some(&id)),
                "{id} is still there"
            ),
            Change::Died { .. } | Change::ExecEnded { .. } => {}
        }
        assert!(registry.containers() <= created && registry.execs() <= executed);
    }
}

/// What the face says of itself, about anything: a reason in a header, and an error.
pub fn said(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let decision = Decision { role: Role::Foreign, translator: None, why: text.clone() };
    let trace = TraceId::random();
    for label in [decisions::label(&decision), decisions::refused(&text)] {
        let said = Said { status: 400, message: text.clone(), label: Some(label.clone()) };
        let written = said.bytes(true, &trace);
        let body = whole_answer(&written, &trace);
        let told = body.and_then(|body| serde_json::from_slice::<Value>(body).ok());
        assert_eq!(told.as_ref().and_then(|told| told["message"].as_str()), Some(text.as_str()));
        let headers = head::headers(&written);
        let labels = headers.iter().filter(|(name, _)| name == decisions::HEADER).map(|(_, value)| value);
        assert_eq!(labels.collect::<Vec<_>>(), [&label]);
        assert_eq!(headers.len(), 4, "{headers:?}");
    }
}

/// The body of an answer that must be one whole message.
fn whole_answer<'a>(written: &'a [u8], trace: &TraceId) -> Option<&'a [u8]> {
    let answer = head::answer(written, false, trace).ok().flatten();
    assert!(answer.is_some(), "{}", String::from_utf8_lossy(written));
    let answer = answer?;
    let body = &written[answer.len..];
    assert_eq!(answer.body, Body::Length(body.len() as u64));
    (answer.status == 200 || answer.status >= 400).then_some(body)
}

fn ids(list: &Value) -> BTreeSet<String> {
    let elements = list.as_array().into_iter().flatten();
    elements.filter_map(|element| element.get("Id")?.as_str().map(str::to_owned)).collect()
}

/// What dockerd would read: keys match whatever their case, `null` leaves a text as it is and empties a map, equal maps are
/// merged, and what is no UTF-8 becomes U+FFFD. `None` where dockerd would refuse it, or the oracle is not sure.
fn by_gos_rules(bytes: &[u8]) -> Option<Description> {
    let Pairs(pairs) = serde_json::from_str(&String::from_utf8_lossy(bytes)).ok()?;
    let (mut image, mut container, mut project) = (String::new(), String::new(), String::new());
    for (key, value) in pairs {
        let folded: String = key.chars().map(fold).collect();
        match (folded.as_str(), value) {
            ("image", Value::String(text)) => image = text,
            ("container", Value::String(text)) => container = text,
            ("image" | "container", Value::Null) => {}
            ("image" | "container", _) => return None,
            ("labels", Value::Null) => project.clear(),
            ("labels", Value::Object(labels)) => {
                if !labels.values().all(|value| value.is_string() || value.is_null()) {
                    return None;
                }
                match labels.get(dhow_model::COMPOSE_PROJECT) {
                    Some(Value::String(text)) => project.clone_from(text),
                    Some(_) => project.clear(),
                    None => {}
                }
            }
            ("labels", _) => return None,
            ("hostconfig", Value::Null) => {}
            ("hostconfig", Value::Object(host)) => {
                let directories = |key: &String| {
                    let folded: String = key.chars().map(fold).collect();
                    ["binds", "mounts"].contains(&folded.as_str())
                };
                if host.keys().any(directories) {
                    return None;
                }
            }
            ("hostconfig", _) => return None,
            _ => {}
        }
    }
    let some = |text: String| Some(text).filter(|text| !text.is_empty());
    Some(Description {
        image: some(image),
        project: some(project),
        container: some(container),
        binds: Binds::default(),
    })
}

/// As Go's `encoding/json` folds names: two letters beyond ASCII fold into it.
fn fold(letter: char) -> char {
    match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    }
}

/// An object's members in order, equal keys and all.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Members)
    }
}
