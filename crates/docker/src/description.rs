//! What is read of the JSON in a request, by Go's rules: keys match whatever their case, the last of equal ones counts.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

/// The label by which Compose marks what belongs to a project.
const PROJECT: &str = "com.docker.compose.project";

/// What matters of a new container, network or volume, or of a call that connects a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Description {
    /// The image's reference.
    pub(crate) image: Option<String>,
    /// The Compose project that it is labelled with.
    pub(crate) project: Option<String>,
    /// The container that a network is connected to or disconnected from.
    pub(crate) container: Option<String>,
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
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        while let Some(key) = map.next_key::<String>()? {
            if key.eq_ignore_ascii_case("Image") {
                found.image = some(map.next_value()?);
            } else if key.eq_ignore_ascii_case("Container") {
                found.container = some(map.next_value()?);
            } else if key.eq_ignore_ascii_case("Labels") {
                let labels: Option<HashMap<String, Option<String>>> = map.next_value()?;
                found.project = some(labels.unwrap_or_default().remove(PROJECT).flatten());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
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
            (r#"{"Image": null, "Labels": {"other": null}}"#, None, None),
            (r#"{"Image": ""}"#, None, None),
            (r#"{"Im\u0061ge": "\u0061"}"#, Some("a"), None),
            ("{}", None, None),
        ];
        for (text, image, project) in table {
            let read = Description::read(text.as_bytes()).unwrap();
            assert_eq!((read.image.as_deref(), read.project.as_deref()), (image, project), "{text}");
        }
    }

    /// 3.3: what is no description is left to dockerd to refuse.
    #[test]
    fn what_is_no_description_is_not_guessed_at() {
        for text in ["", "null", "[]", "{", r#"{"Image": 1}"#, r#"{"Labels": []}"#, "{} {}", "\u{feff}{}"] {
            assert!(Description::read(text.as_bytes()).is_err(), "{text}");
        }
    }
}
