//! Cut connections, killed builders, and two at once.

use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dhow_assets::{Error, Progress, Step, Store, build};
use dhow_model::Arch;

use crate::archive::Archive;

fn quiet(_: Progress) {}

/// Spec 7.2: downloads are resumed.
#[test]
fn a_download_that_is_cut_goes_on_where_it_stopped() {
    let Some(archive) = Archive::start() else { return };
    *archive.server.faults.cut.lock().unwrap() = Some((10_000, 3));
    let store = Store::open(archive.path("store")).unwrap();
    build(&store, &archive.options(), &mut quiet).unwrap();
    let ranges = archive.server.faults.ranges.lock().unwrap().clone();
    assert_eq!(ranges, ["10000-", "20000-", "30000-"]);
}

#[test]
fn a_download_that_is_always_cut_is_given_up_with_the_reason_and_resumed_by_the_next_build() {
    let Some(archive) = Archive::start() else { return };
    *archive.server.faults.cut.lock().unwrap() = Some((10_000, 4));
    let store = Store::open(archive.path("store")).unwrap();
    let error = build(&store, &archive.options(), &mut quiet).unwrap_err();
    assert!(matches!(&error, Error::Download { url, .. } if url.ends_with("engine_26.deb")), "{error}");
    build(&store, &archive.options(), &mut quiet).unwrap();
    assert_eq!(archive.server.faults.ranges.lock().unwrap().last().unwrap(), "40000-");
}

/// A part that another program damaged is not built upon.
#[test]
fn a_damaged_part_is_thrown_away_and_fetched_anew() {
    let Some(archive) = Archive::start() else { return };
    *archive.server.faults.cut.lock().unwrap() = Some((10_000, 4));
    let store = Store::open(archive.path("store")).unwrap();
    build(&store, &archive.options(), &mut quiet).unwrap_err();
    let part = archive.path("store/packages").read_dir().unwrap().map(|entry| entry.unwrap().path());
    let part = part.into_iter().find(|path| path.extension().is_some()).unwrap();
    crate::archive::flip(&part, 99);
    build(&store, &archive.options(), &mut quiet).unwrap();
}

/// Not a test of its own: the builder that [`a_killed_build_leaves_nothing_that_is_used`] kills.
#[test]
fn killable_builder() {
    let Ok(words) = std::env::var("DHOW_TEST_BUILDER") else { return };
    let [root, mirror]: [&str; 2] = words.split('|').collect::<Vec<_>>().try_into().unwrap();
    let root = std::path::Path::new(root);
    let mut options = dhow_assets::BuildOptions::new(Arch::Amd64, root.join("agent"));
    options.mirror = Some(mirror.to_owned());
    options.apt = root.join("no-apt");
    options.keyring = root.join("keyring.gpg");
    options.recipe = serde_json::from_slice(&std::fs::read(root.join("recipe.json")).unwrap()).unwrap();
    build(&Store::open(root.join("store")).unwrap(), &options, &mut quiet).unwrap();
}

/// Issue 2, point 3: interrupted anywhere, it resumes or restarts cleanly and nothing half-made is ever used.
#[test]
fn a_killed_build_leaves_nothing_that_is_used() {
    let Some(archive) = Archive::start() else { return };
    let options = archive.options();
    crate::archive::write(&archive.path("recipe.json"), &serde_json::to_vec(&options.recipe).unwrap());
    let expected = build(&Store::open(archive.path("undisturbed")).unwrap(), &options, &mut quiet).unwrap();
    archive.server.faults.rate.store(3_000_000, Ordering::SeqCst);
    let words = format!("{}|{}", archive.directory.path().display(), options.mirror.as_deref().unwrap());
    let mut killed = 0;
    for round in 0..12_u64 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "interruption::killable_builder"]).env("DHOW_TEST_BUILDER", &words);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let end = Instant::now() + Duration::from_millis(15 + round * 29);
        while Instant::now() < end {
            std::thread::park_timeout(end - Instant::now());
        }
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
        let store = Store::open(archive.path("store")).unwrap();
        for bundle in store.list().unwrap() {
            store.verify(&bundle, &mut quiet).unwrap();
        }
        if let Some(current) = store.current(Arch::Amd64).unwrap() {
            store.check_quick(&current).unwrap();
        }
    }
    assert!(killed > 2, "the builder was too fast for this test: {killed} of 12 were killed");
    let store = Store::open(archive.path("store")).unwrap();
    let bundle = build(&store, &options, &mut quiet).unwrap();
    assert_eq!(bundle.id, expected.id);
    store.verify(&bundle, &mut quiet).unwrap();
    assert_eq!(archive.path("store/tmp").read_dir().unwrap().count(), 0);
}

#[test]
fn two_builders_at_once_wait_for_each_other_and_agree() {
    let Some(archive) = Archive::start() else { return };
    archive.server.faults.rate.store(2_000_000, Ordering::SeqCst);
    let store = Store::open(archive.path("store")).unwrap();
    let results = std::thread::scope(|scope| {
        let work = || {
            let mut waited = false;
            let bundle = build(&store, &archive.options(), &mut |progress| {
                waited |= matches!(progress, Progress::Begin { step: Step::Wait, .. });
            });
            (bundle.unwrap().id, waited)
        };
        let others: Vec<_> = (0..3).map(|_| scope.spawn(work)).collect();
        others.into_iter().map(|other| other.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(results.iter().all(|(id, _)| *id == results[0].0));
    assert!(results.iter().any(|(_, waited)| *waited));
}

/// Cleaning does not disturb a build.
#[test]
fn clean_refuses_while_a_build_runs() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path().join("store")).unwrap();
    let path = store.path().join("locks/build");
    let held = dhow_home::lock::FileLock::try_exclusive(&path).unwrap().unwrap();
    assert!(matches!(store.clean(false), Err(Error::Busy { .. })));
    drop(held);
    assert_eq!(store.clean(false).unwrap(), []);
}
