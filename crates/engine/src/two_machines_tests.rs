//! Both machines: which one starts for whom, and that neither's trouble is the other's.

use std::collections::BTreeSet;

use dhow_model::config::Workloads;

use super::*;
use crate::Usage;

fn config(placement: Placement) -> Config {
    Config { workloads: Workloads { placement }, ..Config::default() }
}

/// An engine that is up with the foreign placement; the foreign machine is off.
async fn engine(scene: &Scene) -> Engine {
    scene.place("foreign-machine");
    let engine = scene.open();
    up(&engine, spec()).await.unwrap();
    engine
}

async fn dial(engine: &Engine, role: Role) -> Result<(), Failure> {
    let dialled = tokio::time::timeout(LONG, engine.docker(role)).await.unwrap();
    dialled.map(drop).map_err(|e| e.failure())
}

/// Kills a machine's supervisor and waits until it is gone.
async fn kill_supervisor(scene: &Scene, role: Role) {
    let pid = scene.supervisor(role).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let lock = scene.home.machine(&role.machine()).supervisor_lock();
    drop(dhow_home::lock::FileLock::wait_exclusive(&lock, LONG).await.unwrap());
}

/// Spec 6.5, 3.9: the foreign machine is off until a request needs it, and then it is started once, however many come.
#[tokio::test(flavor = "multi_thread")]
async fn the_foreign_machine_is_started_once_by_the_first_of_many_requests() {
    let scene = Scene::new("ready");
    let engine = engine(&scene).await;
    assert_eq!((engine.running(), scene.starts(Role::Foreign)), (vec![Role::Native], 0));
    let callers: Vec<_> = (0..30)
        .map(|_| {
            let engine = engine.clone();
            tokio::spawn(async move { dial(&engine, Role::Foreign).await })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert_eq!((scene.starts(Role::Native), scene.starts(Role::Foreign)), (1, 1));
    assert_eq!(engine.running(), Role::ALL);
    let names: Vec<_> = engine.snapshots().await.into_iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["native", "foreign"]);
    down(&engine, false).await.unwrap();
}

/// Spec 6.7: no path wakes one machine on behalf of the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_one_machine_never_starts_the_other() {
    let scene = Scene::new("ready");
    scene.place("foreign-machine");
    let engine = scene.open();
    let failure = dial(&engine, Role::Foreign).await.unwrap_err();
    assert_eq!(
        (failure.message.as_str(), failure.hint.as_str()),
        ("the engine has not been started", "dhow up")
    );
    assert_eq!((scene.starts(Role::Native), scene.starts(Role::Foreign)), (0, 0));
    up(&engine, spec()).await.unwrap();
    dial(&engine, Role::Native).await.unwrap();
    assert_eq!(scene.starts(Role::Foreign), 0);
    assert!(
        engine.ports().await.into_iter().all(|(name, ports)| name == MachineName::native() && ports.is_ok())
    );
    down(&engine, false).await.unwrap();
}

/// Spec 1.10: only the placement that asks for it starts the foreign machine, and only where the host can offer it.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_not_wanted_or_not_offered_is_not_started_and_the_error_says_why() {
    let scene = Scene::new("ready");
    let engine = scene.open();
    up(&engine, spec()).await.unwrap();
    let failure = dial(&engine, Role::Foreign).await.unwrap_err();
    assert!(failure.message.contains("workloads.placement is \"native-machine\""), "{failure}");
    assert!(failure.hint.contains("workloads.placement foreign-machine"), "{failure}");
    drop(engine);
    scene.place("foreign-machine");
    let missing = "qemu-system-aarch64 is not installed".to_owned();
    let host = offer::Platform { os: "linux", arch: Some(Arch::Amd64) };
    let engine = scene.open_on(offer::foreign(host, Arch::Amd64, Err(missing)));
    reach(&engine, State::Running).await;
    let failure = dial(&engine, Role::Foreign).await.unwrap_err();
    assert!(
        failure.message.contains("linux/amd64") && failure.message.contains("qemu-system-aarch64"),
        "{failure}"
    );
    assert_eq!(scene.starts(Role::Foreign), 0);
    down(&engine, false).await.unwrap();
}

/// Spec 6.5: a start that fails is told to all who wait for it, names the machine, leaves native alone, and is not repeated
/// behind their backs; the next request tries again.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_is_told_to_all_who_wait_and_the_next_request_tries_again() {
    let scene = Scene::new("ready");
    scene.act(Role::Foreign, "fail");
    let engine = engine(&scene).await;
    let other = engine.clone();
    let (first, second) = tokio::join!(dial(&engine, Role::Foreign), dial(&other, Role::Foreign));
    let message = "the machine foreign (arm64, emulated) could not be started: the guest could not boot";
    let told: BTreeSet<_> = [first, second].map(|told| told.unwrap_err().message).into();
    assert_eq!(told, BTreeSet::from([message.to_owned()]));
    let foreign = reach_role(&engine, Role::Foreign, State::Failed).await;
    assert_eq!(foreign.retries, 0);
    assert_eq!(native(&engine).await.state, Some(State::Running));
    dial(&engine, Role::Native).await.unwrap();
    let before = scene.starts(Role::Foreign);
    drop(engine);
    // Nor does the next daemon start it.
    scene.act(Role::Foreign, "ready");
    let engine = scene.open();
    reach(&engine, State::Running).await;
    assert_eq!(scene.starts(Role::Foreign), before);
    dial(&engine, Role::Foreign).await.unwrap();
    assert_eq!(scene.starts(Role::Foreign), before + 1);
    down(&engine, false).await.unwrap();
}

/// Spec 6.3, 6.7: a machine that dies comes back by itself, once, and the other does not notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_machine_that_dies_comes_back_and_native_does_not_notice() {
    let scene = Scene::new("ready");
    let engine = engine(&scene).await;
    dial(&engine, Role::Foreign).await.unwrap();
    let pid = native(&engine).await.status.supervisor_pid;
    kill_supervisor(&scene, Role::Foreign).await;
    reach_role(&engine, Role::Foreign, State::Failed).await;
    dial(&engine, Role::Native).await.unwrap();
    // Who asks meanwhile waits for it (spec 3.9).
    dial(&engine, Role::Foreign).await.unwrap();
    assert_eq!((scene.starts(Role::Native), scene.starts(Role::Foreign)), (1, 2));
    assert_eq!(native(&engine).await.status.supervisor_pid, pid);
    down(&engine, false).await.unwrap();
}

/// Spec 6.6: every machine is driven through its own end, and the error of one hides nothing of the other.
#[tokio::test(flavor = "multi_thread")]
async fn down_stops_both_machines_and_tells_each_ones_end() {
    let scene = Scene::new("ready");
    let engine = engine(&scene).await;
    dial(&engine, Role::Foreign).await.unwrap();
    let stopped = tokio::time::timeout(LONG, engine.down(false, LONG)).await.unwrap();
    let names: Vec<_> = stopped.iter().map(|s| (s.machine.to_string(), s.result.is_ok())).collect();
    assert_eq!(names, [("native".to_owned(), true), ("foreign".to_owned(), true)]);
    for role in Role::ALL {
        reach_role(&engine, role, State::Stopped).await;
        let dir = scene.home.machine(&role.machine());
        assert!(!supervisor::is_running(&dir).unwrap() && !dir.wanted().exists());
    }
    assert!(dial(&engine, Role::Foreign).await.unwrap_err().message.contains("the engine is stopped"));
    assert_eq!(scene.starts(Role::Foreign), 1);
}

/// Spec 6.6.
#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_that_refuses_to_stop_is_killed_and_named_and_the_other_machine_is_stopped() {
    let scene = Scene::new("ready");
    scene.act(Role::Foreign, "mute");
    let engine = engine(&scene).await;
    dial(&engine, Role::Foreign).await.unwrap();
    let dir = scene.home.machine(&Role::Foreign.machine());
    let stopped = tokio::time::timeout(LONG, engine.down(false, Duration::from_secs(1))).await.unwrap();
    reach(&engine, State::Stopped).await;
    let foreign = &stopped[1];
    let told = foreign.result.as_ref().map(|reply| reply.errors.join(" "));
    assert!(
        told.is_ok_and(|told| told.contains("killed") && told.contains("does not want to")),
        "{foreign:?}"
    );
    assert!(!supervisor::is_running(&dir).unwrap());
}

/// Spec 6.6: a second request that forces cuts both machines' graceful stops short.
#[tokio::test(flavor = "multi_thread")]
async fn a_forced_stop_ends_both_machines_graceful_ones() {
    let scene = Scene::new("deaf");
    let engine = engine(&scene).await;
    dial(&engine, Role::Foreign).await.unwrap();
    let other = engine.clone();
    let graceful = tokio::spawn(async move { down(&other, false).await });
    reach_role(&engine, Role::Foreign, State::Stopping).await;
    down(&engine, true).await.unwrap();
    graceful.await.unwrap().unwrap();
    for role in Role::ALL {
        reach_role(&engine, role, State::Stopped).await;
    }
}

/// Spec 6.6, 16.2: a start that is under way for a request ends with the engine, and who waits is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_for_a_request_ends_when_the_engine_is_stopped() {
    let scene = Scene::new("ready");
    scene.act(Role::Foreign, "stuck");
    let engine = engine(&scene).await;
    let other = engine.clone();
    let waiting = tokio::spawn(async move { dial(&other, Role::Foreign).await });
    reach_role(&engine, Role::Foreign, State::Starting).await;
    down(&engine, false).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap_err().hint, "dhow up");
    reach_role(&engine, Role::Foreign, State::Stopped).await;
}

/// Spec 6.9: the next daemon attaches to both machines, which count as running from the first moment.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_daemon_finds_both_machines() {
    let scene = Scene::new("ready");
    let first = engine(&scene).await;
    dial(&first, Role::Foreign).await.unwrap();
    let before = Role::ALL.map(|role| scene.supervisor(role));
    drop(first);
    let second = scene.open();
    assert_eq!(second.running(), Role::ALL);
    dial(&second, Role::Foreign).await.unwrap();
    dial(&second, Role::Native).await.unwrap();
    assert_eq!(Role::ALL.map(|role| scene.supervisor(role)), before);
    down(&second, false).await.unwrap();
}

/// Spec 6.9, 1.10: a foreign machine that died while no daemon ran comes back, unless the placement no longer has one.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_machine_that_died_meanwhile_comes_back_only_with_its_placement() {
    let scene = Scene::new("ready");
    let first = engine(&scene).await;
    dial(&first, Role::Foreign).await.unwrap();
    drop(first);
    kill_supervisor(&scene, Role::Foreign).await;
    let second = scene.open();
    reach_role(&second, Role::Foreign, State::Running).await;
    drop(second);
    kill_supervisor(&scene, Role::Foreign).await;
    scene.place("native-machine");
    let third = scene.open();
    reach(&third, State::Running).await;
    assert_eq!(third.running(), [Role::Native]);
    assert_eq!(scene.starts(Role::Foreign), 2);
    assert!(!scene.home.machine(&Role::Foreign.machine()).wanted().exists());
    down(&third, false).await.unwrap();
}

/// Spec 2.6: what was in a machine is known while it is off, and no longer once it runs.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_in_a_machine_is_known_while_it_is_off() {
    let scene = Scene::new("ready");
    let engine = engine(&scene).await;
    dial(&engine, Role::Foreign).await.unwrap();
    assert_eq!(Role::ALL.map(|role| engine.record(role)), [None, None]);
    down(&engine, false).await.unwrap();
    drop(engine);
    let engine = scene.open();
    let names = |role| -> Option<Vec<_>> {
        Some(engine.record(role)?.containers.into_iter().map(|c| (c.id, c.name)).collect())
    };
    assert_eq!(names(Role::Native), Some(vec![("a".repeat(64), "native".to_owned())]));
    assert_eq!(names(Role::Foreign), Some(vec![("b".repeat(64), "foreign".to_owned())]));
    up(&engine, spec()).await.unwrap();
    assert_eq!(names(Role::Native), None);
    assert!(names(Role::Foreign).is_some());
    down(&engine, false).await.unwrap();
}

/// Spec 15.1, 1.10: `up` brings native up alone, and says what becomes of foreign workloads on this host.
#[tokio::test(flavor = "multi_thread")]
async fn up_leaves_the_foreign_machine_off_and_says_when_it_boots_or_why_it_cannot() {
    let scene = Scene::new("ready");
    let engine = scene.open();
    let (progress, mut told) = tokio::sync::mpsc::unbounded_channel();
    let done = engine.up(&config(Placement::ForeignMachine), &Reporter::to(progress)).await.unwrap();
    assert!(done.changed && done.warnings.is_empty(), "{done:?}");
    let note = std::iter::from_fn(|| told.try_recv().ok()).find(
        |p| matches!(p, crate::Progress::Note(text) if text.contains("foreign (arm64, emulated) boots when")),
    );
    assert!(note.is_some());
    assert_eq!(engine.running(), [Role::Native]);
    assert_eq!(engine.placement(), Placement::ForeignMachine);
    dial(&engine, Role::Foreign).await.unwrap();
    let done = engine.up(&config(Placement::NativeMachine), &Reporter::nobody()).await.unwrap();
    assert!(done.warnings.iter().any(|w| w.contains("foreign still runs")), "{done:?}");
    down(&engine, false).await.unwrap();
    drop(engine);
    let host = offer::Platform { os: "macos", arch: Some(Arch::Arm64) };
    let engine = scene.open_on(offer::foreign(host, Arch::Arm64, Ok(())));
    let done = engine.up(&config(Placement::ForeignMachine), &Reporter::nobody()).await.unwrap();
    assert!(done.warnings.iter().any(|w| w.contains("this host, macos/arm64, cannot offer")), "{done:?}");
    down(&engine, false).await.unwrap();
}

/// What an observer was told, in order.
#[derive(Debug, Default)]
struct Told(std::sync::Mutex<Vec<String>>);

#[async_trait::async_trait]
impl Observer for Told {
    fn changed(&self, role: Role, runs: bool) {
        self.0.lock().unwrap().push(format!("{role} {}", if runs { "runs" } else { "is off" }));
    }

    async fn stopping(&self, role: Role) {
        self.0.lock().unwrap().push(format!("{role} stops"));
    }

    fn resting(&self, role: Role) {
        self.0.lock().unwrap().push(format!("{role} rests"));
    }

    fn usage(&self, _: Role) -> Usage {
        Usage::default()
    }
}

/// Spec 2.6, 6.9: whoever keeps connections into machines hears of each one's beginning and end, also of those that ran before.
#[tokio::test(flavor = "multi_thread")]
async fn an_observer_hears_of_each_machine_when_it_can_be_dialled_and_before_it_stops() {
    let scene = Scene::new("ready");
    let engine = engine(&scene).await;
    let told = Arc::new(Told::default());
    engine.observe(Arc::clone(&told) as _);
    dial(&engine, Role::Foreign).await.unwrap();
    kill_supervisor(&scene, Role::Foreign).await;
    reach_role(&engine, Role::Foreign, State::Failed).await;
    dial(&engine, Role::Foreign).await.unwrap();
    down(&engine, false).await.unwrap();
    let told = told.0.lock().unwrap().clone();
    let of =
        |role: &str| -> Vec<_> { told.iter().filter(|t| t.starts_with(role)).map(String::as_str).collect() };
    assert_eq!(of("native"), ["native runs", "native stops", "native is off"]);
    let foreign = ["runs", "is off", "runs", "stops", "is off"].map(|word| format!("foreign {word}"));
    assert_eq!(of("foreign"), foreign);
}
