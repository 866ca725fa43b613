//! The engine in front of a supervisor that has no machine: every path of a machine's life, without a boot.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use dhow_home::Home;
use dhow_model::{MachineName, MachineSpec, Size, State};

use super::*;
use crate::decide::tests::spec;
use crate::supervisor;
use crate::timeline::Timeline;

#[path = "sleep_tests.rs"]
mod sleep;
#[path = "two_machines_tests.rs"]
mod two_machines;

const LONG: Duration = Duration::from_secs(60);

struct Scene {
    temp: tempfile::TempDir,
    home: Home,
}

impl Scene {
    fn new(act: &str) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path().join("h")).unwrap();
        home.create().unwrap();
        let scene = Self { temp, home };
        for role in Role::ALL {
            scene.home.machine(&role.machine()).create().unwrap();
            scene.act(role, act);
        }
        scene
    }

    /// What the next supervisor of this machine does.
    fn act(&self, role: Role, act: &str) {
        let path = self.home.machine(&role.machine()).path().join("act");
        dhow_home::atomic::write(&path, act.as_bytes(), 0o600).unwrap();
    }

    /// What the configuration says of foreign workloads.
    fn place(&self, placement: &str) {
        let config = format!("[workloads]\nplacement = \"{placement}\"\n");
        dhow_home::atomic::write(&self.home.config_file(), config.as_bytes(), 0o600).unwrap();
    }

    /// How often a supervisor of this machine was started.
    fn starts(&self, role: Role) -> usize {
        let starts = std::fs::read(self.home.machine(&role.machine()).path().join("starts"));
        starts.map_or(0, |starts| starts.len())
    }

    fn open(&self) -> Engine {
        self.open_on(Ok(Arch::Arm64))
    }

    /// The engine on a host that has the emulator, or not.
    fn open_on(&self, offered: Result<Arch, offer::NotOffered>) -> Engine {
        let planner = Planner::given(|role| MachineSpec { name: role.machine(), ..spec() });
        Engine::with(&self.home, fake(), planner, Offer::given(offered)).unwrap()
    }

    fn supervisor(&self, role: Role) -> Option<rustix::process::Pid> {
        let dir = self.home.machine(&role.machine());
        let stream = std::os::unix::net::UnixStream::connect(dir.supervisor_socket()).ok()?;
        rustix::net::sockopt::socket_peercred(&stream).ok().map(|peer| peer.pid)
    }
}

impl Drop for Scene {
    /// No supervisor outlives its test.
    fn drop(&mut self) {
        for pid in Role::ALL.into_iter().filter_map(|role| self.supervisor(role)) {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        assert!(self.temp.path().exists());
    }
}

fn fake() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    exe.parent().and_then(|deps| deps.parent()).unwrap().join("examples/fake_supervisor")
}

async fn up(engine: &Engine, spec: MachineSpec) -> Result<Up> {
    let native = &engine.shared.native;
    tokio::time::timeout(LONG, native.start(spec, Handle::timeline(), &Reporter::nobody())).await.unwrap()
}

/// Stops everything; the native machine's end.
async fn down(engine: &Engine, force: bool) -> Result<StopReply> {
    let stopped = tokio::time::timeout(LONG, engine.down(force, LONG)).await.unwrap();
    assert_eq!(stopped.len(), 2);
    stopped.into_iter().next().unwrap().result
}

async fn reach(engine: &Engine, state: State) -> Snapshot {
    reach_role(engine, Role::Native, state).await
}

async fn reach_role(engine: &Engine, role: Role, state: State) -> Snapshot {
    let mut snapshot = engine.handle(role).watch();
    let reached = snapshot.wait_for(|s| s.state == Some(state));
    tokio::time::timeout(LONG, reached).await.unwrap().unwrap().clone()
}

async fn native(engine: &Engine) -> Snapshot {
    engine.shared.native.snapshot().await
}

fn supervisor_pid(snapshot: &Snapshot) -> u32 {
    snapshot.status.supervisor_pid
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// Spec 6.1, 15.1.
#[tokio::test(flavor = "multi_thread")]
async fn up_starts_a_machine_a_second_one_changes_nothing_and_down_stops_it() {
    let scene = Scene::new("ready");
    let engine = scene.open();
    assert!(up(&engine, spec()).await.unwrap().changed);
    assert!(!up(&engine, spec()).await.unwrap().changed);
    down(&engine, false).await.unwrap();
    reach(&engine, State::Stopped).await;
    assert!(!supervisor::is_running(&scene.home.machine(&MachineName::native())).unwrap());
    assert!(matches!(engine.docker(Role::Native).await, Err(Error::Failed(f)) if f.code == "engine-off"));
}

/// Spec 6.4: drift makes the machine anew, and says which field.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_drifted_is_restarted_with_its_new_description() {
    let scene = Scene::new("ready");
    let engine = scene.open();
    up(&engine, spec()).await.unwrap();
    let before = supervisor_pid(&reach(&engine, State::Running).await);
    let (progress, mut told) = tokio::sync::mpsc::unbounded_channel();
    let asked = MachineSpec { memory: Size::gib(3), ..spec() };
    let reporter = Reporter::to(progress);
    let timeline = Timeline::new(Instant::now());
    assert!(engine.shared.native.start(asked.clone(), timeline, &reporter).await.unwrap().changed);
    let note = std::iter::from_fn(|| told.try_recv().ok())
        .find(|p| matches!(p, crate::Progress::Note(text) if text.contains("memory: 2GiB → 3GiB")));
    assert!(note.is_some());
    let after = reach(&engine, State::Running).await;
    assert_eq!(after.spec, Some(asked));
    assert_ne!(supervisor_pid(&native(&engine).await), before);
    down(&engine, false).await.unwrap();
}

/// Issue 5: "the guest's limit follows configuration without a reboot where the hypervisor can", for the next daemon and the next boot as
/// well.
#[tokio::test(flavor = "multi_thread")]
async fn less_memory_is_a_limit_and_more_than_it_booted_with_a_new_boot() {
    let scene = Scene::new("ready");
    let engine = scene.open();
    up(&engine, spec()).await.unwrap();
    let limited = scene.home.machine(&MachineName::native()).path().join("limited");
    let told =
        || std::fs::read_to_string(&limited).ok().and_then(|bytes| bytes.parse().ok()).map(Size::bytes);
    let asked = |gib| MachineSpec { memory: Size::gib(gib), ..spec() };
    let before = supervisor_pid(&native(&engine).await);
    assert!(up(&engine, asked(1)).await.unwrap().changed);
    assert!(!up(&engine, asked(1)).await.unwrap().changed);
    let now = native(&engine).await;
    assert_eq!((supervisor_pid(&now), told()), (before, Some(Size::gib(1))));
    assert_eq!(now.spec, Some(asked(1)));
    drop(engine);
    let engine = scene.open();
    reach(&engine, State::Running).await;
    assert!(!up(&engine, asked(1)).await.unwrap().changed);
    std::fs::remove_file(&limited).unwrap();
    kill(before);
    let mut watched = engine.handle(Role::Native).watch();
    let anew = watched
        .wait_for(|s| s.state == Some(State::Running) && ![0, before].contains(&s.status.supervisor_pid));
    let anew = tokio::time::timeout(LONG, anew).await.unwrap().unwrap().clone();
    let deadline = Instant::now() + LONG;
    while told() != Some(Size::gib(1)) {
        assert!(Instant::now() < deadline, "{:?}", told());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(up(&engine, asked(2)).await.unwrap().changed);
    assert_eq!((supervisor_pid(&native(&engine).await), told()), (supervisor_pid(&anew), Some(Size::gib(2))));
    assert!(up(&engine, asked(3)).await.unwrap().changed);
    let more = native(&engine).await;
    assert_ne!(supervisor_pid(&more), supervisor_pid(&anew));
    assert_eq!(more.spec, Some(asked(3)));
    assert!(!scene.home.machine(&MachineName::native()).memory_limit().exists());
    down(&engine, false).await.unwrap();
}

/// Spec 16.3: what did not come about is not noted as if it had.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_the_hypervisor_refuses_is_told_each_time() {
    let scene = Scene::new("restless");
    let engine = scene.open();
    up(&engine, spec()).await.unwrap();
    for _ in 0..2 {
        let refused = up(&engine, MachineSpec { memory: Size::gib(1), ..spec() }).await.unwrap_err();
        assert!(refused.to_string().contains("it has no device that could"), "{refused}");
    }
    assert_eq!(native(&engine).await.spec, Some(spec()));
    down(&engine, false).await.unwrap();
}

/// Spec 6.3: a supervisor that is killed is noticed, reported and replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_supervisor_is_killed_comes_back_by_itself() {
    let scene = Scene::new("ready");
    let engine = scene.open();
    let mut events = engine.events();
    up(&engine, spec()).await.unwrap();
    let before = native(&engine).await.status.supervisor_pid;
    kill(before);
    let reason = loop {
        let event = tokio::time::timeout(LONG, events.recv()).await.unwrap().unwrap();
        if event.to == State::Failed {
            break event.reason;
        }
    };
    assert!(reason.contains("ended without a word"), "{reason}");
    reach(&engine, State::Running).await;
    assert_ne!(native(&engine).await.status.supervisor_pid, before);
    down(&engine, false).await.unwrap();
}

/// Spec 6.3: what is wrong in a machine is told whether or not it has anything to do.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_work_tells_what_is_wrong_in_it() {
    let scene = Scene::new("unwell");
    let engine = scene.open();
    up(&engine, spec()).await.unwrap();
    reach(&engine, State::Idle).await;
    let mut snapshot = engine.handle(Role::Native).watch();
    let told = snapshot.wait_for(|s| !s.trouble.is_empty());
    drop(tokio::time::timeout(LONG, told).await.unwrap().unwrap());
    // What comes after it does not hide it.
    let unwell = native(&engine).await;
    assert_eq!(
        (unwell.state, unwell.trouble.as_str()),
        (Some(State::Idle), "dockerd runs and does not answer")
    );
    down(&engine, false).await.unwrap();
}

/// Spec 6.9: a daemon's end stops no machine, and the next one attaches to it.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_daemon_finds_the_machine_that_runs() {
    let scene = Scene::new("ready");
    let first = scene.open();
    up(&first, spec()).await.unwrap();
    let before = native(&first).await.status.supervisor_pid;
    drop(first);
    let second = scene.open();
    reach(&second, State::Running).await;
    assert_eq!(native(&second).await.status.supervisor_pid, before);
    assert!(!up(&second, spec()).await.unwrap().changed);
    down(&second, false).await.unwrap();
}

/// Spec 6.9: a machine that died while no daemon ran is started again by the next one, since it was wanted.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_died_meanwhile_is_started_by_the_next_daemon_unless_it_was_stopped() {
    let scene = Scene::new("ready");
    let first = scene.open();
    up(&first, spec()).await.unwrap();
    let before = native(&first).await.status.supervisor_pid;
    drop(first);
    kill(before);
    let lock = scene.home.machine(&MachineName::native()).supervisor_lock();
    drop(dhow_home::lock::FileLock::wait_exclusive(&lock, LONG).await.unwrap());
    let second = scene.open();
    reach(&second, State::Running).await;
    down(&second, false).await.unwrap();
    drop(second);
    assert_eq!(native(&scene.open()).await.state, Some(State::Stopped));
}

/// Spec 6.2, 15.1: whoever asked is told why, and a machine that cannot start is not tried again behind their back.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_is_told_with_its_reason_and_ends_there() {
    let scene = Scene::new("fail");
    let engine = scene.open();
    let failure = up(&engine, spec()).await.unwrap_err().failure();
    assert_eq!(
        (failure.code.as_str(), failure.message.as_str()),
        ("boot-failed", "the guest could not boot")
    );
    assert_eq!(reach(&engine, State::Failed).await.retries, 0);
    scene.act(Role::Native, "ready");
    assert!(up(&engine, spec()).await.unwrap().changed);
    down(&engine, false).await.unwrap();
}

/// Spec 6.6: a second request that forces cuts a graceful stop short.
#[tokio::test(flavor = "multi_thread")]
async fn a_forced_stop_ends_a_graceful_one_that_hangs() {
    let scene = Scene::new("deaf");
    let engine = scene.open();
    up(&engine, spec()).await.unwrap();
    let other = engine.clone();
    let graceful = tokio::spawn(async move { down(&other, false).await });
    reach(&engine, State::Stopping).await;
    down(&engine, true).await.unwrap();
    graceful.await.unwrap().unwrap();
    reach(&engine, State::Stopped).await;
}

/// Spec 6.6, 16.3: a note that cannot be written is said, and keeps no machine running.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_stopped_where_nothing_can_be_noted() {
    for force in [false, true] {
        let scene = Scene::new("ready");
        let engine = scene.open();
        up(&engine, spec()).await.unwrap();
        // Root may write anywhere: a directory with something in it cannot be removed as a file even so.
        let note = scene.home.machine(&Role::Native.machine()).wanted();
        std::fs::remove_file(&note).unwrap();
        std::fs::create_dir_all(note.join("in the way")).unwrap();
        let stopped = down(&engine, force).await.unwrap();
        assert!(stopped.errors.iter().any(|error| error.contains("starts it again")), "{:?}", stopped.errors);
        reach(&engine, State::Stopped).await;
    }
}

/// Spec 16.2: a request that waits for a machine that is coming is answered when that machine is stopped instead.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_machine_that_is_stopped_meanwhile_is_told() {
    let scene = Scene::new("stuck");
    let engine = scene.open();
    let other = engine.clone();
    let waiting = tokio::spawn(async move { up(&other, spec()).await });
    reach(&engine, State::Starting).await;
    let other = engine.clone();
    let docker = tokio::spawn(async move { other.docker(Role::Native).await.map(|_| ()) });
    down(&engine, false).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap_err().failure().code, "stopped");
    assert!(tokio::time::timeout(LONG, docker).await.unwrap().unwrap().is_err());
}
