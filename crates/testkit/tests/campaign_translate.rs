//! Promise: where no translator can serve, workloads of another architecture are refused with the precise reason, however they
//! come, and native ones go on as if nothing were [1.4, 1.5, 1.9]. One engine, whose translator is spoiled in every way in turn.

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{PATIENCE, busybox};
use dhow_testkit::{Docker, Engine, Error, Image, Outcome, Result, images, place, wait};
use tempfile::TempDir;

/// For a package of 70 MB on its first use.
const PROVISION: Duration = Duration::from_secs(600);
/// For a refusal: nothing is waited for.
const REFUSAL: Duration = Duration::from_secs(60);
/// In the guest, where no port of another machine's can be.
const REGISTRY: &str = "127.0.0.1:5000";
/// Where the kernel shows its entries.
const ENTRIES: &str = "/proc/sys/fs/binfmt_misc";

fn platform() -> String {
    format!("linux/{}", images::foreign())
}

/// What `uname -m` says of the other architecture.
fn machine() -> &'static str {
    if images::foreign() == "arm64" { "aarch64" } else { "x86_64" }
}

/// Ways in which a workload of another architecture comes.
const WAYS: [&str; 5] = ["create", "classic build", "buildx build", "compose", "pull and run"];

/// An engine with its translator's file at hand.
struct Ground {
    engine: Engine,
    scratch: TempDir,
    /// The translator's file.
    file: PathBuf,
    /// A copy of a good one.
    good: Vec<u8>,
}

impl Ground {
    fn new() -> Result<Self> {
        let engine = Engine::start()?;
        let docker = engine.docker();
        for image in [Image::Busybox, Image::ForeignBusybox, Image::Registry] {
            image.ensure(docker)?;
        }
        engine.dhow(["translator", "provision", "qemu"])?.limit(PROVISION).ok()?;
        let file = engine.home().join("runtime/bin").join(format!("qemu-{}", machine()));
        let good = fs::read(&file).map_err(Error::io("read", &file))?;
        let scratch = tempfile::tempdir().map_err(Error::io("create directory in", "/tmp"))?;
        let image = Image::ForeignBusybox.name();
        place::write(&scratch.path().join("Dockerfile"), format!("FROM {image}\nRUN uname -m > /built\n"))?;
        let service = format!(
            "name: spoiled\nservices:\n  web:\n    image: {image}\n    platform: {}\n    command: [\"sleep\", \"3600\"]\n",
            platform()
        );
        place::write(&scratch.path().join("compose.yaml"), service)?;
        let ground = Self { engine, scratch, file, good };
        ground.registry()?;
        Ok(ground)
    }

    fn docker(&self) -> &Docker {
        self.engine.docker()
    }

    fn home(&self, name: &str) -> PathBuf {
        self.engine.home().join(name)
    }

    /// A registry in the guest's own network, with the image of the other architecture in it.
    fn registry(&self) -> Result<()> {
        let settings = format!(
            "version: 0.1\\nstorage: {{filesystem: {{rootdirectory: /srv/images}}}}\\nhttp: {{addr: \"{REGISTRY}\"}}\\n"
        );
        let script =
            format!("printf '{settings}' >/tmp/config.yml; exec docker-registry serve /tmp/config.yml");
        let docker = self.docker();
        docker.ok([
            "run",
            "-d",
            "--name",
            "registry",
            "--network",
            "host",
            Image::Registry.name(),
            "sh",
            "-c",
            &script,
        ])?;
        docker.ok(["tag", Image::ForeignBusybox.name(), &pulled()])?;
        let push = || docker.run(["push", "-q", &pulled()]).limit(PATIENCE).outcome();
        let mut last = String::new();
        let pushed = wait::until("the registry to take an image", Duration::from_secs(60), || match push() {
            Ok(outcome) if outcome.status.success() => Some(()),
            Ok(outcome) => {
                last = outcome.to_string();
                None
            }
            Err(error) => {
                last = error.to_string();
                None
            }
        });
        pushed.map_err(|error| Error::Unexpected { what: error.to_string(), said: last })?;
        docker.ok(["rmi", &pulled()]).map(drop)
    }

    /// One way to run something of the other architecture, to its end.
    fn come(&self, way: &str) -> Result<Outcome> {
        let (docker, platform, here) = (self.docker(), platform(), self.scratch.path());
        let run = match way {
            "create" => docker.run([
                "run",
                "--rm",
                "--platform",
                &platform,
                Image::ForeignBusybox.name(),
                "uname",
                "-m",
            ]),
            "classic build" => docker
                .run(["build", "-q", "--no-cache", "--platform", &platform])
                .arg(here)
                .env("DOCKER_BUILDKIT", "0"),
            "buildx build" => {
                docker.run(["buildx", "build", "--no-cache", "--platform", &platform]).arg(here)
            }
            "compose" => docker.run(["compose", "-f"]).arg(here.join("compose.yaml")).args(["up", "-d"]),
            _ => {
                docker.run(["pull", "-q", "--platform", &platform, &pulled()]).limit(PATIENCE).ok()?;
                docker.run(["run", "--rm", &pulled(), "uname", "-m"])
            }
        };
        let outcome = run.limit(PATIENCE).outcome()?;
        // What is there must not be what the next one finds.
        match way {
            "compose" => {
                let down = docker.run(["compose", "-f"]).arg(here.join("compose.yaml"));
                down.args(["down", "-t", "0"]).limit(PATIENCE).ok()?;
            }
            "pull and run" => drop(docker.ok(["rmi", "-f", &pulled()])?),
            _ => {}
        }
        Ok(outcome)
    }

    /// The good file in its place, and the guest using it.
    fn mend(&self) -> Result<()> {
        clear(&self.file)?;
        self.put(&self.good, 0o755)?;
        self.wait_guest("the translator to serve", |one| one["name"] == "qemu" && one["problem"].is_null())
    }

    /// A file of this content, in one step.
    fn put(&self, content: &[u8], mode: u32) -> Result<()> {
        let new = self.file.with_file_name(".spoiled");
        place::write(&new, content)?;
        fs::set_permissions(&new, Permissions::from_mode(mode)).map_err(Error::io("change", &new))?;
        clear(&self.file)?;
        fs::rename(&new, &self.file).map_err(Error::io("rename", &new))
    }

    /// Waits until what the guest says of its one translator is so; null: it has none.
    fn wait_guest(&self, what: &str, wanted: impl Fn(&serde_json::Value) -> bool) -> Result<()> {
        self.engine
            .wait_status(what, PATIENCE, |status| wanted(&status.machine()["translators"][0]))
            .map(drop)
    }

    /// A container that may do anything in the guest.
    fn meddle(&self, script: &str) -> Result<()> {
        let script = format!("mount -t binfmt_misc none {ENTRIES} 2>/dev/null; {script}");
        self.docker().ok(["run", "--rm", "--privileged", busybox(), "sh", "-c", &script]).map(drop)
    }

    fn doctor(&self) -> Result<String> {
        Ok(self.engine.dhow(["doctor"])?.limit(REFUSAL).outcome()?.text())
    }

    /// Every way is refused, and the list says why, too.
    fn refuses(&self, witness: &Witness, spoiled: &str, reason: &str) -> Result<()> {
        self.refuses_each_way(witness, spoiled, reason)?;
        let listed = self.engine.dhow(["translator", "list"])?.limit(REFUSAL).ok()?.text();
        let told =
            reason.strip_prefix("is there, but the running machine does not use it: ").unwrap_or(reason);
        assert!(one_line(&listed).contains(told), "{spoiled}: {listed}");
        Ok(())
    }

    /// Every way is refused, for this reason, with all that an error must name; natives go on.
    fn refuses_each_way(&self, witness: &Witness, spoiled: &str, reason: &str) -> Result<()> {
        let hint =
            if reason.contains("does not use it") { "dhow doctor" } else { "dhow translator provision qemu" };
        let file = self.file.display().to_string();
        for way in WAYS {
            let outcome = self.come(way)?;
            assert_ne!(outcome.code(), Some(0), "{spoiled}, {way}: {outcome}");
            let said = one_line(&outcome.complaint());
            for word in [images::foreign(), "qemu", &file, reason, hint] {
                assert!(said.contains(word), "{spoiled}, {way}: {word:?} is missing in: {outcome}");
            }
            assert!(outcome.took < REFUSAL, "{spoiled}, {way}: {:?}", outcome.took);
        }
        witness.goes_on(self.docker(), spoiled)
    }
}

/// Where the registry's image is.
fn pulled() -> String {
    format!("{REGISTRY}/abroad:1")
}

/// Clients break lines where they like.
fn one_line(said: &str) -> String {
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn clear(path: &Path) -> Result<()> {
    let gone = match path.symlink_metadata() {
        Ok(seen) if seen.is_dir() => fs::remove_dir(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    gone.map_err(Error::io("remove", path))
}

/// A native container that runs through everything.
struct Witness {
    started: String,
}

impl Witness {
    fn new(docker: &Docker) -> Result<Self> {
        let count = "n=0; while :; do n=$((n + 1)); echo $n > /count; usleep 50000; done";
        docker.ok(["run", "-d", "--name", "witness", busybox(), "sh", "-c", count])?;
        Ok(Self { started: started(docker)? })
    }

    /// It runs, is the same, and counts; a new one starts, a native build builds.
    fn goes_on(&self, docker: &Docker, spoiled: &str) -> Result<()> {
        assert_eq!(started(docker)?, self.started, "{spoiled}");
        let count = || docker.ok(["exec", "witness", "cat", "/count"]);
        let before = count()?;
        wait::until("the witness to count", PATIENCE, || count().ok().filter(|now| *now != before))?;
        assert_eq!(docker.ok(["run", "--rm", busybox(), "echo", "native"])?, "native", "{spoiled}");
        Ok(())
    }
}

fn started(docker: &Docker) -> Result<String> {
    docker.ok(["inspect", "--format", "{{.State.Status}} {{.State.StartedAt}} {{.RestartCount}}", "witness"])
}

/// Every way works with a good translator: what is refused below is refused for the translator's sake.
fn every_way_is_open(ground: &Ground) -> Result<()> {
    for way in WAYS {
        let outcome = ground.come(way)?;
        assert_eq!(outcome.code(), Some(0), "{way}: {outcome}");
        if ["create", "pull and run"].contains(&way) {
            assert_eq!(outcome.text(), machine(), "{way}");
        }
    }
    Ok(())
}

type Spoil = fn(&Ground) -> Result<()>;

/// What can be wrong with the file, and how that is said.
const FILES: [(&str, &str, Spoil); 8] = [
    ("missing", "does not exist", |ground| clear(&ground.file)),
    ("not executable", "is not executable", |ground| ground.put(&ground.good, 0o644)),
    ("dynamic", "is linked dynamically", |ground| ground.put(&dynamic()?, 0o755)),
    ("of another architecture", "is a program for", |ground| {
        ground.put(&program(Image::ForeignBusybox)?, 0o755)
    }),
    ("truncated", "is truncated", |ground| ground.put(&ground.good[..ground.good.len() / 2], 0o755)),
    ("no program", "is not a 64-bit ELF program", |ground| {
        ground.put(b"#!/bin/sh\nexec qemu \"$@\"\n", 0o755)
    }),
    ("a directory", "is a directory", |ground| {
        clear(&ground.file)?;
        fs::create_dir(&ground.file).map_err(Error::io("create directory", &ground.file))
    }),
    ("a dangling link", "is a symbolic link that leads nowhere", |ground| {
        clear(&ground.file)?;
        symlink("nowhere", &ground.file).map_err(Error::io("link", &ground.file))
    }),
];

/// A program of this host that asks for a loader.
fn dynamic() -> Result<Vec<u8>> {
    let path = std::env::current_exe().map_err(Error::io("find", "this test"))?;
    // This test is one, and larger than a guest would be handed.
    let path = if Path::new("/bin/true").exists() { PathBuf::from("/bin/true") } else { path };
    fs::read(&path).map_err(Error::io("read", &path))
}

/// The program of a busybox image, which is linked statically.
fn program(image: Image) -> Result<Vec<u8>> {
    let archive = image.archive()?;
    let run = dhow_testkit::Run::new("tar").args(["--extract", "--to-stdout", "--file"]);
    Ok(run.arg(&archive).arg("./bin/busybox").ok()?.stdout)
}

/// Spec 1.4, 1.5, issue 6: the campaign.
#[test]
#[ignore = "boots an engine: ./dev test campaign"]
fn a_translator_that_cannot_serve_refuses_the_other_architecture_precisely_and_nothing_else() -> Result<()> {
    let ground = Ground::new()?;
    let witness = Witness::new(ground.docker())?;
    every_way_is_open(&ground)?;
    for (spoiled, reason, spoil) in FILES {
        spoil(&ground)?;
        ground.refuses(&witness, spoiled, reason)?;
        ground.wait_guest("the guest to have no translator", serde_json::Value::is_null)?;
    }
    gone_on_the_host_and_registered_in_the_guest(&ground, &witness)?;
    refused_by_the_kernel(&ground, &witness)?;
    fit_by_every_sign_and_no_translator(&ground, &witness)?;
    ground.mend()?;
    every_way_is_open(&ground)?;
    witness.goes_on(ground.docker(), "mended")
}

/// The guest keeps what it has while the configuration cannot be read: it is not used without the host's consent.
fn gone_on_the_host_and_registered_in_the_guest(ground: &Ground, witness: &Witness) -> Result<()> {
    ground.mend()?;
    let config = ground.home("config.toml");
    let before = fs::read(&config).unwrap_or_default();
    place::write(&config, "this is = no [configuration")?;
    ground.engine.wait_status("the change not to be taken", PATIENCE, |status| {
        status.machine()["warnings"].to_string().contains("has not taken a change")
    })?;
    clear(&ground.file)?;
    ground.refuses_each_way(witness, "gone on the host", "does not exist")?;
    let doctor = ground.doctor()?;
    assert!(doctor.contains("registered in the guest, and on this host"), "{doctor}");
    ground
        .wait_guest("the guest to have it still", |one| one["name"] == "qemu" && one["problem"].is_null())?;
    place::write(&config, before)?;
    ground.wait_guest("the guest to let it go", serde_json::Value::is_null)
}

/// The file is good, and the kernel takes no registration of it.
fn refused_by_the_kernel(ground: &Ground, witness: &Witness) -> Result<()> {
    ground.meddle(&format!("mount -o remount,ro {ENTRIES}"))?;
    ground.put(&ground.good, 0o755)?;
    let told = ground.wait_guest("the kernel's refusal to be told", |one| {
        one["problem"].as_str().is_some_and(|problem| problem.contains("the kernel refused the registration"))
    });
    let refused = told.and_then(|()| {
        let reason = "is there, but the running machine does not use it: the kernel refused the registration";
        ground.refuses(witness, "refused by the kernel", reason)
    });
    ground.meddle(&format!("mount -o remount,rw {ENTRIES}"))?;
    refused
}

/// The file is a static program of the guest's architecture, and runs nothing.
fn fit_by_every_sign_and_no_translator(ground: &Ground, witness: &Witness) -> Result<()> {
    ground.put(&program(Image::Busybox)?, 0o755)?;
    ground.wait_guest("the test program to fail", |one| {
        one["problem"].as_str().is_some_and(|problem| problem.contains("did not run a test program"))
    })?;
    let reason = "is there, but the running machine does not use it: it did not run a test program";
    ground.refuses(witness, "no translator", reason)
}
