//! Two real dockerds behind one face: which of them gets what.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture fails its test at the first surprise"
)]

mod common;

use std::io::Read;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use common::pair::{ABROAD, IMAGE, LIMIT, Pair, http, other, two_machines};
use common::{Serving, Sockets, host};
use dhow_docker::Reason;
use dhow_model::placement::{Host, Placement};
use dhow_model::translator::{Served, Unprovisioned, Why};
use dhow_model::{Arch, Role, TranslatorName};
use dhow_testkit::{Docker, Dockerd, Image, Run, Tools, place, run, wait};

const GRACE: Duration = Duration::from_millis(200);

fn native() -> Arch {
    Arch::host().unwrap()
}

impl Pair {
    fn complaint<const N: usize>(&self, args: [&str; N]) -> String {
        let outcome = self.docker.outcome(args).unwrap();
        assert!(!outcome.status.success(), "{outcome}");
        outcome.complaint()
    }

    /// The engine that has this container, asked directly.
    fn has(&self, role: Role, container: &str) -> bool {
        self.engine(role).outcome(["container", "inspect", container]).unwrap().status.success()
    }

    /// A container that runs in the foreign engine, made behind the face's back.
    fn worker(&self, name: &str, script: &str) -> String {
        self.foreign.docker().ok(["run", "-d", "-i", "--name", name, IMAGE, "sh", "-c", script]).unwrap()
    }
}

fn header<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    said.split("\r\n\r\n").next()?.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// 1.2, 1.10, 2.1: the platform of the request decides, then that of the image, and every later call finds the container.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn the_platform_chooses_the_machine() {
    let pair = Pair::new();
    let platform = format!("linux/{}", other());
    pair.ok(["create", "--platform", &platform, "--name", "asked", ABROAD]);
    pair.ok(["create", "--name", "image", ABROAD]);
    pair.ok(["create", "--name", "home", IMAGE, "true"]);
    for (name, role) in [("asked", Role::Foreign), ("image", Role::Foreign), ("home", Role::Native)] {
        assert!(pair.has(role, name), "{name}");
        assert_eq!(pair.ok(["inspect", "--format", "{{.Name}}", name]), format!("/{name}"));
    }
    let body = format!("{{\"Image\":\"{ABROAD}\"}}");
    let said = http(pair.serving.socket(), "POST /v1.44/containers/create?name=header", &body);
    assert!(said.starts_with("HTTP/1.1 201 Created\r\n"), "{said}");
    assert_eq!(
        header(&said, "X-Dhow-Placement").unwrap(),
        format!("role=foreign; translator=none; why=\"the image exists only for {platform}\"")
    );
    // What neither machine runs.
    let refused = pair.complaint(["create", "--platform", "linux/s390x", IMAGE]);
    assert!(refused.contains("s390x"), "{refused}");
}

/// 2.1, 3.4: every call on a container of the foreign engine goes there, by name, ID and short ID, and the hooks are told its
/// canonical ID.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn calls_go_where_the_container_is() {
    let pair = Pair::new();
    let id = pair.worker("worker", "trap 'exit 5' TERM; echo out; while :; do sleep 0.1; done");
    pair.ok(["run", "-d", "--name", "home", IMAGE, "sleep", "1000"]);
    for reference in ["worker", id.as_str(), &id[..12]] {
        assert_eq!(pair.ok(["inspect", "--format", "{{.Id}}", reference]), id);
        assert_eq!(pair.ok(["exec", reference, "cat", "/proc/1/comm"]), "sh");
    }
    assert_eq!(pair.ok(["exec", "home", "cat", "/proc/1/comm"]), "sleep");
    wait::until("the output", LIMIT, || (pair.ok(["logs", "worker"]) == "out").then_some(())).unwrap();
    assert!(pair.ok(["top", "worker"]).contains("sleep"));
    assert!(pair.ok(["stats", "--no-stream", "--format", "{{.Name}}", "worker"]).contains("worker"));

    let dir = tempfile::tempdir().unwrap();
    let (there, back) = (dir.path().join("there"), dir.path().join("back"));
    place::write(&there, "through").unwrap();
    pair.ok(["cp", "-q", there.to_str().unwrap(), "worker:/there"]);
    pair.ok(["cp", "-q", "worker:/there", back.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(&back).unwrap(), "through");
    assert!(pair.ok(["diff", "worker"]).contains("A /there"));

    let echoed =
        pair.docker.run(["exec", "-i", "worker", "sh", "-c", "cat; exit 7"]).input("in").outcome().unwrap();
    assert_eq!((echoed.text().as_str(), echoed.code()), ("in", Some(7)));

    pair.ok(["rename", "worker", "renamed"]);
    assert_eq!(pair.ok(["inspect", "--format", "{{.Id}}", "renamed"]), id);
    assert!(pair.complaint(["inspect", "worker"]).contains("No such object: worker"));
    pair.ok(["pause", "renamed"]);
    pair.ok(["unpause", "renamed"]);
    pair.ok(["update", "--memory", "64m", "--memory-swap", "64m", "renamed"]);
    pair.ok(["commit", "renamed", "dhow-test/committed"]);
    assert!(pair.engine(Role::Foreign).ok(["image", "inspect", "dhow-test/committed"]).is_ok());

    let mut waiting = pair.docker.command();
    let mut waiting = run::spawn(waiting.args(["wait", "renamed"]).stdout(Stdio::piped())).unwrap();
    pair.ok(["stop", "renamed"]);
    assert!(run::wait_within(&mut waiting, LIMIT).is_some());
    let mut code = String::new();
    waiting.stdout.take().unwrap().read_to_string(&mut code).unwrap();
    assert_eq!(code, "5\n");
    pair.ok(["rm", "renamed"]);
    let told = pair.serving.hooks.lines();
    for line in
        ["before rename", "after rename", "before stop", "after stop", "before remove", "after remove"]
    {
        assert!(told.iter().any(|told| told.starts_with(&format!("{line} {id}"))), "no {line} in {told:?}");
    }
    assert!(!pair.has(Role::Foreign, &id));
    assert!(pair.has(Role::Native, "home"));
}

/// 3.2: attach to a container of the foreign engine is a stream with two ends.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn attach_reaches_the_foreign_engine() {
    let pair = Pair::new();
    pair.foreign
        .docker()
        .ok(["create", "-i", "--name", "sorter", IMAGE, "sh", "-c", "sort; echo end"])
        .unwrap();
    let sorted = pair.docker.run(["start", "-ai", "sorter"]).input("b\na\n").ok().unwrap();
    assert_eq!(sorted.text(), "a\nb\nend");
}

/// 2.4: both engines together have each name once, in dockerd's own words.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_name_is_taken_in_both_engines() {
    let pair = Pair::new();
    let id = pair.worker("taken", "sleep 1000");
    let complaint = pair.complaint(["create", "--name", "taken", IMAGE, "true"]);
    let words = format!(
        "Conflict. The container name \"/taken\" is already in use by container \"{id}\". You have to remove (or rename) \
         that container to be able to reuse that name."
    );
    assert!(complaint.contains(&words), "{complaint}");
    pair.ok(["create", "--name", "free", IMAGE, "true"]);
    let complaint = pair.complaint(["rename", "free", "taken"]);
    assert!(complaint.contains(&format!("Error when allocating new name: {words}")), "{complaint}");
    pair.ok(["rm", "-f", "taken"]);
    pair.ok(["rename", "free", "taken"]);
    assert!(pair.has(Role::Native, "taken"));
}

/// 2.2, 2.3: the same first digits in both engines are ambiguous, and a full ID is not.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn first_digits_of_both_engines_are_ambiguous() {
    let pair = Pair::new();
    let create = |role: Role| pair.engine(role).ok(["create", IMAGE, "true"]).unwrap();
    let (mut here, mut there) = (Vec::new(), Vec::new());
    let (one, two) = loop {
        here.push(create(Role::Native));
        there.push(create(Role::Foreign));
        let twins = here.iter().flat_map(|one| there.iter().map(move |two| (one, two)));
        if let Some((one, two)) = twins.into_iter().find(|(one, two)| one[..1] == two[..1]) {
            break (one.clone(), two.clone());
        }
    };
    let digit = &one[..1];
    let said = http(pair.serving.socket(), &format!("GET /v1.44/containers/{digit}/json"), "");
    assert!(said.starts_with("HTTP/1.1 409 Conflict\r\n") && said.contains("full ID"), "{said}");
    let said = http(pair.serving.socket(), &format!("DELETE /v1.44/containers/{digit}"), "");
    assert!(said.starts_with("HTTP/1.1 409 Conflict\r\n"), "{said}");
    for id in [&one, &two] {
        assert_eq!(&pair.ok(["inspect", "--format", "{{.Id}}", id]), id);
    }
    let missing = http(pair.serving.socket(), "GET /v1.44/containers/nowhere/json", "");
    assert!(missing.starts_with("HTTP/1.1 404 Not Found\r\n"), "{missing}");
    assert!(missing.contains("No such container: nowhere"), "{missing}");
}

/// 3.7: images, volumes and networks are found in the engine that has them; a network follows its container.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn things_are_found_where_they_are() {
    let pair = Pair::new();
    pair.foreign.docker().ok(["volume", "create", "far"]).unwrap();
    pair.foreign.docker().ok(["network", "create", "far"]).unwrap();
    pair.worker("worker", "sleep 1000");
    assert_eq!(pair.ok(["volume", "inspect", "--format", "{{.Name}}", "far"]), "far");
    assert_eq!(pair.ok(["network", "inspect", "--format", "{{.Name}}", "far"]), "far");
    assert_eq!(pair.ok(["image", "inspect", "--format", "{{.Architecture}}", ABROAD]), other().to_string());
    pair.ok(["network", "connect", "far", "worker"]);
    pair.ok(["network", "disconnect", "bridge", "worker"]);
    let networks = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
    assert_eq!(pair.engine(Role::Foreign).ok(["inspect", "--format", networks, "worker"]).unwrap(), "far");
    pair.ok(["rm", "-f", "worker"]);
    pair.ok(["network", "rm", "far"]);
    pair.ok(["volume", "rm", "far"]);
    pair.ok(["tag", ABROAD, "dhow-test/tagged"]);
    pair.ok(["rmi", "dhow-test/tagged"]);
    let saved = pair.docker.run(["save", ABROAD]).ok().unwrap();
    assert!(saved.stdout.len() > 1 << 20);
    pair.ok(["volume", "create", "near"]);
    assert!(pair.engine(Role::Native).ok(["volume", "inspect", "near"]).is_ok());
}

/// 3.2, 3.5: a build of either platform, by the classic builder, goes where its platform runs.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_build_goes_where_its_platform_runs() {
    let pair = Pair::new();
    let dir = tempfile::tempdir().unwrap();
    let build = |image: &str, tag: &str, platform: &str| {
        place::write(&dir.path().join("Dockerfile"), format!("FROM {image}\nLABEL built=yes\n")).unwrap();
        let args = ["build", "--platform", platform, "-t", tag, "."];
        pair.docker.run(args).dir(dir.path()).env("DOCKER_BUILDKIT", "0").ok().unwrap();
    };
    build(ABROAD, "dhow-test/far", &format!("linux/{}", other()));
    build(IMAGE, "dhow-test/near", &format!("linux/{}", native()));
    assert!(pair.engine(Role::Foreign).ok(["image", "inspect", "dhow-test/far"]).is_ok());
    assert!(pair.engine(Role::Native).ok(["image", "inspect", "dhow-test/near"]).is_ok());
    let refused = pair
        .docker
        .run(["build", "--platform", "linux/s390x", "."])
        .dir(dir.path())
        .env("DOCKER_BUILDKIT", "0")
        .outcome()
        .unwrap();
    assert!(refused.complaint().contains("s390x"), "{refused}");
}

/// 1.4: with a translator that is not provisioned, a foreign create and a foreign build by either builder are refused with its
/// file and the command, and nothing native is.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn what_nothing_may_run_is_refused_with_the_file_and_the_command() {
    let dockerd = Dockerd::start().unwrap();
    Image::Busybox.ensure(dockerd.docker()).unwrap();
    let why = Unprovisioned {
        translator: TranslatorName::Qemu,
        serves: other(),
        file: Some("/home/me/.dhow/runtime/bin/qemu".into()),
        why: Why::Missing,
    };
    let served = Served { arch: other(), translators: vec![(TranslatorName::Qemu, Err(why))] };
    let host = Host { translators: vec![served], ..host(Placement::NativeMachine) };
    let serving = Serving::before(Arc::new(Sockets::one(dockerd.socket()).on(host)), GRACE);
    let docker = Docker::new(dockerd.docker().tools().clone(), serving.socket());
    let platform = format!("linux/{}", other());
    let dir = tempfile::tempdir().unwrap();
    place::write(&dir.path().join("Dockerfile"), format!("FROM {IMAGE}\nLABEL built=yes\n")).unwrap();
    let refused = |docker: Run| {
        let outcome = docker.dir(dir.path()).outcome().unwrap();
        let complaint = outcome.complaint();
        assert!(!outcome.status.success(), "{outcome}");
        for word in
            [other().debian(), "qemu", "/home/me/.dhow/runtime/bin/qemu", "`dhow translator provision qemu`"]
        {
            assert!(complaint.contains(word), "no {word} in {complaint}");
        }
    };
    refused(docker.run(["create", "--platform", &platform, IMAGE, "true"]));
    for kit in ["0", "1"] {
        refused(docker.run(["build", "--platform", &platform, "."]).env("DOCKER_BUILDKIT", kit));
        let native =
            docker.run(["build", "."]).dir(dir.path()).env("DOCKER_BUILDKIT", kit).outcome().unwrap();
        assert!(native.status.success(), "{native}");
    }
    assert_eq!(docker.ok(["run", "--rm", IMAGE, "echo", "hello"]).unwrap(), "hello");
}

/// 2.6, 3.3: an engine that is dead takes nothing with it but its own.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_dead_engine_takes_only_its_own_with_it() {
    let native = Dockerd::start().unwrap();
    Image::Busybox.ensure(native.docker()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let dead = dir.path().join("docker.sock");
    // A socket that nobody serves: its machine seems to run.
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    let engines = Sockets::two(native.socket(), &dead, two_machines());
    let serving = Serving::before(Arc::new(engines), GRACE);
    let docker = Docker::new(Tools::get().unwrap(), serving.socket());
    let id = docker.ok(["run", "-d", "--name", "home", IMAGE, "sleep", "1000"]).unwrap();
    assert_eq!(docker.ok(["exec", &id, "echo", "hello"]).unwrap(), "hello");
    assert_eq!(docker.ok(["inspect", "--format", "{{.Name}}", &id]).unwrap(), "/home");
    // The dead engine may have this name as well.
    let unknown = docker.outcome(["inspect", "--type", "container", "home"]).unwrap();
    let words =
        "the foreign engine could not be asked whether it has \"home\": the foreign engine is not running";
    assert!(
        unknown.complaint().contains(words) && unknown.complaint().ends_with("; run `dhow status`"),
        "{unknown}"
    );
    assert_eq!(unknown.complaint().matches("run `").count(), 1, "{unknown}");
    assert_eq!(docker.ok(["run", "--rm", IMAGE, "echo", "hello"]).unwrap(), "hello");
    assert!(docker.ok(["image", "inspect", IMAGE]).is_ok());
    let platform = format!("linux/{}", other());
    let said = http(
        serving.socket(),
        &format!("POST /v1.44/containers/create?platform={platform}"),
        &format!("{{\"Image\":\"{ABROAD}\"}}"),
    );
    assert!(said.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{said}");
    assert!(said.contains("the foreign engine is not running"), "{said}");
    let listed = docker.outcome(["ps"]).unwrap();
    assert!(listed.complaint().contains("foreign"), "{listed}");
    docker.ok(["rm", "-f", &id]).unwrap();
}

/// Issue 4, point 5: where a container is and why, remembered from its creation or found out again.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_container_can_be_explained() {
    let pair = Pair::new();
    let platform = format!("linux/{}", other());
    let id = pair.ok(["create", "--platform", &platform, "--name", "asked", ABROAD]);
    pair.foreign.docker().ok(["create", "--name", "behind", ABROAD]).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let inspect = |reference: &str| runtime.block_on(pair.serving.face.inspect(reference));
    let asked = inspect(&id[..12]).unwrap();
    assert_eq!((asked.role, asked.id.as_str(), asked.name.as_str()), (Role::Foreign, id.as_str(), "asked"));
    assert_eq!(asked.platform.unwrap().to_string(), platform);
    assert_eq!(asked.reason, Reason::Decided(format!("platform {platform} was asked for")));
    let behind = inspect("behind").unwrap();
    assert_eq!(behind.reason, Reason::Derived(format!("the image exists only for {platform}")));
    assert!(matches!(inspect("nowhere"), Err(dhow_docker::Error::NoSuchContainer(_))));
}
