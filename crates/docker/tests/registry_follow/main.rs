//! The registry kept true of engines that change, die and sleep (spec 2.5, 2.6), with engines that the test plays, and in
//! `real` with dockerds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture fails its test at the first surprise"
)]

mod fake;
#[cfg(target_os = "linux")]
mod real;

use std::sync::Arc;
use std::time::Duration;

use dhow_docker::registry::{Knowledge, Lookup, Workloads};
use dhow_docker::{TraceId, Unavailable};
use dhow_model::Role::{self, Foreign, Native};
use dhow_model::{Record, Recorded};
use fake::{Machines, until};

fn id(n: usize) -> String {
    format!("{n:064x}")
}

fn record(id: &str, name: &str) -> Record {
    Record { containers: vec![Recorded { id: id.into(), name: name.into(), project: None }] }
}

async fn find(workloads: &Workloads, reference: &str) -> Result<Lookup, Unavailable> {
    workloads.find(reference, &TraceId::random()).await
}

/// The role where it is found.
async fn place(workloads: &Workloads, reference: &str) -> Option<Role> {
    match find(workloads, reference).await.unwrap() {
        Lookup::Found(entry) => Some(entry.role),
        _ => None,
    }
}

/// Both machines run, and both are wholly known.
async fn two() -> (Arc<Machines>, Workloads) {
    let machines = Machines::running(&Role::ALL);
    let workloads = Workloads::new(machines.clone());
    for role in Role::ALL {
        workloads.started(role);
        whole(&workloads, role).await;
        machines.dockerd(role).asked();
    }
    (machines, workloads)
}

async fn whole(workloads: &Workloads, role: Role) {
    until("the engine to be wholly known", || workloads.table().knowledge(role) == Knowledge::Whole).await;
}

/// 2.6: what the table has of wholly known engines is answered without a question.
#[tokio::test]
async fn what_is_known_is_answered_without_asking() {
    let (machines, workloads) = two().await;
    machines.dockerd(Foreign).create(&id(0xab), "web");
    until("the event", || workloads.table().containers() == 1).await;
    assert_eq!(place(&workloads, "web").await, Some(Foreign));
    assert_eq!(place(&workloads, "0000").await, Some(Foreign));
    assert!(Role::ALL.into_iter().all(|role| machines.dockerd(role).asked().is_empty()));
}

/// 2.6: a miss asks every engine that runs, and remembers what they say.
#[tokio::test]
async fn a_miss_asks_every_running_engine() {
    let (machines, workloads) = two().await;
    machines.dockerd(Foreign).create_silently(&id(1), "web");
    assert_eq!(place(&workloads, "web").await, Some(Foreign));
    for role in Role::ALL {
        assert_eq!(machines.dockerd(role).asked(), ["/containers/web/json"]);
    }
    assert_eq!(place(&workloads, "/web").await, Some(Foreign));
    assert!(machines.dockerd(Native).asked().is_empty(), "it is known now");
    assert_eq!(find(&workloads, "nobody").await.unwrap(), Lookup::Missing);
    machines.dockerd(Native).create_silently(&id(2), "web");
    assert_eq!(place(&workloads, "web").await, Some(Foreign), "nobody said that Native has one too");
}

/// 2.6: before a new daemon has listed anything, the answer comes from the engines; two that have it are ambiguous.
#[tokio::test]
async fn a_new_daemon_asks_before_it_answers() {
    let machines = Machines::running(&Role::ALL);
    machines.dockerd(Native).create_silently(&id(0x1a), "web");
    machines.dockerd(Foreign).create_silently(&id(0x1b), "web");
    machines.dockerd(Foreign).create_silently(&id(0x2b), "db");
    let workloads = Workloads::new(machines.clone());
    assert_eq!(find(&workloads, "web").await.unwrap(), Lookup::Ambiguous);
    assert_eq!(find(&workloads, &id(0)[..20]).await.unwrap(), Lookup::Ambiguous);
    assert_eq!(place(&workloads, "db").await, Some(Foreign));
    assert_eq!(place(&workloads, &id(0x1a)).await, Some(Native));
}

/// 2.2: one engine has several that begin so: found there, for it to tell apart.
#[tokio::test]
async fn several_in_one_engine_are_found_without_an_id() {
    let machines = Machines::running(&Role::ALL);
    machines.dockerd(Foreign).create_silently(&id(1), "a1");
    machines.dockerd(Foreign).create_silently(&id(2), "a2");
    let workloads = Workloads::new(machines);
    let Lookup::Found(entry) = find(&workloads, "00").await.unwrap() else { panic!("not found") };
    assert_eq!((entry.role, entry.id), (Foreign, None));
}

/// 2.6: a machine that is off is answered for from its record, and is not started, neither for a hit nor for a miss.
#[tokio::test]
async fn a_machine_that_is_off_is_answered_from_its_record_and_never_started() {
    let machines = Machines::running(&[Native]);
    machines.set_record(Foreign, record(&id(7), "web"));
    let workloads = Workloads::new(machines.clone());
    assert_eq!(place(&workloads, "web").await, Some(Foreign));
    assert_eq!(place(&workloads, &id(7)).await, Some(Foreign));
    assert_eq!(find(&workloads, "nobody").await.unwrap(), Lookup::Missing);
    assert_eq!(workloads.find_exec("e", &TraceId::random()).await.unwrap(), Lookup::Missing);
    machines.dockerd(Native).create_silently(&id(8), "web");
    let other = Workloads::new(machines.clone());
    assert_eq!(find(&other, "web").await.unwrap(), Lookup::Ambiguous, "a record counts like an engine");
    assert_eq!(machines.started(Foreign), 0);
}

/// 2.5: containers go by event, as with `--rm`, and their execs with them.
#[tokio::test]
async fn containers_and_execs_are_forgotten_by_event() {
    let (machines, workloads) = two().await;
    let dockerd = machines.dockerd(Native);
    dockerd.create(&id(1), "web");
    dockerd.exec("e1", &id(1));
    dockerd.exec("e2", &id(1));
    until("two execs", || workloads.table().execs() == 2).await;
    assert!(matches!(workloads.find_exec("e1", &TraceId::random()).await.unwrap(), Lookup::Found(_)));
    dockerd.exec_dies("e1", &id(1));
    dockerd.destroy(&id(1));
    until("it to be forgotten", || workloads.table().containers() == 0).await;
    assert_eq!(workloads.table().execs(), 0);
    assert_eq!(find(&workloads, "web").await.unwrap(), Lookup::Missing);
}

/// 2.6: an exec that nobody told of is asked for, and goes with its container.
#[tokio::test]
async fn an_exec_that_is_not_known_is_asked_for() {
    let (machines, workloads) = two().await;
    machines.dockerd(Foreign).create(&id(1), "web");
    machines.dockerd(Foreign).exec_silently("e1", &id(1));
    let Lookup::Found(entry) = workloads.find_exec("e1", &TraceId::random()).await.unwrap() else { panic!() };
    assert_eq!(entry.role, Foreign);
    machines.dockerd(Foreign).destroy(&id(1));
    until("it to go", || workloads.table().lookup_exec("e1") == Lookup::Missing).await;
}

/// 2.6: while an engine's events are away it is asked; when it is back the whole truth is read again.
#[tokio::test]
async fn an_engine_that_dies_and_comes_back_is_known_again() {
    let (machines, workloads) = two().await;
    let dockerd = machines.dockerd(Foreign);
    dockerd.create(&id(1), "web");
    dockerd.create(&id(2), "db");
    until("the events", || workloads.table().containers() == 2).await;
    dockerd.set_dead(true);
    until("doubt", || workloads.table().knowledge(Foreign) == Knowledge::Partial).await;
    dockerd.destroy_silently(&id(1));
    dockerd.create_silently(&id(3), "cache");
    dockerd.set_dead(false);
    assert_eq!(place(&workloads, "cache").await, Some(Foreign));
    assert_eq!(find(&workloads, "web").await.unwrap(), Lookup::Missing);
    whole(&workloads, Foreign).await;
    assert_eq!(workloads.table().containers(), 2);
}

/// 2.6, 3.3: one engine that is away hides nothing of the other; nothing is called missing that it might have.
#[tokio::test]
async fn an_engine_that_cannot_be_asked_leaves_the_others_containers_reachable() {
    let (machines, workloads) = two().await;
    machines.dockerd(Native).create(&id(1), "web");
    machines.dockerd(Foreign).create(&id(2), "db");
    until("the events", || workloads.table().containers() == 2).await;
    machines.dockerd(Foreign).set_dead(true);
    until("doubt", || workloads.table().knowledge(Foreign) == Knowledge::Partial).await;
    assert_eq!(place(&workloads, "web").await, Some(Native));
    assert_eq!(place(&workloads, "db").await, Some(Foreign), "the call itself meets the dead engine");
    let why = find(&workloads, "nobody").await.unwrap_err();
    assert_eq!(why.what, "the foreign engine could not be asked whether it has \"nobody\": dockerd is dead");
}

/// 2.6: an engine that was never known and cannot be asked may have the name too; only a full ID is sure.
#[tokio::test]
async fn an_engine_that_was_never_known_must_be_asked() {
    let machines = Machines::running(&Role::ALL);
    machines.dockerd(Native).create_silently(&id(1), "web");
    machines.dockerd(Foreign).set_dead(true);
    let workloads = Workloads::new(machines);
    assert!(find(&workloads, "web").await.is_err());
    assert_eq!(place(&workloads, &id(1)).await, Some(Native));
}

/// 2.6: a machine that stops is left in time for its dockerd, and answered for from then on without it.
#[tokio::test]
async fn a_machine_that_stops_is_left_before_and_remembered_after() {
    let (machines, workloads) = two().await;
    let dockerd = machines.dockerd(Foreign);
    dockerd.create(&id(1), "web");
    until("the event", || workloads.table().containers() == 1).await;
    assert_eq!(dockerd.listeners(), 1);
    let kept = workloads.stopping(Foreign).await;
    assert_eq!(kept, record(&id(1), "web"));
    until("the events to be left", || dockerd.listeners() == 0).await;
    // It runs for a while yet, and is left alone.
    dockerd.asked();
    assert_eq!(place(&workloads, "web").await, Some(Foreign));
    assert_eq!(find(&workloads, "nobody").await.unwrap(), Lookup::Missing);
    assert_eq!((dockerd.listeners(), dockerd.asked().len()), (0, 0));
    machines.set_running(Foreign, false);
    assert_eq!(place(&workloads, "web").await, Some(Foreign));
    assert_eq!(machines.started(Foreign), 0);
    machines.set_running(Foreign, true);
    dockerd.create_silently(&id(2), "db");
    workloads.started(Foreign);
    whole(&workloads, Foreign).await;
    assert_eq!(workloads.table().containers(), 2);
}

/// 2.6: a machine that stops before it was ever listed is listed then.
#[tokio::test]
async fn a_machine_that_stops_before_it_was_listed_is_listed_then() {
    let machines = Machines::running(&Role::ALL);
    machines.dockerd(Foreign).create_silently(&id(1), "web");
    let workloads = Workloads::new(machines.clone());
    assert_eq!(workloads.stopping(Foreign).await, record(&id(1), "web"));
    machines.set_running(Foreign, false);
    assert_eq!(place(&workloads, "web").await, Some(Foreign));
    assert_eq!(machines.started(Foreign), 0);
}

/// 2.6, 6.7: a machine that dies without a word is not dialled again, which would start it; what was in it is remembered.
#[tokio::test]
async fn a_machine_that_dies_without_a_word_is_not_started_by_following_it() {
    let (machines, workloads) = two().await;
    machines.dockerd(Foreign).create(&id(1), "web");
    until("the event", || workloads.table().containers() == 1).await;
    machines.set_running(Foreign, false);
    machines.dockerd(Foreign).set_dead(true);
    until("it to count as off", || workloads.table().knowledge(Foreign) == Knowledge::Asleep).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(machines.started(Foreign), 0);
    assert_eq!(place(&workloads, "web").await, Some(Foreign));
    machines.dockerd(Foreign).set_dead(false);
    machines.set_running(Foreign, true);
    assert_eq!(place(&workloads, "nobody").await, None, "a lookup follows it again");
    whole(&workloads, Foreign).await;
}

/// The daemon's end leaves no stream behind.
#[tokio::test]
async fn the_end_leaves_every_engine() {
    let (machines, workloads) = two().await;
    workloads.end().await;
    for role in Role::ALL {
        let dockerd = machines.dockerd(role);
        until("the events to be left", || dockerd.listeners() == 0).await;
    }
    let (machines, workloads) = two().await;
    drop(workloads);
    until("a dropped registry to leave", || machines.dockerd(Native).listeners() == 0).await;
}

/// 2.4: both engines together have each name once, in dockerd's own words.
#[tokio::test]
async fn a_name_that_the_other_engine_has_cannot_be_claimed() {
    let (machines, workloads) = two().await;
    machines.dockerd(Native).create_silently(&id(1), "web");
    machines.dockerd(Native).create(&id(2), "db");
    until("the event", || workloads.table().containers() == 1).await;
    let trace = TraceId::random();
    let taken = workloads.claim(Foreign, "/db", &trace).await.unwrap_err();
    assert_eq!(
        taken.to_string(),
        format!(
            "Conflict. The container name \"/db\" is already in use by container \"{}\". You have to remove (or rename) \
             that container to be able to reuse that name.",
            id(2)
        )
    );
    workloads.claim(Native, "db", &trace).await.expect("one's own engine says it itself");
    workloads.table().doubt(Native);
    workloads.claim(Foreign, "web", &trace).await.expect_err("an engine that is not wholly known is asked");
    workloads.claim(Foreign, "new", &trace).await.unwrap();
}

/// 2.4: a name is free as soon as its engine says so, though the event is still to come; and so it is with a record.
#[tokio::test]
async fn a_name_is_free_once_its_engine_says_so() {
    let (machines, workloads) = two().await;
    machines.dockerd(Native).create(&id(1), "web");
    until("the event", || workloads.table().containers() == 1).await;
    machines.dockerd(Native).destroy_silently(&id(1));
    let trace = TraceId::random();
    workloads.claim(Foreign, "web", &trace).await.unwrap();
    workloads.table().create(Foreign, &id(2), Some("web"));
    assert_eq!(place(&workloads, "web").await, Some(Foreign));
    workloads.stopping(Foreign).await;
    machines.set_running(Foreign, false);
    workloads.claim(Native, "web", &trace).await.expect_err("the record has it");
    assert_eq!(machines.started(Foreign), 0);
}

/// 2.4: of two who want a name at once, the second waits for the outcome of the first.
#[tokio::test]
async fn two_who_claim_a_name_at_once_come_one_after_the_other() {
    let (machines, workloads) = two().await;
    let trace = TraceId::random();
    let first = workloads.claim(Native, "web", &trace).await.unwrap();
    let second = tokio::spawn({
        let (workloads, trace) = (workloads.clone(), trace.clone());
        async move { workloads.claim(Foreign, "web", &trace).await.map(|_| ()) }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!second.is_finished());
    machines.dockerd(Native).create_silently(&id(1), "web");
    workloads.table().create(Native, &id(1), Some("web"));
    drop(first);
    assert_eq!(second.await.unwrap().unwrap_err().id, id(1).into());
}
