//! The real archive. It needs the network and about a minute, and fetches 110 MB for each architecture:
//! `cargo nextest run -p dhow-assets --run-ignored only`, with `DHOW_TEST_DIRECTORY` to keep the packages for the next time.

use std::time::Instant;

use dhow_assets::{BuildOptions, Error, Store, build};
use dhow_model::Arch;

/// Issue 2, point 3: both architectures, twice, identical.
#[test]
#[ignore = "needs a Debian mirror and a minute"]
fn real_packages_build_twice_the_same_for_both_architectures() {
    let kept = std::env::var_os("DHOW_TEST_DIRECTORY");
    let temporary = tempfile::tempdir().unwrap();
    let root = kept.map_or_else(|| temporary.path().to_path_buf(), Into::into);
    for arch in Arch::ALL {
        let agent = root.join(format!("agent-{arch}"));
        std::fs::create_dir_all(&root).unwrap();
        crate::archive::write_agent_for(&agent, arch, b"no real agent");
        let store = Store::open(root.join("store")).unwrap();
        let mut options = BuildOptions::new(arch, agent);
        options.refresh = true;
        let lock = root.join(format!("{arch}.lock"));
        options.write_lock = Some(lock.clone());
        let bundle = match build(&store, &options, &mut |_| {}) {
            Err(Error::NoMirror | Error::MissingProgram { .. } | Error::MissingKeyring { .. }) => {
                println!("skipped: this host has no Debian mirror, gpgv or keyring");
                return;
            }
            other => other.unwrap(),
        };
        store.verify(&bundle, &mut |_| {}).unwrap();
        let second = tempfile::tempdir().unwrap();
        let other = Store::open(second.path().join("store")).unwrap();
        for package in store.path().join("packages").read_dir().unwrap() {
            let package = package.unwrap();
            std::fs::copy(package.path(), other.path().join("packages").join(package.file_name())).unwrap();
        }
        options.lock = Some(lock);
        options.write_lock = None;
        options.mirror = Some("http://127.0.0.1:9/nothing".into());
        let began = Instant::now();
        let again = build(&other, &options, &mut |_| {}).unwrap();
        println!("{arch}: {} built from cached packages in {:?}", bundle.id, began.elapsed());
        assert_eq!(again.manifest, bundle.manifest);
        let took = (0..10).map(|_| {
            let began = Instant::now();
            other.check_quick(&again).unwrap();
            began.elapsed()
        });
        let best = took.min().unwrap();
        println!("{arch}: looked at before a boot in {best:?}");
        assert!(best.as_millis() < 50, "{best:?}");
    }
}
