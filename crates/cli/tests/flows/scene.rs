//! An engine of a test's own, and commands about it.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use dhow_home::Home;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// An engine of its own, stopped when the test ends.
pub struct Scene {
    pub temp: tempfile::TempDir,
    pub home: Home,
}

impl Scene {
    pub fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path().join("home")).unwrap();
        Self { temp, home }
    }

    pub fn command(&self, words: &str, wrong: &str) -> Command {
        let mut command = Command::new(program());
        command.args(words.split_whitespace());
        command.env("DHOW_HOME", self.home.root()).env("DHOW_FAKE", wrong);
        command.env("DOCKER_CONFIG", self.temp.path().join("docker"));
        command.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, words: &str, wrong: &str) -> Ended {
        Ended::of(self.command(words, wrong).output().unwrap())
    }

    pub fn start(&self, words: &str, wrong: &str) -> Child {
        self.command(words, wrong).spawn().unwrap()
    }

    pub fn daemon_pid(&self) -> Option<u64> {
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
pub struct Ended {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn of(output: Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{self:#?}");
        self
    }

    /// The only document on standard output, or the last one.
    #[track_caller]
    pub fn document(&self) -> Value {
        serde_json::from_str(self.stdout.lines().last().unwrap_or_default()).unwrap_or(Value::Null)
    }

    /// What a person reads of an error, without what differs from run to run.
    pub fn error(&self, scene: &Scene) -> String {
        let home = scene.home.root().display().to_string();
        let from = self.stderr.find("error:").unwrap_or(0);
        self.stderr[from..].replace(&home, "HOME")
    }
}

pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples/fake")
}

pub fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

/// Reads lines until one contains `words`.
#[track_caller]
pub fn until(reader: &mut impl std::io::BufRead, words: &str) -> String {
    let mut seen = String::new();
    loop {
        let before = seen.len();
        assert!(reader.read_line(&mut seen).unwrap() > 0, "no {words:?} in {seen:?}");
        if seen[before..].contains(words) {
            return seen;
        }
    }
}
