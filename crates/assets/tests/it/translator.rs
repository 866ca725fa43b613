//! Translators out of the archive's packages.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use dhow_assets::translator::{From, Placed, provision};
use dhow_assets::{BuildOptions, Error, Store};
use dhow_model::translator::{Translator, probe};
use dhow_model::{Arch, TranslatorName};

use crate::archive::{Archive, flip};

const FILE: &str = "usr/bin/qemu-aarch64";

fn qemu() -> &'static Translator {
    TranslatorName::Qemu.translator(Arch::Amd64, Arch::Arm64).unwrap()
}

/// A static program of this architecture, told apart by its tail.
fn program(tail: &[u8]) -> Vec<u8> {
    let mut program = probe::program(Arch::Amd64);
    program.extend_from_slice(tail);
    program
}

fn runtime(archive: &Archive) -> PathBuf {
    let runtime = archive.path("runtime");
    std::fs::create_dir_all(&runtime).unwrap();
    runtime
}

fn take(archive: &Archive, options: &BuildOptions) -> Result<Placed, Error> {
    let store = Store::open(archive.path("store")).unwrap();
    provision(&runtime(archive), qemu(), &From::Package(&store, options), &mut |_| {})
}

/// Issue 6: provisioned from the distribution's packages, and again without the network.
#[test]
fn a_translator_is_taken_from_its_verified_package_and_the_next_time_from_the_store() {
    let Some(mut archive) = Archive::start() else { return };
    let other = ("usr/bin/qemu-arm", 0o755, program(b"arm"));
    archive.add("qemu-user", "10.0", "", &[other.clone(), (FILE, 0o755, program(b"ten"))]);
    archive.add("qemu-user", "9.2", "", &[(FILE, 0o755, program(b"nine"))]);
    archive.publish(None);
    let placed = take(&archive, &archive.options()).unwrap();
    assert_eq!(placed.origin, "qemu-user 10.0");
    assert_eq!(std::fs::read(&placed.path).unwrap(), program(b"ten"));
    let answers = archive.server.faults.answers.load(Ordering::SeqCst);
    assert_eq!(take(&archive, &archive.options()).unwrap(), placed);
    assert_eq!(
        archive.server.faults.answers.load(Ordering::SeqCst),
        answers,
        "nothing was asked of the mirror"
    );
    // A newer one, when it is asked for.
    std::fs::remove_file(archive.index()).unwrap();
    archive.add("qemu-user", "10.1", "", &[(FILE, 0o755, program(b"newer"))]);
    archive.publish(None);
    let options = BuildOptions { refresh: true, ..archive.options() };
    assert_eq!(take(&archive, &options).unwrap().origin, "qemu-user 10.1");
}

/// Spec 1.4, 7.2: what is not what the index promises, or not fit, is not placed.
#[test]
fn a_damaged_package_and_an_unfit_file_place_nothing() {
    let Some(mut archive) = Archive::start() else { return };
    let missing = take(&archive, &archive.options()).unwrap_err();
    assert!(missing.to_string().contains("qemu-user"), "{missing}");
    std::fs::remove_file(archive.index()).unwrap();
    archive.add("qemu-user", "10.0", "", &[(FILE, 0o755, program(b"ten"))]);
    archive.publish(None);
    let deb = archive.path("debian/pool/qemu-user_10.0.deb");
    flip(&deb, 300);
    let damaged = take(&archive, &archive.options()).unwrap_err();
    assert!(matches!(damaged, Error::WrongHash { .. }), "{damaged}");
    std::fs::remove_file(archive.index()).unwrap();
    archive.add("qemu-user", "11.0", "", &[(FILE, 0o755, b"#!/bin/sh\n".to_vec())]);
    archive.publish(None);
    let unfit = take(&archive, &archive.options()).unwrap_err().to_string();
    assert!(unfit.contains("qemu-user 11.0 cannot be qemu for arm64") && unfit.contains("ELF"), "{unfit}");
    assert_eq!(runtime(&archive).read_dir().unwrap().count(), 0);
}

/// Issue 6: an address counts only with its digest.
#[test]
fn an_address_is_taken_only_with_the_right_digest() {
    let Some(archive) = Archive::start() else { return };
    let content = program(b"from an address");
    crate::archive::write(&archive.path("debian/qemu"), &content);
    let url = format!("{}/debian/qemu", archive.server.address);
    let from = |sha256: &str| {
        provision(&runtime(&archive), qemu(), &From::Address { url: &url, sha256 }, &mut |_| {})
    };
    let wrong = from(&"0".repeat(64)).unwrap_err().to_string();
    assert!(wrong.contains("expected SHA-256 000") && wrong.ends_with("nothing was placed"), "{wrong}");
    assert_eq!(from(&dhow_assets::hash::bytes(&content)).unwrap().size, content.len() as u64);
}
