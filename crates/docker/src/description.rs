//! What is read of the JSON in a request, by the rules of Go's `encoding/json`, which dockerd reads it with: keys match whatever
//! their case, of equal ones the last counts, `null` leaves a text as it is and empties a map, equal maps are merged,
//! and what is no UTF-8 becomes U+FFFD. Whatever dockerd accepts must be read here: it is admitted by what is found.

use std::fmt;

use dhow_model::COMPOSE_PROJECT;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use crate::binds::Binds;

/// What matters of a new container, network or volume, or of a call that connects a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Description {
    /// The image's reference.
    pub(crate) image: Option<String>,
    /// The Compose project that it is labelled with.
    pub(crate) project: Option<String>,
    /// The container that a network is connected to or disconnected from.
    pub(crate) container: Option<String>,
    /// Directories of the host that it is to see.
    pub(crate) binds: Binds,
}

impl Description {
    /// Reads it from JSON.
    ///
    /// # Errors
    /// When it is not such JSON: dockerd refuses it in its own words.
    pub(crate) fn read(content: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(content)
    }
}

impl<'de> Deserialize<'de> for Description {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Description;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Description, M::Error> {
        let mut found = Description::default();
        while let Some(Text(key)) = map.next_key()? {
            match folded(&key).as_str() {
                "image" => assign(&mut found.image, map.next_value()?),
                "container" => assign(&mut found.container, map.next_value()?),
                "hostconfig" => {
                    // Of two, Go keeps what the later one does not name.
                    if let Some(binds) = map.next_value::<Option<Binds>>()? {
                        found.binds.add(binds);
                    }
                }
                "labels" => match map.next_value()? {
                    Some(Labels(Some(project))) => assign(&mut found.project, Some(project)),
                    Some(Labels(None)) => {}
                    None => found.project = None,
                },
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// A key without its case. Go folds two letters beyond ASCII into it: `ſ` is an `s`, and the sign for kelvin a `k`.
pub(crate) fn folded(key: &str) -> String {
    key.replace('\u{17f}', "s").to_ascii_lowercase()
}

/// `null` changes nothing; an empty text is as good as none.
fn assign(to: &mut Option<String>, value: Option<Text>) {
    if let Some(Text(text)) = value {
        *to = Some(text).filter(|text| !text.is_empty());
    }
}

/// A string, whatever its bytes.
pub(crate) struct Text(pub(crate) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As bytes: serde_json refuses a string that is not UTF-8, or has half of a surrogate pair, which Go takes.
        deserializer.deserialize_bytes(Bytes)
    }
}

struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Text, E> {
        Ok(Text(String::from_utf8_lossy(bytes).into_owned()))
    }
}

/// A map of labels; what it says of the project, which is empty where it says `null`.
struct Labels(Option<Text>);

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OneLabel)
    }
}

struct OneLabel;

impl<'de> Visitor<'de> for OneLabel {
    type Value = Labels;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Labels, M::Error> {
        let mut project = None;
        while let Some((Text(key), value)) = map.next_entry::<Text, Option<Text>>()? {
            if key == COMPOSE_PROJECT {
                project = Some(value.unwrap_or(Text(String::new())));
            }
        }
        Ok(Labels(project))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1.2, 3.6: the image and the project are found as dockerd would find them.
    #[test]
    fn a_description_is_read_by_gos_rules() {
        let table = [
            (r#"{"Image": "a", "Labels": {"com.docker.compose.project": "p"}}"#, Some("a"), Some("p")),
            (r#"{"image": "a", "LABELS": null, "HostConfig": {"Image": 1, "x": [[[]]]}}"#, Some("a"), None),
            (r#"{"Image": "a", "image": "b"}"#, Some("b"), None),
            (r#"{"Image": "a", "Image": null}"#, Some("a"), None),
            (r#"{"Image": "a", "Image": ""}"#, None, None),
            (r#"{"Image": null, "Labels": {"other": null}}"#, None, None),
            (r#"{"Image": ""}"#, None, None),
            (r#"{"Im\u0061ge": "\u0061"}"#, Some("a"), None),
            (r#"{"Labels": {"com.docker.compose.project": "p"}, "Labels": {"x": "y"}}"#, None, Some("p")),
            (r#"{"Labels": {"com.docker.compose.project": "p"}, "Labels": null}"#, None, None),
            (
                r#"{"Labels": {"com.docker.compose.project": "p", "com.docker.compose.project": null}}"#,
                None,
                None,
            ),
            ("{\"Label\u{17f}\": {\"com.docker.compose.project\": \"p\"}}", None, Some("p")),
            (r#"{"Env": ["\ud800"], "Image": "a\ud800"}"#, Some("a\u{fffd}\u{fffd}\u{fffd}"), None),
            ("{}", None, None),
        ];
        for (text, image, project) in table {
            let read = Description::read(text.as_bytes()).unwrap();
            assert_eq!((read.image.as_deref(), read.project.as_deref()), (image, project), "{text}");
        }
    }

    /// 1.4: a byte that is no UTF-8 is no way around admission, since dockerd takes it.
    #[test]
    fn what_is_no_text_is_read_all_the_same() {
        let read = Description::read(
            b"{\"Env\": [\"A=\xe9\"], \"\xff\": 1, \"Labels\": {\"\xe9\": \"\xe9\"}, \"Image\": \"a\"}",
        );
        assert_eq!(read.unwrap().image.as_deref(), Some("a"));
    }

    /// 3.3: what is no description is left to dockerd to refuse.
    #[test]
    fn what_is_no_description_is_not_guessed_at() {
        for text in [
            "",
            "null",
            "[]",
            "{",
            r#"{"Image": 1}"#,
            r#"{"Image": [97]}"#,
            r#"{"Labels": []}"#,
            "{} {}",
            "\u{feff}{}",
        ] {
            assert!(Description::read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
