//! An engine that is not one: it answers the calls that verify makes, and "runs" a program by what the test says that its translator does.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use dhow_model::Arch;
use dhow_verify::judge::{Expect, Text};
use dhow_verify::{Docker, Gate, PULL, Request, Serving, Source, Surroundings, checks};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// What a program did.
#[derive(Debug, Clone, Default)]
pub struct Did {
    pub exit: i64,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// It never ends.
    pub hangs: bool,
    pub out_of_memory: bool,
}

/// What the engine does with a call, before it answers as an engine would.
pub enum Trouble {
    None,
    /// The answer never comes.
    Silence,
    /// The engine is gone from now on.
    Death,
    /// An answer of its own.
    Says(u16, Value),
}

type Runs = dyn Fn(Arch, &[String]) -> Did + Send + Sync;
type Troubles = dyn Fn(usize, &str, &str) -> Trouble + Send + Sync;

/// The engine, which is amd64.
pub struct Fake {
    _directory: TempDir,
    socket: PathBuf,
    state: Arc<State>,
    server: tokio::task::JoinHandle<()>,
}

struct State {
    runs: Box<Runs>,
    trouble: Box<Troubles>,
    calls: Mutex<Vec<String>>,
    containers: Mutex<BTreeMap<String, (Arch, Vec<String>)>>,
    images: Mutex<BTreeMap<String, Arch>>,
    dead: Mutex<bool>,
    socket: PathBuf,
}

impl Fake {
    pub fn new(
        runs: impl Fn(Arch, &[String]) -> Did + Send + Sync + 'static,
        trouble: impl Fn(usize, &str, &str) -> Trouble + Send + Sync + 'static,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let state = Arc::new(State {
            runs: Box::new(runs),
            trouble: Box::new(trouble),
            calls: Mutex::default(),
            containers: Mutex::default(),
            images: Mutex::default(),
            dead: Mutex::default(),
            socket: socket.clone(),
        });
        let served = Arc::clone(&state);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(Arc::clone(&served), stream));
            }
        });
        Self { _directory: directory, socket, state, server }
    }

    pub fn docker(&self) -> Docker {
        Docker::new(&self.socket)
    }

    /// `METHOD path` of every call so far.
    pub fn calls(&self) -> Vec<String> {
        self.state.calls.lock().unwrap().clone()
    }

    /// Containers that nobody removed.
    pub fn left(&self) -> usize {
        self.state.containers.lock().unwrap().len()
    }

    /// Verifies arm64 programs with the usual public images, where what would need packages cannot be had.
    pub fn request(&self, gates: &[Gate]) -> Request {
        let store = self.socket.with_file_name("store");
        Request {
            run: "test".to_owned(),
            arch: Arch::Arm64,
            gates: gates.to_vec(),
            checks: Vec::new(),
            source: Source::Registry {
                prefix: "registry.example/library".to_owned(),
                store,
                mirror: Some("http://127.0.0.1:1/debian".to_owned()),
            },
            keep: false,
            at_most: Some(std::time::Duration::from_secs(20)),
            pull: PULL,
            serving: Serving::default(),
            surroundings: Surroundings::default(),
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What an honest processor does: what the check of this command expects.
pub fn right(arch: Arch, command: &[String]) -> Did {
    if command.first().is_some_and(|program| program == "/machine") {
        return done(&checks::machine("x", arch).expect);
    }
    let all = checks::programs(arch, None);
    let of = |check: &&checks::Check| {
        check.command == command
            || check.public.as_ref().is_some_and(|public| public.command.as_deref() == Some(command))
    };
    all.iter().find(of).map(|check| done(&check.expect)).unwrap_or_default()
}

fn done(expect: &Expect) -> Did {
    let text = |text: &Text| match text {
        Text::Is(words) => format!("{words}\n").into_bytes(),
        Text::Has(words) => format!("it has {words}!\n").into_bytes(),
        Text::Digest { .. } => checks::large().into_bytes(),
        Text::Clock { .. } => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            format!("{}\n", now.as_secs()).into_bytes()
        }
        Text::Any => Vec::new(),
    };
    Did { exit: expect.exit[0], stdout: text(&expect.stdout), stderr: text(&expect.stderr), ..Did::default() }
}

async fn serve(state: Arc<State>, mut stream: UnixStream) {
    let mut bytes = Vec::new();
    let head = loop {
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await {
            Ok(n) if n > 0 => bytes.extend_from_slice(&piece[..n]),
            _ => return,
        }
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let length = text
        .lines()
        .find_map(|line| {
            line.to_lowercase().strip_prefix("content-length:").map(|n| n.trim().parse().unwrap())
        })
        .unwrap_or(0);
    while bytes.len() < head + length {
        let mut piece = vec![0; 64 << 10];
        match stream.read(&mut piece).await {
            Ok(n) if n > 0 => bytes.extend_from_slice(&piece[..n]),
            _ => return,
        }
    }
    let mut words = text.split_whitespace();
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let path = target.split('?').next().unwrap().to_owned();
    let count = {
        let mut calls = state.calls.lock().unwrap();
        calls.push(format!("{method} {path}"));
        calls.len()
    };
    if *state.dead.lock().unwrap() {
        return;
    }
    let (status, body) = match (state.trouble)(count, &method, &target) {
        Trouble::None => match state.answer(&method, &path, &target, &bytes[head..]) {
            Some(answer) => answer,
            None => std::future::pending().await,
        },
        Trouble::Silence => std::future::pending().await,
        Trouble::Death => {
            *state.dead.lock().unwrap() = true;
            std::fs::remove_file(&state.socket).unwrap();
            return;
        }
        Trouble::Says(status, words) => (status, words.to_string().into_bytes()),
    };
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    // A client that has gone wants no answer.
    stream.write_all(head.as_bytes()).await.ok();
    stream.write_all(&body).await.ok();
    stream.shutdown().await.ok();
}

impl State {
    /// `None`: the answer never comes.
    fn answer(&self, method: &str, path: &str, target: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
        let say = |value: Value| Some((200, value.to_string().into_bytes()));
        let query = |name: &str| {
            let (_, query) = target.split_once('?')?;
            let value = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")))?;
            Some(value.replace("%2F", "/").replace("%3A", ":"))
        };
        let platform = || query("platform").and_then(|p| p.rsplit('/').next().unwrap().parse().ok());
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match (method, parts.as_slice()) {
            ("GET", ["_ping"]) => Some((200, b"OK".to_vec())),
            ("GET", ["version"]) => {
                say(json!({ "Version": "0", "KernelVersion": "0", "ApiVersion": "1.45" }))
            }
            ("GET", ["info"]) => say(json!({ "Architecture": "x86_64" })),
            ("POST", ["images", "create"]) => {
                let name = query("fromImage").or(query("repo")).unwrap();
                let image = format!("{name}:{}", query("tag").unwrap());
                self.images.lock().unwrap().insert(image, platform().unwrap());
                say(json!({ "status": "done" }))
            }
            ("GET", ["images", name, "json"]) => {
                let name = name.replace("%2F", "/").replace("%3A", ":");
                match self.images.lock().unwrap().get(&name) {
                    Some(arch) => say(json!({ "Architecture": arch.debian() })),
                    None => Some((404, json!({ "message": "No such image" }).to_string().into_bytes())),
                }
            }
            ("POST", ["containers", "create"]) => {
                let asked: Value = serde_json::from_slice(body).unwrap();
                let command = asked["Cmd"].as_array().unwrap().iter();
                let command = command.map(|word| word.as_str().unwrap().to_owned()).collect();
                let mut containers = self.containers.lock().unwrap();
                let id = format!("c{}", self.calls.lock().unwrap().len());
                containers.insert(id.clone(), (platform().unwrap(), command));
                say(json!({ "Id": id }))
            }
            ("POST", ["containers", id, "wait"]) => {
                let did = self.did(id);
                if did.hangs { None } else { say(json!({ "StatusCode": did.exit })) }
            }
            ("GET", ["containers", id, "logs"]) => {
                let did = self.did(id);
                let mut framed = Vec::new();
                for (stream, bytes) in [(1, &did.stdout), (2, &did.stderr)] {
                    framed.extend([stream, 0, 0, 0]);
                    framed.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
                    framed.extend_from_slice(bytes);
                }
                Some((200, framed))
            }
            ("GET", ["containers", id, "json"]) if *id != "json" => {
                let did = self.did(id);
                say(json!({ "State": { "Running": did.hangs, "OOMKilled": did.out_of_memory, "Error": "" } }))
            }
            ("GET", ["containers", "json"]) => {
                let containers = self.containers.lock().unwrap();
                say(containers.keys().map(|id| json!({ "Id": id })).collect())
            }
            ("DELETE", ["containers", id]) => {
                self.containers.lock().unwrap().remove(*id);
                Some((204, Vec::new()))
            }
            _ => say(json!({})),
        }
    }

    fn did(&self, id: &str) -> Did {
        let (arch, command) = self.containers.lock().unwrap()[id].clone();
        (self.runs)(arch, &command)
    }
}
