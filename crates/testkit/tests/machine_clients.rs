//! Promise: client libraries that others wrote work through Dhow's socket, unchanged, each in a scenario as a program would have
//! it (issue 4; rule 3.1). Compose and Buildx have their own files: `machine_run`, `machine_build`.

mod common;

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error as Bollard;
use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, HostConfig, NetworkCreateRequest, PortBinding};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, EventsOptionsBuilder,
    InspectContainerOptions, ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    RenameContainerOptions, StatsOptionsBuilder, WaitContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use common::{PATIENCE, busybox, debian, debian_scene, scene};
use dhow_testkit::{Error, Result, Run, Scene, clients, engine};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_stream::{Stream, StreamExt as _};

/// Published ports are reached from here in an engine's machine, not in the bare dockerd that stands in for one.
fn ports() -> Option<&'static str> {
    std::env::var_os(engine::SHARED_SOCKET).is_none().then_some("ports")
}

fn goes_well(run: Run, scene: &Scene, image: &str) -> Result<()> {
    let said = run.args([image, scene.label()]).args(ports()).limit(PATIENCE).ok()?.text();
    assert!(said.ends_with("done"), "{said}");
    Ok(())
}

/// Issue 4: the Python Docker SDK.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn dockers_sdk_for_python_works_unchanged() -> Result<()> {
    let scene = scene()?;
    goes_well(clients::python(scene.docker(), "python")?, &scene, busybox())
}

/// Issue 4: the JavaScript `dockerode`.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn dockerode_for_javascript_works_unchanged() -> Result<()> {
    let scene = scene()?;
    goes_well(clients::javascript(scene.docker(), "javascript")?, &scene, busybox())
}

/// Issue 4: Testcontainers for one language.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn testcontainers_for_python_work_unchanged() -> Result<()> {
    let scene = debian_scene()?;
    let run =
        clients::python(scene.docker(), "with_testcontainers")?.env("TESTCONTAINERS_RYUK_DISABLED", "true");
    // Where the tests themselves run in a container, it would look for the published ports on that one's gateway.
    let run = run.env("TESTCONTAINERS_CONNECTION_MODE", "docker_host").env("TC_HOST", "127.0.0.1");
    goes_well(run, &scene, debian())
}

/// Issue 4: the Rust `bollard`.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn bollard_for_rust_works_unchanged() -> Result<()> {
    let scene = scene()?;
    let runtime = tokio::runtime::Runtime::new().map_err(Error::io("start", "a runtime"))?;
    let day = async { tokio::time::timeout(PATIENCE, day(&scene)).await };
    let ended = runtime.block_on(day).map_err(|_| said("the scenario did not end"))?;
    ended.map_err(|error| said(&error.to_string()))
}

fn said(what: &str) -> Error {
    Error::Unexpected { what: "bollard".to_owned(), said: what.to_owned() }
}

/// A container's life as a program leads it.
async fn day(scene: &Scene) -> Result<(), Bollard> {
    let path = scene.docker().socket().to_string_lossy().into_owned();
    let docker = Docker::connect_with_socket(&path, 120, API_DEFAULT_VERSION)?.negotiate_version().await?;
    assert_eq!(docker.ping().await?, "OK");
    assert_eq!(docker.version().await?.os.as_deref(), Some("linux"));
    assert_eq!(docker.info().await?.os_type.as_deref(), Some("linux"));

    let labels = HashMap::from([("dhow-test".to_owned(), scene.label().to_owned())]);
    let network = scene.name("bollard");
    let request =
        NetworkCreateRequest { name: network.clone(), labels: Some(labels.clone()), ..Default::default() };
    docker.create_network(request).await?;

    let mine = HashMap::from([("label", vec![scene.mark()])]);
    let mine: HashMap<&str, Vec<String>> = mine;
    // It asks when it is first looked at, so it asks for what was before.
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let since = EventsOptionsBuilder::new().filters(&mine).since(&now.to_string()).build();
    let mut events = docker.events(Some(since));

    let name = scene.name("server");
    let published = HashMap::from([(
        "80/tcp".to_owned(),
        Some(vec![PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: None }]),
    )]);
    let config = ContainerCreateBody {
        image: Some(busybox().to_owned()),
        cmd: Some(words(&[
            "sh",
            "-c",
            "echo page > /tmp/index.html; echo serving; exec httpd -f -p 80 -h /tmp",
        ])),
        labels: Some(labels.clone()),
        exposed_ports: Some(vec!["80/tcp".to_owned()]),
        host_config: Some(HostConfig {
            network_mode: Some(network.clone()),
            port_bindings: Some(published),
            memory: Some(64 << 20),
            ..Default::default()
        }),
        ..Default::default()
    };
    let options = || Some(CreateContainerOptionsBuilder::new().name(&name).build());
    let id = docker.create_container(options(), config.clone()).await?.id;
    assert_eq!(refusal(docker.create_container(options(), config).await), 409);
    docker.start_container(&id, None).await?;
    let created = within(events.next()).await?.transpose()?.and_then(|event| event.action);
    assert_eq!(created.as_deref(), Some("create"));

    let follow = LogsOptionsBuilder::new().stdout(true).follow(true).build();
    let mut logs = docker.logs(&id, Some(follow));
    assert_eq!(
        within(logs.next()).await?.transpose()?.map(|line| line.to_string()).as_deref(),
        Some("serving\n")
    );
    drop(logs);

    let inspected = docker.inspect_container(&name, None::<InspectContainerOptions>).await?;
    assert_eq!(inspected.id.as_deref(), Some(id.as_str()));
    if ports().is_some() {
        let ports = inspected.network_settings.and_then(|settings| settings.ports).unwrap_or_default();
        let binding = ports.get("80/tcp").cloned().flatten().unwrap_or_default();
        let port = binding.first().and_then(|binding| binding.host_port.clone()).unwrap_or_default();
        assert!(page(&port).await.is_some_and(|answer| answer.ends_with("page\n")), "port {port}");
    }

    let (out, code) = exec(&docker, &id, &["cat"], Some("through cat\n")).await?;
    assert_eq!((out.as_str(), code), ("through cat\n", Some(0)));
    let (out, code) = exec(&docker, &id, &["sh", "-c", "echo bad >&2; exit 4"], None).await?;
    assert_eq!((out.as_str(), code), ("bad\n", Some(4)));

    let mut stats = docker.stats(&id, Some(StatsOptionsBuilder::new().stream(false).build()));
    assert!(within(stats.next()).await?.transpose()?.is_some());

    let renamed = scene.name("renamed");
    docker.rename_container(&id, RenameContainerOptions { name: renamed.clone() }).await?;
    docker.pause_container(&renamed).await?;
    docker.unpause_container(&renamed).await?;
    let list = ListContainersOptionsBuilder::new().filters(&mine).build();
    let listed: Vec<_> = docker.list_containers(Some(list)).await?.into_iter().filter_map(|c| c.id).collect();
    assert_eq!(listed, std::slice::from_ref(&id));

    attached(&docker, labels).await?;

    docker.remove_container(&id, Some(RemoveContainerOptionsBuilder::new().force(true).build())).await?;
    assert_eq!(refusal(docker.inspect_container(&id, None::<InspectContainerOptions>).await), 404);
    docker.remove_network(&network).await?;
    Ok(())
}

/// `cat`, attached before it is started: what goes in comes out, and its end is its input's.
async fn attached(docker: &Docker, labels: HashMap<String, String>) -> Result<(), Bollard> {
    let cat = ContainerCreateBody {
        image: Some(busybox().to_owned()),
        cmd: Some(words(&["cat"])),
        labels: Some(labels),
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        ..Default::default()
    };
    let id = docker.create_container(None, cat).await?.id;
    let both =
        AttachContainerOptionsBuilder::new().stdin(true).stdout(true).stderr(true).stream(true).build();
    let mut streams = docker.attach_container(&id, Some(both)).await?;
    docker.start_container(&id, None).await?;
    streams.input.write_all(b"attached\n").await?;
    streams.input.shutdown().await?;
    assert_eq!(text(streams.output).await?, "attached\n");
    let ended = within(docker.wait_container(&id, None::<WaitContainerOptions>).next()).await?.transpose();
    // It may have ended before it is waited for; its status is the same.
    assert_eq!(ended?.map(|status| status.status_code), Some(0));
    docker.remove_container(&id, None).await
}

async fn exec(
    docker: &Docker,
    container: &str,
    command: &[&str],
    input: Option<&str>,
) -> Result<(String, Option<i64>), Bollard> {
    let options = CreateExecOptions {
        cmd: Some(words(command)),
        attach_stdin: Some(input.is_some()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..Default::default()
    };
    let exec = docker.create_exec(container, options).await?.id;
    let StartExecResults::Attached { output, input: mut to } = docker.start_exec(&exec, None).await? else {
        return Ok((String::new(), None));
    };
    if let Some(input) = input {
        to.write_all(input.as_bytes()).await?;
        to.shutdown().await?;
    }
    let out = text(output).await?;
    Ok((out, docker.inspect_exec(&exec).await?.exit_code))
}

/// All that a container says until it ends.
async fn text(mut output: impl Stream<Item = Result<LogOutput, Bollard>> + Unpin) -> Result<String, Bollard> {
    let mut all = String::new();
    while let Some(line) = within(output.next()).await?.transpose()? {
        all.push_str(&line.to_string());
    }
    Ok(all)
}

/// The answer of a web server on the host's loopback.
async fn page(port: &str) -> Option<String> {
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port.parse().ok()?)).await.ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.ok()?.ok()?;
    Some(answer)
}

/// The status of an error that Docker answered.
fn refusal<T>(answer: Result<T, Bollard>) -> u16 {
    match answer {
        Err(Bollard::DockerResponseServerError { status_code, .. }) => status_code,
        _ => 0,
    }
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|&word| word.to_owned()).collect()
}

/// The scenario as a whole has its limit; no step of it takes most of that.
async fn within<T>(step: impl Future<Output = T>) -> Result<T, Bollard> {
    Ok(tokio::time::timeout(Duration::from_secs(120), step).await.map_err(io::Error::from)?)
}
