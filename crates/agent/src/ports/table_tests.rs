use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

fn binding(port: u16, container: u8) -> Binding {
    Binding {
        protocol: dhow_model::port::Protocol::Tcp,
        host: ([0, 0, 0, 0], port).into(),
        container: ([172, 17, 0, container], 80).into(),
    }
}

/// A table in which owner 1 of dockerd 100 holds port 80 for container 2, as number 1.
fn held() -> Table {
    let mut table = Table::default();
    assert_eq!(table.claim(1, binding(80, 2), 100), [Say::Bind(1, binding(80, 2))]);
    assert_eq!(table.answered(1, Answer::Bound), [Say::Tell(1, Told::Bound)]);
    table
}

/// Spec 4.4: they are released when the container stops; the proxy ends only when nothing listens any more.
#[test]
fn a_stopped_container_lets_go_and_is_told_when_that_is_done() {
    let mut table = held();
    assert_eq!(table.let_go(1), [Say::Release(1)]);
    assert_eq!(table.let_go(1), []);
    assert_eq!(table.answered(1, Answer::Released), [Say::Tell(1, Told::Released)]);
    assert!(table.is_empty());
}

/// Spec 4.1: what cannot be bound fails, and nothing of it stays.
#[test]
fn a_refused_binding_leaves_nothing() {
    let mut table = Table::default();
    table.claim(1, binding(80, 2), 100);
    let why = "listen tcp4 0.0.0.0:80: bind: address already in use".to_owned();
    assert_eq!(table.answered(1, Answer::Refused(why.clone())), [Say::Tell(1, Told::Refused(why))]);
    assert!(table.is_empty());
}

#[test]
fn a_proxy_that_gives_up_while_the_host_is_asked_is_released() {
    let mut table = Table::default();
    table.claim(1, binding(80, 2), 100);
    assert_eq!(table.gone(1, true), [Say::Release(1)]);
    assert_eq!(table.answered(1, Answer::Bound), []);
    assert_eq!(table.answered(1, Answer::Released), []);
    assert!(table.is_empty());
}

#[test]
fn a_proxy_that_is_killed_alone_is_released() {
    let mut table = held();
    assert_eq!(table.gone(1, true), [Say::Release(1)]);
}

/// Issue 3: dockerd restarting. A container that goes on keeps its port, which no moment is without a listener.
#[test]
fn a_binding_outlives_its_dockerd_and_is_taken_over_without_unbinding() {
    let mut table = held();
    assert_eq!(table.gone(1, false), []);
    assert_eq!(table.claim(2, binding(80, 2), 200), [Say::Tell(2, Told::Bound)]);
    assert_eq!(table.engine_answers(200), []);
    assert_eq!(table.let_go(2), [Say::Release(1)]);
}

/// The same when the new dockerd is faster than the news of the old one's end.
#[test]
fn a_binding_is_taken_over_from_a_proxy_that_is_about_to_end() {
    let mut table = held();
    assert_eq!(table.claim(2, binding(80, 2), 200), [Say::Tell(2, Told::Bound)]);
    assert_eq!(table.gone(1, false), []);
    assert_eq!(table.let_go(1), [Say::Tell(1, Told::Released)]);
    assert_eq!(table.let_go(2), [Say::Release(1)]);
}

#[test]
fn what_nobody_claims_is_released_when_the_new_dockerd_answers() {
    let mut table = held();
    table.gone(1, false);
    assert_eq!(table.engine_answers(200), [Say::Release(1)]);
}

/// A container that comes back with another address, or another one on its port.
#[test]
fn a_new_claim_takes_the_place_of_what_was_left_there() {
    let mut table = held();
    table.gone(1, false);
    let other = binding(80, 3);
    assert_eq!(table.claim(2, other, 200), [Say::Release(1), Say::Bind(2, other)]);
}

/// What belongs to a living container of the same dockerd is never taken over: the host refuses the second.
#[test]
fn a_second_claim_of_the_same_address_is_asked_of_the_host() {
    let mut table = held();
    assert_eq!(table.claim(2, binding(80, 2), 100), [Say::Bind(2, binding(80, 2))]);
}

/// Issue 3: a container that did not outlive its dockerd gives its port up, and whoever comes next has it at once.
#[test]
fn a_claim_that_is_left_over_gets_nothing_and_takes_what_is_left_along() {
    let mut table = held();
    assert_eq!(table.gone(1, false), []);
    let told = Say::Tell(2, Told::Refused("dead".to_owned()));
    assert_eq!(table.refuse(2, binding(80, 2), 200, "dead"), [Say::Withdraw(1, "dead"), told.clone()]);
    assert_eq!(table.claim(3, binding(80, 4), 200), [Say::Bind(2, binding(80, 4))]);
    // Of what its own dockerd has claimed since, nothing goes.
    assert_eq!(table.answered(2, Answer::Bound), [Say::Tell(3, Told::Bound)]);
    assert_eq!(table.refuse(2, binding(80, 4), 200, "dead"), [told]);
}

/// Issue 3: no listener without container.
#[test]
fn a_binding_that_nobody_needs_is_withdrawn_from_its_proxy() {
    let mut table = held();
    assert_eq!(table.withdraw(1, "unlisted"), (Some(1), vec![Say::Withdraw(1, "unlisted")]));
    assert_eq!(table.withdraw(1, "unlisted"), (None, vec![]));
    assert_eq!(table.gone(1, true), []);
    assert_eq!(table.claim(2, binding(80, 3), 100), [Say::Bind(2, binding(80, 3))]);
    assert_eq!(table.answered(1, Answer::Released), []);
    assert_eq!(table.len(), 1);
}

#[test]
fn the_host_is_told_everything_when_it_comes_back() {
    let mut table = held();
    table.claim(2, binding(81, 2), 100);
    table.claim(3, binding(82, 2), 100);
    table.answered(3, Answer::Bound);
    table.let_go(3);
    let (held, say) = table.connected();
    assert_eq!(held, [(1, binding(80, 2))]);
    assert_eq!(say, [Say::Release(3), Say::Bind(2, binding(81, 2))]);
}

#[test]
fn the_table_is_bounded() {
    let mut table = Table::default();
    for owner in 0..LIMIT as u64 {
        table.claim(owner, binding(owner as u16 + 1, 2), 100);
    }
    let say = table.claim(9999, binding(60000, 2), 100);
    assert!(matches!(&say[..], [Say::Tell(9999, Told::Refused(_))]), "{say:?}");
    assert_eq!(table.len(), LIMIT);
}

/// A host as the table sees it: takes requests in order, answers late, and may be away for a while.
#[derive(Default)]
struct Host {
    listening: BTreeMap<Id, Binding>,
    answers: VecDeque<(Id, Answer)>,
    there: bool,
}

impl Host {
    fn bind(&mut self, id: Id, binding: Binding) {
        let answer = if self.listening.values().any(|held| held.conflicts(&binding)) {
            Answer::Refused("in use".to_owned())
        } else {
            self.listening.insert(id, binding);
            Answer::Bound
        };
        self.answers.push_back((id, answer));
    }

    fn release(&mut self, id: Id) {
        self.listening.remove(&id);
        self.answers.push_back((id, Answer::Released));
    }

    fn come(&mut self, table: &Table) {
        let (held, say) = table.connected();
        (self.there, self.answers) = (true, VecDeque::new());
        let wanted: BTreeSet<Id> = held.iter().map(|(id, _)| *id).collect();
        self.listening.retain(|id, _| wanted.contains(id));
        for (id, binding) in held {
            self.listening.entry(id).or_insert(binding);
        }
        for say in say {
            match say {
                Say::Bind(id, binding) => self.bind(id, binding),
                Say::Release(id) => self.release(id),
                Say::Withdraw(..) | Say::Tell(..) => unreachable!("the host's return tells proxies nothing"),
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Claim(u16, u8),
    LetGo(usize),
    Kill(usize),
    EngineDies,
    EngineAnswers,
    HostAnswers,
    HostGoes,
    HostComes,
    /// The claim of a container that did not outlive the last dockerd.
    LeftOver(u16, u8),
    /// No running container lists it.
    Withdraw(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1u16..6, 2u8..5).prop_map(|(port, container)| Step::Claim(port, container)),
        2 => any::<usize>().prop_map(Step::LetGo),
        1 => any::<usize>().prop_map(Step::Kill),
        1 => Just(Step::EngineDies),
        1 => Just(Step::EngineAnswers),
        4 => Just(Step::HostAnswers),
        1 => Just(Step::HostGoes),
        1 => Just(Step::HostComes),
        1 => (1u16..6, 2u8..5).prop_map(|(port, container)| Step::LeftOver(port, container)),
        1 => any::<usize>().prop_map(Step::Withdraw),
    ];
    proptest::collection::vec(step, 0..120)
}

/// Everything around the table.
#[derive(Default)]
struct World {
    table: Table,
    host: Host,
    /// Proxies that live: what they asked for, and the last that they were told.
    proxies: BTreeMap<Owner, (Binding, Option<Told>)>,
    dockerd: u32,
    next: Owner,
}

impl World {
    fn say(&mut self, say: Vec<Say>) {
        for say in say {
            match say {
                Say::Bind(id, binding) if self.host.there => self.host.bind(id, binding),
                Say::Release(id) | Say::Withdraw(id, _) if self.host.there => self.host.release(id),
                Say::Bind(..) | Say::Release(_) | Say::Withdraw(..) => {}
                Say::Tell(owner, told) => {
                    if let Some((_, last)) = self.proxies.get_mut(&owner) {
                        *last = Some(told.clone());
                    }
                    if matches!(told, Told::Refused(_) | Told::Released) {
                        self.proxies.remove(&owner);
                    }
                }
            }
        }
    }

    fn pick(&self, index: usize) -> Option<Owner> {
        let count = self.proxies.len();
        (count > 0).then(|| self.proxies.keys().nth(index % count).copied()).flatten()
    }

    fn step(&mut self, step: Step) {
        let say = match step {
            Step::Claim(port, container) => {
                self.next += 1;
                self.proxies.insert(self.next, (binding(port, container), None));
                self.table.claim(self.next, binding(port, container), self.dockerd)
            }
            Step::LeftOver(port, container) => {
                self.next += 1;
                self.proxies.insert(self.next, (binding(port, container), None));
                self.table.refuse(self.next, binding(port, container), self.dockerd, "left over")
            }
            Step::Withdraw(index) => {
                let bound: Vec<Id> = self.table.bound().map(|(id, _)| id).collect();
                let id = bound.get(index % bound.len().max(1)).copied().unwrap_or_default();
                let (owner, say) = self.table.withdraw(id, "unlisted");
                // It is ended.
                owner.and_then(|owner| self.proxies.remove(&owner));
                say
            }
            Step::LetGo(index) => self.pick(index).map_or(Vec::new(), |owner| {
                // From now on it relies on nothing.
                self.proxies.entry(owner).and_modify(|(_, told)| *told = None);
                self.table.let_go(owner)
            }),
            Step::Kill(index) => self.pick(index).map_or(Vec::new(), |owner| {
                self.proxies.remove(&owner);
                self.table.gone(owner, true)
            }),
            Step::EngineDies => {
                self.dockerd += 1;
                let owners: Vec<_> = std::mem::take(&mut self.proxies).into_keys().collect();
                owners.into_iter().flat_map(|owner| self.table.gone(owner, false)).collect()
            }
            Step::EngineAnswers => self.table.engine_answers(self.dockerd),
            Step::HostAnswers if self.host.there => match self.host.answers.pop_front() {
                Some((id, answer)) => self.table.answered(id, answer),
                None => Vec::new(),
            },
            Step::HostGoes => {
                self.host.there = false;
                Vec::new()
            }
            Step::HostComes => {
                self.host.come(&self.table);
                Vec::new()
            }
            Step::HostAnswers => Vec::new(),
        };
        self.say(say);
    }

    /// A proxy that was told that it is bound is: the host listens for its binding.
    fn nobody_was_lied_to(&self) -> bool {
        self.proxies.values().all(|(binding, told)| {
            *told != Some(Told::Bound) || self.host.listening.values().any(|held| held == binding)
        })
    }
}

proptest! {
    /// Spec 4.1 and 4.7: whatever happens in whatever order, a proxy that was told "bound" has a listener on the host, no two
    /// share one, and when all is said, the host listens for exactly the proxies that live.
    #[test]
    fn at_the_end_there_is_no_listener_without_container_and_no_container_without_listener(steps in steps()) {
        let mut world = World::default();
        world.step(Step::HostComes);
        for step in steps {
            world.step(step);
            prop_assert!(world.nobody_was_lied_to());
        }
        world.step(Step::HostComes);
        world.step(Step::EngineAnswers);
        for _ in 0..1000 {
            world.step(Step::HostAnswers);
        }
        let mut wanted: Vec<Binding> = world.proxies.values().map(|(binding, _)| *binding).collect();
        let mut listening: Vec<Binding> = world.host.listening.values().copied().collect();
        wanted.sort();
        listening.sort();
        prop_assert_eq!(&wanted, &listening);
        prop_assert!(world.proxies.values().all(|(_, told)| *told == Some(Told::Bound)));
        prop_assert_eq!(world.table.len(), listening.len());
        for (index, one) in listening.iter().enumerate() {
            prop_assert!(!listening[index + 1..].iter().any(|other| one.conflicts(other)));
        }
    }
}
