//! The archive's index: signed release, package lists, all verified before a byte of them is used.

use std::io::Read as _;
use std::path::Path;
use std::time::SystemTime;

use dhow_model::Arch;

use super::mirror::{DEBIAN, Mirrors, SECURITY};
use super::package::{Package, parse_packages};
use super::release::Release;
use super::signature;
use crate::error::{Error, Result};
use crate::hash;
use crate::http::Client;
use crate::progress::{Report, Step, begin};

/// The release that guests are made from.
pub(crate) const SUITE: &str = "trixie";
/// A release file is some 150 kB.
const RELEASE_LIMIT: u64 = 8 << 20;
/// The largest index is some 10 MB compressed, 60 MB unpacked.
const INDEX_LIMIT: u64 = 256 << 20;

/// How an archive is read.
pub(crate) struct Archive<'a> {
    pub(crate) client: &'a Client,
    pub(crate) mirrors: &'a Mirrors,
    pub(crate) keyring: &'a Path,
    pub(crate) scratch: &'a Path,
    pub(crate) now: SystemTime,
}

impl Archive<'_> {
    /// All packages of an architecture: the release, its updates and, where a mirror is known, its security updates.
    pub(crate) fn packages(&self, arch: Arch, report: Report<'_>) -> Result<Vec<Package>> {
        let mut packages = Vec::new();
        let updates = format!("{SUITE}-updates");
        let security = format!("{SUITE}-security");
        for (archive, suite, required) in
            [(DEBIAN, SUITE, true), (DEBIAN, updates.as_str(), false), (SECURITY, security.as_str(), false)]
        {
            let Some(address) = self.mirrors.address(archive) else { continue };
            begin(report, Step::Index, format!("{address} {suite}"));
            match self.suite(address, archive, suite, arch) {
                Ok(found) => packages.extend(found),
                Err(Error::NotOnMirror { url, .. }) if !required && url.ends_with("/InRelease") => {
                    let text = format!("the mirror has no {suite}: packages come from {SUITE} alone");
                    report(crate::Progress::Note { text });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(packages)
    }

    fn suite(&self, address: &str, archive: &str, suite: &str, arch: Arch) -> Result<Vec<Package>> {
        let base = format!("{address}/dists/{suite}");
        let url = format!("{base}/InRelease");
        let signed = self.client.bytes(&url, RELEASE_LIMIT)?;
        let text = signature::verified_text(&signed, &url, self.keyring, self.scratch)?;
        let release = Release::parse(&text, &url, suite)?;
        release.check_time(&url, self.now)?;
        let path = format!("main/binary-{arch}/Packages.xz");
        let (digest, size) = release
            .file(&path)
            .ok_or_else(|| Error::malformed(&url, "Release file", format!("it names no {path}")))?;
        let index = if release.by_hash {
            format!("{base}/main/binary-{arch}/by-hash/SHA256/{digest}")
        } else {
            format!("{base}/{path}")
        };
        let packed = self.client.bytes(&index, size.min(INDEX_LIMIT))?;
        check(&packed, &index, digest, size)?;
        let mut text = String::new();
        lzma_rust2::XzReader::new(packed.as_slice(), true)
            .take(INDEX_LIMIT)
            .read_to_string(&mut text)
            .map_err(|error| Error::malformed(&index, "xz file", error))?;
        parse_packages(&text, archive, &index)
    }
}

fn check(content: &[u8], name: &str, expected: &str, size: u64) -> Result<()> {
    let hint = "; the mirror may be in the middle of an update: try again in some minutes".to_owned();
    let found = content.len() as u64;
    if found != size {
        return Err(Error::WrongSize { name: name.to_owned(), expected: size, found, hint });
    }
    let found = hash::bytes(content);
    if found != expected {
        return Err(Error::WrongHash { name: name.to_owned(), expected: expected.to_owned(), found, hint });
    }
    Ok(())
}
