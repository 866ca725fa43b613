//! `[files]`: directories of the host that the guest sees at the same paths (spec 14.1).

use std::fmt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Stands for the user's home, alone or before a slash.
const HOME: &str = "~";

/// Directories of the guest's own: a share at, above or below one of them would hide what it runs on.
const GUEST: [&str; 19] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/init",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/cache",
    "/var/lib/containerd",
    "/var/lib/dhow",
    "/var/lib/docker",
    "/var/run",
];

/// `[files]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Files {
    /// Directories of the host that the guest sees at the same paths.
    pub shares: Shares,
}

/// What the guest may do with a shared directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read and write.
    ReadWrite,
    /// Read; the host refuses everything else.
    ReadOnly,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
        })
    }
}

/// One shared directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Where it is, on the host and in the guest: absolute, or below the user's home with `~` before it.
    pub path: PathBuf,
    /// What the guest may do there.
    #[serde(default = "read_write")]
    pub access: Access,
}

const fn read_write() -> Access {
    Access::ReadWrite
}

/// The shared directories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shares(pub Vec<Share>);

impl Default for Shares {
    /// The user's home, for reading and writing.
    fn default() -> Self {
        Self(vec![Share { path: HOME.into(), access: Access::ReadWrite }])
    }
}

impl Shares {
    /// Whether each can be shared at all.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for Share { path, .. } in &self.0 {
            let why = if path.starts_with(HOME) {
                path.components()
                    .any(|part| part == Component::ParentDir)
                    .then(|| "it has .. in it".to_owned())
            } else {
                refusal(path)
            };
            if let Some(why) = why {
                return Err(ConfigError::Share { path: path.clone(), why });
            }
        }
        Ok(())
    }

    /// The directories as one machine has them, `home` being the user's; the outer ones first. A home that cannot be shared (`/`,
    /// of a user who has none) is left out.
    #[must_use]
    pub fn resolve(&self, home: Option<&Path>) -> Vec<Share> {
        let mut all = Vec::<Share>::new();
        for Share { path, access } in &self.0 {
            let path = match path.strip_prefix(HOME) {
                Ok(rest) => match home {
                    Some(home) if rest.as_os_str().is_empty() => home.to_owned(),
                    Some(home) => home.join(rest),
                    None => continue,
                },
                Err(_) => path.clone(),
            };
            if refusal(&path).is_none() && !all.iter().any(|share| share.path == path) {
                all.push(Share { path: path.components().collect(), access: *access });
            }
        }
        all.sort_by(|a, b| a.path.cmp(&b.path));
        all
    }
}

/// Why a directory cannot be shared at its path; `None`: it can.
#[must_use]
pub fn refusal(path: &Path) -> Option<String> {
    if !path.is_absolute() {
        return Some("it is not absolute".to_owned());
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Some("it has .. in it".to_owned());
    }
    if path.as_os_str().as_encoded_bytes().iter().any(|byte| *byte < b' ') {
        return Some("it has a control character in it".to_owned());
    }
    let own = GUEST.iter().find(|own| path.starts_with(own) || Path::new(own).starts_with(path));
    own.map(|own| format!("the guest's own {own} would be hidden; share a directory beside it"))
}

/// Whether a path means the guest's own files, whatever the host has there: its system directories, `/run/docker.sock` among
/// them, and the whole of it.
#[must_use]
pub fn is_the_guests(path: &Path) -> bool {
    let lies_there = |own: &&str| path.starts_with(own);
    let lasting = ["/var/lib/kubelet", "/var/log"];
    path == Path::new("/")
        || path == Path::new("/var")
        || path == Path::new("/var/lib")
        || GUEST.iter().chain(&lasting).any(lies_there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text)
    }

    /// Spec 14.1.
    #[test]
    fn the_users_home_is_shared_unless_the_configuration_says_otherwise() {
        let home = Some(Path::new("/home/u"));
        let shares = |text: &str| parse(text).unwrap().files.shares.resolve(home);
        let share = |path: &str, access| Share { path: path.into(), access };
        assert_eq!(shares(""), [share("/home/u", Access::ReadWrite)]);
        assert_eq!(shares("files.shares = []"), []);
        let text =
            "[[files.shares]]\npath = '/srv/data/'\naccess = 'read-only'\n[[files.shares]]\npath = '~/src'";
        let expected = [share("/home/u/src", Access::ReadWrite), share("/srv/data", Access::ReadOnly)];
        assert_eq!(shares(text), expected);
    }

    #[test]
    fn a_home_that_cannot_be_shared_is_left_out() {
        for home in [None, Some(Path::new("/")), Some(Path::new("/usr/nobody"))] {
            assert_eq!(Shares::default().resolve(home), []);
        }
    }

    /// Spec 14.1, 15.3: said when the configuration is read, and why.
    #[test]
    fn a_directory_that_would_hide_the_guests_own_is_refused() {
        for path in [
            "/",
            "/usr",
            "/usr/local/src",
            "/etc",
            "/run/user/1000",
            "/var",
            "/var/lib/docker/volumes",
            "/proc",
        ] {
            let error = parse(&format!("[[files.shares]]\npath = '{path}'")).unwrap_err().to_string();
            assert!(error.contains(path) && error.contains("guest's own"), "{error}");
        }
        for path in ["home/u", "/home/../etc", "~/../../etc", "/home/a\\tb"] {
            assert!(parse(&format!("[[files.shares]]\npath = \"{path}\"")).is_err(), "{path}");
        }
        for path in ["/home", "/Users", "/mnt/c", "/srv", "/tmp", "/var/www", "/userdata", "~"] {
            assert_eq!(parse(&format!("[[files.shares]]\npath = '{path}'")).map(drop), Ok(()), "{path}");
        }
    }

    #[test]
    fn an_access_that_there_is_not_is_an_error() {
        let error = parse("[[files.shares]]\npath = '/srv'\naccess = 'write'").unwrap_err().to_string();
        assert!(error.contains("read-only"), "{error}");
    }

    #[test]
    fn the_guests_own_files_are_told_from_the_hosts() {
        for path in [
            "/",
            "/var/run/docker.sock",
            "/run/docker.sock",
            "/proc",
            "/sys/fs/cgroup",
            "/etc/localtime",
            "/lib/modules",
        ] {
            assert!(is_the_guests(Path::new(path)), "{path}");
        }
        for path in ["/home/u", "/tmp/x", "/data", "/srv", "/usr2"] {
            assert!(!is_the_guests(Path::new(path)), "{path}");
        }
    }
}
