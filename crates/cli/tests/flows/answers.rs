//! Everything else: documents, mistakes, configuration, logs, and what reaches the whole executable.

use std::fs::File;
use std::io::{BufReader, Read as _};

use dhow_model::MachineName;
use serde_json::Value;

use crate::scene::{Scene, until};

#[test]
fn json_is_one_document_a_line_and_nothing_else() {
    let scene = Scene::new();
    let up = scene.run("up --json", "").expect(0);
    let events: Vec<Value> = up.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["step", "step", "detail", "step", "done"]);
    assert_eq!(up.stderr, "");
    let quiet = scene.run("up --json --no-progress", "").expect(0);
    assert_eq!(quiet.stdout.lines().count(), 1);
    for words in ["status", "version", "doctor", "config", "config get log.level", "context", "assets verify"]
    {
        let ended = scene.run(&format!("{words} --json"), "");
        assert!(ended.document().is_object() && ended.stdout.lines().count() == 1, "{words}: {ended:?}");
    }
}

/// Issue 3, point 3.
#[test]
fn published_ports_are_shown_and_asking_starts_nothing() {
    let scene = Scene::new();
    let none = scene.run("ports", "").expect(0);
    assert_eq!(none.stdout, "no ports are published\n");
    assert!(!scene.home.control_socket().exists());
    scene.run("up", "").expect(0);
    let some = scene.run("ports", "").expect(0);
    assert!(some.stdout.contains("127.0.0.1:8080/tcp") && some.stdout.contains("web"), "{}", some.stdout);
}

/// Issue 4, point 5.
#[test]
fn a_containers_place_is_told_and_asking_starts_nothing() {
    let scene = Scene::new();
    let off = scene.run("inspect web --json", "").expect(1);
    assert_eq!(off.document()["error"]["code"], "engine-off");
    assert!(!scene.home.control_socket().exists());
    scene.run("up", "").expect(0);
    assert_eq!(scene.run("inspect web --json", "").expect(0).document()["machine"]["name"], "native");
    let missing = scene.run("inspect nobody", "").expect(1);
    assert!(missing.stderr.contains("there is no container nobody"), "{}", missing.stderr);
    assert!(missing.stderr.contains("docker ps --all"), "{}", missing.stderr);
}

/// Spec 6.5: every machine has its own log.
#[test]
fn each_machine_has_logs_of_its_own() {
    let scene = Scene::new();
    scene.home.create().unwrap();
    for name in ["native", "foreign"] {
        let machine = scene.home.machine(&name.parse().unwrap());
        machine.create().unwrap();
        let line = format!("dockerd: in {name}\n");
        dhow_home::atomic::write(&machine.console_log(), line.as_bytes(), 0o600).unwrap();
    }
    assert_eq!(scene.run("logs dockerd", "").expect(0).stdout, "in native\n");
    assert_eq!(scene.run("logs dockerd --machine foreign", "").expect(0).stdout, "in foreign\n");
    let typo = scene.run("logs dockerd --machine Foreign", "").expect(2);
    assert!(typo.stderr.contains("cannot name a machine"), "{}", typo.stderr);
}

/// Spec 16.2 and 15.1: errors in the command line are documents too.
#[test]
fn mistakes_in_the_command_line_have_the_exit_status_of_usage() {
    let scene = Scene::new();
    let typo = scene.run("stauts", "").expect(2);
    assert!(typo.stderr.contains("'status'"), "{}", typo.stderr);
    assert_eq!(scene.run("stauts --json", "").expect(2).document()["error"]["code"], "usage");
    scene.run("--help", "").expect(0);
    scene.run("--version", "").expect(0);
}

#[test]
fn a_wrong_configuration_stops_up_before_anything_is_started() {
    let scene = Scene::new();
    scene.home.create().unwrap();
    dhow_home::atomic::write(&scene.home.config_file(), b"[machine]\ncpu = 2\n", 0o600).unwrap();
    let up = scene.run("up", "").expect(1);
    insta::assert_snapshot!(up.error(&scene), @r#"
    error: HOME/config.toml cannot be used
      TOML parse error at line 2, column 1
        |
      2 | cpu = 2
        | ^^^
      unknown field `cpu`, expected one of `arch`, `cpus`, `memory`, `disk`, `accelerator`
      try: write `machine.cpus` in HOME/config.toml, if that was meant
    "#);
    assert!(scene.daemon_pid().is_none());
}

/// Spec 15.3.
#[test]
fn the_configuration_is_shown_set_and_unset() {
    let scene = Scene::new();
    scene.run("config set machine.memory 8GiB", "").expect(0);
    assert_eq!(scene.run("config get machine.memory", "").expect(0).stdout, "8GiB\n");
    let wrong = scene.run("config set machine.memroy 8GiB", "").expect(1);
    assert!(wrong.stderr.contains("did you mean `machine.memory`?"), "{}", wrong.stderr);
    scene.run("config unset machine.memory", "").expect(0);
    assert_eq!(scene.run("config get machine.memory", "").expect(0).stdout, "4GiB\n");
    let path = scene.run("config path", "").expect(0).stdout;
    assert_eq!(path.trim_end(), scene.home.config_file().display().to_string());
    scene.run("config check", "").expect(0);
}

#[test]
fn doctor_fails_when_something_keeps_the_engine_from_running() {
    let scene = Scene::new();
    scene.run("doctor", "").expect(0);
    let sick = scene.run("doctor --json", "sick").expect(1).document();
    assert_eq!(sick["healthy"], false);
    assert_eq!(sick["checks"][1]["verdict"], "bad");
}

#[test]
fn assets_commands_reach_the_executable_and_problems_are_failures() {
    let scene = Scene::new();
    let built = scene.run("assets build --arch arm64", "").expect(0);
    assert_eq!(built.stderr, "building boot assets for arm64\n");
    assert!(built.stdout.ends_with("Built boot assets for arm64.\n"), "{}", built.stdout);
    scene.run("assets verify", "").expect(1);
    let import = scene.run("assets import /bundle", "").expect(1);
    insta::assert_snapshot!(import.error(&scene), @r#"
    error: /bundle is no bundle
      its first bytes are wrong
      try: export it again
    "#);
}

#[test]
fn hidden_commands_reach_the_executable_with_their_exit_status() {
    let scene = Scene::new();
    scene.run("probe-kvm", "").expect(9);
    assert!(scene.run("supervise native", "").expect(0).stderr.contains("would supervise native"));
}

/// A reader that has seen enough is no error.
#[test]
fn a_broken_pipe_is_the_end_and_no_panic() {
    let scene = Scene::new();
    let mut child = scene.start("config defaults", "");
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_services_log_is_its_lines_of_the_console_and_is_followed() {
    let scene = Scene::new();
    let none = scene.run("logs console", "").expect(1);
    assert!(none.stderr.contains("there is no console log yet"), "{}", none.stderr);
    scene.home.create().unwrap();
    let machine = scene.home.machine(&MachineName::native());
    machine.create().unwrap();
    let console = b"[0.1] Linux\r\ndockerd: one\x1b[31m\r\ncontainerd: two\r\ndockerd: three\r\n";
    dhow_home::atomic::write(&machine.console_log(), console, 0o600).unwrap();
    let logs = scene.run("logs dockerd", "").expect(0);
    assert_eq!(logs.stdout, "one\u{fffd}[31m\nthree\n");
    assert_eq!(scene.run("logs containerd --json", "").document()["line"], "two");
    let mut follow = scene.start("logs dockerd -f -n 1", "");
    let mut out = BufReader::new(follow.stdout.take().unwrap());
    until(&mut out, "three");
    use std::io::Write as _;
    let mut file = File::options().append(true).open(machine.console_log()).unwrap();
    file.write_all(b"containerd: x\ndockerd: four\n").unwrap();
    assert_eq!(until(&mut out, "four"), "four\n");
    follow.kill().unwrap();
    follow.wait().unwrap();
}
