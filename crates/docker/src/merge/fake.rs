//! Two engines that answer as a test says, and remember what they were asked.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use dhow_model::placement::{Guest, Host, Placement};
use dhow_model::{Arch, Record, Recorded, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::Machines;
use crate::engines::{ByteStream, Engines, Unavailable};
use crate::pool::Pools;
use crate::trace::TraceId;
use crate::wire::head::{self, Request};

/// What an engine says to a method and target: status and content.
pub(crate) type Answers = dyn Fn(Role, &str, &str) -> (u16, String) + Send + Sync;

pub(crate) struct Fake {
    shared: Arc<Shared>,
    pools: Pools,
    trace: TraceId,
}

struct Shared {
    answers: Box<Answers>,
    /// "native GET /networks" and the body behind it, if there is one.
    asked: Mutex<Vec<String>>,
    running: Mutex<HashSet<Role>>,
    /// Machines that run and cannot be reached.
    broken: Mutex<HashSet<Role>>,
    record: Mutex<Record>,
}

impl Fake {
    pub(crate) fn new(answers: impl Fn(Role, &str, &str) -> (u16, String) + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared {
            answers: Box::new(answers),
            asked: Mutex::default(),
            running: Mutex::new(HashSet::from(Role::ALL)),
            broken: Mutex::default(),
            record: Mutex::default(),
        });
        let engines: Arc<dyn Engines> = Arc::new(FakeEngines(Arc::clone(&shared)));
        let pools = Pools::new(&engines);
        Self { shared, pools, trace: TraceId::accept(b"test").unwrap() }
    }

    pub(crate) fn machines(&self) -> Machines<'_> {
        Machines { engines: self.shared.as_ref(), pools: &self.pools, trace: &self.trace }
    }

    /// Everything that was asked, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.asked.lock().unwrap())
    }

    /// What was asked that changes something.
    pub(crate) fn changed(&self) -> Vec<String> {
        self.asked().into_iter().filter(|line| !line.contains(" GET ")).collect()
    }

    /// The machine is off, and this project has a container in it.
    pub(crate) fn turn_off(&self, role: Role, project: Option<&str>) {
        self.shared.running.lock().unwrap().remove(&role);
        let container = |project: &str| Recorded {
            id: "a".repeat(64),
            name: "a".to_owned(),
            project: Some(project.to_owned()),
        };
        self.shared.record.lock().unwrap().containers = project.map(container).into_iter().collect();
    }

    /// The machine runs, and its engine cannot be reached.
    pub(crate) fn break_down(&self, role: Role) {
        self.shared.broken.lock().unwrap().insert(role);
        self.pools.of(role).clear();
    }
}

/// A client's request without a body.
pub(crate) fn request(method: &str, target: &str) -> Request {
    let text = format!("{method} {target} HTTP/1.1\r\nHost: docker\r\nX-Trace-Id: test\r\n\r\n");
    head::request(text.as_bytes()).unwrap().unwrap()
}

struct FakeEngines(Arc<Shared>);

#[async_trait::async_trait]
impl Engines for Shared {
    async fn dial(&self, role: Role) -> Result<Box<dyn ByteStream>, Unavailable> {
        Err(Unavailable { what: format!("{role} is asked around its pool"), run: "nothing".to_owned() })
    }

    fn running(&self) -> Vec<Role> {
        let running = self.running.lock().unwrap();
        Role::ALL.into_iter().filter(|role| running.contains(role)).collect()
    }

    fn placement(&self) -> Placement {
        Placement::ForeignMachine
    }

    async fn host(&self) -> Host {
        Host {
            name: "linux/test".to_owned(),
            placement: Placement::ForeignMachine,
            native: Guest::from(Arch::Amd64),
            translators: Vec::new(),
            foreign: Err("a fake has none".to_owned()),
        }
    }

    fn record(&self, _role: Role) -> Option<Record> {
        Some(self.record.lock().unwrap().clone())
    }
}

#[async_trait::async_trait]
impl Engines for FakeEngines {
    async fn dial(&self, role: Role) -> Result<Box<dyn ByteStream>, Unavailable> {
        if self.0.broken.lock().unwrap().contains(&role) {
            return Err(Unavailable { what: "nobody listens".to_owned(), run: "dhow up".to_owned() });
        }
        let (near, far) = duplex(64 * 1024);
        tokio::spawn(serve(role, far, Arc::clone(&self.0)));
        Ok(Box::new(near))
    }

    fn running(&self) -> Vec<Role> {
        self.0.running()
    }

    fn placement(&self) -> Placement {
        self.0.placement()
    }

    async fn host(&self) -> Host {
        self.0.host().await
    }

    fn record(&self, role: Role) -> Option<Record> {
        self.0.record(role)
    }
}

/// Answers one request after the other.
async fn serve(role: Role, mut stream: DuplexStream, shared: Arc<Shared>) {
    let mut bytes = Vec::new();
    while stream.read_buf(&mut bytes).await.is_ok_and(|n| n > 0) {
        let Some(request) = head::request(&bytes).unwrap() else { continue };
        let mut body = request.body;
        let mut content = Vec::new();
        let rest = body.scan(&bytes[request.len..], |data| content.extend_from_slice(data)).unwrap();
        if !body.is_done() {
            continue;
        }
        bytes.drain(..request.len + rest);
        let content = String::from_utf8(content).unwrap();
        let line = format!("{role} {} {} {content}", request.method, request.target);
        shared.asked.lock().unwrap().push(line.trim_end().to_owned());
        let (status, content) = (shared.answers)(role, &request.method, &request.target);
        let answer = format!(
            "HTTP/1.1 {status} Fine\r\nApi-Version: 1.45\r\nContent-Type: application/json\r\nServer: {role}\r\n\
             Content-Length: {}\r\n\r\n{content}",
            content.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}
