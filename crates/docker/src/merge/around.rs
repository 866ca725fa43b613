//! `since=` and `before=` in filters name a container or an image, which only one engine has: the other one refuses to list
//! anything. It is asked again without them, and its list is cut by the time at which the named thing was made.

use dhow_model::Role;
use dhow_model::query::query_value;
use serde_json::Value;

use super::{Asked, LIST_LIMIT, Machines};
use crate::ask::Question;
use crate::route::Whole;
use crate::route::encoded;

/// The two filters.
const NAMES: [&str; 2] = ["since", "before"];

/// The answers, with that of an engine which does not know the named thing made good.
pub(super) async fn complete(
    what: Whole,
    target: &str,
    answers: (Asked, Asked),
    machines: Machines<'_>,
) -> (Asked, Asked) {
    let status = |asked: &Asked| asked.as_ref().map_or(0, |answer| answer.status);
    let (knows, other) = match (status(&answers.0), status(&answers.1)) {
        (200, 404) => (Role::Native, Role::Foreign),
        (404, 200) => (Role::Foreign, Role::Native),
        _ => return answers,
    };
    let Some(around) = Around::of(what, target) else { return answers };
    let Some(again) = around.ask(knows, other, machines).await else { return answers };
    match other {
        Role::Native => (again, answers.1),
        Role::Foreign => (answers.0, again),
    }
}

/// A list around something.
#[derive(Debug, PartialEq, Eq)]
struct Around {
    /// Where one thing of this list is described: before and behind its name.
    path: (&'static str, &'static str),
    /// The target without the two filters, and without a limit, which counts after them.
    target: String,
    since: Vec<String>,
    before: Vec<String>,
}

impl Around {
    fn of(what: Whole, target: &str) -> Option<Self> {
        let path = match what {
            Whole::Containers => ("/containers/", "/json"),
            Whole::Images => ("/images/", "/json"),
            _ => return None,
        };
        let (list, query) = target.split_once('?')?;
        let filters = query_value(query, "filters").ok()??;
        let mut filters: Value = serde_json::from_str(&filters).ok()?;
        let [since, before] = NAMES.map(|name| filters.as_object_mut()?.shift_remove(name));
        let (since, before) = (names(since), names(before));
        if since.is_empty() && before.is_empty() {
            return None;
        }
        let key = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
        let limited = query.split('&').any(|pair| key(pair) == "limit");
        let kept = query.split('&').filter(|pair| !["filters", "limit", ""].contains(&key(pair).as_str()));
        let mut pairs: Vec<String> = kept.map(str::to_owned).collect();
        pairs.push(format!("filters={}", encoded(&filters.to_string())));
        // A limit shows containers that have stopped, too.
        pairs.extend(limited.then(|| "all=1".to_owned()));
        Some(Self { path, target: format!("{list}?{}", pairs.join("&")), since, before })
    }

    /// The list of `other`, cut where the engine that knows the named things says; `None` if it does not.
    async fn ask(&self, knows: Role, other: Role, machines: Machines<'_>) -> Option<Asked> {
        let mut since = None;
        for name in &self.since {
            since = since.max(Some(self.made(name, knows, machines).await?));
        }
        let mut before: Option<i64> = None;
        for name in &self.before {
            let made = self.made(name, knows, machines).await?;
            before = Some(before.map_or(made, |other| other.min(made)));
        }
        let question = Question::get(&self.target, machines.trace).within(LIST_LIMIT);
        let asked = question.ask(machines.pools.of(other)).await;
        Some(asked.map(|mut answer| {
            if let Ok(Value::Array(mut list)) = serde_json::from_slice(&answer.body) {
                list.retain(|element| is_between(element, since, before));
                answer.body = Value::Array(list).to_string().into_bytes();
            }
            answer
        }))
    }

    /// When a thing was made.
    async fn made(&self, name: &str, knows: Role, machines: Machines<'_>) -> Option<i64> {
        let target = format!("{}{}{}", self.path.0, encoded(name), self.path.1);
        let answer = Question::get(&target, machines.trace).ask(machines.pools.of(knows)).await.ok()?;
        let read: Value = serde_json::from_slice(&answer.body).ok()?;
        seconds(read.get("Created")?.as_str()?)
    }
}

/// Lists tell the time in whole seconds; what was made in the same one is shown rather than hidden.
fn is_between(element: &Value, since: Option<i64>, before: Option<i64>) -> bool {
    element.get("Created").and_then(Value::as_i64).is_none_or(|made| {
        since.is_none_or(|since| made >= since) && before.is_none_or(|before| made <= before)
    })
}

/// A filter's values, in either of the API's notations: `["a"]` or `{"a":true}`.
fn names(filter: Option<Value>) -> Vec<String> {
    match filter {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::Object(names)) => names
            .into_iter()
            .filter(|(_, wanted)| *wanted == Value::Bool(true))
            .map(|(name, _)| name)
            .collect(),
        _ => Vec::new(),
    }
}

/// Seconds since 1970 of a time as RFC 3339 writes it.
fn seconds(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        digits.parse::<i64>().ok()
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let time = number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let rest = text.get(19..)?;
    let zone = rest.trim_start_matches(|byte: char| byte == '.' || byte.is_ascii_digit());
    let offset = match zone.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), ..] if zone.len() == 6 => {
            let at = text.len() - 6;
            let offset = number(at + 1, at + 3)? * 3600 + number(at + 4, at + 6)? * 60;
            if *sign == b'+' { offset } else { -offset }
        }
        _ => return None,
    };
    // Days since 1970 by the civil calendar, in years that begin with March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 1
        - 719_468;
    Some(days * 86_400 + time - offset)
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    /// 3.7: the times that dockerd writes, in its own zone or another.
    #[test]
    fn times_are_read() {
        let table = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-22T09:32:02.791126262Z", Some(1_795_339_922)),
            ("2026-11-22T10:32:02+01:00", Some(1_795_339_922)),
            ("2026-11-22T02:02:02.5-07:30", Some(1_795_339_922)),
            ("2000-02-29T23:59:59Z", Some(951_868_799)),
            ("0001-01-01T00:00:00Z", Some(-62_135_596_800)),
            ("2026-11-22T09:32:02", None),
            ("2026-11-22", None),
            ("", None),
            ("2026-11-22T09:32:02+é0:00", None),
        ];
        for (text, expected) in table {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    /// 3.7: the other engine is asked for the same list without what it does not know.
    #[test]
    fn a_list_is_asked_for_without_its_borders() {
        let around = |target: &str| Around::of(Whole::Containers, target);
        let found = around(
            "/v1.44/containers/json?filters=%7B%22since%22%3A%5B%22a%22%5D%2C%22label%22%3A%5B%22x%22%5D%7D&limit=2&size=1",
        );
        let found = found.unwrap();
        assert_eq!(
            found.target,
            "/v1.44/containers/json?size=1&filters=%7B%22label%22:%5B%22x%22%5D%7D&all=1"
        );
        assert_eq!((found.since, found.before), (vec!["a".to_owned()], Vec::new()));
        let older = around("/containers/json?filters=%7B%22before%22%3A%7B%22a%22%3Atrue%7D%7D").unwrap();
        assert_eq!(
            (older.target.as_str(), older.before),
            ("/containers/json?filters=%7B%7D", vec!["a".to_owned()])
        );
        for other in [
            "/containers/json",
            "/containers/json?filters=x",
            "/containers/json?filters=%7B%22label%22%3A%5B%5D%7D",
        ] {
            assert_eq!(around(other), None, "{other}");
        }
        assert_eq!(Around::of(Whole::Volumes, "/volumes?filters=%7B%22since%22%3A%5B%22a%22%5D%7D"), None);
    }
}
