//! A verified `Release`: until when it holds, and the digests of the indices that it names.

use std::time::SystemTime;

use super::date;
use crate::error::{Error, Result};

/// What a `Release` says that we use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release {
    /// `Acquire-By-Hash: yes`: indices are also found under their digest, which does not race with the mirror's update.
    pub(crate) by_hash: bool,
    valid_until: Option<String>,
    /// Path, digest, size.
    files: Vec<(String, String, u64)>,
}

impl Release {
    /// Reads the text that a good signature covers.
    pub(crate) fn parse(text: &str, url: &str, codename: &str) -> Result<Self> {
        let field = |name: &str| {
            let prefix = format!("{name}:");
            text.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::trim)
        };
        let named = field("Codename").unwrap_or_default();
        if named != codename {
            let reason = format!("it is for `{named}`, not for `{codename}`");
            return Err(Error::malformed(url, "Release file", reason));
        }
        let mut files = Vec::new();
        let mut inside = false;
        for line in text.lines() {
            if !line.starts_with(' ') {
                inside = line.trim_end() == "SHA256:";
                continue;
            }
            let mut words = line.split_whitespace();
            if let (true, Some(digest), Some(size), Some(path)) =
                (inside, words.next(), words.next(), words.next())
            {
                let size = size.parse().map_err(|_| Error::malformed(url, "Release file", line))?;
                files.push((path.to_owned(), digest.to_owned(), size));
            }
        }
        let by_hash = field("Acquire-By-Hash") == Some("yes");
        Ok(Self { by_hash, valid_until: field("Valid-Until").map(str::to_owned), files })
    }

    /// Refuses a `Release` whose time has passed; one without a limit holds for ever.
    pub(crate) fn check_time(&self, url: &str, now: SystemTime) -> Result<()> {
        let Some(until) = &self.valid_until else { return Ok(()) };
        let moment = date::parse(until).ok_or_else(|| {
            Error::malformed(url, "Release file", format!("Valid-Until `{until}` is no date"))
        })?;
        if moment < now {
            return Err(Error::Expired { url: url.to_owned(), until: until.clone() });
        }
        Ok(())
    }

    /// Digest and size of an index.
    pub(crate) fn file(&self, path: &str) -> Option<(&str, u64)> {
        let found = self.files.iter().find(|(name, _, _)| name == path)?;
        Some((&found.1, found.2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Origin: Debian\nCodename: trixie\nValid-Until: Fri, 27 Nov 2026 00:12:42 UTC\nAcquire-By-Hash: yes\n\
        MD5Sum:\n 00 3 main/binary-amd64/Packages.xz\nSHA256:\n abcd 7 main/binary-amd64/Packages.xz\n";

    #[test]
    fn only_sha_256_digests_count() {
        let release = Release::parse(TEXT, "u", "trixie").unwrap();
        assert_eq!(release.file("main/binary-amd64/Packages.xz"), Some(("abcd", 7)));
        assert!(release.by_hash);
    }

    #[test]
    fn a_release_for_another_suite_is_refused() {
        let error = Release::parse(TEXT, "u", "trixie-updates").unwrap_err().to_string();
        assert!(error.contains("it is for `trixie`"), "{error}");
    }

    #[test]
    fn a_release_whose_time_has_passed_is_refused() {
        let release = Release::parse(TEXT, "u", "trixie").unwrap();
        let until = date::parse("Fri, 27 Nov 2026 00:12:42 UTC").unwrap();
        assert!(release.check_time("u", until).is_ok());
        let error = release.check_time("u", until + std::time::Duration::from_secs(1)).unwrap_err();
        assert!(matches!(error, Error::Expired { .. }), "{error}");
    }
}
