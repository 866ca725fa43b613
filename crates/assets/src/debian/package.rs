//! Stanzas of a `Packages` index: the few fields that choosing, fetching and verifying need.

use crate::error::{Error, Result};

/// One package of an index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Package {
    /// `Package`.
    pub name: String,
    /// `Version`.
    pub version: String,
    /// `Depends` and `Pre-Depends`, as written.
    pub depends: String,
    /// `Provides`, as written.
    pub provides: String,
    /// Path below the archive's address.
    pub filename: String,
    /// Bytes.
    pub size: u64,
    /// Digest of the file.
    pub sha256: String,
    /// Which archive of [`super::Mirrors`] has it.
    pub archive: String,
}

/// Reads an index.
///
/// # Errors
/// A stanza lacks a field that verification needs, or has one twice over in a way that is no number or digest.
pub fn parse_packages(text: &str, archive: &str, name: &str) -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    for stanza in text.split("\n\n") {
        if stanza.trim().is_empty() {
            continue;
        }
        packages.push(parse(stanza, archive, name)?);
    }
    Ok(packages)
}

fn parse(stanza: &str, archive: &str, index: &str) -> Result<Package> {
    let mut package = Package { archive: archive.to_owned(), ..Package::default() };
    for line in stanza.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match key {
            "Package" => value.clone_into(&mut package.name),
            "Version" => value.clone_into(&mut package.version),
            "Depends" | "Pre-Depends" => {
                if !package.depends.is_empty() {
                    package.depends.push_str(", ");
                }
                package.depends.push_str(value);
            }
            "Provides" => value.clone_into(&mut package.provides),
            "Filename" => value.clone_into(&mut package.filename),
            "SHA256" => value.clone_into(&mut package.sha256),
            "Size" => {
                package.size =
                    value.parse().map_err(|_| malformed(index, &package.name, "its Size is no number"))?;
            }
            _ => {}
        }
    }
    if package.name.is_empty()
        || package.version.is_empty()
        || package.filename.is_empty()
        || package.size == 0
    {
        return Err(malformed(index, &package.name, "Package, Version, Filename or Size is missing"));
    }
    if !crate::hash::is_digest(&package.sha256) {
        return Err(malformed(index, &package.name, "its SHA256 is missing or no digest"));
    }
    Ok(package)
}

fn malformed(index: &str, package: &str, reason: &str) -> Error {
    Error::malformed(index, "package index", format!("package `{package}`: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANZA: &str = "Package: runc\nVersion: 1.1-2\nDescription: runs\n containers: many\nPre-Depends: a\nDepends: libc6 (>= 2.38)\n\
        Filename: pool/r.deb\nSize: 12\nSHA256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";

    #[test]
    fn the_fields_that_matter_are_read() {
        let packages = parse_packages(&format!("{STANZA}\n{STANZA}\n"), "debian", "Packages").unwrap();
        assert_eq!(packages.len(), 2);
        assert_eq!(packages[0].depends, "a, libc6 (>= 2.38)");
        assert_eq!((packages[0].name.as_str(), packages[0].size), ("runc", 12));
    }

    #[test]
    fn a_stanza_without_a_digest_is_refused() {
        let text = STANZA.replace("SHA256", "MD5sum");
        let error = parse_packages(&text, "debian", "Packages").unwrap_err();
        assert!(error.to_string().contains("`runc`: its SHA256 is missing"), "{error}");
    }
}
