//! Everything that can be wrong with what comes from outside: each is one precise error, and nothing of it is used.

use std::time::{Duration, SystemTime};

use dhow_assets::{Error, Store, build};
use dhow_model::Arch;

use crate::archive::{Archive, flip};

fn quiet(_: dhow_assets::Progress) {}

fn error_of(archive: &Archive, change: impl FnOnce(&mut dhow_assets::BuildOptions)) -> Error {
    let store = Store::open(archive.path("store")).unwrap();
    let mut options = archive.options();
    change(&mut options);
    let error = build(&store, &options, &mut quiet).unwrap_err();
    assert_eq!(store.current(Arch::Amd64).unwrap(), None);
    assert_eq!(store.list().unwrap(), []);
    error
}

/// Spec 7.2: a wrong hash names file, expected and found.
#[test]
fn a_flipped_bit_in_the_package_index_is_an_error_with_both_digests() {
    let Some(archive) = Archive::start() else { return };
    let index = archive.index();
    flip(&index, 40);
    let error = error_of(&archive, |_| {});
    let Error::WrongHash { name, expected, found, .. } = &error else { panic!("{error}") };
    assert!(name.ends_with(index.file_name().unwrap().to_str().unwrap()), "{name}");
    assert_eq!(expected.as_str(), index.file_name().unwrap().to_str().unwrap());
    assert_eq!(*found, dhow_assets::hash::file(&index).unwrap().0);
}

#[test]
fn a_flipped_bit_in_the_signed_release_is_an_error() {
    let Some(archive) = Archive::start() else { return };
    let release = archive.path("debian/dists/trixie/InRelease");
    let text = std::fs::read_to_string(&release).unwrap();
    let at = text.find("Packages.xz").unwrap();
    flip(&release, at);
    let error = error_of(&archive, |_| {});
    assert!(matches!(error, Error::Signature { .. }), "{error}");
}

/// Text outside the signed part is not believed.
#[test]
fn what_stands_around_the_signed_text_is_ignored() {
    let Some(archive) = Archive::start() else { return };
    let release = archive.path("debian/dists/trixie/InRelease");
    let text = std::fs::read_to_string(&release).unwrap();
    let forged = "SHA256:\n 0000000000000000000000000000000000000000000000000000000000000000 9 main/binary-amd64/Packages.xz\n\n";
    crate::archive::write(&release, format!("{forged}{text}").as_bytes());
    let store = Store::open(archive.path("store")).unwrap();
    match build(&store, &archive.options(), &mut quiet) {
        Ok(_) | Err(Error::Signature { .. }) => {}
        Err(other) => panic!("the forged digest was used: {other}"),
    }
}

#[test]
fn an_archive_signed_by_nobody_whom_we_trust_is_refused() {
    let Some(archive) = Archive::start() else { return };
    let Some(stranger) = Archive::start() else { return };
    let error = error_of(&archive, |options| options.keyring = stranger.path("keyring.gpg"));
    let Error::Signature { url, .. } = &error else { panic!("{error}") };
    assert!(url.ends_with("/dists/trixie/InRelease"));
}

#[test]
fn a_missing_keyring_is_an_error_that_names_the_package() {
    let Some(archive) = Archive::start() else { return };
    let error = error_of(&archive, |options| options.keyring = "/nonexistent".into()).to_string();
    assert!(error.contains("install the package `debian-archive-keyring`"), "{error}");
}

#[test]
fn a_release_whose_time_has_passed_is_refused() {
    let Some(archive) = Archive::start() else { return };
    archive.publish(Some("Mon, 02 Nov 2026 00:00:00 UTC"));
    // 3 November 2026, a day later.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_793_664_000);
    let error = error_of(&archive, |options| options.now = now);
    assert!(matches!(error, Error::Expired { .. }), "{error}");
}

#[test]
fn a_flipped_bit_in_a_package_is_an_error_and_the_next_build_fetches_it_again() {
    let Some(archive) = Archive::start() else { return };
    let package = archive.path("debian/pool/engine_26.deb");
    flip(&package, 1000);
    let error = error_of(&archive, |_| {});
    assert!(matches!(&error, Error::WrongHash { name, .. } if name.ends_with("engine_26.deb")), "{error}");
    flip(&package, 1000);
    let store = Store::open(archive.path("store")).unwrap();
    build(&store, &archive.options(), &mut quiet).unwrap();
}

#[test]
fn a_package_that_rots_in_the_cache_is_noticed() {
    let Some(archive) = Archive::start() else { return };
    let store = Store::open(archive.path("store")).unwrap();
    let bundle = build(&store, &archive.options(), &mut quiet).unwrap();
    for kind in ["blobs/sha256", "manifests", "current", "stamps"] {
        for entry in archive.path("store").join(kind).read_dir().unwrap() {
            std::fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }
    let engine = bundle.manifest.lock.packages.iter().find(|package| package.name == "engine").unwrap();
    flip(&archive.path("store/packages").join(&engine.sha256), 500);
    let error = error_of(&archive, |_| {});
    assert!(matches!(&error, Error::WrongHash { name, .. } if name.contains("engine_26.deb")), "{error}");
    assert_eq!(build(&store, &archive.options(), &mut quiet).unwrap().id, bundle.id);
}

#[test]
fn a_mirror_that_lacks_a_package_is_an_error_with_the_address() {
    let Some(archive) = Archive::start() else { return };
    std::fs::remove_file(archive.path("debian/pool/library_1.2.deb")).unwrap();
    let error = error_of(&archive, |_| {});
    assert!(
        matches!(&error, Error::NotOnMirror { url, status: 404 } if url.ends_with("library_1.2.deb")),
        "{error}"
    );
}

#[test]
fn without_a_mirror_the_error_names_the_options() {
    let Some(archive) = Archive::start() else { return };
    let error = error_of(&archive, |options| options.mirror = None);
    assert!(matches!(error, Error::NoMirror), "{error}");
}
