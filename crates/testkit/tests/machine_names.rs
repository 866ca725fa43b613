//! Promise: a container answers to its name, for other containers and for the host, at once and no longer than it lives
//! [5.1 to 5.4].

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::{PATIENCE, busybox, debian, debian_scene, scene};
use dhow_testkit::{Engine, Error, Result, Run, Scene, Server, place, serve, wait};

/// Within this a change of a container is known by name.
const AT_ONCE: Duration = Duration::from_secs(1);
/// A container that has just started: dockerd's event has to come first.
const SOON: Duration = Duration::from_secs(10);

/// The resolver that an engine offers on the host.
struct Resolver {
    port: String,
}

/// What it answered.
struct Answer {
    status: String,
    addresses: BTreeSet<String>,
    took: Duration,
}

impl Resolver {
    fn of(engine: &Engine) -> Result<Self> {
        Ok(Self { port: engine.dhow(["config", "get", "dns.port"])?.ok()?.text() })
    }

    fn ask(&self, name: &str) -> Result<Answer> {
        let dig = [
            "@127.0.0.1",
            "-p",
            &self.port,
            "+tries=1",
            "+time=5",
            "+noall",
            "+comments",
            "+answer",
            "+stats",
        ];
        let said = Run::new("dig").args(dig).args([name, "A"]).ok()?.text();
        let after = |mark: &str, end: char| said.split(mark).nth(1).and_then(|rest| rest.split(end).next());
        let status = after("status: ", ',').unwrap_or_default().to_owned();
        let milliseconds = after("Query time: ", ' ').and_then(|number| number.parse().ok());
        let record = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields.get(3) == Some(&"A")).then(|| fields.get(4).map(|word| (*word).to_owned()))?
        };
        let addresses = said.lines().filter(|line| !line.starts_with(';')).filter_map(record).collect();
        Ok(Answer { status, addresses, took: Duration::from_millis(milliseconds.unwrap_or(u64::MAX)) })
    }

    /// Waits until a name stands for exactly these addresses.
    fn wait(&self, name: &str, wanted: &[String], limit: Duration) -> Result<()> {
        let wanted: BTreeSet<String> = wanted.iter().cloned().collect();
        let mut last = String::new();
        let found = wait::until(&format!("{name} to be {wanted:?}"), limit, || match self.ask(name) {
            Ok(answer) if answer.addresses == wanted => Some(()),
            Ok(answer) => {
                last = format!("{} {:?}", answer.status, answer.addresses);
                None
            }
            Err(error) => {
                last = error.to_string();
                None
            }
        });
        found.map_err(|error| Error::Unexpected { what: error.to_string(), said: last })
    }

    /// Waits until nobody has a name.
    fn wait_gone(&self, name: &str, limit: Duration) -> Result<()> {
        let gone = || self.ask(name).ok().filter(|answer| answer.status == "NXDOMAIN").map(drop);
        wait::until(&format!("{name} to be unknown"), limit, gone)
    }
}

fn full(name: &str) -> String {
    format!("{name}.dhow.internal")
}

/// The addresses of a container, as Docker tells them.
fn addresses(scene: &Scene, container: &str) -> Result<Vec<String>> {
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
    let said = scene.docker().ok(["inspect", "-f", format, container])?;
    Ok(said.split_whitespace().map(str::to_owned).collect())
}

/// What a name is in a container of `network`: the first addresses of `getent`, or nothing.
fn seen_from(scene: &Scene, network: &str, name: &str) -> Result<String> {
    let outcome =
        scene.run(["--rm", "--network", network, debian(), "getent", "ahostsv4", name]).outcome()?;
    Ok(outcome.text().split_whitespace().next().unwrap_or_default().to_owned())
}

fn sleeper(scene: &Scene, name: &str, network: &str) -> Result<()> {
    scene.run(["-d", "--name", name, "--network", network, busybox(), "sleep", "1000"]).ok().map(drop)
}

/// Rules 5.1 and 5.3: one name, seen from the default bridge, from a network of its own and from the host.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_containers_name_is_known_to_containers_and_to_the_host() -> Result<()> {
    let scene = debian_scene()?;
    let resolver = Resolver::of(&Engine::shared()?)?;
    let network = scene.network("own")?;
    for place in ["bridge", &network] {
        let name = scene.name(if place == "bridge" { "on-bridge" } else { "on-own" });
        sleeper(&scene, &name, place)?;
        let there = addresses(&scene, &name)?;
        resolver.wait(&full(&name), &there, SOON)?;
        for from in ["bridge", &network, "host"] {
            assert_eq!(seen_from(&scene, from, &full(&name))?, there[0], "{name} from {from}");
        }
    }
    Ok(())
}

/// Rule 5.1: letters' case does not matter to names, and the whole name ends with a dot or not.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_name_is_found_in_any_case() -> Result<()> {
    let scene = scene()?;
    let resolver = Resolver::of(&Engine::shared()?)?;
    let name = scene.name("Mixed");
    sleeper(&scene, &name, "bridge")?;
    let there = addresses(&scene, &name)?;
    resolver.wait(&full(&name).to_uppercase(), &there, SOON)?;
    resolver.wait(&format!("{}.", full(&name).to_lowercase()), &there, SOON)
}

/// Rule 5.2: a name that nobody has is unknown, and an unknown type of a known name is not.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn an_unknown_name_is_nxdomain() -> Result<()> {
    let scene = debian_scene()?;
    let resolver = Resolver::of(&Engine::shared()?)?;
    let unknown = full(&scene.name("nobody"));
    assert_eq!(resolver.ask(&unknown)?.status, "NXDOMAIN");
    let outcome = scene.run(["--rm", debian(), "getent", "hosts", &unknown]).outcome()?;
    assert_eq!(outcome.code(), Some(2), "{outcome}");
    Ok(())
}

/// Rule 5.1, and issue 3's "a name with odd characters": what cannot be a name of DNS is nobody's, as an alias goes to Docker's own
/// resolver as it is, and whoever bears it is found by its other name.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_name_with_odd_characters_is_nobodys_and_hides_no_other() -> Result<()> {
    let scene = scene()?;
    let resolver = Resolver::of(&Engine::shared()?)?;
    let (network, project) = (scene.network("odd")?, scene.name("project"));
    let long = "l".repeat(64);
    let odd = ["two words", "na\u{ef}ve", "dots..dots", "", "line\nline", &long];
    let mut names = Vec::new();
    for (number, service) in odd.into_iter().enumerate() {
        let name = scene.name(&format!("odd_{number}"));
        let labels = [("service", service), ("project", &project)]
            .map(|(key, value)| format!("com.docker.compose.{key}={value}"));
        let run = scene.run(["-d", "--name", &name, "--network", &network, "--network-alias", service]);
        run.args(labels.iter().flat_map(|label| ["--label", label]))
            .args([busybox(), "sleep", "1000"])
            .ok()?;
        names.push(name);
    }
    for name in &names {
        let there = addresses(&scene, name)?;
        resolver.wait(&full(name), &there, SOON)?;
        resolver.wait(&full(&name.replace('_', "-")), &there, SOON)?;
    }
    // As dig is told bytes that stand for themselves (RFC 1035, 5.1).
    for key in ["two\\032words", "na\\195\\175ve", "line\\010line"] {
        let answer = resolver.ask(&format!("{key}.{project}.dhow.internal"))?;
        assert_eq!((answer.status.as_str(), answer.addresses.len()), ("NXDOMAIN", 0), "{key}");
    }
    // Docker takes a name of any length; DNS does not.
    let (longer, host) = (scene.name(&"n".repeat(64)), scene.name("beside"));
    sleeper(&scene, &longer, &network)?;
    sleeper(&scene, &host, &network)?;
    resolver.wait(&full(&host), &addresses(&scene, &host)?, SOON)?;
    let refused = scene.run(["-d", "--name", "two words", busybox(), "true"]).outcome()?;
    assert!(refused.complaint().contains("Invalid container name (two words)"), "{refused}");
    Ok(())
}

/// Rule 5.2: a renamed container moves at once.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_renamed_container_moves_at_once() -> Result<()> {
    let scene = scene()?;
    let resolver = Resolver::of(&Engine::shared()?)?;
    let (before, after) = (scene.name("before"), scene.name("after"));
    sleeper(&scene, &before, "bridge")?;
    let there = addresses(&scene, &before)?;
    resolver.wait(&full(&before), &there, SOON)?;
    scene.docker().ok(["rename", &before, &after])?;
    resolver.wait(&full(&after), &there, AT_ONCE)?;
    resolver.wait_gone(&full(&before), AT_ONCE)
}

/// Rule 5.2: a container that leaves a network and comes back has the address that it has then.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_container_that_changes_networks_is_known_by_its_addresses_of_then() -> Result<()> {
    let scene = scene()?;
    let resolver = Resolver::of(&Engine::shared()?)?;
    let (name, first, second) = (scene.name("moves"), scene.network("first")?, scene.network("second")?);
    sleeper(&scene, &name, &first)?;
    resolver.wait(&full(&name), &addresses(&scene, &name)?, SOON)?;
    scene.docker().ok(["network", "connect", &second, &name])?;
    let both = addresses(&scene, &name)?;
    assert_eq!(both.len(), 2);
    resolver.wait(&full(&name), &both, AT_ONCE)?;
    scene.docker().ok(["network", "disconnect", &first, &name])?;
    resolver.wait(&full(&name), &addresses(&scene, &name)?, AT_ONCE)?;
    scene.docker().ok(["network", "disconnect", &second, &name])?;
    wait::until("it to have no address", AT_ONCE, || {
        resolver.ask(&full(&name)).ok().filter(|answer| answer.addresses.is_empty()).map(drop)
    })?;
    scene.docker().ok(["network", "connect", &second, &name])?;
    resolver.wait(&full(&name), &addresses(&scene, &name)?, AT_ONCE)
}

/// Rule 5.2: a container that has stopped is unknown within a second; started again it is known again.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_stopped_container_is_unknown_within_a_second() -> Result<()> {
    let scene = scene()?;
    let resolver = Resolver::of(&Engine::shared()?)?;
    for how in ["stop", "kill", "rm"] {
        let name = scene.name(how);
        sleeper(&scene, &name, "bridge")?;
        resolver.wait(&full(&name), &addresses(&scene, &name)?, SOON)?;
        let arguments: &[&str] = match how {
            "stop" => &["stop", "-t", "0"],
            "kill" => &["kill"],
            _ => &["rm", "-f"],
        };
        scene.docker().run(arguments).arg(&name).ok()?;
        resolver.wait_gone(&full(&name), AT_ONCE)?;
        if how != "rm" {
            scene.docker().ok(["start", &name])?;
            resolver.wait(&full(&name), &addresses(&scene, &name)?, SOON)?;
        }
    }
    Ok(())
}

/// Rules 5.1 and 5.2: a service's name has the addresses of all its containers, as many as there are.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_services_name_has_the_addresses_of_the_containers_that_remain() -> Result<()> {
    let scene = debian_scene()?;
    let resolver = Resolver::of(&Engine::shared()?)?;
    let project = Project::new(scene)?;
    for scale in [1, 3, 1] {
        project.compose(&["up", "-d", "--scale", &format!("web={scale}")])?;
        let there = project.addresses("web")?;
        assert_eq!(there.len(), scale);
        let name = format!("web.{}.dhow.internal", project.name);
        resolver.wait(&name, &there, SOON)?;
        let seen = seen_from(&project.scene, "bridge", &name)?;
        assert!(there.contains(&seen), "{name} is one of {there:?}, and was {seen} in a container");
    }
    project.compose(&["down", "-t", "0"])?;
    resolver.wait_gone(&format!("web.{}.dhow.internal", project.name), AT_ONCE)
}

/// Rule 5.1: the host has two names in containers, on every kind of network.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn the_hosts_names_lead_to_the_host() -> Result<()> {
    let scene = debian_scene()?;
    let server = Server::web(serve::V4, "the host")?;
    let network = scene.network("own")?;
    let script = format!(
        "for name in host.docker.internal gateway.docker.internal; do curl -sS --max-time 20 http://$name:{}/ || exit; echo; done",
        server.port()
    );
    for network in ["bridge", &network, "host"] {
        let outcome = scene.run(["--rm", "--network", network, debian(), "sh", "-c", &script]).outcome()?;
        assert_eq!(outcome.text(), "the host\nthe host", "on {network}: {outcome}");
    }
    Ok(())
}

/// Rule 5.4: local names are answered within 100 ms while questions to an upstream that does not answer wait.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn local_names_do_not_wait_for_a_dead_upstream() -> Result<()> {
    let scene = debian_scene()?;
    let resolver = Resolver::of(&Engine::shared()?)?;
    let name = scene.name("local");
    sleeper(&scene, &name, "bridge")?;
    let there = addresses(&scene, &name)?;
    resolver.wait(&full(&name), &there, SOON)?;
    // Nobody has a name below `invalid` (RFC 6761); the host's resolver may say so at once or never.
    let ask = "for i in $(seq 40); do getent hosts dead$i.invalid & done; wait";
    let asker = scene.name("asks");
    scene.run(["-d", "--name", &asker, debian(), "sh", "-c", ask]).ok()?;
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    for _ in 0..100 {
        let answer = resolver.ask(&full(&name))?;
        assert_eq!(answer.addresses.into_iter().collect::<Vec<_>>(), there);
        slowest = slowest.max(answer.took);
    }
    eprintln!("100 questions in {:?}, the slowest {slowest:?}", began.elapsed());
    assert!(slowest < Duration::from_millis(100), "an answer took {slowest:?}");
    Ok(())
}

const PROJECT: &str =
    "services:\n  web:\n    image: dhow-test/busybox:1\n    command: sleep 1000\n    stop_grace_period: 0s\n";

struct Project {
    scene: Scene,
    name: String,
    dir: tempfile::TempDir,
}

impl Project {
    fn new(scene: Scene) -> Result<Self> {
        let dir = tempfile::tempdir().map_err(Error::io("create directory in", "/tmp"))?;
        place::write(&dir.path().join("compose.yaml"), PROJECT)?;
        Ok(Self { name: scene.name("project"), scene, dir })
    }

    fn compose(&self, args: &[&str]) -> Result<String> {
        let compose = self.scene.docker().run(["compose", "-p", &self.name, "--progress", "plain", "-f"]);
        let run = compose.arg(self.dir.path().join("compose.yaml")).args(args).limit(PATIENCE);
        Ok(run.ok()?.text())
    }

    fn addresses(&self, service: &str) -> Result<Vec<String>> {
        let ids = self.compose(&["ps", "-q", service])?;
        let found: Result<Vec<_>> = ids.split_whitespace().map(|id| addresses(&self.scene, id)).collect();
        Ok(found?.concat())
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if let Err(error) = self.compose(&["down", "-v", "-t", "0"]) {
            eprintln!("left behind: {error}");
        }
    }
}
