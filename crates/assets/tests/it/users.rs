//! A store that belongs to somebody else, and one on a disk that is full.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use dhow_assets::{Error, Store, build};
use dhow_model::Arch;

use crate::archive::Archive;

fn quiet(_: dhow_assets::Progress) {}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

/// Not a test of its own: the reader of [`a_store_of_another_user_can_be_booted_from`].
#[test]
fn reader_of_another_users_store() {
    let Ok(directory) = std::env::var("DHOW_TEST_READER") else { return };
    let store = Store::open(directory.into()).unwrap();
    let bundle = store.current(Arch::Amd64).unwrap().unwrap();
    store.check_quick(&bundle).unwrap();
    store.verify(&bundle, &mut quiet).unwrap();
    store.register_use("/nonexistent".as_ref(), &bundle.digests()).unwrap();
    store.release_use("/nonexistent".as_ref()).unwrap();
    assert!(store.clean(false).is_err());
    println!("another user read it all");
}

/// The store is shared: a user who may not write to it boots from it all the same.
#[test]
fn a_store_of_another_user_can_be_booted_from() {
    let Some(archive) = Archive::start() else { return };
    if !is_root() {
        println!("skipped: only root can become another user");
        return;
    }
    let store = Store::open(archive.path("store")).unwrap();
    build(&store, &archive.options(), &mut quiet).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(archive.directory.path(), open).unwrap();
    let program = archive.path("reader");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = Command::new(program);
    command.args(["--exact", "users::reader_of_another_users_store", "--nocapture"]).uid(65534).gid(65534);
    let output = command.env("DHOW_TEST_READER", archive.path("store")).current_dir("/").output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("another user read it all"), "{text}");
}

/// A file system that is unmounted when the test ends.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

/// A full disk is a clear error; with more room the same command goes on.
#[test]
fn a_full_disk_is_an_error_and_nothing_half_made_is_used() {
    let Some(archive) = Archive::start() else { return };
    let directory = archive.path("small");
    std::fs::create_dir(&directory).unwrap();
    let mount = |options: &str| {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "dhow-test"]).arg(&directory).output()
    };
    if !is_root() || !mount("size=480k").is_ok_and(|output| output.status.success()) {
        println!("skipped: a small file system needs root");
        return;
    }
    let _mounted = Mounted(directory.clone());
    let store = Store::open(directory.join("store")).unwrap();
    let error = build(&store, &archive.options(), &mut quiet).unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("free some space"), "{error}");
    assert_eq!((store.current(Arch::Amd64).unwrap(), store.list().unwrap()), (None, Vec::new()));
    assert!(mount("remount,size=8m").is_ok_and(|output| output.status.success()));
    let bundle = build(&store, &archive.options(), &mut quiet).unwrap();
    store.verify(&bundle, &mut quiet).unwrap();
}
