use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::merge::fake::Fake;

const NETWORK: &[u8] = br#"{"Name":"shop_default","Labels":{"com.docker.compose.project":"shop"}}"#;
const VOLUME: &[u8] = br#"{"Name":"shop_data","Labels":{"com.docker.compose.project":"shop"}}"#;

/// Engines where native has what Compose makes before the first service, the volume from when `made` says so, and no
/// container is anywhere.
fn unbound(made: &Arc<AtomicBool>, bytes: u32) -> Fake {
    let made = Arc::clone(made);
    Fake::new(move |role, method, target| {
        let path = target.split('?').next().unwrap();
        let said = match (role, method, path) {
            (_, "GET", "/containers/json") => "[]",
            (Role::Native, "GET", "/system/df") => {
                return (
                    200,
                    format!(r#"{{"Volumes":[{{"Name":"shop_data","UsageData":{{"Size":{bytes}}}}}]}}"#),
                );
            }
            (Role::Native, "GET", "/volumes") if made.load(Ordering::SeqCst) => {
                r#"{"Volumes":[{"Name":"shop_data"}]}"#
            }
            (Role::Native, "GET", "/networks") => {
                r#"[{"Name":"shop_default","Id":"old","Internal":true,"Containers":{}}]"#
            }
            (_, "GET", "/volumes") => r#"{"Volumes":null}"#,
            (_, "POST", path) if path.ends_with("/networks/create") => {
                return (201, r#"{"Id":"new"}"#.to_owned());
            }
            (_, "POST", path) if path.ends_with("/volumes/create") => return (201, "{}".to_owned()),
            (_, "DELETE", _) => return (204, String::new()),
            _ => return (404, "{}".to_owned()),
        };
        (200, said.to_owned())
    })
}

/// Engines where one has containers or volumes of the project.
fn bound(containers: [i64; 2], volumes: [bool; 2]) -> Fake {
    Fake::new(move |role, _, target| {
        let at = usize::from(role == Role::Foreign);
        let said = match target.split('?').next().unwrap() {
            "/containers/json" if containers[at] > 0 => {
                format!(r#"[{{"Created":9}},{{"Created":{}}}]"#, containers[at])
            }
            "/volumes" if volumes[at] => r#"{"Volumes":[{"Name":"shop_data"}]}"#.to_owned(),
            "/volumes" => r#"{"Volumes":[]}"#.to_owned(),
            _ => "[]".to_owned(),
        };
        (200, said)
    })
}

async fn role(fake: &Fake) -> Option<Role> {
    Projects::default().turn("shop", fake.machines()).await.unwrap().role()
}

/// 3.6: the engine that has the project's first container is the binding; without containers it is its volumes.
#[tokio::test]
async fn a_project_is_bound_to_where_it_is() {
    let table = [
        ([0, 0], [false, false], None),
        ([0, 3], [true, false], Some(Role::Foreign)),
        ([3, 0], [false, true], Some(Role::Native)),
        ([5, 3], [false, false], Some(Role::Foreign)),
        ([3, 5], [false, false], Some(Role::Native)),
        ([0, 0], [false, true], Some(Role::Foreign)),
        ([0, 0], [true, false], Some(Role::Native)),
    ];
    for (containers, volumes, expected) in table {
        assert_eq!(role(&bound(containers, volumes)).await, expected, "{containers:?} {volumes:?}");
    }
}

/// 3.6, 2.6: a machine that is off is asked from its record, and nothing starts it.
#[tokio::test]
async fn a_machine_that_is_off_binds_by_its_record() {
    let fake = bound([0, 0], [false, false]);
    fake.turn_off(Role::Foreign, Some("shop"));
    assert_eq!(role(&fake).await, Some(Role::Foreign));
    assert!(fake.asked().iter().all(|line| line.starts_with("native")));
    fake.turn_off(Role::Foreign, Some("blog"));
    assert_eq!(role(&fake).await, None);
}

/// 3.6, 3.3: an engine that does not say what it has is not taken for one that has nothing.
#[tokio::test]
async fn an_engine_that_does_not_say_is_named() {
    let fake = bound([0, 0], [false, false]);
    fake.break_down(Role::Foreign);
    let Err(refused) = Projects::default().turn("shop", fake.machines()).await else {
        panic!("it is refused")
    };
    assert!(refused.status == 503 && refused.message.contains("machine `foreign`"), "{}", refused.message);
}

/// A project that has made its network and its volume, of which `bytes` are used.
async fn begun(bytes: u32) -> (Projects, Fake) {
    let there = Arc::new(AtomicBool::new(false));
    let (projects, fake) = (Projects::default(), unbound(&there, bytes));
    let machines = fake.machines();
    for (target, body) in [("/v1.45/networks/create", NETWORK), ("/v1.45/volumes/create", VOLUME)] {
        assert_eq!(projects.place("shop", target, body, machines).await, Ok(Role::Native));
    }
    there.store(true, Ordering::SeqCst);
    (projects, fake)
}

/// 3.6: what Compose made before the first service goes with it to the foreign machine, as it was asked for.
#[tokio::test]
async fn networks_and_volumes_go_with_the_first_service() {
    let (projects, fake) = begun(0).await;
    let machines = fake.machines();
    let turn = projects.turn("shop", machines).await.unwrap();
    assert_eq!(turn.role(), None);
    let settled =
        turn.settle(Role::Foreign, br#"{"HostConfig":{"NetworkMode":"old"}}"#, machines).await.unwrap();
    let (network, volume) = (String::from_utf8_lossy(NETWORK), String::from_utf8_lossy(VOLUME));
    let expected = [
        format!("foreign POST /v1.45/networks/create {network}"),
        "native DELETE /networks/old".to_owned(),
        format!("foreign POST /v1.45/volumes/create {volume}"),
        "native DELETE /volumes/shop_data".to_owned(),
    ];
    assert_eq!(fake.changed(), expected);
    assert_eq!(settled.body.as_deref(), Some(br#"{"HostConfig":{"NetworkMode":"new"}}"#.as_slice()));
    assert_eq!(projects.renamed("old").as_deref(), Some("new"));
    assert_eq!(projects.place("shop", "/networks/create", NETWORK, machines).await, Ok(Role::Foreign));
}

/// 3.6, 7.6: data is never moved nor lost: a volume that something has written to stays, and the service is refused.
#[tokio::test]
async fn a_volume_with_data_is_not_moved() {
    let (projects, fake) = begun(1).await;
    let turn = projects.turn("shop", fake.machines()).await.unwrap();
    let Err(refused) = turn.settle(Role::Foreign, b"{}", fake.machines()).await else {
        panic!("it is refused")
    };
    assert!(refused.status == 409 && refused.message.contains("shop_data"), "{}", refused.message);
    assert_eq!(fake.changed(), [""; 0]);
}

/// 3.6: a volume that nobody remembers may hold data, and binds its project to where it is.
#[tokio::test]
async fn a_volume_that_nobody_remembers_binds_its_project() {
    let fake = unbound(&Arc::new(AtomicBool::new(true)), 0);
    assert_eq!(role(&fake).await, Some(Role::Native));
}

/// 3.6: a network that was left over, or made before a restart of the daemon, is made again from its description.
#[tokio::test]
async fn a_network_that_nobody_remembers_is_made_from_its_description() {
    let (projects, fake) = (Projects::default(), unbound(&Arc::default(), 0));
    let turn = projects.turn("shop", fake.machines()).await.unwrap();
    let settled = turn.settle(Role::Foreign, b"{}", fake.machines()).await.unwrap();
    assert_eq!(settled.body, None);
    let expected = [
        r#"foreign POST /networks/create {"Name":"shop_default","Internal":true}"#,
        "native DELETE /networks/old",
    ];
    assert_eq!(fake.changed(), expected);
}

/// 3.6: what a bound project makes is made where it is bound, so its later services move nothing.
#[tokio::test]
async fn a_later_service_moves_nothing() {
    let (projects, fake) = (Projects::default(), bound([0, 3], [false, false]));
    let machines = fake.machines();
    assert_eq!(projects.place("shop", "/networks/create", NETWORK, machines).await, Ok(Role::Foreign));
    let turn = projects.turn("shop", machines).await.unwrap();
    let _settled = turn.settle(Role::Foreign, b"{}", machines).await.unwrap();
    assert!(fake.asked().iter().all(|line| line.contains(" GET /containers/json")));
}

/// 3.6: with the first service in the native machine everything stays where it was made.
#[tokio::test]
async fn a_native_project_moves_nothing() {
    let (projects, fake) = begun(0).await;
    let machines = fake.machines();
    let turn = projects.turn("shop", machines).await.unwrap();
    let _settled = turn.settle(Role::Native, b"{}", machines).await.unwrap();
    assert_eq!(fake.changed(), [""; 0]);
    assert_eq!(projects.turn("shop", machines).await.unwrap().role(), Some(Role::Native));
}

/// 3.6: a service whose network cannot be made is refused with the engine's own reason.
#[tokio::test]
async fn a_network_that_cannot_be_made_refuses_the_service() {
    let fake = Fake::new(|role, method, target| match (role, method, target.split('?').next().unwrap()) {
        (Role::Native, "GET", "/networks") => (200, r#"[{"Name":"shop_default","Id":"old"}]"#.to_owned()),
        (_, "POST", _) => {
            (403, r#"{"message":"Pool overlaps with other one on this address space"}"#.to_owned())
        }
        _ => (200, "[]".to_owned()),
    });
    let projects = Projects::default();
    let turn = projects.turn("shop", fake.machines()).await.unwrap();
    let Err(refused) = turn.settle(Role::Foreign, b"{}", fake.machines()).await else {
        panic!("it is refused")
    };
    assert_eq!(refused.status, 403);
    assert!(
        refused.message.contains("shop_default") && refused.message.ends_with("address space"),
        "{}",
        refused.message
    );
    assert_eq!(projects.table().len(), 0);
}

/// 3.6: services that are created at the same time are placed one after the other, so that the first decides.
#[tokio::test]
async fn services_that_come_together_are_placed_one_after_the_other() {
    let (projects, fake) = (Projects::default(), bound([0, 0], [false, false]));
    let machines = fake.machines();
    let first = projects.turn("shop", machines).await.unwrap();
    let second = projects.turn("shop", machines);
    let mut second = std::pin::pin!(second);
    assert!(tokio::time::timeout(Duration::from_millis(20), second.as_mut()).await.is_err());
    assert_eq!(projects.turn("blog", machines).await.unwrap().role(), None);
    let settled = first.settle(Role::Foreign, b"{}", machines).await.unwrap();
    assert_eq!(second.await.unwrap().role(), Some(Role::Foreign));
    drop(settled);
    assert_eq!((projects.table().len(), projects.turns.lock().unwrap().len()), (0, 0));
}
