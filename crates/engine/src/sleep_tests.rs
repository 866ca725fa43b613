//! Machines that sleep: put there, woken, found, forgotten, and died over.

use std::time::Duration;

use dhow_model::config::{Sleep, Workloads};
use dhow_model::sleep::After;

use super::*;
use crate::{Slept, Supervisors};

/// The last transitions of a machine, in words.
struct Heard(broadcast::Receiver<Event>);

impl Heard {
    /// What happened until a machine was in this state.
    async fn until(&mut self, state: State) -> Vec<(State, String)> {
        let mut heard = Vec::new();
        loop {
            let event = tokio::time::timeout(LONG, self.0.recv()).await.unwrap().unwrap();
            heard.push((event.to, event.reason));
            if event.to == state {
                return heard;
            }
        }
    }
}

async fn awake(act: &str) -> (Scene, Engine) {
    let scene = Scene::new(act);
    let engine = scene.open();
    up(&engine, spec()).await.unwrap();
    (scene, engine)
}

async fn suspend(engine: &Engine, supervisors: Supervisors) -> Result<bool> {
    only(engine.suspend(None, "somebody asked", supervisors).await)
}

async fn resume(engine: &Engine) -> Result<bool> {
    only(engine.resume(None, "somebody asked").await)
}

fn only(slept: Vec<Slept>) -> Result<bool> {
    assert_eq!(slept.len(), 1, "{slept:?}");
    slept.into_iter().next().unwrap().result
}

async fn docker(engine: &Engine) -> Result<()> {
    tokio::time::timeout(LONG, engine.docker(Role::Native)).await.unwrap().map(drop)
}

fn wakes(scene: &Scene) -> usize {
    std::fs::read(scene.home.machine(&MachineName::native()).path().join("wakes"))
        .map_or(0, |wakes| wakes.len())
}

async fn kill_supervisor(scene: &Scene) {
    let pid = scene.supervisor(Role::Native).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let lock = scene.home.machine(&MachineName::native()).supervisor_lock();
    drop(dhow_home::lock::FileLock::wait_exclusive(&lock, LONG).await.unwrap());
}

/// Spec 6.1, 13.1: asleep and awake again when asked, with an event for every transition, and nothing to do the second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_put_to_sleep_and_woken_when_somebody_asks() {
    let (scene, engine) = awake("ready").await;
    let mut heard = Heard(engine.events());
    assert!(suspend(&engine, Supervisors::Stay).await.unwrap());
    assert_eq!(native(&engine).await.state, Some(State::Suspended));
    let told = heard.until(State::Suspended).await;
    assert_eq!(told[0], (State::Suspending, "somebody asked".to_owned()));
    assert!(!suspend(&engine, Supervisors::Stay).await.unwrap());
    assert!(resume(&engine).await.unwrap());
    let told = heard.until(State::Running).await;
    assert_eq!(told[0], (State::Starting, "somebody asked".to_owned()));
    assert!(engine.resume(None, "").await.is_empty(), "nothing sleeps");
    assert!(!only(engine.resume(Some(Role::Native), "").await).unwrap());
    assert_eq!((scene.starts(Role::Native), wakes(&scene)), (1, 1));
    down(&engine, false).await.unwrap();
}

/// Spec 3.9: however many requests come while it sleeps or is being put to sleep, it wakes once and none fails.
#[tokio::test(flavor = "multi_thread")]
async fn requests_wake_a_machine_once_and_none_fails() {
    let (scene, engine) = awake("ready").await;
    for round in 1..=3 {
        let other = engine.clone();
        let slept = tokio::spawn(async move { suspend(&other, Supervisors::Stay).await });
        let mut snapshot = engine.handle(Role::Native).watch();
        let begun = snapshot.wait_for(|s| matches!(s.state, Some(State::Suspending | State::Suspended)));
        drop(tokio::time::timeout(LONG, begun).await.unwrap().unwrap());
        let callers: Vec<_> = (0..20)
            .map(|_| {
                let engine = engine.clone();
                tokio::spawn(async move { docker(&engine).await })
            })
            .collect();
        slept.await.unwrap().unwrap();
        for caller in callers {
            caller.await.unwrap().unwrap();
        }
        reach(&engine, State::Running).await;
        assert_eq!(wakes(&scene), round);
    }
    assert_eq!(scene.starts(Role::Native), 1);
    down(&engine, false).await.unwrap();
}

/// Spec 2.6, 11.2: asking about a machine that sleeps does not wake it, and what was in it is known from the record.
#[tokio::test(flavor = "multi_thread")]
async fn looking_at_a_machine_that_sleeps_does_not_wake_it() {
    let (scene, engine) = awake("ready").await;
    suspend(&engine, Supervisors::Stay).await.unwrap();
    assert_eq!(engine.running(), []);
    let record = engine.record(Role::Native).unwrap();
    assert_eq!(record.containers[0].name, "native");
    assert_eq!(engine.snapshots().await[0].1.state, Some(State::Suspended));
    assert!(engine.ports().await.into_iter().all(|(_, ports)| ports.unwrap().is_empty()));
    engine.host(&Config::default()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((native(&engine).await.state, wakes(&scene)), (Some(State::Suspended), 0));
    resume(&engine).await.unwrap();
    assert_eq!(engine.record(Role::Native), None);
    down(&engine, false).await.unwrap();
}

/// Spec 6.9: the next daemon finds a machine that sleeps as it is, and does not wake it to know.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_daemon_finds_the_machine_that_sleeps() {
    let (scene, engine) = awake("ready").await;
    suspend(&engine, Supervisors::Stay).await.unwrap();
    drop(engine);
    let engine = scene.open();
    assert_eq!(native(&engine).await.state, Some(State::Suspended));
    assert_eq!(engine.running(), []);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(wakes(&scene), 0);
    docker(&engine).await.unwrap();
    assert_eq!((scene.starts(Role::Native), wakes(&scene)), (1, 1));
    down(&engine, false).await.unwrap();
}

/// Spec 13.1, 6.9: with its supervisor killed it sleeps still, and the first who needs it has it resumed.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_whose_supervisor_died_while_it_slept_sleeps_on_and_wakes_for_the_next_request() {
    let (scene, engine) = awake("ready").await;
    suspend(&engine, Supervisors::Stay).await.unwrap();
    kill_supervisor(&scene).await;
    let mut ready = engine.handle(Role::Native).watch_ready();
    tokio::time::timeout(LONG, ready.wait_for(|ready| matches!(ready, Ready::Saved))).await.unwrap().unwrap();
    assert_eq!(native(&engine).await.state, Some(State::Suspended));
    assert_eq!(engine.record(Role::Native).unwrap().containers.len(), 1);
    let (one, two) = tokio::join!(docker(&engine), docker(&engine));
    assert!(one.is_ok() && two.is_ok());
    assert_eq!((scene.starts(Role::Native), wakes(&scene)), (2, 1));
    // The same where the daemon went as well.
    suspend(&engine, Supervisors::Stay).await.unwrap();
    kill_supervisor(&scene).await;
    drop(engine);
    let engine = scene.open();
    assert_eq!(native(&engine).await.state, Some(State::Suspended));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(scene.starts(Role::Native), 2, "nobody needs it");
    assert!(up(&engine, spec()).await.unwrap().changed);
    assert_eq!((scene.starts(Role::Native), wakes(&scene)), (3, 2));
    down(&engine, false).await.unwrap();
}

/// Spec 3.9, 13.2: requests wait for the cold boot that follows where what was saved cannot be used, or the wake dies.
#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_for_the_boot_that_follows_a_wake_that_fails() {
    let (_scene, engine) = awake("spoiled").await;
    suspend(&engine, Supervisors::Stay).await.unwrap();
    let woken = engine.resume(None, "somebody asked").await;
    let warning = woken[0].warning.as_deref().unwrap_or_default();
    assert_eq!(warning, "the machine native did not go on where it was: the memory is damaged");
    suspend(&engine, Supervisors::Stay).await.unwrap();
    assert_eq!(up(&engine, spec()).await.unwrap().warnings, [warning]);
    down(&engine, false).await.unwrap();
    for (act, starts) in [("spoiled", 1), ("frail", 2)] {
        let (scene, engine) = awake(act).await;
        suspend(&engine, Supervisors::Stay).await.unwrap();
        let callers: Vec<_> = (0..5)
            .map(|_| {
                let engine = engine.clone();
                tokio::spawn(async move { docker(&engine).await })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap().unwrap_or_else(|error| panic!("{act}: {error}"));
        }
        assert_eq!((scene.starts(Role::Native), wakes(&scene)), (starts, 1), "{act}");
        down(&engine, false).await.unwrap();
    }
}

/// Spec 13.1: a machine that cannot be saved goes on, and it is said why.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_cannot_be_put_to_sleep_goes_on() {
    let (scene, engine) = awake("restless").await;
    let error = suspend(&engine, Supervisors::Stay).await.unwrap_err();
    assert_eq!(error.to_string(), "native was not put to sleep: something wants the guest");
    assert_eq!(native(&engine).await.state, Some(State::Running));
    assert_eq!(engine.record(Role::Native), None);
    assert!(!scene.home.machine(&MachineName::native()).path().join("record.json").exists());
    down(&engine, false).await.unwrap();
    assert!(engine.suspend(None, "", Supervisors::Stay).await.is_empty(), "nothing is awake");
    let off = only(engine.suspend(Some(Role::Native), "", Supervisors::Stay).await).unwrap_err();
    assert_eq!(off.failure().code, "engine-off");
}

/// Spec 6.4, 13.2: `up` wakes what is as asked, and boots what is not, naming the fields.
#[tokio::test(flavor = "multi_thread")]
async fn up_wakes_a_machine_that_is_as_asked_and_boots_one_that_drifted() {
    let (scene, engine) = awake("ready").await;
    suspend(&engine, Supervisors::Stay).await.unwrap();
    assert!(up(&engine, spec()).await.unwrap().changed);
    assert_eq!((scene.starts(Role::Native), wakes(&scene)), (1, 1));
    suspend(&engine, Supervisors::Stay).await.unwrap();
    let (progress, mut told) = tokio::sync::mpsc::unbounded_channel();
    let asked = MachineSpec { memory: Size::gib(3), ..spec() };
    let native = &engine.shared.native;
    let reporter = Reporter::to(progress);
    let started = native.start(asked.clone(), Handle::timeline(), &reporter);
    tokio::time::timeout(LONG, started).await.unwrap().unwrap();
    let notes: Vec<_> = std::iter::from_fn(|| told.try_recv().ok()).collect();
    let note = |words: &str| {
        notes.iter().any(|told| matches!(told, crate::Progress::Note(note) if note.contains(words)))
    };
    assert!(note("memory: 2GiB → 3GiB") && note("set aside"), "{notes:?}");
    assert_eq!(scene.starts(Role::Native), 2);
    assert_eq!(reach(&engine, State::Running).await.spec, Some(asked));
    down(&engine, false).await.unwrap();
}

/// Spec 6.6: a stop in order wakes what sleeps, so that it ends in order, with its supervisor or without; one that forces drops what
/// was saved.
#[tokio::test(flavor = "multi_thread")]
async fn down_wakes_what_sleeps_to_stop_it_in_order_and_a_forced_one_drops_it() {
    for (killed, force, expected) in
        [(false, false, (1, 1)), (false, true, (1, 0)), (true, false, (2, 1)), (true, true, (1, 0))]
    {
        let (scene, engine) = awake("ready").await;
        suspend(&engine, Supervisors::Stay).await.unwrap();
        if killed {
            kill_supervisor(&scene).await;
            let mut ready = engine.handle(Role::Native).watch_ready();
            tokio::time::timeout(LONG, ready.wait_for(|r| matches!(r, Ready::Saved))).await.unwrap().unwrap();
        }
        down(&engine, force).await.unwrap();
        reach(&engine, State::Stopped).await;
        assert_eq!((scene.starts(Role::Native), wakes(&scene)), expected, "{killed} {force}");
        assert!(!scene.home.machine(&MachineName::native()).sleep().exists());
        assert!(docker(&engine).await.is_err());
        drop(engine);
        assert_eq!(native(&scene.open()).await.state, Some(State::Stopped));
    }
}

/// Spec 13.1, 16.3: saved for good, nothing of a machine runs, no request wakes it, and the next daemon goes on with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_saved_for_good_has_no_processes_and_goes_on_with_the_next_daemon() {
    let (scene, engine) = awake("ready").await;
    assert!(suspend(&engine, Supervisors::End).await.unwrap());
    assert!(!supervisor::is_running(&scene.home.machine(&MachineName::native())).unwrap());
    assert!(matches!(docker(&engine).await, Err(Error::Ending)));
    drop(engine);
    let engine = scene.open();
    assert_eq!(native(&engine).await.state, Some(State::Suspended));
    assert!(up(&engine, spec()).await.unwrap().changed);
    assert_eq!((scene.starts(Role::Native), wakes(&scene)), (2, 1));
    // One that sleeps already is left without processes, too.
    suspend(&engine, Supervisors::Stay).await.unwrap();
    suspend(&engine, Supervisors::End).await.unwrap();
    assert!(!supervisor::is_running(&scene.home.machine(&MachineName::native())).unwrap());
    drop(engine);
    let engine = scene.open();
    down(&engine, true).await.unwrap();
}

/// Spec 13.1: idle for the configured time, and not while a container runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_with_nothing_to_do_is_put_to_sleep_by_itself() {
    let soon = Config { sleep: Sleep { after: After::Time(Duration::from_secs(1)) }, ..Config::default() };
    for (act, sleeps) in [("idle", true), ("ready", false)] {
        let scene = Scene::new(act);
        let engine = scene.open();
        let mut heard = Heard(engine.events());
        engine.up(&soon, &Reporter::nobody()).await.unwrap();
        if sleeps {
            let told = heard.until(State::Suspended).await;
            assert!(told.contains(&(State::Suspending, "nothing to do for 1s".to_owned())), "{told:?}");
            docker(&engine).await.unwrap();
            // Only to be put to sleep again.
            heard.until(State::Running).await;
            heard.until(State::Suspended).await;
        } else {
            tokio::time::sleep(Duration::from_millis(2500)).await;
            assert_eq!(native(&engine).await.state, Some(State::Running));
            assert!(native(&engine).await.rest.is_some());
        }
        down(&engine, true).await.unwrap();
    }
}

/// Spec 6.7: waking one machine is never done for the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_one_machine_does_not_wake_the_other() {
    let scene = Scene::new("ready");
    scene.place("foreign-machine");
    let engine = scene.open();
    up(&engine, spec()).await.unwrap();
    tokio::time::timeout(LONG, engine.docker(Role::Foreign)).await.unwrap().unwrap();
    let slept = engine.suspend(None, "both", Supervisors::Stay).await;
    assert_eq!(slept.len(), 2);
    tokio::time::timeout(LONG, engine.docker(Role::Foreign)).await.unwrap().unwrap();
    reach_role(&engine, Role::Foreign, State::Running).await;
    assert_eq!(native(&engine).await.state, Some(State::Suspended));
    assert!(only(engine.suspend(Some(Role::Foreign), "one", Supervisors::Stay).await).unwrap());
    docker(&engine).await.unwrap();
    assert_eq!(reach_role(&engine, Role::Foreign, State::Suspended).await.state, Some(State::Suspended));
    let config =
        Config { workloads: Workloads { placement: Placement::ForeignMachine }, ..Config::default() };
    engine.up(&config, &Reporter::nobody()).await.unwrap();
    assert_eq!(engine.last(Role::Foreign).state, Some(State::Suspended));
    down(&engine, true).await.unwrap();
}
