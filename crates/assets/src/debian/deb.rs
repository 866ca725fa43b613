//! The content of a `.deb` (deb(5)): an `ar` archive whose member `data.tar.*` holds the files.

use std::io::Read;

use crate::error::{Error, Result};
use crate::image::tree::{Content, Tree};

/// Adds the files of a package to a tree, those that `keep` accepts by their path (no leading slash).
///
/// Directories that Debian merged into `/usr` go there whichever way a package names them. Owners are taken by number; nothing
/// is executed.
pub(crate) fn unpack(deb: &[u8], name: &str, keep: &dyn Fn(&str) -> bool, tree: &mut Tree) -> Result<()> {
    with_data(deb, name, |data| {
        let mut content = Vec::new();
        data.read_to_end(&mut content)?;
        entries(&content, keep, tree)
    })
}

/// One regular file of a package, at most `limit` bytes; what comes after it is not looked at, and nothing is unpacked whole.
pub(crate) fn one_file(deb: &[u8], name: &str, path: &str, limit: u64) -> Result<Option<Vec<u8>>> {
    with_data(deb, name, |data| {
        let mut archive = tar::Archive::new(data);
        for entry in archive.entries()? {
            let entry = entry?;
            if merged(&text(&entry.path_bytes())?)? != path || !entry.header().entry_type().is_file() {
                continue;
            }
            let mut bytes = Vec::new();
            entry.take(limit + 1).read_to_end(&mut bytes)?;
            return Ok(Some(bytes));
        }
        Ok(None)
    })
}

/// Reads the member that holds the files, decompressed.
fn with_data<T>(deb: &[u8], name: &str, work: impl FnOnce(&mut dyn Read) -> std::io::Result<T>) -> Result<T> {
    let malformed = |reason: &dyn ToString| Error::malformed(name, "Debian package", reason.to_string());
    let mut archive = ar::Archive::new(deb);
    while let Some(member) = archive.next_entry() {
        let mut member = member.map_err(|error| malformed(&error))?;
        let identifier =
            String::from_utf8_lossy(member.header().identifier()).trim_end_matches('/').to_owned();
        let Some(suffix) = identifier.strip_prefix("data.tar") else { continue };
        let mut packed = Vec::new();
        member.read_to_end(&mut packed).map_err(|error| malformed(&error))?;
        let read = decompressed(suffix, &packed).and_then(|mut data| work(data.as_mut()));
        return read.map_err(|error| malformed(&error));
    }
    Err(malformed(&"it has no data.tar"))
}

fn decompressed<'a>(suffix: &str, packed: &'a [u8]) -> std::io::Result<Box<dyn Read + 'a>> {
    Ok(match suffix {
        "" => Box::new(packed),
        ".xz" => Box::new(lzma_rust2::XzReader::new(packed, true)),
        ".gz" => Box::new(flate2::read::GzDecoder::new(packed)),
        ".zst" => Box::new(ruzstd::decoding::StreamingDecoder::new(packed).map_err(std::io::Error::other)?),
        other => {
            return Err(std::io::Error::other(format!("data.tar{other} is a compression that is not known")));
        }
    })
}

fn entries(content: &[u8], keep: &dyn Fn(&str) -> bool, tree: &mut Tree) -> std::io::Result<()> {
    let mut archive = tar::Archive::new(content);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = merged(&text(&entry.path_bytes())?)?;
        if path.is_empty() || !keep(&path) {
            continue;
        }
        let mode = entry.header().mode()? & 0o7777;
        let content = match entry.header().entry_type() {
            tar::EntryType::Directory => Content::Directory,
            tar::EntryType::Regular => {
                let mut bytes = Vec::with_capacity(usize::try_from(entry.size()).unwrap_or(0));
                entry.read_to_end(&mut bytes)?;
                Content::file(bytes)
            }
            tar::EntryType::Symlink => Content::Symlink(text(&entry.link_name_bytes().unwrap_or_default())?),
            tar::EntryType::Link => {
                let target = merged(&text(&entry.link_name_bytes().unwrap_or_default())?)?;
                match tree.get(&target) {
                    Some(node) => node.content.clone(),
                    None => continue,
                }
            }
            other => {
                return Err(std::io::Error::other(format!(
                    "{path} is of a kind that is not allowed: {other:?}"
                )));
            }
        };
        let (uid, gid) = (entry.header().uid()?, entry.header().gid()?);
        tree.insert_owned(&path, mode, (small(uid)?, small(gid)?), content);
    }
    Ok(())
}

fn small(id: u64) -> std::io::Result<u16> {
    u16::try_from(id).map_err(std::io::Error::other)
}

fn text(bytes: &[u8]) -> std::io::Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(std::io::Error::other)
}

/// A path without `./` in front, with Debian's merged directories resolved; one that leaves the tree is refused.
fn merged(path: &str) -> std::io::Result<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(std::io::Error::other(format!("the path {path} leads out of the package")));
    }
    let joined = parts.join("/");
    let first = parts.first().copied().unwrap_or_default();
    Ok(if matches!(first, "bin" | "sbin" | "lib" | "lib64") { format!("usr/{joined}") } else { joined })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_merged_into_usr_and_never_leave_the_tree() {
        assert_eq!(merged("./bin/sh").unwrap(), "usr/bin/sh");
        assert_eq!(merged("./usr/bin/sh").unwrap(), "usr/bin/sh");
        assert_eq!(merged("lib64/ld.so").unwrap(), "usr/lib64/ld.so");
        assert_eq!(merged("./").unwrap(), "");
        assert!(merged("./usr/../../etc/passwd").is_err());
    }

    #[test]
    fn a_file_that_is_no_package_is_refused() {
        let error = unpack(b"!<arch>\n", "x.deb", &|_| true, &mut Tree::default()).unwrap_err().to_string();
        assert_eq!(error, "x.deb is not a valid Debian package: it has no data.tar");
    }
}
