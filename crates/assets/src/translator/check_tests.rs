use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::image::elf::tests_support::with_segments;

const GUEST: Arch = Arch::Amd64;

/// A static program: one segment that is all of it.
fn good() -> Vec<u8> {
    with_segments(GUEST, &[(PT_LOAD, 0, 220)], &[0x90; 100])
}

fn put(directory: &Path, name: &str, content: &[u8], mode: u32) -> PathBuf {
    let path = directory.join(name);
    dhow_home::atomic::write(&path, content, mode).unwrap();
    path
}

fn refused(path: &Path) -> Why {
    open(path, GUEST).unwrap_err()
}

/// Spec 1.5.
#[test]
fn a_static_program_of_the_guests_architecture_is_fit() {
    let directory = tempfile::tempdir().unwrap();
    let opened = open(&put(directory.path(), "q", &good(), 0o755), GUEST).unwrap();
    assert_eq!(opened.length, 220);
    // Linked statically and position-independent: it has a dynamic segment that asks for nothing.
    let relocatable = with_segments(GUEST, &[(PT_LOAD, 0, 208), (PT_DYNAMIC, 176, 32)], &[0; 32]);
    assert!(open(&put(directory.path(), "pie", &relocatable, 0o700), GUEST).is_ok());
}

/// Spec 1.5: anything else counts as unprovisioned, each with its reason.
#[test]
fn whatever_is_no_regular_file_is_unprovisioned() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    put(directory.path(), "good", &good(), 0o755);
    std::fs::create_dir(at("directory")).unwrap();
    symlink("good", at("link")).unwrap();
    symlink("nothing", at("dangling")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("pipe"),
        rustix::fs::FileType::Fifo,
        Mode::from_raw_mode(0o755),
        0,
    )
    .unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let table = [
        ("absent", Why::Missing),
        ("good/below", Why::Missing),
        ("directory", Why::Directory),
        ("link", Why::Link { dangling: false }),
        ("dangling", Why::Link { dangling: true }),
        ("pipe", Why::NotRegular),
        ("socket", Why::NotRegular),
    ];
    for (name, why) in table {
        assert_eq!(refused(&at(name)), why, "{name}");
    }
}

/// Spec 1.5.
#[test]
fn whatever_the_guest_could_not_run_is_unprovisioned() {
    const PT_INTERP: u32 = 3;
    let needed: Vec<u8> = DT_NEEDED.to_le_bytes().into_iter().chain([0; 24]).collect();
    let mut short = good();
    short[4] = 1;
    let mut object = good();
    object[16] = 1;
    let table = [
        ("text", b"#!/bin/sh\nexec qemu\n".to_vec(), Why::NotElf),
        ("empty", Vec::new(), Why::NotElf),
        ("thirty-two bits", short, Why::NotElf),
        ("object", object, Why::NotElf),
        ("nothing to load", with_segments(GUEST, &[], &[]), Why::NotElf),
        (
            "other architecture",
            with_segments(Arch::Arm64, &[(PT_LOAD, 0, 120)], &[]),
            Why::WrongArch { found: "arm64".to_owned(), guest: GUEST },
        ),
        (
            "asks for a loader",
            with_segments(GUEST, &[(PT_LOAD, 0, 176), (PT_INTERP, 64, 8)], &[]),
            Why::Dynamic,
        ),
        (
            "asks for a library",
            with_segments(GUEST, &[(PT_LOAD, 0, 208), (PT_DYNAMIC, 176, 32)], &needed),
            Why::Dynamic,
        ),
        ("half", good()[..150].to_vec(), Why::Truncated { needs: 220, has: 150 }),
        ("a header's beginning", good()[..40].to_vec(), Why::Truncated { needs: 64, has: 40 }),
    ];
    let directory = tempfile::tempdir().unwrap();
    for (name, content, why) in table {
        assert_eq!(refused(&put(directory.path(), name, &content, 0o755)), why, "{name}");
    }
}

/// Spec 1.5.
#[test]
fn a_file_without_permission_to_execute_or_of_any_size_is_unprovisioned() {
    let directory = tempfile::tempdir().unwrap();
    let path = put(directory.path(), "q", &good(), 0o644);
    assert_eq!(refused(&path), Why::NotExecutable);
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(LIMIT + 1).unwrap();
    assert_eq!(refused(&path), Why::TooLarge { has: LIMIT + 1, limit: LIMIT });
}

/// Spec 1.4: the state names the file that is looked for; where there is no such translator it says that.
#[test]
fn the_state_names_the_file_of_the_table() {
    let directory = tempfile::tempdir().unwrap();
    let missing = state(directory.path(), TranslatorName::Qemu, Arch::Amd64, Arch::Arm64).unwrap_err();
    assert_eq!(missing.file.as_deref(), Some(directory.path().join("qemu-aarch64").as_path()));
    assert_eq!(missing.why, Why::Missing);
    let none = state(directory.path(), TranslatorName::Fex, Arch::Amd64, Arch::Arm64).unwrap_err();
    assert_eq!(none.why, Why::NoSuchPair { serves: Arch::Arm64, guest: Arch::Amd64 });
    if !cfg!(target_os = "macos") {
        let other = state(directory.path(), TranslatorName::Rosetta, Arch::Arm64, Arch::Amd64).unwrap_err();
        assert_eq!(other.why, Why::OtherHost);
    }
    put(directory.path(), "qemu-aarch64", &good(), 0o755);
    assert_eq!(state(directory.path(), TranslatorName::Qemu, Arch::Amd64, Arch::Arm64), Ok(()));
}

proptest! {
    /// Spec 1.5: a file that lost its end is never fit, wherever it was cut.
    #[test]
    fn no_cut_of_a_good_file_is_fit(at in 0_usize..220) {
        let directory = tempfile::tempdir().unwrap();
        let path = put(directory.path(), "q", &good()[..at], 0o755);
        prop_assert!(open(&path, GUEST).is_err());
    }

    #[test]
    fn no_file_makes_the_check_panic(tail in prop::collection::vec(any::<u8>(), 57..400)) {
        let directory = tempfile::tempdir().unwrap();
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.extend(tail);
        let path = put(directory.path(), "q", &bytes, 0o755);
        prop_assert!(open(&path, GUEST).map(|opened| opened.length).unwrap_or(0) <= bytes.len() as u64);
    }
}
