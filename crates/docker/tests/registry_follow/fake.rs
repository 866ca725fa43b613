//! Engines that the test plays: machines that run or not, and a dockerd that answers what the registry asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use dhow_docker::{ByteStream, Engines, Unavailable};
use dhow_model::placement::{Guest, Host, Placement};
use dhow_model::{Arch, Record, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Both machines. Dialling one that does not run would start it: the tests look at `started`.
#[derive(Default)]
pub struct Machines {
    roles: Mutex<HashMap<Role, Machine>>,
}

#[derive(Default)]
struct Machine {
    runs: bool,
    dockerd: Dockerd,
    record: Option<Record>,
    started: usize,
}

/// What is in one dockerd, and who listens to it.
#[derive(Clone, Default)]
pub struct Dockerd(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    containers: Vec<(String, String)>,
    execs: Vec<(String, String)>,
    listeners: Vec<UnboundedSender<String>>,
    /// Every connection that it has, to be cut.
    dead: bool,
    asked: Vec<String>,
}

impl Machines {
    /// With these running.
    pub fn running(roles: &[Role]) -> Arc<Self> {
        let machines = Self::default();
        roles.iter().for_each(|role| machines.set_running(*role, true));
        Arc::new(machines)
    }

    pub fn set_running(&self, role: Role, runs: bool) {
        self.of(role, |machine| machine.runs = runs);
    }

    pub fn set_record(&self, role: Role, record: Record) {
        self.of(role, |machine| machine.record = Some(record));
    }

    pub fn dockerd(&self, role: Role) -> Dockerd {
        self.of(role, |machine| machine.dockerd.clone())
    }

    /// How often this machine was started because it was dialled while it was off.
    pub fn started(&self, role: Role) -> usize {
        self.of(role, |machine| machine.started)
    }

    fn of<T>(&self, role: Role, with: impl FnOnce(&mut Machine) -> T) -> T {
        with(self.roles.lock().unwrap().entry(role).or_default())
    }
}

#[async_trait::async_trait]
impl Engines for Machines {
    async fn dial(&self, role: Role) -> Result<Box<dyn ByteStream>, Unavailable> {
        let dockerd = self.of(role, |machine| {
            machine.started += usize::from(!machine.runs);
            machine.dockerd.clone()
        });
        if dockerd.inside().dead {
            return Err(Unavailable { what: "dockerd is dead".into(), run: "dhow status".into() });
        }
        let (ours, theirs) = duplex(64 << 10);
        tokio::spawn(dockerd.serve(theirs));
        Ok(Box::new(ours))
    }

    fn running(&self) -> Vec<Role> {
        Role::ALL.into_iter().filter(|role| self.of(*role, |machine| machine.runs)).collect()
    }

    fn placement(&self) -> Placement {
        Placement::ForeignMachine
    }

    async fn host(&self) -> Host {
        Host {
            name: "linux/test".to_owned(),
            placement: Placement::ForeignMachine,
            native: Guest::from(Arch::host().unwrap()),
            translators: Vec::new(),
            foreign: Err("this test has none".to_owned()),
        }
    }

    fn record(&self, role: Role) -> Option<Record> {
        self.of(role, |machine| machine.record.clone())
    }
}

impl Dockerd {
    /// A container appears, and its event is told.
    pub fn create(&self, id: &str, name: &str) {
        self.create_silently(id, name);
        self.tell("create", id, &[("name", name)]);
    }

    /// The same without the event.
    pub fn create_silently(&self, id: &str, name: &str) {
        self.inside().containers.push((id.into(), name.into()));
    }

    pub fn destroy(&self, id: &str) {
        self.destroy_silently(id);
        self.tell("destroy", id, &[]);
    }

    pub fn destroy_silently(&self, id: &str) {
        self.inside().containers.retain(|(one, _)| one != id);
    }

    pub fn exec(&self, exec: &str, container: &str) {
        self.exec_silently(exec, container);
        self.tell("exec_create: sh -c 'a: b'", container, &[("execID", exec)]);
    }

    pub fn exec_silently(&self, exec: &str, container: &str) {
        self.inside().execs.push((exec.into(), container.into()));
    }

    pub fn exec_dies(&self, exec: &str, container: &str) {
        self.tell("exec_die", container, &[("execID", exec)]);
    }

    pub fn tell(&self, action: &str, id: &str, attributes: &[(&str, &str)]) {
        let attributes: HashMap<_, _> = attributes.iter().copied().collect();
        let event = serde_json::json!({"Type": "container", "Action": action, "Actor": {"ID": id, "Attributes": attributes}});
        self.inside().listeners.retain(|listener| listener.send(format!("{event}\n")).is_ok());
    }

    /// How many follow its events.
    pub fn listeners(&self) -> usize {
        let mut inside = self.inside();
        inside.listeners.retain(|listener| !listener.is_closed());
        inside.listeners.len()
    }

    /// It dies with its connections, or lives again.
    pub fn set_dead(&self, dead: bool) {
        let mut inside = self.inside();
        inside.dead = dead;
        inside.listeners.clear();
    }

    /// What it was asked since it was last asked this.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.inside().asked)
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap()
    }

    async fn serve(self, mut stream: DuplexStream) {
        let mut head = Vec::new();
        loop {
            let mut byte = [0; 1];
            match stream.read(&mut byte).await {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
            if !head.ends_with(b"\r\n\r\n") {
                continue;
            }
            let request = String::from_utf8(std::mem::take(&mut head)).unwrap();
            let target = request.split(' ').nth(1).unwrap().to_owned();
            if self.inside().dead {
                return;
            }
            if target.starts_with("/events?") {
                return self.events(stream).await;
            }
            self.inside().asked.push(target.clone());
            let (status, body) = self.answer(&target);
            let answer = format!(
                "HTTP/1.1 {status} X\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    async fn events(self, mut stream: DuplexStream) {
        let (listener, mut events): (_, UnboundedReceiver<String>) = unbounded_channel();
        if stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.is_err() {
            return;
        }
        self.inside().listeners.push(listener);
        loop {
            let mut byte = [0; 1];
            tokio::select! {
                event = events.recv() => {
                    let Some(event) = event else { return };
                    // In two chunks: an event need not come at once.
                    let (one, two) = event.split_at(event.len() / 2);
                    for part in [one, two] {
                        let chunk = format!("{:x}\r\n{part}\r\n", part.len());
                        if stream.write_all(chunk.as_bytes()).await.is_err() {
                            return;
                        }
                        tokio::task::yield_now().await;
                    }
                }
                _ = stream.read(&mut byte) => return,
            }
        }
    }

    fn answer(&self, target: &str) -> (u16, String) {
        let inside = self.inside();
        let described = |(id, name): &(String, String)| serde_json::json!({"Id": id, "Name": format!("/{name}"), "Names": [format!("/{name}")], "Labels": {}});
        let not_found =
            |what: &str| (404, serde_json::json!({"message": format!("No such {what}")}).to_string());
        if target == "/_ping" {
            return (200, "OK".into());
        }
        if target == "/containers/json?all=1" {
            let list: Vec<_> = inside.containers.iter().map(described).collect();
            return (200, serde_json::Value::from(list).to_string());
        }
        if let Some(id) = target.strip_prefix("/exec/").and_then(|rest| rest.strip_suffix("/json")) {
            let exec = inside.execs.iter().find(|(exec, _)| exec == id);
            return exec.map_or_else(
                || not_found("exec instance"),
                |(exec, container)| {
                    (200, serde_json::json!({"ID": exec, "ContainerID": container}).to_string())
                },
            );
        }
        let reference =
            target.strip_prefix("/containers/").and_then(|rest| rest.strip_suffix("/json")).unwrap();
        let all = &inside.containers;
        let exact = all.iter().find(|(id, _)| id == reference);
        let named = || all.iter().find(|(_, name)| name == reference.trim_start_matches('/'));
        let mut begun = all.iter().filter(|(id, _)| id.starts_with(reference));
        match exact.or_else(named) {
            Some(one) => (200, described(one).to_string()),
            None => match (begun.next(), begun.next()) {
                (Some(one), None) => (200, described(one).to_string()),
                (Some(_), Some(_)) => {
                    (400, format!(r#"{{"message":"Multiple IDs found with provided prefix: {reference}"}}"#))
                }
                _ => not_found("container"),
            },
        }
    }
}

/// Waits until this holds.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .unwrap_or_else(|_| panic!("waited 10 s for: {what}"));
}
