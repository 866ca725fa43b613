//! Promise: containers of another architecture run in the one machine through the translator that was provisioned, and what is said
//! to serve is what serves.

mod common;

use std::fs::File;
use std::time::Duration;

use common::{PATIENCE, busybox};
use dhow_testkit::{Engine, Image, Outcome, Result, Scene, images, place, wait};
use serde_json::Value;

/// For a package of 70 MB on its first use.
const PROVISION: Duration = Duration::from_secs(600);

/// An engine whose translator is ours for the time of one test.
struct Corner {
    engine: Engine,
    scene: Scene,
    _alone: File,
}

impl Corner {
    /// With QEMU provisioned.
    fn new() -> Result<Self> {
        let alone = place::lock("translators")?;
        let engine = Engine::shared()?;
        let scene = Scene::new(engine.docker().clone(), &[Image::Busybox, Image::ForeignBusybox])?;
        let corner = Self { engine, scene, _alone: alone };
        corner.provision()?;
        Ok(corner)
    }

    fn dhow(&self, args: &[&str]) -> Result<Outcome> {
        self.engine.dhow(args)?.limit(PROVISION).outcome()
    }

    fn provision(&self) -> Result<Value> {
        let told = self.dhow(&["translator", "provision", "qemu", "--json", "--no-progress"])?.ok()?.text();
        let told: Value = serde_json::from_str(&told).unwrap_or_default();
        assert_eq!(told["translators"][0]["machines"][0]["serves"], true, "{told}");
        Ok(told)
    }

    /// `docker run` of a program of the other architecture.
    fn foreign(&self, args: &[&str]) -> Result<Outcome> {
        let platform = format!("linux/{}", images::foreign());
        let run = self.scene.run(["--rm", "--platform", &platform, Image::ForeignBusybox.name()]).args(args);
        run.limit(PATIENCE).outcome()
    }

    /// A container of the host's own architecture that may do anything in the guest.
    fn meddle(&self, script: &str) -> Result<()> {
        let mount = "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc 2>/dev/null";
        let script = format!("{mount}; {script}");
        self.scene
            .run(["--rm", "--privileged", busybox(), "sh", "-c", &script])
            .limit(PATIENCE)
            .ok()
            .map(drop)
    }

    fn doctor(&self) -> Result<String> {
        Ok(self.dhow(&["doctor"])?.text())
    }

    /// Waits until the status tells of this translator problem; empty: of none.
    fn wait_problem(&self, words: &str) -> Result<()> {
        let what = format!("the translator's problem {words:?} to be told");
        self.engine
            .wait_status(&what, PATIENCE, |status| {
                let translator = &status.machine()["translators"][0];
                match &translator["problem"] {
                    Value::String(problem) => !words.is_empty() && problem.contains(words),
                    _ => words.is_empty() && translator["name"] == "qemu",
                }
            })
            .map(drop)
    }

    fn labels(&self) -> Result<String> {
        self.scene.docker().ok(["info", "--format", "{{json .Labels}}"])
    }
}

/// What `uname -m` says of the other architecture.
fn machine() -> &'static str {
    if images::foreign() == "arm64" { "aarch64" } else { "x86_64" }
}

/// Spec 1.1, 1.7, 1.9: it runs in the same machine, and what serves is told where people look.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_program_of_the_other_architecture_runs_and_its_translator_is_told() -> Result<()> {
    let corner = Corner::new()?;
    let outcome = corner.foreign(&["uname", "-m"])?;
    assert_eq!((outcome.code(), outcome.text().as_str()), (Some(0), machine()), "{outcome}");
    // Its own name, a child that a signal ends, both streams, an exit status.
    let script = "echo $0; sh -c 'kill -TERM $$'; echo $?; echo err >&2; exit 7";
    let outcome = corner.foreign(&["sh", "-c", script])?;
    assert_eq!((outcome.code(), outcome.text().as_str()), (Some(7), "sh\n143"), "{outcome}");
    assert!(outcome.complaint().ends_with("err"), "{outcome}");
    let label = format!("dhow.translator.{}=qemu ", images::foreign());
    assert!(corner.labels()?.contains(&label), "{}", corner.labels()?);
    let status = corner.engine.status()?;
    assert_eq!(status.machine()["translators"][0]["name"], "qemu", "{}", status.0);
    let doctor = corner.doctor()?;
    assert!(doctor.contains("registered with flags POCF"), "{doctor}");
    Ok(())
}

/// Issue 6, point 1: a removal takes it away while the engine runs, running containers are told of and go on, and it comes back.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_translator_that_is_taken_away_is_gone_at_once_and_can_come_back() -> Result<()> {
    let corner = Corner::new()?;
    let (docker, name) = (corner.scene.docker(), corner.scene.name("stays"));
    let platform = format!("linux/{}", images::foreign());
    let run = ["-d", "--name", &name, "--platform", &platform, Image::ForeignBusybox.name()];
    corner.scene.run(run).args(["sh", "-c", "sleep 1000000 & echo up; wait"]).limit(PATIENCE).ok()?;
    wait::until("the container to run", PATIENCE, || {
        docker.ok(["logs", &name]).ok().filter(|said| said == "up")
    })?;
    corner.dhow(&["translator", "remove", "qemu"])?.ok()?;
    let exec = docker.run(["exec", &name, "true"]).limit(PATIENCE).outcome()?;
    assert_ne!(exec.code(), Some(0), "{exec}");
    corner.engine.wait_status("the warning to be told", PATIENCE, |status| {
        status.machine()["warnings"].to_string().contains("1 container")
    })?;
    assert_eq!(docker.ok(["inspect", "--format", "{{.State.Running}}", &name])?, "true");
    assert!(!corner.labels()?.contains("dhow.translator"), "{}", corner.labels()?);
    assert_eq!(
        corner.scene.run(["--rm", busybox(), "echo", "native"]).limit(PATIENCE).ok()?.text(),
        "native"
    );
    corner.provision()?;
    docker.run(["exec", &name, "true"]).limit(PATIENCE).ok()?;
    Ok(())
}

/// Spec 1.9: an entry that somebody else put there, or that somebody switched off, is not said to serve.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn what_somebody_changes_in_the_guest_is_noticed_and_named() -> Result<()> {
    let corner = Corner::new()?;
    let (code, entries) =
        if machine() == "aarch64" { ("b7", "dhow-qemu-arm64-*") } else { ("3e", "dhow-qemu-amd64-*") };
    let all = "/proc/sys/fs/binfmt_misc";
    corner.meddle(&format!(r"echo ':rival:M:18:\x{code}\x00::/bin/true:' >{all}/register"))?;
    let told = corner.wait_problem("the entry rival, which is not Dhow's");
    corner.meddle(&format!("echo -1 >{all}/rival"))?;
    told?;
    corner.wait_problem("")?;
    corner.meddle(&format!("for entry in {all}/{entries}; do echo 0 >$entry; done"))?;
    let told = corner.wait_problem("disabled");
    let label = wait::until("the label to go", PATIENCE, || {
        corner.labels().ok().filter(|labels| !labels.contains("dhow.translator"))
    });
    corner.meddle(&format!("for entry in {all}/{entries}; do echo 1 >$entry; done"))?;
    told?;
    label?;
    corner.wait_problem("")
}

/// Spec 1.8: the setting that breaks translators is named, whoever made it.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn the_kernel_setting_that_breaks_translators_is_named() -> Result<()> {
    let corner = Corner::new()?;
    let setting = "/proc/sys/kernel/randomize_va_space";
    corner.meddle(&format!("echo 1 >{setting}"))?;
    let named = |status: &dhow_testkit::engine::Status| status.trouble().contains("randomize_va_space is 1");
    let told = corner.engine.wait_status("the setting to be named", PATIENCE, named);
    let doctor = corner.doctor();
    corner.meddle(&format!("echo 2 >{setting}"))?;
    told?;
    let doctor = doctor?;
    assert!(doctor.contains("kernel.randomize_va_space is 1 in the guest"), "{doctor}");
    corner.engine.wait_status("the trouble to go", PATIENCE, |status| status.trouble().is_empty()).map(drop)
}
