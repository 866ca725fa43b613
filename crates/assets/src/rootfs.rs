//! Root file systems for containers, from the distribution's packages, of any architecture: resolved, verified and unpacked as boot
//! assets are, without running anything of them. The archives are a cache: `images/NAME-ARCH.json` says what one is made from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dhow_model::Arch;
use serde::{Deserialize, Serialize};

use crate::build::{BuildOptions, packages};
use crate::debian::archive::{Archive, SUITE};
use crate::debian::{Mirrors, deb, resolve};
use crate::error::{Error, Result};
use crate::hash;
use crate::http::Client;
use crate::image::tree::{Content, Node, Tree};
use crate::lock::Lock;
use crate::manifest::Output;
use crate::progress::{Progress, Report, Step, begin};
use crate::store::Store;

/// How long a build that goes on is waited for.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// Version of what this code makes from the same packages.
const FORMAT: u32 = 1;

/// What a root file system is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    /// Its name in the store: lower-case letters.
    pub name: String,
    /// Packages, without those that they depend on.
    pub packages: Vec<String>,
    /// Packages that it does without, whoever depends on them.
    pub excluded: Vec<String>,
    /// Paths that are left out, and everything below them.
    pub dropped: Vec<String>,
}

/// One that was made: an uncompressed tar archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Where it is.
    pub path: PathBuf,
    /// Its digest.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    /// Its packages with their versions.
    pub packages: Vec<(String, String)>,
}

/// What `images/NAME-ARCH.json` says.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    made_of: Rootfs,
    lock: Lock,
    archive: Output,
}

/// The root file system for the options' architecture; the one of the last time where it was made of the same list and the options
/// do not ask for newer packages. `finish` adds what installation scripts would have done, and must always add the same.
///
/// # Errors
/// Whatever stands in the way, by cause.
pub fn rootfs(
    store: &Store,
    options: &BuildOptions,
    made_of: &Rootfs,
    finish: &dyn Fn(&mut Tree),
    report: Report<'_>,
) -> Result<Made> {
    let _exclusive = store.exclusive(PATIENCE, report)?;
    let stem = format!("{}-{}", made_of.name, options.arch);
    let path = store.at("images").join(format!("{stem}.tar"));
    let record = store.at("images").join(format!("{stem}.json"));
    if !options.refresh
        && let Some(kept) = kept(&record, &path, made_of)
    {
        return Ok(made(path, &kept));
    }
    let client = Client::new(options.first_pause);
    let mirrors = Mirrors::find(options.mirror.as_deref(), &options.apt)?;
    let lock = {
        let scratch = store.at("tmp");
        let (keyring, now) = (options.keyring.as_path(), options.now);
        let archive = Archive { client: &client, mirrors: &mirrors, keyring, scratch: &scratch, now };
        let all = archive.packages(options.arch, report)?;
        begin(report, Step::Resolve, made_of.name.as_str());
        Lock::new(options.arch, SUITE, &resolve(&all, &made_of.packages, &made_of.excluded)?)
    };
    packages::fetch(store, &client, Some(&mirrors), &lock, report)?;
    let mut tree = unpacked(store, made_of, &lock, report)?;
    merged_links(&mut tree, options.arch);
    finish(&mut tree);
    begin(report, Step::Write, made_of.name.as_str());
    let archive = archive(&tree)?;
    let output = Output { sha256: hash::bytes(&archive), size: archive.len() as u64 };
    write(&path, &archive)?;
    let kept = Record { format: FORMAT, made_of: made_of.clone(), lock, archive: output };
    write(&record, &serde_json::to_vec_pretty(&kept).unwrap_or_default())?;
    Ok(made(path, &kept))
}

fn kept(record: &Path, path: &Path, made_of: &Rootfs) -> Option<Record> {
    let kept: Record = serde_json::from_slice(&std::fs::read(record).ok()?).ok()?;
    // The engine that reads it computes its own digest: a damaged one is found by its length here, and by its content there.
    let whole = path.metadata().is_ok_and(|file| file.is_file() && file.len() == kept.archive.size);
    (kept.format == FORMAT && kept.made_of == *made_of && whole).then_some(kept)
}

fn made(path: PathBuf, kept: &Record) -> Made {
    let packages = kept.lock.packages.iter().map(|p| (p.name.clone(), p.version.clone())).collect();
    Made { path, sha256: kept.archive.sha256.clone(), size: kept.archive.size, packages }
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    use crate::error::At as _;
    dhow_home::atomic::write(path, content, 0o644).at("write", path)
}

fn unpacked(store: &Store, made_of: &Rootfs, lock: &Lock, report: Report<'_>) -> Result<Tree> {
    let keep = |path: &str| {
        let under = |rule: &String| {
            path.strip_prefix(rule.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !made_of.dropped.iter().any(under)
    };
    let mut tree = Tree::default();
    let total = lock.total_size();
    let mut done = 0;
    for package in &lock.packages {
        report(Progress::Bytes { step: Step::Unpack, detail: package.name.clone(), done, total });
        deb::unpack(&packages::read(store, package)?, &package.filename, &keep, &mut tree)?;
        done += package.size;
    }
    Ok(tree)
}

/// Debian merged these directories into `/usr`; the package base-files has the links, and `deb` leaves out what would replace a directory.
fn merged_links(tree: &mut Tree, arch: Arch) {
    for name in ["bin", "sbin", "lib"] {
        tree.symlink(name, &format!("usr/{name}"));
    }
    if arch == Arch::Amd64 {
        // The loader of glibc's x86-64 programs is named by this path (System V ABI, AMD64 supplement).
        tree.symlink("lib64", "usr/lib64");
    }
}

/// The archive: sorted, without times, so that the same tree gives the same bytes.
fn archive(tree: &Tree) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    let written = tree
        .iter()
        .filter(|(path, _)| !path.is_empty())
        .try_for_each(|(path, node)| entry(&mut builder, path, node))
        .and_then(|()| builder.into_inner());
    written.map_err(|error| Error::malformed("root file system", "tar archive", error))
}

fn entry(builder: &mut tar::Builder<Vec<u8>>, path: &str, node: &Node) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(node.mode.into());
    header.set_uid(node.uid.into());
    header.set_gid(node.gid.into());
    header.set_mtime(0);
    header.set_size(0);
    match &node.content {
        Content::Directory => {
            header.set_entry_type(tar::EntryType::Directory);
            builder.append_data(&mut header, format!("{path}/"), std::io::empty())
        }
        Content::File(bytes) => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, path, bytes.as_slice())
        }
        Content::Symlink(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            builder.append_link(&mut header, path, target)
        }
        // A container's devices are its engine's.
        Content::Character { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issue 6: what a package says of owners, modes and links is in the archive, and the same tree gives the same bytes.
    #[test]
    fn an_archive_holds_modes_owners_and_links_and_is_the_same_every_time() {
        let mut tree = Tree::default();
        tree.insert("usr/bin/su", 0o4755, Content::file(b"su".to_vec()));
        merged_links(&mut tree, Arch::Amd64);
        let bytes = archive(&tree).unwrap();
        assert_eq!(bytes, archive(&tree).unwrap());
        let mut read = tar::Archive::new(bytes.as_slice());
        let entries: Vec<(String, u32, Option<String>)> = read
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let link = entry.link_name().unwrap().map(|link| link.display().to_string());
                (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap(), link)
            })
            .collect();
        let to = |target: &str| Some(target.to_owned());
        assert_eq!(
            entries,
            [
                ("bin".to_owned(), 0o777, to("usr/bin")),
                ("lib".to_owned(), 0o777, to("usr/lib")),
                ("lib64".to_owned(), 0o777, to("usr/lib64")),
                ("sbin".to_owned(), 0o777, to("usr/sbin")),
                ("usr/".to_owned(), 0o755, None),
                ("usr/bin/".to_owned(), 0o755, None),
                ("usr/bin/su".to_owned(), 0o4755, None),
            ]
        );
    }

    #[test]
    fn what_was_made_of_another_list_or_is_not_whole_is_made_again() {
        let directory = tempfile::tempdir().unwrap();
        let (record, path) = (directory.path().join("r.json"), directory.path().join("r.tar"));
        let list = |package: &str| Rootfs {
            name: "r".to_owned(),
            packages: vec![package.to_owned()],
            excluded: Vec::new(),
            dropped: Vec::new(),
        };
        let archive = Output { sha256: hash::bytes(b"tar"), size: 3 };
        let lock = Lock::new(Arch::Arm64, SUITE, &[]);
        let written = Record { format: FORMAT, made_of: list("a"), lock, archive };
        write(&record, &serde_json::to_vec(&written).unwrap()).unwrap();
        write(&path, b"tar").unwrap();
        assert!(kept(&record, &path, &list("a")).is_some());
        assert!(kept(&record, &path, &list("b")).is_none());
        write(&path, b"ta").unwrap();
        assert!(kept(&record, &path, &list("a")).is_none());
    }
}
