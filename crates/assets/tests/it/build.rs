//! What a build makes, and how it behaves when it is repeated.

use std::process::Command;
use std::sync::atomic::Ordering;

use dhow_assets::{Lock, Store, build, fetch};
use dhow_model::Arch;

use crate::archive::{Archive, write_agent};

fn quiet(_: dhow_assets::Progress) {}

/// Issue 2, point 3: building twice from the same packages gives identical images, byte for byte.
#[test]
fn two_builds_of_the_same_packages_are_identical() {
    let Some(archive) = Archive::start() else { return };
    let bundles: Vec<_> = ["one", "two"]
        .map(|name| {
            let store = Store::open(archive.path(name)).unwrap();
            let bundle = build(&store, &archive.options(), &mut quiet).unwrap();
            store.verify(&bundle, &mut quiet).unwrap();
            bundle
        })
        .into();
    assert_eq!(bundles[0].id, bundles[1].id);
    for (left, right) in [
        (&bundles[0].kernel, &bundles[1].kernel),
        (&bundles[0].initrd, &bundles[1].initrd),
        (&bundles[0].root, &bundles[1].root),
    ] {
        assert_ne!(left.path, right.path);
        assert_eq!(std::fs::read(&left.path).unwrap(), std::fs::read(&right.path).unwrap());
    }
}

/// Spec 7.1: kernel, initial RAM disk with the agent as `/init` and early modules in order, root without documentation.
#[test]
fn the_images_hold_what_a_guest_needs() {
    let Some(archive) = Archive::start() else { return };
    let store = Store::open(archive.path("store")).unwrap();
    let bundle = build(&store, &archive.options(), &mut quiet).unwrap();
    assert_eq!(bundle.manifest.kernel_version, "6.1-test");
    let initrd = std::fs::read(&bundle.initrd.path).unwrap();
    let order = b"/modules/virtio_core.ko\n/modules/virtio_blk.ko\n/modules/overlay.ko\n";
    assert!(initrd.windows(order.len()).any(|window| window == order));
    let agent = std::fs::read(archive.path("agent")).unwrap();
    assert!(initrd.windows(agent.len()).any(|window| window == agent));
    if Command::new("fsck.erofs").arg("--version").output().is_err() {
        println!("skipped the look into the root: erofs-utils is not installed");
        return;
    }
    let extracted = archive.path("extracted");
    let mut command = Command::new("fsck.erofs");
    let output =
        command.arg(format!("--extract={}", extracted.display())).arg(&bundle.root.path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |path: &str| std::fs::read(extracted.join(path)).unwrap();
    assert_eq!(read("usr/sbin/dockerd").len(), 300_000);
    assert_eq!(read("usr/bin/tool"), b"#!/bin/sh\n");
    assert_eq!(read("usr/lib/library.so"), vec![3; 5000]);
    assert_eq!(
        String::from_utf8(read("usr/lib/modules/load-order")).unwrap(),
        "",
        "what the initial RAM disk loaded is not loaded again"
    );
    assert_eq!(std::fs::read_link(extracted.join("bin")).unwrap().to_str(), Some("usr/bin"));
    assert!(!extracted.join("usr/share/doc").exists());
    assert!(!extracted.join("boot").exists());
}

/// A build that has nothing to do returns at once, without the network.
#[test]
fn a_second_build_asks_nobody_and_a_new_agent_costs_no_package() {
    let Some(archive) = Archive::start() else { return };
    let store = Store::open(archive.path("store")).unwrap();
    let first = build(&store, &archive.options(), &mut quiet).unwrap();
    let answers = archive.server.faults.answers.load(Ordering::SeqCst);
    assert_eq!(build(&store, &archive.options(), &mut quiet).unwrap(), first);
    std::fs::remove_dir_all(archive.path("store/packages")).unwrap();
    write_agent(&archive.path("agent"), b"second");
    let second = build(&store, &archive.options(), &mut quiet).unwrap();
    assert_eq!(archive.server.faults.answers.load(Ordering::SeqCst), answers);
    assert_eq!((&second.root, &second.kernel), (&first.root, &first.kernel));
    assert_ne!(second.initrd, first.initrd);
    assert_eq!(store.current(Arch::Amd64).unwrap().unwrap(), second);
    assert_eq!(store.list().unwrap().len(), 2);
}

/// Spec 7.2: a lock file names every input, and a build from it takes these and no newer ones.
#[test]
fn a_build_from_a_lock_takes_the_packages_that_it_names() {
    let Some(mut archive) = Archive::start() else { return };
    let store = Store::open(archive.path("store")).unwrap();
    let mut options = archive.options();
    options.write_lock = Some(archive.path("lock.json"));
    let first = build(&store, &options, &mut quiet).unwrap();
    archive.add("library", "1.3", "", &[("usr/lib/library.so", 0o644, vec![4; 5000])]);
    std::fs::remove_file(archive.index()).unwrap();
    archive.publish(None);
    let mut newer = archive.options();
    newer.refresh = true;
    let second = build(&store, &newer, &mut quiet).unwrap();
    let version =
        |lock: &Lock| lock.packages.iter().find(|package| package.name == "library").unwrap().version.clone();
    assert_eq!((version(&first.manifest.lock), version(&second.manifest.lock)), ("1.2".into(), "1.3".into()));
    let mut pinned = archive.options();
    pinned.lock = Some(archive.path("lock.json"));
    let other = Store::open(archive.path("other")).unwrap();
    assert_eq!(build(&other, &pinned, &mut quiet).unwrap().id, first.id);
    pinned.arch = Arch::Arm64;
    let error = fetch(&other, &pinned, &mut quiet).unwrap_err().to_string();
    assert!(error.contains("is a lock for amd64, but arm64 was asked for"), "{error}");
}

/// Fetching ahead makes a build possible without the mirror.
#[test]
fn after_a_fetch_the_build_needs_no_mirror() {
    let Some(archive) = Archive::start() else { return };
    let store = Store::open(archive.path("store")).unwrap();
    let mut options = archive.options();
    options.write_lock = Some(archive.path("lock.json"));
    fetch(&store, &options, &mut quiet).unwrap();
    std::fs::remove_dir_all(archive.path("debian")).unwrap();
    let mut options = archive.options();
    options.lock = Some(archive.path("lock.json"));
    options.mirror = None;
    build(&store, &options, &mut quiet).unwrap();
}
