//! Which mirror the packages come from: what the user names, or what this host's apt is configured for. No address is built
//! in.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Addresses of the archives, without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrors {
    /// The archive proper.
    pub debian: String,
    /// Security updates, where they are known.
    pub security: Option<String>,
}

/// The name by which a lock file calls the archive proper.
pub(crate) const DEBIAN: &str = "debian";
/// The name by which a lock file calls the archive of security updates.
pub(crate) const SECURITY: &str = "debian-security";

impl Mirrors {
    /// The address of an archive by the name that a lock file uses.
    #[must_use]
    pub fn address(&self, archive: &str) -> Option<&str> {
        match archive {
            DEBIAN => Some(&self.debian),
            SECURITY => self.security.as_deref(),
            _ => None,
        }
    }

    /// The mirrors that an option names: one address, or two separated by a comma of which the second has security updates.
    /// With one address, the archive of security updates is taken from the host's apt, if it has one.
    ///
    /// # Errors
    /// [`Error::NoMirror`] when neither the option nor the host names one.
    pub fn find(option: Option<&str>, apt: &Path) -> Result<Self> {
        let host = mirrors_of_host(apt);
        let Some(option) = option.map(str::trim).filter(|option| !option.is_empty()) else {
            return host.ok_or(Error::NoMirror);
        };
        let (debian, security) = option.split_once(',').map_or((option, None), |(a, b)| (a, Some(b)));
        let security = security.map(clean).or_else(|| host.and_then(|mirrors| mirrors.security));
        Ok(Self { debian: clean(debian), security: security.filter(|address| !address.is_empty()) })
    }
}

fn clean(address: &str) -> String {
    address.trim().trim_end_matches('/').to_owned()
}

/// What the apt configuration below a directory (`/etc/apt`) uses: the first entry that is a Debian archive, and the first
/// for security updates.
#[must_use]
pub fn mirrors_of_host(apt: &Path) -> Option<Mirrors> {
    let mut entries = Vec::new();
    for path in source_files(apt) {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => deb822(&text, &mut entries),
            _ => one_line(&text, &mut entries),
        }
    }
    let security = |entry: &&Entry| entry.suite.ends_with("-security") || entry.suite.ends_with("/updates");
    let debian = entries.iter().find(|entry| is_debian(&entry.suite) && !security(entry))?;
    let security =
        entries.iter().filter(|entry| entry.uri.contains(SECURITY) || entry.uri.contains("security."));
    let security = security.map(|entry| clean(&entry.uri)).next();
    Some(Mirrors { debian: clean(&debian.uri), security })
}

struct Entry {
    uri: String,
    suite: String,
}

/// Debian's releases since the first that has all that we need, by their code names and roles.
fn is_debian(suite: &str) -> bool {
    const NAMES: [&str; 13] = [
        "stretch",
        "buster",
        "bullseye",
        "bookworm",
        "trixie",
        "forky",
        "duke",
        "sid",
        "stable",
        "oldstable",
        "testing",
        "unstable",
        "experimental",
    ];
    NAMES.contains(&suite.split(['-', '/']).next().unwrap_or(suite))
}

fn source_files(apt: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(apt.join("sources.list.d"))
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    files.retain(|path| {
        path.extension().is_some_and(|extension| extension == "sources" || extension == "list")
    });
    files.sort();
    files.insert(0, apt.join("sources.list"));
    files
}

/// `deb [options] URI SUITE COMPONENT…`, sources.list(5).
fn one_line(text: &str, entries: &mut Vec<Entry>) {
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or("").trim();
        let Some(rest) = line.strip_prefix("deb").filter(|rest| rest.starts_with([' ', '\t'])) else {
            continue;
        };
        let rest = rest.trim_start();
        let rest =
            if rest.starts_with('[') { rest.split_once(']').map_or("", |(_, rest)| rest) } else { rest };
        let mut words = rest.split_whitespace();
        if let (Some(uri), Some(suite)) = (words.next(), words.next()) {
            push(uri, suite, entries);
        }
    }
}

/// Stanzas with `Types`, `URIs`, `Suites`, `Enabled`, sources.list(5).
fn deb822(text: &str, entries: &mut Vec<Entry>) {
    let text: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for stanza in text.split(|line| line.trim().is_empty()) {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in stanza {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    value.push(' ');
                    value.push_str(line.trim());
                }
            } else if let Some((key, value)) = line.split_once(':') {
                fields.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        let field =
            |name: &str| fields.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
        let enabled = !matches!(field("enabled").to_ascii_lowercase().as_str(), "no" | "false" | "off" | "0");
        if !enabled || !field("types").split_whitespace().any(|kind| kind == "deb") {
            continue;
        }
        for uri in field("uris").split_whitespace() {
            for suite in field("suites").split_whitespace() {
                push(uri, suite, entries);
            }
        }
    }
}

fn push(uri: &str, suite: &str, entries: &mut Vec<Entry>) {
    if uri.starts_with("http://") || uri.starts_with("https://") {
        entries.push(Entry { uri: uri.to_owned(), suite: suite.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            dhow_home::atomic::write(&directory.path().join(name), text.as_bytes(), 0o644).unwrap();
        }
        directory
    }

    #[test]
    fn the_mirror_of_the_host_is_found_in_either_format() {
        let deb822 = "Types: deb\n# a comment\nURIs: http://mirror.test/debian/\nSuites: bookworm\n bookworm-updates\n\
            Components: main\n\nTypes: deb deb-src\nURIs: http://mirror.test/debian-security\nSuites: bookworm-security\n";
        let one_line = "# deb http://old.test/debian stretch main\ndeb [arch=amd64 signed-by=/k] https://mirror.test/debian bookworm main\n\
            deb https://security.test/debian-security bookworm-security main\n";
        let elsewhere = "deb https://packages.test/apt cloud-sdk-bookworm main\n";
        let table = [
            (
                host(&[("sources.list.d/debian.sources", deb822), ("sources.list.d/a.list", elsewhere)]),
                Some(("http://mirror.test/debian", Some("http://mirror.test/debian-security"))),
            ),
            (
                host(&[("sources.list", one_line)]),
                Some(("https://mirror.test/debian", Some("https://security.test/debian-security"))),
            ),
            (host(&[("sources.list.d/a.list", elsewhere)]), None),
            (
                host(&[(
                    "sources.list.d/d.sources",
                    &format!("{}Enabled: no\n", deb822.split("\n\n").next().unwrap().to_owned() + "\n"),
                )]),
                None,
            ),
            (host(&[]), None),
        ];
        for (directory, expected) in &table {
            let found = mirrors_of_host(directory.path());
            let found = found.as_ref().map(|mirrors| (mirrors.debian.as_str(), mirrors.security.as_deref()));
            assert_eq!(found, *expected);
        }
    }

    /// Design: no address is built in.
    #[test]
    fn without_any_mirror_the_error_names_the_options() {
        let error = Mirrors::find(None, host(&[]).path()).unwrap_err().to_string();
        assert!(error.contains("--mirror") && error.contains("DHOW_MIRROR"), "{error}");
    }

    #[test]
    fn an_option_wins_and_may_name_both_archives() {
        let apt = host(&[("sources.list", "deb http://host.test/debian bookworm main\n")]);
        let mirrors = Mirrors::find(Some("http://a.test/debian/, http://a.test/sec"), apt.path()).unwrap();
        assert_eq!(
            mirrors,
            Mirrors { debian: "http://a.test/debian".into(), security: Some("http://a.test/sec".into()) }
        );
    }
}
