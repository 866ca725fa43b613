//! Bind mounts: what a container is to see of the host must be there in its machine (spec 14.1). A path that is not shared would be
//! an empty directory of the guest's, and nobody would be told.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use dhow_model::config::{Share, is_the_guests};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::description::{Text, folded};

/// Paths that a container is to have mounted, in both ways that the API has for that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Binds(Vec<String>);

impl Binds {
    /// Whether there are any, without which nobody need be asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// More of them.
    pub(crate) fn add(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// Why they cannot be mounted in a machine with these shares: the first one, and what to type.
    pub(crate) fn refusal(&self, shares: &[Share]) -> Option<String> {
        let path = self.0.iter().map(|path| cleaned(path)).find(|path| !is_there(path, shares))?;
        let all =
            shares.iter().map(|Share { path, access }| entry(path, &format!(", access = \"{access}\"")));
        let all: Vec<String> = all.chain([entry(&path, "")]).collect();
        Some(format!(
            "{} is not shared with the machine that runs containers; share it, or a directory above it, with: dhow config \
             set files.shares '[{}]' && dhow up",
            path.display(),
            all.join(", ")
        ))
    }
}

fn entry(path: &Path, access: &str) -> String {
    format!("{{ path = \"{}\"{access} }}", path.display())
}

fn is_there(path: &Path, shares: &[Share]) -> bool {
    is_the_guests(path) || shares.iter().any(|share| path.starts_with(&share.path))
}

/// A path as dockerd takes it, which is without looking at any file (Go's `filepath.Clean`).
fn cleaned(path: &str) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    clean
}

impl<'de> Deserialize<'de> for Binds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Binds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Binds, M::Error> {
        let (mut binds, mut mounts) = (Vec::new(), Vec::new());
        while let Some(Text(key)) = map.next_key()? {
            match folded(&key).as_str() {
                "binds" => binds = map.next_value::<Option<Vec<Text>>>()?.unwrap_or_default(),
                "mounts" => mounts = map.next_value::<Option<Vec<Mount>>>()?.unwrap_or_default(),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        // `/host:/guest[:options]`; what does not begin with a slash is a volume's name.
        let bound =
            |Text(text): Text| Some(text.split(':').next()?.to_owned()).filter(|path| path.starts_with('/'));
        let mounted = |mount: Mount| mount.source.filter(|path| mount.bind && path.starts_with('/'));
        Ok(Binds(binds.into_iter().filter_map(bound).chain(mounts.into_iter().filter_map(mounted)).collect()))
    }
}

/// One of `Mounts`.
#[derive(Default)]
struct Mount {
    bind: bool,
    source: Option<String>,
}

impl<'de> Deserialize<'de> for Mount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OneMount)
    }
}

struct OneMount;

impl<'de> Visitor<'de> for OneMount {
    type Value = Mount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mount")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Mount, M::Error> {
        let mut mount = Mount::default();
        while let Some(Text(key)) = map.next_key()? {
            match folded(&key).as_str() {
                "type" => {
                    mount.bind = map.next_value::<Option<Text>>()?.is_some_and(|Text(kind)| kind == "bind")
                }
                "source" => mount.source = map.next_value::<Option<Text>>()?.map(|Text(path)| path),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(mount)
    }
}

#[cfg(test)]
mod tests {
    use dhow_model::config::Access;

    use super::*;

    fn read(text: &str) -> Binds {
        serde_json::from_str(text).unwrap()
    }

    fn shares() -> Vec<Share> {
        vec![Share { path: "/home/u".into(), access: Access::ReadWrite }]
    }

    /// Spec 14.1: what is shared or the guest's own is mounted, volumes are none of this, all else is refused.
    #[test]
    fn a_mount_of_what_is_not_shared_is_refused() {
        let table = [
            (r#"{"Binds": ["/home/u/src:/src"]}"#, None),
            (r#"{"Binds": ["/home/u:/src:ro"]}"#, None),
            (r#"{"Binds": ["/home/u/../other:/src"]}"#, Some("/home/other")),
            (r#"{"Binds": ["/home/u2:/src"]}"#, Some("/home/u2")),
            (r#"{"binds": ["data:/data", "/data:/data"]}"#, Some("/data")),
            (r#"{"Binds": ["/var/run/docker.sock:/var/run/docker.sock"]}"#, None),
            (r#"{"Binds": ["/:/host"]}"#, None),
            (r#"{"Binds": ["/home:/host"]}"#, Some("/home")),
            (r#"{"Mounts": [{"Type": "bind", "Source": "/data", "Target": "/x"}]}"#, Some("/data")),
            (
                r#"{"Mounts": [{"Type": "volume", "Source": "/data"}, {"Type": "bind", "Source": "/home/u"}]}"#,
                None,
            ),
            (r#"{"Mounts": [{"source": "/tmp//x/./y", "TYPE": "bind"}]}"#, Some("/tmp/x/y")),
            (r#"{"Binds": null, "Mounts": null, "Memory": 1}"#, None),
            ("{}", None),
        ];
        for (text, refused) in table {
            let refusal = read(text).refusal(&shares());
            match (refusal, refused) {
                (None, None) => {}
                (Some(words), Some(path)) => {
                    assert!(words.starts_with(&format!("{path} is not shared")), "{text}: {words}");
                }
                (words, _) => panic!("{text}: {words:?}"),
            }
        }
    }

    /// Spec 14.1: the message says how to share it, and keeps what is shared.
    #[test]
    fn the_command_that_shares_it_is_in_the_message() {
        let words = read(r#"{"Binds": ["/data:/data"]}"#).refusal(&shares()).unwrap();
        let command =
            words.split("set files.shares '").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
        let config = dhow_model::Config::parse(&format!("files.shares = {command}")).unwrap();
        let shared = config.files.shares.resolve(None);
        assert!(read(r#"{"Binds": ["/data/x:/d", "/home/u/x:/h"]}"#).refusal(&shared).is_none(), "{words}");
    }
}
