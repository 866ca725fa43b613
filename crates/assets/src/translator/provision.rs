//! Translators' files into the runtime directory (spec 1.4): from a verified package, from a file, or from an address with a digest.
//! A file that is not fit for a guest is refused before it has its name.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dhow_model::translator::{LIMIT, Source, Translator};

use super::check;
use crate::build::{BuildOptions, packages};
use crate::debian::archive::{Archive, SUITE};
use crate::debian::{Mirrors, compare, deb};
use crate::error::{At as _, Error, Result};
use crate::hash;
use crate::http::Client;
use crate::lock::Lock;
use crate::progress::{Report, Step, begin};
use crate::store::Store;

/// How long a build that goes on is waited for.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// Where a translator's file is to come from.
#[derive(Debug, Clone)]
pub enum From<'a> {
    /// The distribution's package, by the options' mirror, keyring and clock. With `refresh` the index is read again; otherwise the
    /// package of the last time is used where it is still there.
    Package(&'a Store, &'a BuildOptions),
    /// A file of this host.
    File(&'a Path),
    /// An address, and the digest of what is there.
    Address {
        /// The address.
        url: &'a str,
        /// 64 hexadecimal digits.
        sha256: &'a str,
    },
}

/// A file that was placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Where.
    pub path: PathBuf,
    /// Its digest.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    /// Where it came from: a package with its version, a path, an address.
    pub origin: String,
}

/// Puts a translator's file into the runtime directory, replacing what has its name.
///
/// # Errors
/// Whatever stands in the way, by cause; the directory is as before then.
pub fn provision(
    directory: &Path,
    translator: &Translator,
    from: &From<'_>,
    report: Report<'_>,
) -> Result<Placed> {
    let refused = |file: &str, why| Error::NoTranslator {
        file: file.to_owned(),
        translator: translator.name,
        serves: translator.serves,
        guest: translator.guest,
        why,
    };
    check::available(translator).map_err(|why| refused(translator.file, why))?;
    let (content, origin) = match from {
        From::Package(store, options) => package(translator, store, options, report)?,
        From::File(path) => {
            let origin = path.display().to_string();
            let length = path.metadata().at("look at", path)?.len();
            if length > LIMIT {
                let why = dhow_model::translator::Why::TooLarge { has: length, limit: LIMIT };
                return Err(refused(&origin, why));
            }
            (std::fs::read(path).at("read", path)?, origin)
        }
        From::Address { url, sha256 } => (download(url, sha256, report)?, (*url).to_owned()),
    };
    place(directory, translator, &content, &origin, refused)
}

/// Takes a translator's file away. Answers whether there was one.
///
/// # Errors
/// It cannot be removed.
pub fn remove(directory: &Path, translator: &Translator) -> Result<bool> {
    let path = directory.join(translator.file);
    let there = path.symlink_metadata().is_ok();
    dhow_home::atomic::remove(&path).at("remove", &path)?;
    Ok(there)
}

/// Checked under a temporary name, then renamed.
fn place(
    directory: &Path,
    translator: &Translator,
    content: &[u8],
    origin: &str,
    refused: impl Fn(&str, dhow_model::translator::Why) -> Error,
) -> Result<Placed> {
    let path = directory.join(translator.file);
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(Permissions::from_mode(0o755))
        .tempfile_in(directory)
        .at("create a file in", directory)?;
    file.as_file().set_permissions(Permissions::from_mode(0o755)).at("make executable", file.path())?;
    file.write_all(content).at("write", &path)?;
    file.as_file().sync_all().at("sync", &path)?;
    check::open(file.path(), translator.guest).map_err(|why| refused(origin, why))?;
    file.persist(&path).map_err(|error| error.error).at("place", &path)?;
    dhow_home::atomic::sync_dir(directory).at("sync", directory)?;
    let (sha256, size) = (hash::bytes(content), content.len() as u64);
    Ok(Placed { path, sha256, size, origin: origin.to_owned() })
}

fn download(url: &str, sha256: &str, report: Report<'_>) -> Result<Vec<u8>> {
    begin(report, Step::Download, url);
    let content = Client::new(Duration::from_millis(500)).bytes(url, LIMIT)?;
    let found = hash::bytes(&content);
    if found == sha256.to_ascii_lowercase() {
        return Ok(content);
    }
    let hint = "; nothing was placed".to_owned();
    Err(Error::WrongHash { name: url.to_owned(), expected: sha256.to_owned(), found, hint })
}

/// The file out of the package, and the package's name and version.
fn package(
    translator: &Translator,
    store: &Store,
    options: &BuildOptions,
    report: Report<'_>,
) -> Result<(Vec<u8>, String)> {
    let Source::Package { name, path } = translator.source else {
        return Err(Error::NotPackaged { translator: translator.name });
    };
    let _exclusive = store.exclusive(PATIENCE, report)?;
    let record = store.at("translators").join(format!("{name}-{}.json", translator.guest));
    let client = Client::new(options.first_pause);
    let kept = if options.refresh { None } else { Lock::read(&record).ok() };
    let kept = kept.filter(|lock| packages::missing(store, lock).is_ok_and(|missing| !missing));
    let lock = match kept {
        Some(lock) => lock,
        None => {
            let mirrors = Mirrors::find(options.mirror.as_deref(), &options.apt)?;
            let lock = newest(name, translator, store, &client, &mirrors, options, report)?;
            packages::fetch(store, &client, Some(&mirrors), &lock, report)?;
            lock.write(&record)?;
            lock
        }
    };
    let packaged = lock.packages.first().ok_or_else(|| Error::Incomplete { what: name.to_owned() })?;
    let origin = format!("{name} {}", packaged.version);
    begin(report, Step::Unpack, origin.as_str());
    let deb = packages::read(store, packaged)?;
    match deb::one_file(&deb, &packaged.filename, path, LIMIT)? {
        Some(content) => Ok((content, origin)),
        None => {
            Err(Error::malformed(&packaged.filename, "package of a translator", format!("it has no {path}")))
        }
    }
}

/// The newest version of one package, without what it depends on: a static program needs nothing.
fn newest(
    name: &str,
    translator: &Translator,
    store: &Store,
    client: &Client,
    mirrors: &Mirrors,
    options: &BuildOptions,
    report: Report<'_>,
) -> Result<Lock> {
    let scratch = store.at("tmp");
    let archive = Archive { client, mirrors, keyring: &options.keyring, scratch: &scratch, now: options.now };
    let all = archive.packages(translator.guest, report)?;
    let found = all.iter().filter(|package| package.name == name);
    let newest = found.max_by(|a, b| compare(&a.version, &b.version));
    let newest = newest.ok_or_else(|| Error::Unsatisfied {
        relation: name.to_owned(),
        needed_by: format!("the translator {}", translator.name),
    })?;
    Ok(Lock::new(translator.guest, SUITE, &[newest]))
}

#[cfg(test)]
mod tests {
    use dhow_model::{Arch, TranslatorName};

    use super::*;
    use crate::image::elf::tests_support::{program, with_segments};

    fn qemu() -> &'static Translator {
        TranslatorName::Qemu.translator(Arch::Amd64, Arch::Arm64).unwrap()
    }

    fn names(directory: &Path) -> Vec<String> {
        directory.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Spec 1.4, 1.5.
    #[test]
    fn a_fit_file_is_placed_executable_and_an_earlier_one_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = directory.path().join("bin");
        std::fs::create_dir(&runtime).unwrap();
        let source = directory.path().join("mine");
        for tail in [&[1_u8; 50][..], &[2; 90]] {
            let content = with_segments(Arch::Amd64, &[(1, 0, 120)], tail);
            dhow_home::atomic::write(&source, &content, 0o600).unwrap();
            let placed = provision(&runtime, qemu(), &From::File(&source), &mut |_| {}).unwrap();
            assert_eq!(placed.path, runtime.join("qemu-aarch64"));
            assert_eq!(placed.sha256, hash::bytes(&content));
            assert_eq!(names(&runtime), ["qemu-aarch64"]);
            assert_eq!(super::super::state(&runtime, TranslatorName::Qemu, Arch::Amd64, Arch::Arm64), Ok(()));
        }
        assert!(remove(&runtime, qemu()).unwrap());
        assert!(!remove(&runtime, qemu()).unwrap());
        assert!(names(&runtime).is_empty());
    }

    /// Spec 1.4: a file that fails the check is refused with the reason, and what was there stays.
    #[test]
    fn an_unfit_file_is_refused_and_nothing_is_placed() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = directory.path().join("bin");
        std::fs::create_dir(&runtime).unwrap();
        let source = directory.path().join("mine");
        let table = [
            (b"#!/bin/sh\n".to_vec(), "is not a 64-bit ELF program"),
            (program(Arch::Amd64), "is not a 64-bit ELF program"),
            (
                with_segments(Arch::Arm64, &[(1, 0, 120)], &[]),
                "is a program for arm64, and the guest is amd64",
            ),
            (with_segments(Arch::Amd64, &[(1, 0, 200), (3, 64, 8)], &[0; 40]), "is linked dynamically"),
            (with_segments(Arch::Amd64, &[(1, 0, 500)], &[]), "is truncated"),
        ];
        for (content, reason) in table {
            dhow_home::atomic::write(&source, &content, 0o755).unwrap();
            let error =
                provision(&runtime, qemu(), &From::File(&source), &mut |_| {}).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(source.to_str().unwrap()), "{error}");
            assert!(error.ends_with("nothing was placed"), "{error}");
            assert!(names(&runtime).is_empty());
        }
    }

    #[test]
    fn a_translator_without_a_package_says_how_to_name_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        let options = BuildOptions::new(Arch::Arm64, PathBuf::new());
        let fex = TranslatorName::Fex.translator(Arch::Arm64, Arch::Amd64).unwrap();
        let from = From::Package(&store, &options);
        let error = provision(directory.path(), fex, &from, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("--from FILE") && error.contains("--sha256"), "{error}");
    }
}
