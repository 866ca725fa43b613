//! The same with two dockerds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dhow_docker::registry::{Knowledge, Lookup, Workloads};
use dhow_docker::{ByteStream, Engines, TraceId, Unavailable};
use dhow_model::Role::{self, Foreign, Native};
use dhow_model::placement::{Host, Placement};
use dhow_testkit::{Dockerd, Image};
use tokio::net::UnixStream;

use super::{find, place, whole};
use crate::fake::{Machines, until};

const IMAGE: &str = "dhow-test/busybox:1";

/// Two dockerds, both running.
struct Two {
    native: Dockerd,
    foreign: Dockerd,
}

struct Sockets {
    native: PathBuf,
    foreign: PathBuf,
}

#[async_trait::async_trait]
impl Engines for Sockets {
    async fn dial(&self, role: Role) -> Result<Box<dyn ByteStream>, Unavailable> {
        let path = if role == Native { &self.native } else { &self.foreign };
        match UnixStream::connect(path).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(Unavailable { what: error.to_string(), run: "dhow up".into() }),
        }
    }

    fn running(&self) -> Vec<Role> {
        Role::ALL.to_vec()
    }

    fn placement(&self) -> Placement {
        Placement::ForeignMachine
    }

    async fn host(&self) -> Host {
        Machines::default().host().await
    }

    fn record(&self, _: Role) -> Option<dhow_model::Record> {
        None
    }
}

impl Two {
    fn start() -> Self {
        let two = Self { native: Dockerd::start().unwrap(), foreign: Dockerd::start().unwrap() };
        for dockerd in [&two.native, &two.foreign] {
            Image::Busybox.ensure(dockerd.docker()).unwrap();
        }
        two
    }

    async fn workloads(&self) -> Workloads {
        let (native, foreign) = (self.native.socket().to_owned(), self.foreign.socket().to_owned());
        Workloads::new(Arc::new(Sockets { native, foreign }))
    }

    /// With both engines wholly known.
    async fn followed(&self) -> Workloads {
        let workloads = self.workloads().await;
        for role in Role::ALL {
            workloads.started(role);
            whole(&workloads, role).await;
        }
        workloads
    }

    /// Runs `docker args` in this role, past the registry.
    async fn docker<const N: usize>(&self, role: Role, args: [&str; N]) -> String {
        let docker = if role == Native { &self.native } else { &self.foreign }.docker().clone();
        let args = args.map(String::from);
        tokio::task::spawn_blocking(move || docker.ok(args).unwrap()).await.unwrap()
    }
}

/// 2.6: what was made behind Dhow's back is found where it is: by ID, short ID, name and a link's alias; before the first
/// list, and by event.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, fetches packages: ./dev test face"]
async fn containers_made_behind_dhows_back_are_found() {
    let two = Two::start();
    let before = two.docker(Foreign, ["create", "--name", "before", IMAGE, "true"]).await;
    let fresh = two.workloads().await;
    for reference in ["before", &before[..12], &before] {
        assert_eq!(place(&fresh, reference).await, Some(Foreign), "{reference}");
    }
    let workloads = two.followed().await;
    let after = two.docker(Native, ["create", "--name", "after", IMAGE, "true"]).await;
    until("its event", || workloads.table().containers() == 2).await;
    for reference in ["after", "/after", &after[..12], &after] {
        assert_eq!(place(&workloads, reference).await, Some(Native), "{reference}");
    }
    two.docker(Native, ["rename", "after", "later"]).await;
    until("its event", || workloads.table().lookup("after") == Lookup::Missing).await;
    assert_eq!(place(&workloads, "later").await, Some(Native));
    two.docker(Foreign, ["create", "--name", "front", "--link", "before:data", IMAGE, "true"]).await;
    assert_eq!(place(&workloads, "front/data").await, Some(Foreign));
    two.docker(Foreign, ["rm", "front", "before"]).await;
    until("their events", || workloads.table().containers() == 1).await;
    assert_eq!(find(&workloads, "before").await.unwrap(), Lookup::Missing);
}

/// 2.5: `--rm` and the end of an exec are learned by event; a healthy idle engine costs nothing to follow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, fetches packages: ./dev test face"]
async fn what_ends_by_itself_is_forgotten_by_event() {
    let two = Two::start();
    let workloads = two.followed().await;
    two.docker(Native, ["run", "--rm", "--net", "none", IMAGE, "true"]).await;
    let running = two.docker(Native, ["run", "-d", "--rm", "--net", "none", IMAGE, "sleep", "600"]).await;
    until("one container", || workloads.table().containers() == 1).await;
    let exec = exec_of(&two, &running).await;
    until("its exec", || workloads.table().execs() == 1).await;
    let Lookup::Found(entry) = workloads.find_exec(&exec, &TraceId::random()).await.unwrap() else {
        panic!()
    };
    assert_eq!(entry.role, Native);
    two.docker(Native, ["kill", &running]).await;
    until("nothing", || workloads.table().containers() == 0).await;
    assert_eq!(workloads.table().execs(), 0);
    assert_eq!(workloads.find_exec(&exec, &TraceId::random()).await.unwrap(), Lookup::Missing);
}

/// An exec that goes on; its ID.
async fn exec_of(two: &Two, container: &str) -> String {
    two.docker(Native, ["exec", "-d", container, "sleep", "600"]).await;
    two.docker(Native, ["inspect", "--format", "{{index .ExecIDs 0}}", container]).await
}

/// 2.2, 2.3: short IDs that collide across the engines, found by chance, are ambiguous; one more digit or the full ID is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, fetches packages: ./dev test face"]
async fn short_ids_that_collide_across_engines_are_ambiguous() {
    let two = Two::start();
    let workloads = two.followed().await;
    let (native, foreign) = collision(&two).await;
    until("their events", || workloads.table().lookup(&foreign) != Lookup::Missing).await;
    until("their events", || workloads.table().lookup(&native) != Lookup::Missing).await;
    let common = native.bytes().zip(foreign.bytes()).take_while(|(one, other)| one == other).count();
    assert_eq!(find(&workloads, &native[..common]).await.unwrap(), Lookup::Ambiguous);
    assert_eq!(place(&workloads, &native).await, Some(Native));
    assert_eq!(place(&workloads, &foreign).await, Some(Foreign));
    // So it is for a daemon that has listed nothing yet and asks.
    assert_eq!(find(&two.workloads().await, &native[..common]).await.unwrap(), Lookup::Ambiguous);
}

/// Containers whose IDs begin with the same digit, one in each engine.
async fn collision(two: &Two) -> (String, String) {
    let (mut native, mut foreign) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        native.push(two.docker(Native, ["create", IMAGE, "true"]).await);
        foreign.push(two.docker(Foreign, ["create", IMAGE, "true"]).await);
        let both = native.iter().flat_map(|one| foreign.iter().map(move |other| (one, other)));
        if let Some((one, other)) = both.into_iter().find(|(one, other)| one[..1] == other[..1]) {
            return (one.clone(), other.clone());
        }
    }
    panic!("forty IDs of each engine and no digit in common");
}

/// 2.2: several in one engine that begin so are found there, by its own complaint, before the table knows them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, fetches packages: ./dev test face"]
async fn an_engines_complaint_of_several_is_understood() {
    let two = Two::start();
    let mut ids: Vec<String> = Vec::new();
    let digit = loop {
        let id = two.docker(Foreign, ["create", IMAGE, "true"]).await;
        if ids.iter().any(|one| one[..1] == id[..1]) {
            break id[..1].to_owned();
        }
        ids.push(id);
    };
    let Lookup::Found(entry) = find(&two.workloads().await, &digit).await.unwrap() else {
        panic!("not found")
    };
    assert_eq!((entry.role, entry.id), (Foreign, None));
}

/// 2.6: a dockerd that is killed and comes back is known again, with what happened meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, fetches packages: ./dev test face"]
async fn a_dockerd_that_dies_and_comes_back_is_known_again() {
    let mut two = Two::start();
    let workloads = two.followed().await;
    two.docker(Native, ["create", "--name", "kept", IMAGE, "true"]).await;
    until("its event", || workloads.table().containers() == 1).await;
    let mut native = two.native;
    native = tokio::task::spawn_blocking(move || {
        native.kill().unwrap();
        native.docker().ok(["create", "--name", "new", IMAGE, "true"]).unwrap();
        native
    })
    .await
    .unwrap();
    two.native = native;
    assert_eq!(place(&workloads, "new").await, Some(Native));
    whole(&workloads, Native).await;
    assert_eq!(place(&workloads, "kept").await, Some(Native));
    assert_eq!(workloads.table().containers(), 2);
    assert_eq!(workloads.table().knowledge(Foreign), Knowledge::Whole, "the other is not disturbed");
}

/// Following an idle engine takes no time of the processor; leaving it takes no time either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, fetches packages: ./dev test face"]
async fn following_idle_engines_costs_nothing() {
    let two = Two::start();
    let workloads = two.followed().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = processor_time();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let used = processor_time() - before;
    assert!(used <= Duration::from_millis(10), "{used:?} in 3 s");
    let since = Instant::now();
    workloads.stopping(Native).await;
    assert!(since.elapsed() < Duration::from_millis(100), "{:?}", since.elapsed());
}

/// Of this process.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(10 * ticks)
}
