//! Two real dockerds and the face before them.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dhow_model::placement::{ForeignMachine, Guest, Host, Placement};
use dhow_model::{Arch, Role};
use dhow_testkit::{Docker, Dockerd, Image, Run, wait};

use super::{Serving, Sockets, host};

/// An image of the host's architecture, in both engines.
pub const IMAGE: &str = "dhow-test/busybox:1";
/// An image of the other architecture, in the foreign engine: for containers that are made and not started.
pub const ABROAD: &str = "dhow-test/abroad:1";
pub const LIMIT: Duration = Duration::from_secs(20);

/// The architecture of the foreign machine, as Docker names it.
pub fn other() -> Arch {
    if Arch::host().unwrap() == Arch::Amd64 { Arch::Arm64 } else { Arch::Amd64 }
}

/// A host that offers a foreign machine.
pub fn two_machines() -> Host {
    let machine = ForeignMachine { guest: Guest::from(other()), translator: None };
    Host { foreign: Ok(machine), ..host(Placement::ForeignMachine) }
}

/// Both engines have a busybox. The foreign one is of the host's own architecture here, and has beside it an image that says that
/// it is of the other one: its programs run.
pub struct Pair {
    // Dropped in this order: the face first.
    pub serving: Serving,
    pub docker: Docker,
    pub native: Dockerd,
    pub foreign: Dockerd,
}

impl Pair {
    pub fn new() -> Self {
        Self::with_foreign_at(None)
    }

    /// The face looks for the foreign engine's socket there; its machine runs from when it is there.
    pub fn with_foreign_at(socket: Option<&Path>) -> Self {
        let (native, foreign) = std::thread::scope(|scope| {
            let foreign = scope.spawn(|| Dockerd::start().unwrap());
            (Dockerd::start().unwrap(), foreign.join().unwrap())
        });
        Image::Busybox.ensure(native.docker()).unwrap();
        Image::Busybox.ensure(foreign.docker()).unwrap();
        let mut import = foreign.docker().command();
        import.args(["import", "--platform", &format!("linux/{}", other()), "--change", "CMD [\"sh\"]"]);
        import.args(["--change", "ENV PATH=/bin:/sbin:/usr/bin"]);
        import.arg(Image::Busybox.archive().unwrap()).arg(ABROAD);
        Run::from(import).ok().unwrap();
        let engines = Sockets::two(native.socket(), socket.unwrap_or(foreign.socket()), two_machines());
        let serving = Serving::before(Arc::new(engines), Duration::from_millis(200));
        let docker = Docker::new(native.docker().tools().clone(), serving.socket());
        Self { serving, docker, native, foreign }
    }

    /// `docker args…` through the face, which must succeed.
    pub fn ok<const N: usize>(&self, args: [&str; N]) -> String {
        self.docker.ok(args).unwrap()
    }

    /// A client for one engine, past the face.
    pub fn engine(&self, role: Role) -> &Docker {
        match role {
            Role::Native => self.native.docker(),
            Role::Foreign => self.foreign.docker(),
        }
    }

    /// `docker args…` past the face.
    pub fn at<const N: usize>(&self, role: Role, args: [&str; N]) -> String {
        self.engine(role).ok(args).unwrap()
    }
}

/// One request and everything that comes back.
pub fn http(socket: &Path, request: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let length = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

/// The names of an answer's headers, in their order.
pub fn headers(said: &str) -> Vec<&str> {
    let head = said.split("\r\n\r\n").next().unwrap();
    head.lines().skip(1).filter_map(|line| Some(line.split_once(": ")?.0)).collect()
}

/// Waits for the clock's next whole second, by which dockerd sorts and cuts.
pub fn next_second() {
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let begun = second();
    wait::until("the next second", LIMIT, || (second() > begun).then_some(())).unwrap();
}
