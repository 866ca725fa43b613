//! Promise: containers find each other by name, alone and as a Compose project.

mod common;

use common::{debian, debian_scene};
use dhow_testkit::{Error, Result, Scene, place, wait};

/// Issue 2: networks with names.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn two_containers_on_a_network_resolve_each_other_by_name() -> Result<()> {
    let scene = debian_scene()?;
    let network = scene.network("net")?;
    for word in ["one", "two"] {
        let (name, alias) = (scene.name(word), format!("{word}.alias"));
        let place = ["--network", &network, "--network-alias", &alias];
        scene.run(["-d", "--name", &name]).args(place).args([debian(), "sleep", "600"]).ok()?;
    }
    for (from, to) in [("one", "two"), ("two", "one")] {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address = scene.docker().ok(["inspect", "-f", format, &scene.name(to)])?;
        for name in [scene.name(to), format!("{to}.alias")] {
            let found = scene.docker().ok(["exec", &scene.name(from), "getent", "hosts", &name])?;
            assert!(
                found.starts_with(&format!("{address} ")),
                "{name} is {address}, and resolved to {found}"
            );
        }
    }
    Ok(())
}

/// Networks are apart from each other.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_container_on_another_network_is_not_found() -> Result<()> {
    let scene = debian_scene()?;
    let (one, two) = (scene.network("one")?, scene.network("two")?);
    let (here, there) = (scene.name("here"), scene.name("there"));
    scene.run(["-d", "--name", &here, "--network", &one, debian(), "sleep", "600"]).ok()?;
    scene.run(["-d", "--name", &there, "--network", &two, debian(), "sleep", "600"]).ok()?;
    let outcome = scene.docker().outcome(["exec", &here, "getent", "hosts", &there])?;
    assert_eq!(outcome.code(), Some(2), "{outcome}");
    Ok(())
}

/// Issue 2: a Compose project of two real services that talk to each other.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_compose_project_of_nginx_and_redis_talks() -> Result<()> {
    let project = Project::new(debian_scene()?, PROJECT)?;
    project.compose(&["up", "-d", "--wait"])?;
    let pong = project.compose(&["exec", "-T", "web", "redis-cli", "-h", "store", "ping"])?;
    assert_eq!(pong, "PONG");
    let page = project.compose(&["exec", "-T", "store", "curl", "-sf", "http://web/"])?;
    assert!(page.contains("hello from nginx"), "{page}");
    Ok(())
}

/// Compose `down` takes everything of the project with it.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn compose_down_leaves_nothing_of_the_project() -> Result<()> {
    let project = Project::new(debian_scene()?, PROJECT)?;
    project.compose(&["up", "-d"])?;
    project.compose(&["down", "-v", "-t", "1"])?;
    let filter = format!("label=com.docker.compose.project={}", project.name);
    wait::until("the project to go", common::PATIENCE, || {
        let left = ["ps -aq", "network ls -q", "volume ls -q"]
            .map(|list| project.scene.docker().ok(list.split(' ').chain(["--filter", &filter])));
        left.into_iter().all(|listed| listed.is_ok_and(|ids| ids.is_empty())).then_some(())
    })
}

/// A web server that is healthy when it reaches the store, and a store that keeps its data in a volume.
const PROJECT: &str = r#"
services:
  web:
    image: dhow-test/debian:1
    command:
      - sh
      - -c
      - |
        echo 'server { listen 80; root /srv; }' > /etc/nginx/conf.d/site.conf
        mkdir -p /srv
        echo 'hello from nginx' > /srv/index.html
        exec nginx -g 'daemon off; error_log stderr;'
    depends_on:
      store: { condition: service_healthy }
    healthcheck: { test: ["CMD", "curl", "-sf", "http://localhost/"], interval: 1s, timeout: 10s, retries: 60 }
  store:
    image: dhow-test/debian:1
    command: ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--dir", "/data"]
    volumes: ["data:/data"]
    healthcheck: { test: ["CMD", "redis-cli", "ping"], interval: 1s, timeout: 10s, retries: 60 }
volumes:
  data: {}
"#;

struct Project {
    scene: Scene,
    name: String,
    dir: tempfile::TempDir,
}

impl Project {
    fn new(scene: Scene, text: &str) -> Result<Self> {
        let dir = tempfile::tempdir().map_err(Error::io("create directory in", "/tmp"))?;
        place::write(&dir.path().join("compose.yaml"), text)?;
        Ok(Self { name: scene.name("project"), scene, dir })
    }

    fn compose(&self, args: &[&str]) -> Result<String> {
        let compose = self.scene.docker().run(["compose", "-p", &self.name, "--progress", "plain", "-f"]);
        let run = compose.arg(self.dir.path().join("compose.yaml")).args(args).limit(common::PATIENCE);
        Ok(run.ok()?.text())
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if let Err(error) = self.compose(&["down", "-v", "-t", "0"]) {
            eprintln!("left behind: {error}");
        }
    }
}
