//! The host and the agent around a real dockerd.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dhow_agent::ports::{Ports, service, socket};
use dhow_model::port::{Binding, Protocol};
use dhow_proto::agent::{
    PortBinding, PortBound, PortRefused, PortReleased, PortsAnswer, ports_answer, ports_request,
};
use dhow_testkit::{Docker, Dockerd, Image, Run, wait};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const PATIENCE: Duration = Duration::from_secs(30);
/// A container that does nothing.
pub const SLEEP: [&str; 3] = ["dhow-test/busybox:1", "sleep", "1000"];

/// A dockerd whose published ports are this process's.
pub struct Published {
    dockerd: Dockerd,
    ports: Ports,
    host: Host,
    runtime: Runtime,
}

/// Takes addresses as the supervisor does, and counts.
#[derive(Clone, Default)]
struct Host(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    held: BTreeMap<u64, (Binding, OwnedFd)>,
    binds: usize,
}

impl Published {
    /// A dockerd, an agent and a host.
    pub fn start() -> Self {
        let published = Self::without_host();
        let host = published.host.clone();
        let ports = published.ports.clone();
        published.runtime.spawn(async move {
            let (answers, stream) = mpsc::channel(64);
            let requests = ports.host(ReceiverStream::new(stream)).await;
            host.serve(requests, answers).await;
        });
        published
    }

    /// A dockerd and an agent whose host is away.
    pub fn without_host() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let arguments =
            ["--live-restore", "--userland-proxy=true", "--userland-proxy-path", Dockerd::PROGRAM];
        let dockerd = Dockerd::with(Some(Path::new(env!("CARGO_BIN_EXE_dhow-agent"))), &arguments).unwrap();
        Image::Busybox.ensure(dockerd.docker()).unwrap();
        let ports = {
            let _inside = runtime.enter();
            let ports = Ports::start();
            ports.listen_at(&dockerd.socket().with_file_name("ports.sock")).unwrap();
            ports
        };
        runtime.block_on(ports.engine_answers(dockerd.process().unwrap()));
        Self { dockerd, ports, host: Host::default(), runtime }
    }

    pub fn docker(&self) -> &Docker {
        self.dockerd.docker()
    }

    /// A container that sleeps.
    pub fn run<'a>(&self, name: &str, flags: impl IntoIterator<Item = &'a str>) {
        let run = self.docker().run(["run", "-d", "--name", name]).args(flags).args(SLEEP);
        run.ok().unwrap();
    }

    /// What the host listens on.
    pub fn listening(&self) -> Vec<String> {
        let state = self.host.0.lock().unwrap();
        let mut all: Vec<String> = state
            .held
            .values()
            .map(|(binding, _)| format!("{}/{}", binding.host, binding.protocol))
            .collect();
        all.sort();
        all
    }

    /// Waits until the host listens on nothing.
    pub fn nobody_listens(&self) {
        let none = || self.listening().is_empty().then_some(());
        wait::until("the ports to be released", PATIENCE, none).unwrap();
    }

    /// How often the host bound something.
    pub fn binds(&self) -> usize {
        self.host.0.lock().unwrap().binds
    }

    /// Kills dockerd and, before the next one answers, a process of its namespace. The agent hears when one answers.
    pub fn kill_dockerd_and(&mut self, and: &str) {
        // As dockerd's namespace counts it.
        let inside = self.dockerd.process().unwrap().to_string();
        Run::new("nsenter").args(["-t", &inside, "-p", "-m", "kill", "-KILL", and]).ok().unwrap();
        self.kill_dockerd();
    }

    /// Kills dockerd. The agent hears of it, and when the next one answers.
    pub fn kill_dockerd(&mut self) {
        self.runtime.block_on(self.ports.engine_gone());
        self.dockerd.kill().unwrap();
        let pid = self.dockerd.process().unwrap();
        self.runtime.block_on(self.ports.engine_answers(pid));
    }
}

impl Host {
    async fn serve(
        self,
        mut requests: service::Requests,
        answers: mpsc::Sender<Result<PortsAnswer, tonic::Status>>,
    ) {
        while let Some(Ok(request)) = requests.recv().await {
            let (id, what) = match request.what.unwrap() {
                ports_request::What::Held(held) => {
                    assert!(held.bindings.is_empty());
                    continue;
                }
                ports_request::What::Bind(asked) => (asked.id, self.bind(&asked)),
                ports_request::What::Release(release) => {
                    self.0.lock().unwrap().held.remove(&release.id);
                    (release.id, ports_answer::What::Released(PortReleased {}))
                }
            };
            if answers.send(Ok(PortsAnswer { id, what: Some(what) })).await.is_err() {
                return;
            }
        }
    }

    fn bind(&self, asked: &PortBinding) -> ports_answer::What {
        let address =
            |ip: &str, port: u32| SocketAddr::new(ip.parse().unwrap(), u16::try_from(port).unwrap());
        let protocol = if asked.protocol == 1 { Protocol::Tcp } else { Protocol::Udp };
        let binding = Binding {
            protocol,
            host: address(&asked.host_address, asked.host_port),
            container: address(&asked.container_address, asked.container_port),
        };
        let mut state = self.0.lock().unwrap();
        match socket::take(&binding) {
            Ok(socket) => {
                state.binds += 1;
                state.held.insert(asked.id, (binding, socket));
                ports_answer::What::Bound(PortBound {})
            }
            Err(text) => ports_answer::What::Refused(PortRefused { kind: "in-use".to_owned(), text }),
        }
    }
}

/// A dockerd as it comes, to compare with.
pub fn plain() -> Dockerd {
    let plain = Dockerd::start().unwrap();
    Image::Busybox.ensure(plain.docker()).unwrap();
    plain
}

/// Somebody who holds an address of the network that dockerd lives in, until it is dropped.
pub fn holder(dockerd: &Dockerd, address: SocketAddr, protocol: Protocol) -> OwnedFd {
    let network = File::open(format!("/proc/{}/ns/net", dockerd.process().unwrap())).unwrap();
    // A thread that moves there, and ends: the socket stays.
    let held = std::thread::spawn(move || {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        socket::take(&Binding { protocol, host: address, container: address }).unwrap()
    });
    held.join().unwrap()
}

/// What Docker says when a container cannot have its port, without what differs each time.
pub fn words(docker: &Docker, publish: &str) -> String {
    let outcome =
        docker.run(["run", "-d", "--name", "conflict", "-p", publish]).args(SLEEP).outcome().unwrap();
    docker.ok(["rm", "-f", "conflict"]).unwrap();
    assert_eq!(outcome.code(), Some(125), "{outcome}");
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    // The endpoint's ID.
    said.split(['(', ')']).filter(|part| part.len() != 64).collect()
}
