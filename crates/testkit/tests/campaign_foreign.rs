//! Promise: with the placement `foreign-machine` two machines stand behind one socket; the foreign one boots when a workload
//! needs it, neither falls with the other, and a stop drives both [1.10, 2.6, 3.7, 3.9, 6.5 to 6.7, 6.9]. One engine, broken in turn.

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::{PATIENCE, busybox, ports};
use dhow_testkit::engine::{alive, is_up, signal};
use dhow_testkit::{Engine, Error, Image, Result, Run, place, run, wait};
use serde_json::Value;

/// What `uname -m` says in each machine.
const NATIVE: &str = std::env::consts::ARCH;
const FOREIGN: &str = if cfg!(target_arch = "aarch64") { "x86_64" } else { "aarch64" };
/// Boot assets are made from packages.
const BUILD: Duration = Duration::from_secs(600);

fn foreign() -> String {
    format!("linux/{}", dhow_testkit::images::foreign())
}

/// A machine's supervisor and hypervisor.
fn processes(engine: &Engine, name: &str) -> Result<(u32, u32)> {
    engine.status()?.processes(name).ok_or_else(|| Error::Missing {
        what: format!("the processes of {name}"),
        hint: "dhow status".to_owned(),
    })
}

fn inspected(engine: &Engine, container: &str) -> Result<Value> {
    let said = engine.dhow(["inspect", container, "--json"])?.ok()?.text();
    serde_json::from_str(&said)
        .map_err(|_| Error::Unexpected { what: "`dhow inspect --json`".to_owned(), said })
}

fn names(engine: &Engine) -> Result<Vec<String>> {
    let listed = engine.docker().ok(["ps", "--format", "{{.Names}}"])?;
    let mut names: Vec<String> = listed.lines().map(str::to_owned).collect();
    names.sort();
    Ok(names)
}

/// The status line and the body of an answer, as they come over the socket.
fn get(engine: &Engine, target: &str) -> Result<(String, String)> {
    let socket = engine.docker().socket();
    let io = |source| Error::io("ask", socket)(source);
    let mut stream = UnixStream::connect(socket).map_err(io)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(io)?;
    write!(stream, "GET {target} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n").map_err(io)?;
    let mut said = String::new();
    stream.read_to_string(&mut said).map_err(io)?;
    let (head, body) = said.split_once("\r\n\r\n").unwrap_or((&said, ""));
    Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
}

/// Issue 4, point 3: the whole life of two machines.
#[test]
#[ignore = "boots an engine of two machines: ./dev test campaign"]
fn two_machines_stand_behind_one_socket_and_neither_falls_with_the_other() -> Result<()> {
    let engine = Engine::prepare()?;
    engine.dhow(["config", "set", "workloads.placement", "foreign-machine"])?.ok()?;
    has_boot_assets(&engine)?;
    boots_only_when_a_workload_needs_it(&engine)?;
    refuses_a_port_that_the_other_machine_has(&engine)?;
    asks_for_the_full_id_where_a_short_one_is_ambiguous(&engine)?;
    builds_where_the_platform_is(&engine)?;
    keeps_a_compose_project_together(&engine)?;
    is_there_for_the_next_daemon(&engine)?;
    comes_back_after_its_supervisor_was_killed(&engine)?;
    says_exactly_why_it_cannot_come_back(&engine)?;
    ends_with_the_engine_and_is_known_while_it_is_off(&engine)
}

/// The store is shared with other tests: the foreign machine's assets are made ahead, once, so that a boot takes what a boot takes.
fn has_boot_assets(engine: &Engine) -> Result<()> {
    let arch = dhow_testkit::images::foreign();
    let there = engine.dhow(["assets", "list", "--json"])?.ok()?.text();
    if there.contains(&format!("\"arch\":\"{arch}\"")) {
        return Ok(());
    }
    engine.dhow(["assets", "build", "--arch", arch])?.limit(BUILD).ok().map(drop)
}

/// Rules 6.5, 6.7, 3.9.
fn boots_only_when_a_workload_needs_it(engine: &Engine) -> Result<()> {
    let said = engine.dhow(["up", "--no-progress"])?.limit(PATIENCE).ok()?.complaint();
    assert!(said.contains("foreign") && said.contains("boots when a workload needs it"), "{said}");
    let docker = engine.docker();
    Image::Busybox.ensure(docker)?;
    assert_eq!(docker.ok(["run", "--rm", busybox(), "uname", "-m"])?, NATIVE);
    assert_eq!(engine.status()?.named("foreign"), &Value::Null, "nothing needed it");
    let platform = foreign();
    let run = ["run", "--rm", "--platform", &platform, Image::ForeignBusybox.name(), "uname", "-m"];
    // The import is the first call that needs it.
    Image::ForeignBusybox.ensure(docker)?;
    assert_eq!(docker.ok(run)?, FOREIGN);
    let machine = engine.status()?.named("foreign").clone();
    assert!(is_up(&machine["state"]) && machine["accelerator"] == "tcg", "{machine}");
    assert_eq!(docker.ok(["run", "--rm", busybox(), "uname", "-m"])?, NATIVE);
    docker.ok(["run", "-d", "--name", "near", busybox(), "sleep", "3600"])?;
    let far = [
        "run",
        "-d",
        "--name",
        "far",
        "--platform",
        &platform,
        Image::ForeignBusybox.name(),
        "sleep",
        "3600",
    ];
    docker.ok(far)?;
    assert_eq!(names(engine)?, ["far", "near"]);
    for (name, role) in [("near", "native"), ("far", "foreign")] {
        let place = inspected(engine, name)?;
        assert!(place["role"] == role && is_up(&place["machine"]["state"]), "{place}");
    }
    Ok(())
}

/// Rules 4.3, 4.6: the machines share the host's ports. Dockerd's own words say so, with who has it; nothing of the refused
/// container's listens, and what was let go is free for the other machine.
fn refuses_a_port_that_the_other_machine_has(engine: &Engine) -> Result<()> {
    let docker = engine.docker();
    let (taken, beside) = (ports::free(), ports::free());
    let publish = |port: u16| format!("127.0.0.1:{port}:80");
    let (taken_flag, beside_flag) = (publish(taken), publish(beside));
    let (native, platform) = (format!("linux/{}", dhow_testkit::images::native()), foreign());
    let sides = [(&native, busybox(), "native"), (&platform, Image::ForeignBusybox.name(), "foreign")];
    for (one, other) in [(0, 1), (1, 0)] {
        let ((its_platform, its_image, its_machine), (platform, image, _)) = (sides[one], sides[other]);
        let run = ["run", "-d", "--name", "holds", "--platform", its_platform, "-p", &taken_flag, its_image];
        docker.ok(run.into_iter().chain(["sleep", "3600"]))?;
        // The port that is free comes first, and must be free again.
        let run =
            ["run", "-d", "--name", "wants", "--platform", platform, "-p", &beside_flag, "-p", &taken_flag];
        let refused =
            docker.run(run.into_iter().chain([image, "sleep", "3600"])).limit(PATIENCE).outcome()?;
        let words = format!(
            "listen tcp4 127.0.0.1:{taken}: bind: address already in use; held by container holds of machine {its_machine}"
        );
        assert!(refused.code() == Some(125) && refused.complaint().contains(&words), "{refused}");
        assert!(TcpListener::bind(("127.0.0.1", beside)).is_ok(), "{beside} is still bound");
        assert_eq!(docker.ok(["inspect", "--format", "{{.State.Status}}", "wants"])?, "created");
        docker.ok(["rm", "-f", "holds"])?;
        docker.ok(["start", "wants"])?;
        for port in [taken, beside] {
            assert!(TcpListener::bind(("127.0.0.1", port)).is_err(), "{port} is not bound");
        }
        docker.ok(["rm", "-f", "wants"])?;
    }
    Ok(())
}

/// Rules 2.2, 2.3, 3.7: a prefix that is one container's in each machine is a conflict, which says what to do; a prune is of both.
fn asks_for_the_full_id_where_a_short_one_is_ambiguous(engine: &Engine) -> Result<()> {
    let docker = engine.docker();
    let platform = foreign();
    let create = |far: bool| match far {
        true => docker.ok(["create", "--platform", &platform, Image::ForeignBusybox.name(), "true"]),
        false => docker.ok(["create", busybox(), "true"]),
    };
    let id_of = |name: &str| docker.ok(["inspect", "-f", "{{.Id}}", name]);
    let running = [id_of("near")?, id_of("far")?];
    let mut near: Vec<String> = (0..6).map(|_| create(false)).collect::<Result<_>>()?;
    near.push(running[0].clone());
    let mut far = vec![running[1].clone()];
    let alone = |ids: &[String], digit: &str| ids.iter().filter(|id| id.starts_with(digit)).count() == 1;
    let both = |near: &[String], far: &[String]| {
        let digits = (0..16).map(|digit| format!("{digit:x}"));
        digits.into_iter().find(|digit| alone(near, digit) && alone(far, digit))
    };
    // One of five or so does; after some dozens the digits of one machine would be used up.
    let shared = loop {
        match both(&near, &far) {
            Some(digit) => break digit,
            None if far.len() + near.len() > 60 => {
                return Err(Error::Unexpected {
                    what: "IDs by chance".to_owned(),
                    said: format!("{near:?} {far:?}"),
                });
            }
            None if far.len() > 8 => near.push(create(false)?),
            None => far.push(create(true)?),
        }
    };
    let (status, body) = get(engine, &format!("/containers/{shared}/json"))?;
    assert!(status.starts_with("HTTP/1.1 409") && body.contains("full ID"), "{status} {body}");
    let refused = docker.outcome(["rm", &shared])?;
    assert!(!refused.status.success() && refused.complaint().contains("full ID"), "{refused}");
    for id in near.iter().chain(&far) {
        assert_eq!(&id_of(id)?, id);
    }
    let pruned = docker.ok(["container", "prune", "-f"])?;
    for id in near.iter().chain(&far) {
        assert_eq!(pruned.contains(id.as_str()), !running.contains(id), "{id}: {pruned}");
    }
    assert_eq!(names(engine)?, ["far", "near"]);
    Ok(())
}

/// Rules 1.10, 3.5: either builder runs its steps in the machine of the platform, with the build's secret and agent; what was built
/// is run where it is.
fn builds_where_the_platform_is(engine: &Engine) -> Result<()> {
    let dir = tempfile::tempdir().map_err(Error::io("create directory in", "/tmp"))?;
    let file = |name: &str| dir.path().join(name);
    place::write(&file("content"), "from the context")?;
    place::write(&file("secret"), "hush")?;
    let from = format!("FROM {}\nCOPY content /content\n", Image::ForeignBusybox.name());
    let steps = "RUN --mount=type=secret,id=s test \"$(cat /run/secrets/s)\" = hush && uname -m > /built\n\
                 RUN --mount=type=ssh test -S \"$SSH_AUTH_SOCK\"\n";
    place::write(&file("Dockerfile"), format!("{from}{steps}"))?;
    place::write(&file("Classic"), format!("{from}RUN uname -m > /built\n"))?;
    let agent = Agent::start(&file("agent"))?;
    let docker = engine.docker();
    let buildx = docker.run(["buildx", "build", "--platform", &foreign(), "-t", "built:1", "--secret"]);
    let buildx = buildx.arg(format!("id=s,src={}", file("secret").display()));
    let buildx = buildx.arg("--ssh").arg(format!("default={}", agent.socket.display())).arg(dir.path());
    buildx.limit(PATIENCE).ok()?;
    let classic = docker.run(["build", "-q", "--platform", &foreign(), "-t", "classic:1", "-f"]);
    classic.arg(file("Classic")).arg(dir.path()).env("DOCKER_BUILDKIT", "0").limit(PATIENCE).ok()?;
    for image in ["built:1", "classic:1"] {
        let said = docker.ok(["run", "--rm", image, "sh", "-c", "cat /built /content"])?;
        assert_eq!(said, format!("{FOREIGN}\nfrom the context"), "{image}");
    }
    Ok(())
}

/// An SSH agent without keys.
struct Agent {
    child: std::process::Child,
    socket: std::path::PathBuf,
}

impl Agent {
    fn start(socket: &std::path::Path) -> Result<Self> {
        let child = Run::new("ssh-agent").args(["-D", "-a"]).arg(socket).start()?;
        let agent = Self { child, socket: socket.to_owned() };
        wait::until("the agent", PATIENCE, || socket.exists().then_some(()))?;
        Ok(agent)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        run::kill(&mut self.child);
    }
}

/// Rule 3.6: a project lives in the machine of its first service, with its network and volume; a service that this machine cannot
/// run is refused; `down` leaves nothing of it.
fn keeps_a_compose_project_together(engine: &Engine) -> Result<()> {
    let dir = tempfile::tempdir().map_err(Error::io("create directory in", "/tmp"))?;
    let file = dir.path().join("compose.yaml");
    let (image, platform) = (Image::ForeignBusybox.name(), foreign());
    let services = format!(
        "name: abroad\nservices:\n  web:\n    image: {image}\n    platform: {platform}\n    \
         command: [\"sh\", \"-c\", \"uname -m > /data/index.html; exec httpd -f -p 80 -h /data\"]\n    volumes: [\"data:/data\"]\n  \
         client:\n    image: {image}\n    platform: {platform}\n    command: [\"sleep\", \"3600\"]\n    depends_on: [web]\nvolumes:\n  data: {{}}\n"
    );
    place::write(&file, &services)?;
    let docker = engine.docker();
    let compose = |args: &[&str]| docker.run(["compose", "-f"]).arg(&file).args(args).limit(PATIENCE);
    compose(&["up", "-d"]).ok()?;
    let asked = ["exec", "-T", "client", "wget", "-q", "-T", "20", "-O", "-", "http://web/"];
    let page = wait::until("the web server", PATIENCE, || compose(&asked).ok().ok())?;
    assert_eq!(page.text(), FOREIGN);
    for container in ["abroad-web-1", "abroad-client-1"] {
        assert_eq!(inspected(engine, container)?["role"], "foreign", "{container}");
    }
    let near = format!("services:\n  near:\n    image: {}\n", busybox());
    place::write(&file, services.replace("services:\n", &near))?;
    let refused = compose(&["create", "--no-recreate", "near"]).outcome()?;
    assert!(!refused.status.success() && refused.complaint().contains("abroad"), "{refused}");
    place::write(&file, &services)?;
    compose(&["down", "-v"]).ok()?;
    for list in [["ps", "-aq"], ["volume", "ls"], ["network", "ls"]] {
        let left =
            docker.run(list).args(["--filter", "label=com.docker.compose.project=abroad", "-q"]).ok()?;
        assert_eq!(left.text(), "", "{list:?}");
    }
    Ok(())
}

/// Rules 6.9 and 2.6: the daemon is killed, and the next one knows both machines and what is in them.
fn is_there_for_the_next_daemon(engine: &Engine) -> Result<()> {
    let before = (processes(engine, "native")?, processes(engine, "foreign")?);
    let daemon = engine.status()?.daemon().unwrap_or_default();
    signal(daemon, "KILL")?;
    wait::until("the daemon to be gone", PATIENCE, || (!alive(daemon)).then_some(()))?;
    engine.up()?;
    assert_eq!(engine.docker().ok(["exec", "far", "uname", "-m"])?, FOREIGN);
    assert_eq!(engine.docker().ok(["exec", "near", "uname", "-m"])?, NATIVE);
    assert_eq!(names(engine)?, ["far", "near"]);
    assert_eq!((processes(engine, "native")?, processes(engine, "foreign")?), before);
    Ok(())
}

/// Rules 6.3 and 3.9: who asks for a machine that has just died waits for it; the other's containers do not notice.
fn comes_back_after_its_supervisor_was_killed(engine: &Engine) -> Result<()> {
    let docker = engine.docker();
    let (native, (supervisor, hypervisor)) = (processes(engine, "native")?, processes(engine, "foreign")?);
    signal(supervisor, "KILL")?;
    assert_eq!(docker.ok(["exec", "near", "uname", "-m"])?, NATIVE);
    wait::until("the hypervisor to end with it", Duration::from_secs(10), || {
        (!alive(hypervisor)).then_some(())
    })?;
    docker.run(["start", "far"]).limit(PATIENCE).ok()?;
    assert_eq!(docker.ok(["exec", "far", "uname", "-m"])?, FOREIGN);
    assert_ne!(processes(engine, "foreign")?, (supervisor, hypervisor));
    assert_eq!(processes(engine, "native")?, native);
    Ok(())
}

/// Rules 3.3, 6.5: the machine is killed and cannot start; the error says which machine and why until it can again.
fn says_exactly_why_it_cannot_come_back(engine: &Engine) -> Result<()> {
    let docker = engine.docker();
    let image = engine.home().join("machines/foreign/data.img");
    let aside = image.with_extension("aside");
    let (supervisor, _) = processes(engine, "foreign")?;
    signal(supervisor, "KILL")?;
    std::fs::rename(&image, &aside).map_err(Error::io("rename", &image))?;
    std::fs::create_dir(&image).map_err(Error::io("create directory", &image))?;
    let (status, body) = get(engine, "/containers/far/json")?;
    assert!(status.starts_with("HTTP/1.1 503"), "{status} {body}");
    let said: Value = serde_json::from_str(&body).unwrap_or_default();
    let said = said["message"].as_str().unwrap_or_default();
    assert!(said.contains("machine foreign") && said.contains("data.img"), "{body}");
    assert_eq!(docker.ok(["exec", "near", "uname", "-m"])?, NATIVE);
    assert_eq!(names(engine)?, ["near"]);
    assert!(engine.status()?.runs());
    std::fs::remove_dir(&image).map_err(Error::io("remove", &image))?;
    std::fs::rename(&aside, &image).map_err(Error::io("rename", &aside))?;
    docker.run(["start", "far"]).limit(PATIENCE).ok()?;
    assert_eq!(names(engine)?, ["far", "near"]);
    Ok(())
}

/// Rules 6.6, 16.3, 2.6: no process is left, and the next engine knows what the foreign machine holds without waking it.
fn ends_with_the_engine_and_is_known_while_it_is_off(engine: &Engine) -> Result<()> {
    let status = engine.status()?;
    let (native, far) = (processes(engine, "native")?, processes(engine, "foreign")?);
    engine.down()?;
    for pid in status.daemon().into_iter().chain([native.0, native.1, far.0, far.1]) {
        wait::until("every process to end", Duration::from_secs(5), || (!alive(pid)).then_some(()))?;
    }
    engine.up()?;
    let place = inspected(engine, "far")?;
    assert_eq!(
        (&place["role"], &place["machine"]["state"]),
        (&"foreign".into(), &"stopped".into()),
        "{place}"
    );
    assert_eq!(engine.status()?.processes("foreign"), None);
    engine.docker().run(["start", "far"]).limit(PATIENCE).ok()?;
    assert_eq!(engine.docker().ok(["exec", "far", "uname", "-m"])?, FOREIGN);
    engine.down()
}
