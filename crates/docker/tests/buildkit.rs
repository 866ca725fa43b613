//! Buildx, the real one, in front of real BuildKits: where its builds go, and what is refused.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture fails its test at the first surprise"
)]

mod common;

use std::path::Path;
use std::time::Duration;

use common::Serving;
use common::pair::{ABROAD, Pair, other};
use dhow_model::Arch;
use dhow_testkit::{Docker, Dockerd, Image, Outcome, Run, Tools, place};

fn abroad() -> String {
    format!("linux/{}", other())
}

fn docker(serving: &Serving) -> Docker {
    Docker::new(Tools::get().unwrap(), serving.socket().to_owned())
}

/// A build with Buildx of this Dockerfile beside a file and a secret.
fn build(docker: &Docker, dockerfile: &str, arguments: &[&str]) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    place::write(&dir.path().join("Dockerfile"), dockerfile).unwrap();
    place::write(&dir.path().join("file"), "content").unwrap();
    place::write(&dir.path().join("secret"), "hush").unwrap();
    let build = docker.run(["buildx", "build", "--progress", "plain", "--no-cache", "--secret"]);
    let build = build.arg(format!("id=s,src={}", dir.path().join("secret").display()));
    build.args(arguments).arg(dir.path()).limit(Duration::from_secs(120)).outcome().unwrap()
}

const STEPS: &str =
    "COPY file /file\nRUN --mount=type=secret,id=s test \"$(cat /run/secrets/s)\" = hush && echo ran-it\n";

fn of(outcome: &Outcome) -> String {
    format!("{}{}", outcome.text(), outcome.complaint())
}

/// 3.2: contexts, secrets, progress and errors of a build pass whole; the gate is between.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_build_for_the_native_architecture_passes_with_its_context_its_secret_and_its_errors() {
    let dockerd = Dockerd::start().unwrap();
    Image::Busybox.ensure(dockerd.docker()).unwrap();
    let serving = Serving::in_front_of(dockerd.socket());
    let docker = docker(&serving);
    let from = format!("FROM {}\n", Image::Busybox.name());
    let good = build(&docker, &format!("{from}{STEPS}"), &["-t", "good:1"]);
    assert!(good.status.success() && of(&good).contains("ran-it"), "{good}");
    assert!(docker.ok(["image", "inspect", "good:1"]).is_ok());
    let bad = build(&docker, &format!("{from}RUN echo because; exit 7\n"), &[]);
    assert!(
        !bad.status.success() && of(&bad).contains("because") && of(&bad).contains("exit code: 7"),
        "{bad}"
    );
    let unknown = build(&docker, "FRUM nothing\n", &[]);
    assert!(!unknown.status.success() && of(&unknown).contains("unknown instruction"), "{unknown}");
}

/// 1.4: refused at build, by Buildx too, with the words of every other refusal; native builds go on.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_build_that_nothing_may_run_is_refused_by_its_platform() {
    let dockerd = Dockerd::start().unwrap();
    Image::Busybox.ensure(dockerd.docker()).unwrap();
    let serving = Serving::in_front_of(dockerd.socket());
    let docker = docker(&serving);
    let steps = format!("FROM {}\nRUN true\n", Image::Busybox.name());
    let refused = build(&docker, &steps, &["--platform", &abroad()]);
    assert!(!refused.status.success(), "{refused}");
    assert!(of(&refused).contains(&other().to_string()) && of(&refused).contains("translator"), "{refused}");
    let nonsense = build(&docker, &steps, &["--platform", "plan9/amd64"]);
    assert!(!nonsense.status.success() && of(&nonsense).contains("plan9"), "{nonsense}");
    let native = build(&docker, &steps, &["--platform", &format!("linux/{}", Arch::host().unwrap())]);
    assert!(native.status.success(), "{native}");
}

/// 1.10, 3.5: a build's platform chooses its machine, its session, secret and agent follow it there, and its progress is seen.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn in_placement_foreign_machine_a_build_goes_to_the_machine_of_its_platform() {
    let Pair { serving: _serving, docker, native, foreign } = Pair::new();

    let here = build(&docker, &format!("FROM {}\n{STEPS}", Image::Busybox.name()), &["-t", "here:1"]);
    assert!(here.status.success() && of(&here).contains("ran-it"), "{here}");
    let agent = Agent::start();
    let steps = format!(
        "FROM {ABROAD}\n{STEPS}RUN --mount=type=ssh test -S \"$SSH_AUTH_SOCK\" && echo agent-there\n"
    );
    let ssh = format!("default={}", agent.socket.display());
    let there = build(&docker, &steps, &["--platform", &abroad(), "--ssh", &ssh, "-t", "there:1"]);
    assert!(there.status.success(), "{there}");
    assert!(of(&there).contains("ran-it") && of(&there).contains("agent-there"), "{there}");

    let has = |dockerd: &Dockerd, image: &str| dockerd.docker().ok(["image", "inspect", image]).is_ok();
    assert_eq!((has(&native, "here:1"), has(&foreign, "here:1")), (true, false));
    assert_eq!((has(&native, "there:1"), has(&foreign, "there:1")), (false, true));

    let failed =
        build(&docker, &format!("FROM {ABROAD}\nRUN echo because; exit 7\n"), &["--platform", &abroad()]);
    assert!(!failed.status.success() && of(&failed).contains("exit code: 7"), "{failed}");
}

/// An SSH agent without keys.
struct Agent {
    child: std::process::Child,
    socket: std::path::PathBuf,
    _dir: tempfile::TempDir,
}

impl Agent {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent");
        let child = Run::new("ssh-agent").args(["-D", "-a"]).arg(&socket).start().unwrap();
        wait(&socket);
        Self { child, socket, _dir: dir }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

fn wait(path: &Path) {
    dhow_testkit::wait::until("the agent", Duration::from_secs(20), || path.exists().then_some(())).unwrap();
}
