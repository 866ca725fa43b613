//! The command line from outside, as a shell sees it: the example `fake` is the whole of it before a daemon that is told
//! what to do wrong.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use dhow_home::Home;
use dhow_home::lock::FileLock;
use dhow_model::MachineName;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// An engine of its own, stopped when the test ends.
struct Scene {
    temp: tempfile::TempDir,
    home: Home,
}

impl Scene {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path().join("home")).unwrap();
        Self { temp, home }
    }

    fn command(&self, words: &str, wrong: &str) -> Command {
        let mut command = Command::new(program());
        command.args(words.split_whitespace());
        command.env("DHOW_HOME", self.home.root()).env("DHOW_FAKE", wrong);
        command.env("DOCKER_CONFIG", self.temp.path().join("docker"));
        command.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, words: &str, wrong: &str) -> Ended {
        Ended::of(self.command(words, wrong).output().unwrap())
    }

    fn start(&self, words: &str, wrong: &str) -> Child {
        self.command(words, wrong).spawn().unwrap()
    }

    fn daemon_pid(&self) -> Option<u64> {
        let version = self.run("version --json", "").document();
        version["daemon"]["pid"].as_u64()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(pid) = self.daemon_pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).unwrap())) {
            kill_process(pid, Signal::KILL).ok();
        }
    }
}

/// A command that has ended.
#[derive(Debug)]
struct Ended {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{self:#?}");
        self
    }

    /// The only document on standard output, or the last one.
    #[track_caller]
    fn document(&self) -> Value {
        serde_json::from_str(self.stdout.lines().last().unwrap_or_default()).unwrap_or(Value::Null)
    }

    /// What a person reads of an error, without what differs from run to run.
    fn error(&self, scene: &Scene) -> String {
        let home = scene.home.root().display().to_string();
        let from = self.stderr.find("error:").unwrap_or(0);
        self.stderr[from..].replace(&home, "HOME")
    }
}

fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples/fake")
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

/// Reads lines until one contains `words`.
#[track_caller]
fn until(reader: &mut impl std::io::BufRead, words: &str) -> String {
    let mut seen = String::new();
    loop {
        let before = seen.len();
        assert!(reader.read_line(&mut seen).unwrap() > 0, "no {words:?} in {seen:?}");
        if seen[before..].contains(words) {
            return seen;
        }
    }
}

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
    error: the daemon ended before it was ready (exit status: 7)
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
      unknown field `cpu`, expected one of `cpus`, `memory`, `disk`, `accelerator`
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
    assert_eq!(sick["checks"][2]["verdict"], "bad");
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
