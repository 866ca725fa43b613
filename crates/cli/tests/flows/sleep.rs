//! `suspend`, `resume`, `down --suspend`: the engine's sleep as a shell sees it.

use dhow_home::lock::FileLock;
use serde_json::Value;

use crate::scene::Scene;

/// Spec 13.1, 15.1: asleep is a way of running, and the second time there is nothing to do.
#[test]
fn an_engine_is_put_to_sleep_and_woken_and_status_tells() {
    let scene = Scene::new();
    scene.run("up", "").expect(0);
    let slept = scene.run("suspend", "").expect(0);
    assert!(slept.stdout.starts_with("The engine sleeps ("), "{}", slept.stdout);
    assert_eq!(slept.stderr, "putting native to sleep\n");
    let status = scene.run("status", "").expect(0);
    assert!(
        status.stdout.contains("asleep") && status.stdout.contains("the next request wakes it"),
        "{}",
        status.stdout
    );
    assert_eq!(scene.run("suspend --json", "").expect(0).document()["changed"], false);
    assert_eq!(scene.run("suspend", "").expect(0).stdout, "No machine was awake.\n");
    let woken = scene.run("resume native --json", "").expect(0).document();
    assert_eq!((&woken["event"], &woken["changed"]), (&Value::from("done"), &Value::from(true)));
    assert_eq!(scene.run("resume", "").expect(0).stdout, "No machine slept.\n");
    scene.run("down", "").expect(0);
}

/// Spec 15.1: what is off is left off, and no daemon is started to say so.
#[test]
fn an_engine_that_is_off_is_neither_put_to_sleep_nor_woken() {
    let scene = Scene::new();
    assert_eq!(scene.run("suspend", "").expect(0).stdout, "No machine was awake.\n");
    assert_eq!(scene.run("resume", "").expect(0).stdout, "No machine slept.\n");
    assert!(!scene.home.root().exists());
    let typed = scene.run("suspend natvie", "").expect(2);
    assert!(typed.stderr.contains("natvie"), "{}", typed.stderr);
    scene.run("down --suspend --force", "").expect(2);
}

/// Spec 15.1: what happened, why, and what to type next.
#[test]
fn a_machine_that_cannot_be_put_to_sleep_is_told_with_its_reason() {
    let scene = Scene::new();
    scene.run("up", "fail-suspend").expect(0);
    let failed = scene.run("suspend", "").expect(1);
    assert!(failed.stderr.contains("error: native was not put to sleep\n"), "{}", failed.stderr);
    assert!(failed.stderr.contains("the disk is full"), "{}", failed.stderr);
    assert_eq!(scene.run("suspend --json", "").expect(1).document()["error"]["code"], "not-suspended");
    scene.run("down", "").expect(0);
}

/// Spec 13.1, 15.2: saved for good the daemon ends and the context is as it was before.
#[test]
fn down_that_saves_ends_the_daemon_and_says_how_to_go_on() {
    let scene = Scene::new();
    scene.run("up", "").expect(0);
    let down = scene.run("down --suspend", "").expect(0);
    assert!(down.stdout.starts_with("The engine is saved to disk ("), "{}", down.stdout);
    assert!(!FileLock::is_held(&scene.home.daemon_lock()).unwrap());
}

/// Spec 16.3: what sleeps on disk without any process is seen without a daemon, and `down` does not pass it by.
#[test]
fn what_sleeps_on_disk_is_told_without_a_daemon() {
    let scene = Scene::new();
    let sleep = scene.home.machine(&dhow_model::MachineName::native()).sleep();
    scene.home.create().unwrap();
    std::fs::create_dir_all(&sleep).unwrap();
    dhow_home::atomic::write(&sleep.join("state.json"), b"{}", 0o600).unwrap();
    let status = scene.run("status", "").expect(3);
    assert!(status.stdout.contains("saved to disk"), "{}", status.stdout);
    assert_eq!(scene.run("status --json", "").expect(3).document()["saved"], serde_json::json!(["native"]));
    assert_eq!(scene.run("down --suspend", "").expect(0).stdout, "The engine was not running.\n");
    let down = scene.run("down", "").expect(0);
    assert!(down.stderr.contains("note: native sleeps; a daemon is started to stop it"), "{}", down.stderr);
}
