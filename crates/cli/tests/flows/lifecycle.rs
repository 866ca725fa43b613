//! `up`, `down`, `status`, `version`: the daemon's life as a shell sees it.

use std::io::{BufReader, Read as _};
use std::time::{Duration, Instant};

use dhow_home::lock::FileLock;
use dhow_model::MachineName;
use serde_json::Value;

use crate::scene::{Ended, Scene, interrupt, until};

/// Spec 15.1.
#[test]
fn up_starts_a_daemon_and_the_engine_and_a_pipe_gets_a_line_for_each_step() {
    let scene = Scene::new();
    let up = scene.run("up", "drift").expect(0);
    assert_eq!(
        up.stderr,
        "connecting to the daemon\nbuilding boot assets\nstarting native\nnote: native was made anew: memory\n"
    );
    assert!(up.stdout.starts_with("The engine runs.\n"), "{}", up.stdout);
    assert!(up.stdout.contains(&scene.home.docker_socket().display().to_string()));
    scene.run("status", "").expect(0);
    let again = scene.run("up", "").expect(0);
    assert!(again.stdout.starts_with("The engine was running already.\n"), "{}", again.stdout);
    let down = scene.run("down", "").expect(0);
    assert!(down.stdout.starts_with("The engine is stopped"), "{}", down.stdout);
    assert!(!FileLock::is_held(&scene.home.daemon_lock()).unwrap());
}

/// Spec 15.1: that it is not running is a success that says so.
#[test]
fn down_of_an_engine_that_is_not_running_is_a_success_and_starts_nothing() {
    let scene = Scene::new();
    let down = scene.run("down", "").expect(0);
    assert_eq!(down.stdout, "The engine was not running.\n");
    assert!(!scene.home.root().exists());
}

#[test]
fn status_and_version_start_no_daemon_and_status_says_so_by_its_exit_status() {
    let scene = Scene::new();
    let status = scene.run("status", "").expect(3);
    assert!(status.stdout.contains("not running"), "{}", status.stdout);
    assert_eq!(scene.run("status --json", "").expect(3).document()["running"], false);
    assert_eq!(scene.run("version --json", "").expect(0).document()["daemon"], Value::Null);
    assert!(!scene.home.root().exists());
}

#[test]
fn a_directory_that_cannot_be_used_is_told_before_anything_is_started() {
    let scene = Scene::new();
    dhow_home::atomic::write(scene.home.root(), b"", 0o600).unwrap();
    let up = scene.run("up", "").expect(1);
    assert!(up.stderr.starts_with("error: Dhow's directory cannot be used\n"), "{}", up.stderr);
    scene.run("status", "").expect(3);
    let mut relative = scene.command("status", "");
    let relative = Ended::of(relative.env("DHOW_HOME", "here").output().unwrap()).expect(1);
    assert!(relative.stderr.contains("not an absolute path"), "{}", relative.stderr);
}

/// Spec 15.2.
#[test]
fn up_makes_the_context_current_and_down_restores_the_previous_one() {
    let scene = Scene::new();
    scene.run("config set docker.activate always", "").expect(0);
    let up = scene.run("up --json", "").expect(0).document();
    assert_eq!(up["context"]["current"], true);
    assert_eq!(up["context"]["previous"], "default");
    let down = scene.run("down --json", "").expect(0).document();
    assert_eq!(down["restored_context"], "default");
    assert_eq!(scene.run("context --json", "").expect(0).document()["current"], false);
}

/// Spec 15.2.
#[test]
fn up_warns_when_the_environment_overrides_the_context() {
    let scene = Scene::new();
    let mut command = scene.command("up", "");
    let up = Ended::of(command.env("DOCKER_HOST", "tcp://build:2375").output().unwrap()).expect(0);
    assert!(up.stderr.contains("warning: DOCKER_HOST is set to tcp://build:2375"), "{}", up.stderr);
    let mut command = scene.command("doctor", "");
    let doctor = Ended::of(command.env("DOCKER_CONTEXT", "other").output().unwrap()).expect(0);
    assert!(doctor.stdout.contains("DOCKER_CONTEXT is set to other"), "{}", doctor.stdout);
}

/// Spec 15.1: what happened, why, and what to type next.
#[test]
fn a_start_that_fails_is_told_in_the_daemons_words() {
    let scene = Scene::new();
    let up = scene.run("up", "fail-up").expect(1);
    insta::assert_snapshot!(up.error(&scene), @r#"
    error: native did not start
      its kernel panicked
      try: dhow logs console
    "#);
    let up = scene.run("up --json", "").expect(1).document();
    assert_eq!(up["error"]["code"], "kernel-panic");
    assert_eq!(up["error"]["hint"], "dhow logs console");
}

#[test]
fn a_daemon_that_refuses_to_start_is_told_in_its_words() {
    let scene = Scene::new();
    let up = scene.run("up", "refuse").expect(1);
    insta::assert_snapshot!(up.error(&scene), @r#"
    error: the disk is full
      12 KiB are free
      try: free 2 GiB
    "#);
}

#[test]
fn a_daemon_that_dies_at_once_is_told_with_its_last_words() {
    let scene = Scene::new();
    let up = scene.run("up", "die").expect(1);
    insta::assert_snapshot!(up.error(&scene), @r#"
    error: the daemon ended before it was ready
      cannot bear this world
      try: dhow logs daemon
    "#);
    let logs = scene.run("logs daemon", "").expect(0);
    assert_eq!(logs.stdout, "cannot bear this world\n");
}

#[test]
fn a_daemon_that_vanishes_is_told_with_the_step_that_it_was_at() {
    let scene = Scene::new();
    let up = scene.run("up", "vanish").expect(1);
    assert!(up.stderr.contains("the daemon went away during: starting native"), "{}", up.stderr);
    // Its socket stays behind, and is no obstacle.
    assert!(scene.home.control_socket().exists());
    scene.run("status", "").expect(3);
    scene.run("up", "").expect(0);
}

/// Spec 16.2.
#[test]
fn every_wait_ends_at_the_time_limit_and_names_its_step() {
    for (wrong, words, step) in [
        ("silent-up", "up --time-limit 1", "waited for: starting native"),
        ("mute", "up --time-limit 1", "waited for: the daemon's start"),
    ] {
        let scene = Scene::new();
        let began = Instant::now();
        let up = scene.run(words, wrong).expect(1);
        assert!(up.stderr.contains("gave up after 1 s") && up.stderr.contains(step), "{}", up.stderr);
        assert!(began.elapsed() < Duration::from_secs(8));
    }
    let scene = Scene::new();
    scene.home.create().unwrap();
    let mut daemon = scene.start("daemon", "stuck");
    let mut out = BufReader::new(daemon.stdout.take().unwrap());
    until(&mut out, "ready");
    let status = scene.run("status --time-limit 1", "").expect(1);
    assert!(status.stderr.contains("waited for: the daemon's version"), "{}", status.stderr);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

/// Spec 16.3: a daemon that never served is not left behind.
#[test]
fn a_daemon_that_never_becomes_ready_is_ended() {
    let scene = Scene::new();
    scene.run("up --time-limit 1", "mute").expect(1);
    let ended = Instant::now();
    while FileLock::is_held(&scene.home.daemon_lock()).unwrap() {
        assert!(ended.elapsed() < Duration::from_secs(5), "it still runs");
        std::thread::yield_now();
    }
}

#[test]
fn of_several_starts_at_once_one_starts_the_daemon_and_all_succeed() {
    let scene = Scene::new();
    let children: Vec<_> = (0..4).map(|_| scene.start("up --json", "")).collect();
    for child in children {
        Ended::of(child.wait_with_output().unwrap()).expect(0);
    }
    let log = std::fs::read_to_string(scene.home.daemon_log()).unwrap();
    assert_eq!(log, "", "a second daemon was started and complained");
}

#[test]
fn a_daemon_of_another_version_is_told_and_one_of_another_protocol_refused() {
    let scene = Scene::new();
    let up = scene.run("up", "version").expect(0);
    assert!(up.stderr.contains("version 9.9.9, this dhow is"), "{}", up.stderr);
    let version = scene.run("version", "").expect(0);
    assert!(version.stdout.contains("9.9.9") && version.stderr.contains("warning:"), "{version:?}");
    scene.run("down", "").expect(0);
    let up = scene.run("up", "protocol").expect(1);
    assert!(up.stderr.contains("another version") && up.stderr.contains("protocol 99"), "{}", up.stderr);
    scene.run("down", "").expect(0);
}

/// Spec 6.9: a machine that goes on without its daemon can be stopped.
#[test]
fn down_starts_a_daemon_for_a_machine_that_runs_without_one() {
    let scene = Scene::new();
    scene.home.create().unwrap();
    let machine = scene.home.machine(&MachineName::native());
    machine.create().unwrap();
    let supervisor = FileLock::try_exclusive(&machine.supervisor_lock()).unwrap().unwrap();
    let status = scene.run("status --json", "").expect(3).document();
    assert_eq!(status["without_daemon"][0], "native");
    let down = scene.run("down", "").expect(0);
    assert!(down.stderr.contains("native runs without a daemon"), "{}", down.stderr);
    assert!(down.stdout.starts_with("The engine is stopped"), "{}", down.stdout);
    drop(supervisor);
}

#[test]
fn ctrl_c_during_up_says_that_the_start_goes_on_and_how_to_stop_it() {
    let scene = Scene::new();
    let mut up = scene.start("up", "silent-up");
    let mut err = BufReader::new(up.stderr.take().unwrap());
    until(&mut err, "starting native");
    interrupt(&up);
    let mut rest = String::new();
    err.read_to_string(&mut rest).unwrap();
    assert_eq!(up.wait().unwrap().code(), Some(130));
    assert!(rest.contains("goes on starting") && rest.contains("`dhow down` stops it"), "{rest}");
    assert!(scene.daemon_pid().is_some());
}

/// Spec 6.6: a second signal forces.
#[test]
fn ctrl_c_twice_during_down_forces_it() {
    let scene = Scene::new();
    scene.run("up", "slow-down").expect(0);
    let mut down = scene.start("down", "");
    let mut err = BufReader::new(down.stderr.take().unwrap());
    until(&mut err, "stopping native");
    interrupt(&down);
    until(&mut err, "Ctrl-C again");
    interrupt(&down);
    let rest = until(&mut err, "powered off");
    assert!(rest.contains("warning: native was powered off"), "{rest}");
    assert_eq!(down.wait().unwrap().code(), Some(0));
}
