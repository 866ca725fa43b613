//! Whether two answers say the same: equal byte for byte, but for dates, IDs, process numbers and what each engine draws
//! by lot. An ID may differ, but it must differ in the same way everywhere: one of dockerd's is always the same one of
//! the other's.

use std::collections::HashMap;
use std::io::Read;
use std::sync::LazyLock;

use regex::Regex;

use crate::call::Answer;

/// What two dockerds never have in common. A group named `id` is followed through all answers.
static CHANGING: LazyLock<Regex> = LazyLock::new(|| {
    let kinds = [
        r"(?P<time>(?:19|20)\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?: ?(?:Z|UTC|[+-]\d\d:?\d\d)(?: UTC)?)?)",
        r"(?P<date>[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT)",
        r#"(?P<number>"(?:Pid|PID|NFd|NGoroutines|NEventsListener|Index|time|timeNano)":\d+)"#,
        r"(?P<unix>\b1[789]\d{8}(?:\d{9})?(?:\.\d+)?\b)",
        r"(?P<token>SWMTKN-1-[0-9a-z]+-[0-9a-z]+|SWMKEY-1-[A-Za-z0-9+/=]+)",
        r"(?P<certificate>-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----)",
        r#"(?P<subject>"(?:CertIssuerSubject|CertIssuerPublicKey)":"[^"]*")"#,
        r"(?P<uuid>\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b)",
        r"(?P<id>\b(?:[0-9a-f]{64}|[0-9a-f]{12}|[0-9a-z]{25})\b)",
        r#"(?P<lot>"/[a-z]+_[a-z]+\d*"|docker-import-\d+|\[::1\]:\d+|127\.0\.0\.1:\d{5}\b|\bversion=\d+)"#,
        r"(?P<ago>(?:Less than a second|About an? [a-z]+|\d+ (?:second|minute|hour)s?)(?: ago)?)",
        r"(?P<mac>\b02:42(?::[0-9a-f]{2}){4}\b)",
    ];
    Regex::new(&kinds.join("|")).unwrap()
});
static NUMBER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\b\d+(?:\.\d+)?(?:[a-zA-Z%]+\b)?").unwrap());

/// What a connection says that is closed without an answer.
const NOTHING: &str = "nothing but \"\"";
/// Headers that only the face adds.
const ADDED: [&str; 2] = ["X-Trace-Id", "X-Dhow-Placement"];

/// How much two answers may differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leave {
    /// dockerd gives this list in another order each time.
    pub order: bool,
    /// All numbers are measurements.
    pub numbers: bool,
}

/// The IDs of one side, and what each is on the other.
#[derive(Debug, Default)]
pub struct Alike {
    /// An answer made of two has a length that is known beforehand, where dockerd's own has chunks.
    framed_anew: bool,
    there: HashMap<String, String>,
    back: HashMap<String, String>,
}

impl Alike {
    /// `framed_anew`: the face may make one answer of two.
    pub fn new(framed_anew: bool) -> Self {
        Self { framed_anew, ..Self::default() }
    }

    /// What the two differ in.
    pub fn compare(&mut self, direct: &Answer, face: &Answer, leave: Leave) -> Result<(), String> {
        if direct.status == NOTHING && face.code() == 502 {
            // A handler of dockerd's that panics closes the connection without a word; the face has words for that (3.3).
            return Ok(());
        }
        if direct.status != face.status {
            return Err(format!(
                "{} {:?}, but {} {:?}",
                direct.status,
                shortened(direct),
                face.status,
                shortened(face)
            ));
        }
        if (direct.whole, face.whole) != (true, true) && direct.whole != face.whole {
            return Err(format!("whole: {}, but {}", direct.whole, face.whole));
        }
        if face.code() > 0 && face.header("X-Trace-Id").is_none() {
            return Err("the face's answer has no trace".to_owned());
        }
        let same_body = direct.body == face.body;
        let framing = |name: &str| ["Transfer-Encoding", "Content-Length"].contains(&name);
        let anew = self.framed_anew && direct.header("Content-Length").is_none();
        let head = |answer: &Answer| -> Vec<String> {
            let kept = answer
                .headers
                .iter()
                .filter(|(name, _)| !(ADDED.contains(&name.as_str()) || anew && framing(name)));
            kept.map(|(name, value)| match name.as_str() {
                "Date" => "Date".to_owned(),
                // It was checked against the body.
                "Content-Length" if !same_body => "Content-Length".to_owned(),
                "X-Docker-Container-Path-Stat" => format!("{name}: {}", decoded(value)),
                _ => format!("{name}: {value}"),
            })
            .collect()
        };
        self.texts(&head(direct).join("\n"), &head(face).join("\n"), false)
            .map_err(|why| format!("headers: {why}"))?;
        if same_body {
            return Ok(());
        }
        if direct.header("Content-Type") == Some("application/x-tar") {
            return self.texts(&listing(&direct.body), &listing(&face.body), false);
        }
        let (one, other) = (direct.text(), face.text());
        let outcome = self.texts(&one, &other, leave.numbers);
        if outcome.is_err() && leave.order {
            return self.texts(&in_order(&one), &in_order(&other), leave.numbers);
        }
        outcome
    }

    fn texts(&mut self, one: &str, other: &str, measured: bool) -> Result<(), String> {
        let mut pairs = Vec::new();
        Self::walk(one, other, measured, &mut pairs)?;
        // All or none: two texts that differ say nothing about their IDs.
        pairs.iter().try_for_each(|(one, other)| self.known(one, other))?;
        for (one, other) in pairs {
            self.back.insert(other.clone(), one.clone());
            self.there.insert(one, other);
        }
        Ok(())
    }

    /// Side by side: what is plain is equal, what changes is of one kind; the IDs are gathered.
    fn walk(one: &str, other: &str, measured: bool, pairs: &mut Vec<(String, String)>) -> Result<(), String> {
        let short = |id: &str| id.chars().take(12).collect::<String>();
        let (mut a, mut b) = (CHANGING.captures_iter(one), CHANGING.captures_iter(other));
        let (mut at_a, mut at_b) = (0, 0);
        loop {
            let (found_a, found_b) = (a.next(), b.next());
            let span = |found: &Option<regex::Captures<'_>>, text: &str| {
                found.as_ref().map_or((text.len(), text.len()), |it| {
                    (it.get(0).unwrap().start(), it.get(0).unwrap().end())
                })
            };
            let (span_a, span_b) = (span(&found_a, one), span(&found_b, other));
            let (plain_a, plain_b) = (&one[at_a..span_a.0], &other[at_b..span_b.0]);
            let same = || measured && NUMBER.replace_all(plain_a, "0") == NUMBER.replace_all(plain_b, "0");
            if plain_a != plain_b && !same() {
                return Err(format!(
                    "{:?}, but {:?}",
                    around(one, at_a, plain_a, plain_b),
                    around(other, at_b, plain_b, plain_a)
                ));
            }
            (at_a, at_b) = (span_a.1, span_b.1);
            match (found_a, found_b) {
                (None, None) => return Ok(()),
                (Some(a), Some(b)) => match (a.name("id"), b.name("id")) {
                    (Some(a), Some(b)) => pairs.push((short(a.as_str()), short(b.as_str()))),
                    (None, None) => {}
                    _ => return Err(format!("{:?}, but {:?}", &a[0], &b[0])),
                },
                (a, b) => {
                    return Err(format!(
                        "{:?}, but {:?}",
                        a.map(|a| a[0].to_owned()),
                        b.map(|b| b[0].to_owned())
                    ));
                }
            }
        }
    }

    fn known(&self, one: &String, other: &String) -> Result<(), String> {
        match (self.there.get(one), self.back.get(other)) {
            (Some(there), _) if there != other => {
                Err(format!("the ID {one} was {there} there and is {other} now"))
            }
            (_, Some(back)) if back != one => Err(format!("the ID {other} was {back} here and is {one} now")),
            _ => Ok(()),
        }
    }
}

/// The place where two texts part.
fn around<'a>(text: &'a str, from: usize, plain: &str, other: &str) -> &'a str {
    let same = plain.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let floor = |mut at: usize| {
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let at = from + same;
    &text[floor(at.saturating_sub(80))..floor((at + 160).min(text.len()))]
}

fn shortened(answer: &Answer) -> String {
    answer.text().chars().take(300).collect()
}

/// Every list within, its members in the order of what is left of them without IDs and times.
fn in_order(text: &str) -> String {
    fn sort(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Array(members) => {
                members.iter_mut().for_each(sort);
                members
                    .sort_by_cached_key(|member| CHANGING.replace_all(&member.to_string(), "").into_owned());
            }
            serde_json::Value::Object(members) => {
                members.values_mut().for_each(sort);
                // dockerd sorts maps by their keys, which are IDs here: a list of pairs, sorted by what they hold.
                if members.keys().next().is_some_and(|key| key.len() == 64) {
                    let pairs = members.iter().map(|(key, value)| serde_json::json!([key, value]));
                    *value = serde_json::Value::Array(pairs.collect());
                    sort(value);
                }
            }
            _ => {}
        }
    }
    if let Ok(mut value) = serde_json::from_str(text) {
        sort(&mut value);
        return value.to_string();
    }
    // Or a stream of objects, one a line, from workers beside each other.
    let mut lines: Vec<&str> = text.lines().collect();
    // What remains equal is in the order of its IDs: digests are the same on both sides.
    lines.sort_by_cached_key(|line| (CHANGING.replace_all(line, "").into_owned(), line.to_string()));
    lines.join("\n")
}

/// An archive's members, one a line, without their times.
fn listing(bytes: &[u8]) -> String {
    let mut archive = tar::Archive::new(bytes);
    let mut lines = Vec::new();
    for entry in archive.entries().unwrap() {
        let Ok(mut entry) = entry else { return format!("{lines:?}, then no archive") };
        let mut content = Vec::new();
        let read = entry.read_to_end(&mut content).is_ok();
        let header = entry.header().clone();
        let path = entry.path().unwrap().display().to_string();
        let link = entry.link_name().unwrap().map(|link| link.display().to_string());
        let text =
            String::from_utf8(content).unwrap_or_else(|bytes| format!("{} bytes", bytes.as_bytes().len()));
        lines.push(format!(
            "{path} {:?} {:o} {}:{} {link:?} {read} {text}",
            header.entry_type(),
            header.mode().unwrap(),
            header.uid().unwrap(),
            header.gid().unwrap()
        ));
    }
    lines.join("\n")
}

/// Base64, as far as it goes.
fn decoded(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut held, mut bytes) = (0u32, 0, Vec::new());
    for byte in text.bytes() {
        let Some(digit) = DIGITS.iter().position(|known| *known == byte) else { break };
        bits = bits << 6 | digit as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
