use proptest::prelude::*;

use super::*;

fn session(uuid: &str) -> Key {
    Key::Session(uuid.to_owned())
}

fn waits(arrival: Arrival) -> Ticket {
    match arrival {
        Arrival::Wait(ticket) => ticket,
        other => panic!("it should wait, not {other:?}"),
    }
}

/// 3.5: the session opens first, as Docker's client does it.
#[test]
fn a_session_waits_for_the_build_that_names_it() {
    let mut table = Table::default();
    let ticket = waits(table.arrive(&session("a")));
    assert_eq!(table.build(&[session("b")], Role::Native), []);
    assert_eq!(table.build(&[session("a")], Role::Foreign), [(ticket, Role::Foreign)]);
    assert_eq!(table.build(&[session("a")], Role::Foreign), []);
}

/// 3.5: either order works.
#[test]
fn a_session_that_follows_its_build_goes_to_it_at_once() {
    let mut table = Table::default();
    table.build(&[session("a")], Role::Foreign);
    assert_eq!(table.arrive(&session("a")), Arrival::To(Role::Foreign));
}

/// 3.5: never sent to a guess: what a build that has ended said does not count.
#[test]
fn a_session_after_its_build_waits_like_any_other() {
    let mut table = Table::default();
    table.build(&[session("a")], Role::Foreign);
    table.build_over(&[session("a")], Role::Foreign);
    waits(table.arrive(&session("a")));
}

/// 3.5: BuildKit refuses a second session with a UUID; so does the table, whether the first waits or is joined.
#[test]
fn a_second_session_with_the_same_uuid_is_refused() {
    let mut table = Table::default();
    let ticket = waits(table.arrive(&session("a")));
    assert_eq!(table.arrive(&session("a")), Arrival::Twice);
    assert!(table.give_up(ticket));
    table.build(&[session("a")], Role::Native);
    assert_eq!(table.arrive(&session("a")), Arrival::To(Role::Native));
    assert_eq!(table.arrive(&session("a")), Arrival::Twice);
    table.leave(&session("a"));
    assert_eq!(table.arrive(&session("a")), Arrival::To(Role::Native));
}

/// 3.5: the upload of a build's context names nothing but the build.
#[test]
fn an_upload_waits_for_its_build_in_either_order() {
    let upload = Key::Build("i".to_owned());
    let mut table = Table::default();
    let ticket = waits(table.arrive(&upload));
    assert_eq!(table.builder("i"), None);
    let keys = [session("a"), upload.clone()];
    assert_eq!(table.build(&keys, Role::Foreign), [(ticket, Role::Foreign)]);
    assert_eq!(table.builder("i"), Some(Role::Foreign));
    assert_eq!(table.arrive(&upload), Arrival::To(Role::Foreign));
    table.build_over(&keys, Role::Foreign);
    assert_eq!(table.builder("i"), None);
}

/// 3.5: sessions that wait are bounded; each that goes makes room.
#[test]
fn only_so_many_sessions_wait() {
    let mut table = Table::default();
    let tickets: Vec<_> = (0..MAX_WAITING).map(|n| waits(table.arrive(&session(&n.to_string())))).collect();
    assert_eq!(table.arrive(&session("one more")), Arrival::Crowded);
    assert!(table.give_up(tickets[3]));
    waits(table.arrive(&session("one more")));
}

/// Something that happens to the table.
#[derive(Debug, Clone)]
enum Event {
    Open(u8),
    Build(u8, Role),
    /// The oldest thing but n that is there ends.
    End(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let role = || prop::sample::select(Role::ALL.to_vec());
    prop_oneof![
        (0u8..4).prop_map(Event::Open),
        (0u8..4, role()).prop_map(|(uuid, role)| Event::Build(uuid, role)),
        (0usize..6).prop_map(Event::End),
    ]
}

/// What the owner of a connection has to end.
#[derive(Debug)]
enum Held {
    Waiting(Ticket, Key),
    Joined(Key),
    Build(Key, Role),
}

proptest! {
    /// 3.5: whatever order things happen in, a session goes only where a build that is there says, it is
    /// answered once, and when all have gone nothing is left.
    #[test]
    fn nothing_is_guessed_and_nothing_is_left(events in prop::collection::vec(event(), 0..60)) {
        let mut table = Table::default();
        let mut held: Vec<Held> = Vec::new();
        for event in events {
            let released = match event {
                Event::Open(uuid) => {
                    let key = session(&uuid.to_string());
                    match table.arrive(&key) {
                        Arrival::Wait(ticket) => held.push(Held::Waiting(ticket, key)),
                        Arrival::To(role) => {
                            prop_assert!(is_said(&held, &key, role));
                            held.push(Held::Joined(key));
                        }
                        Arrival::Twice => {
                            let twin = |held: &Held| matches!(held, Held::Waiting(_, other) | Held::Joined(other) if *other == key);
                            prop_assert!(held.iter().any(twin));
                        }
                        Arrival::Crowded => prop_assert!(false, "there are only four"),
                    }
                    Vec::new()
                }
                Event::Build(uuid, role) => {
                    let key = session(&uuid.to_string());
                    held.push(Held::Build(key.clone(), role));
                    table.build(&[key], role)
                }
                Event::End(at) => {
                    if at < held.len() {
                        end(&mut table, held.remove(at));
                    }
                    Vec::new()
                }
            };
            for (ticket, role) in released {
                let at = held.iter().position(|held| matches!(held, Held::Waiting(other, ..) if *other == ticket));
                let Some(Held::Waiting(_, key)) = at.map(|at| held.remove(at)) else {
                    return Err(TestCaseError::fail("it was answered before"));
                };
                prop_assert!(is_said(&held, &key, role));
                held.push(Held::Joined(key));
            }
        }
        for left in held {
            end(&mut table, left);
        }
        prop_assert!(table.is_empty());
    }
}

/// Whether a build that is there now says that this session belongs to this role.
fn is_said(held: &[Held], key: &Key, role: Role) -> bool {
    held.iter().any(|held| match held {
        Held::Build(named, at) => named == key && *at == role,
        Held::Waiting(..) | Held::Joined(_) => false,
    })
}

fn end(table: &mut Table, held: Held) {
    match held {
        Held::Waiting(ticket, ..) => assert!(table.give_up(ticket)),
        Held::Joined(key) => table.leave(&key),
        Held::Build(key, role) => table.build_over(&[key], role),
    }
}
