//! One engine's own answers: which container or exec it has, all of its containers, and its events.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use dhow_model::Role;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::time::timeout;

use super::{Change, Entry, Fit, Listed, bare, change};
use crate::ask::{Answer, Question, Reply, Unanswered};
use crate::error::Broken;
use crate::pool::Pool;
use crate::trace::TraceId;

/// Longest wait for an engine to say whether it has something.
const LIMIT: Duration = Duration::from_secs(5);
/// Longest wait for a list, which has every container in it.
const LIST_LIMIT: Duration = Duration::from_secs(30);
/// Largest description of a container that is read, bytes.
const MAX_CONTAINER: usize = 8 << 20;
/// Largest event that is read, bytes: a container's labels are in it.
const MAX_EVENT: usize = 4 << 20;
/// Most containers of a list, and most names of one, that are read: more than the table takes, so that it knows what it lacks.
/// A guest could otherwise make ten times as much memory of its text.
const MAX_LISTED: usize = 40_000;
const MAX_NAMES: usize = 16;
/// Seconds before an engine's own time from which its events are asked for, so that none falls between its answer's head,
/// which it sends first, and its subscription.
const OVERLAP: u64 = 2;

/// What an engine said of a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// It has it.
    Has(Fit, Entry),
    /// It has it not.
    HasNot,
    /// It cannot be asked.
    Nothing(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    id: String,
    name: String,
}

#[derive(Deserialize)]
struct Executed {
    #[serde(rename = "ContainerID")]
    container: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InList {
    id: String,
    names: Option<AtMost<String, MAX_NAMES>>,
    labels: Option<Labels>,
}

/// The first so many of a list; the rest is read and dropped.
#[derive(Debug)]
struct AtMost<T, const N: usize>(Vec<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for AtMost<T, N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Few<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Few<T, N> {
            type Value = AtMost<T, N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut few = Vec::new();
                while few.len() < N {
                    match list.next_element()? {
                        Some(one) => few.push(one),
                        None => return Ok(AtMost(few)),
                    }
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(AtMost(few))
            }
        }
        from.deserialize_seq(Few(PhantomData))
    }
}

#[derive(Deserialize, Default)]
struct Labels {
    #[serde(rename = "com.docker.compose.project")]
    project: Option<String>,
}

#[derive(Deserialize)]
struct Problem {
    message: String,
}

/// Asks whether the engine has a container that it would take for this reference.
pub(super) async fn container(pool: &Pool, reference: &str, trace: &TraceId) -> Said {
    if !may_name(reference) {
        return Said::HasNot;
    }
    let target = format!("/containers/{reference}/json");
    match ask(pool, &target, trace).await {
        Ok(answer) if answer.status == 200 => match serde_json::from_slice::<Described>(&answer.body) {
            Ok(described) => described.said(pool.role(), reference),
            Err(why) => Said::Nothing(format!("its description of the container cannot be read: {why}")),
        },
        Ok(answer) if answer.status == 404 => Said::HasNot,
        Ok(answer) if is_several(&answer) => {
            Said::Has(Fit::Prefix, Entry { role: pool.role(), id: None, name: None })
        }
        other => Said::Nothing(problem(other)),
    }
}

/// Asks whether the engine has this exec; with the container's ID.
pub(super) async fn exec(pool: &Pool, exec: &str, trace: &TraceId) -> (Said, Option<String>) {
    if !may_name(exec) || exec.contains('/') {
        return (Said::HasNot, None);
    }
    let target = format!("/exec/{exec}/json");
    match ask(pool, &target, trace).await {
        Ok(answer) if answer.status == 200 => {
            let entry = Entry { role: pool.role(), id: Some(exec.into()), name: None };
            let container = serde_json::from_slice::<Executed>(&answer.body).ok().map(|it| it.container);
            (Said::Has(Fit::Id, entry), container)
        }
        Ok(answer) if answer.status == 404 => (Said::HasNot, None),
        // Its container stands still or is restarting, which dockerd says only of an exec that it has.
        Ok(answer) if answer.status == 409 => {
            (Said::Has(Fit::Id, Entry { role: pool.role(), id: Some(exec.into()), name: None }), None)
        }
        other => (Said::Nothing(problem(other)), None),
    }
}

/// All containers.
pub(super) async fn list(pool: &Pool, trace: &TraceId) -> Result<Vec<Listed>, String> {
    match Question::get("/containers/json?all=1", trace).within(LIST_LIMIT).ask(pool).await {
        Ok(answer) if answer.status == 200 => {
            let list: AtMost<InList, MAX_LISTED> = serde_json::from_slice(&answer.body)
                .map_err(|why| format!("its list cannot be read: {why}"))?;
            Ok(list.0.into_iter().map(InList::listed).collect())
        }
        other => Err(problem(other)),
    }
}

/// The news of one engine, as they come.
pub(super) struct Events<'p> {
    reply: Reply<'p>,
    /// What came of an event whose end is still to come.
    begun: Vec<u8>,
}

impl<'p> Events<'p> {
    /// Subscribes. The latest seconds are told once more.
    pub(super) async fn open(pool: &'p Pool, trace: &TraceId) -> Result<Self, String> {
        let ping = Question::get("/_ping", trace).within(LIMIT).ask(pool).await;
        let since = match &ping {
            Ok(answer) => answer.header("Date").and_then(seconds).map(|now| now.saturating_sub(OVERLAP)),
            Err(_) => return Err(problem(ping)),
        };
        let since = since.map(|since| format!("since={since}&")).unwrap_or_default();
        let target = format!("/events?{since}filters={}", change::FILTERS);
        let reply = Question::get(&target, trace).within(LIMIT).open(pool).await;
        match reply {
            Ok(reply) if reply.status == 200 => Ok(Self { reply, begun: Vec::new() }),
            Ok(reply) => Err(format!("it answered {} instead of its events", reply.status)),
            Err(why) => Err(why.to_string()),
        }
    }

    /// The next of them, several at once where they came so; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Change>>, String> {
        let Some(piece) = self.reply.next().await.map_err(|why: Broken| why.to_string())? else {
            return Ok(None);
        };
        self.begun.extend_from_slice(&piece);
        let whole = self.begun.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = self.begun[..whole].split(|byte| *byte == b'\n');
        let changes = lines.filter_map(Change::read).collect();
        self.begun.drain(..whole);
        if self.begun.len() > MAX_EVENT {
            return Err(format!("one of its events is larger than {MAX_EVENT} bytes"));
        }
        Ok(Some(changes))
    }
}

impl InList {
    fn listed(self) -> Listed {
        let project = self.labels.unwrap_or_default().project;
        Listed { id: self.id, names: self.names.map(|names| names.0).unwrap_or_default(), project }
    }
}

impl Described {
    fn said(self, role: Role, reference: &str) -> Said {
        let fit = if self.id == reference {
            Fit::Id
        } else if bare(&self.name) != bare(reference) && self.id.starts_with(reference) {
            Fit::Prefix
        } else {
            Fit::Name
        };
        Said::Has(fit, Entry { role, id: Some(self.id.as_str().into()), name: Some(bare(&self.name).into()) })
    }
}

/// Whether a container could have this name or ID, a link's `parent/alias` too: what else a client may send would be another
/// question in the path of ours.
fn may_name(reference: &str) -> bool {
    bare(reference).split('/').all(|part| {
        part.starts_with(|first: char| first.is_ascii_alphanumeric())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
    })
}

/// Asks with a limit that holds for the dialling too: a machine that is on its way up is not waited for.
async fn ask(pool: &Pool, target: &str, trace: &TraceId) -> Result<Answer, Unanswered> {
    let question = Question::get(target, trace).within(LIMIT).at_most(MAX_CONTAINER);
    timeout(LIMIT, question.ask(pool)).await.unwrap_or(Err(Unanswered::Late(LIMIT)))
}

/// Dockerd's complaint that several containers begin with the digits given.
fn is_several(answer: &Answer) -> bool {
    serde_json::from_slice::<Problem>(&answer.body)
        .is_ok_and(|problem| problem.message.to_ascii_lowercase().contains("multiple ids found"))
}

fn problem(answer: Result<Answer, Unanswered>) -> String {
    match answer {
        Ok(answer) => match serde_json::from_slice::<Problem>(&answer.body) {
            Ok(problem) => format!("it answered {}: {}", answer.status, problem.message),
            Err(_) => format!("it answered {}", answer.status),
        },
        Err(why) => why.cause(),
    }
}

/// Seconds since 1970 of a `Date` header: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7; no server sends the old forms).
fn seconds(date: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = date.split(' ').skip(1);
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok().filter(|year| (1970..10_000).contains(year))?;
    let mut clock = words.next()?.split(':').map(str::parse::<u64>);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    // Years that begin in March put the leap day at their end; 719_468 days lie between the year 0 so counted and 1970.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_header_is_read_as_seconds() {
        for (date, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some(1_709_251_199)),
            ("Fri, 01 Mar 2024 00:00:00 GMT", Some(1_709_251_200)),
            ("", None),
            ("Sun, 06 Nov 1066 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 noon GMT", None),
        ] {
            assert_eq!(seconds(date), expected, "{date}");
        }
    }

    /// 2.2: an engine is asked only what can name a container there, and nothing that would be another path.
    #[test]
    fn only_what_can_name_a_container_is_put_into_a_path() {
        for good in ["web", "/web", "0a1b", "web_1.x-y", "parent/alias", "/parent/alias"] {
            assert!(may_name(good), "{good}");
        }
        for bad in
            ["", "/", "..", "../info", "a/../b", "a//b", "a b", "a?b", "a#b", "a%2f", "-a", "é", "a\r\n"]
        {
            assert!(!may_name(bad), "{bad}");
        }
    }

    /// 2.5: a list of any length takes bounded memory.
    #[test]
    fn a_list_is_read_up_to_its_bound() {
        let read = |text: &str| serde_json::from_str::<AtMost<String, 2>>(text).map(|few| few.0);
        assert_eq!(read("[]").unwrap(), Vec::<String>::new());
        assert_eq!(read(r#"["a","b"]"#).unwrap(), ["a", "b"]);
        assert_eq!(read(r#"["a","b","c",{"d":[]}]"#).unwrap(), ["a", "b"]);
        assert!(read(r#"["a","b","c""#).is_err());
        assert!(read("{}").is_err());
    }

    /// 2.2: which of dockerd's rules made it answer.
    #[test]
    fn an_engines_answer_tells_how_well_the_reference_fits() {
        let said = |reference: &str| match (Described { id: "abcdef".into(), name: "/web".into() })
            .said(Role::Native, reference)
        {
            Said::Has(fit, _) => fit,
            _ => unreachable!(),
        };
        assert_eq!(said("abcdef"), Fit::Id);
        assert_eq!(said("abc"), Fit::Prefix);
        for name in ["web", "/web", "parent/alias"] {
            assert_eq!(said(name), Fit::Name);
        }
    }
}
