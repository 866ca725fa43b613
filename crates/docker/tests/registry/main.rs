//! The registry's table against a simple model, rule by rule (spec 2.1 to 2.6).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture fails its test at the first surprise"
)]

mod bounds;
mod model;

use dhow_docker::registry::{Change, Knowledge, Listed, Lookup, Registry, ambiguous};
use dhow_model::Role::{self, Foreign, Native};
use model::{Model, Op, exec, id, listed, ops, other, record, references, said};
use proptest::prelude::*;

proptest! {
    /// 2.1: whatever happened, a container and an exec are found in the machine that took them.
    #[test]
    fn every_container_and_exec_leads_to_the_role_that_took_it(ops in ops()) {
        let (model, registry) = Model::after(&ops);
        for one in &model.containers {
            let Lookup::Found(entry) = registry.lookup(&one.id) else { panic!("{} is not found", one.id) };
            prop_assert_eq!((entry.role, entry.id.as_deref()), (one.role, Some(&*one.id)));
            prop_assert_eq!(entry.name.as_deref(), one.name.as_deref());
        }
        for one in &model.execs {
            prop_assert_eq!(said(&registry.lookup_exec(&one.id)), Ok(Some(one.role)));
        }
    }

    /// 2.2: found, missing or ambiguous, for every reference that somebody might type: all that fit are collected, an ID
    /// hides a name and a name hides first digits, agreement on a role is found, disagreement is ambiguous, never missing.
    #[test]
    fn a_lookup_is_found_missing_or_ambiguous_as_all_that_fit_agree(ops in ops()) {
        let (model, registry) = Model::after(&ops);
        for reference in references() {
            prop_assert_eq!(said(&registry.lookup(&reference)), model.lookup(&reference), "{}", reference);
        }
    }

    /// 2.3: what is ambiguous becomes clear by the full ID of any that it may mean.
    #[test]
    fn the_full_id_resolves_what_is_ambiguous(ops in ops()) {
        let (model, registry) = Model::after(&ops);
        for reference in references().into_iter().filter(|it| registry.lookup(it) == Lookup::Ambiguous) {
            let meant = |one: &&model::Container| {
                one.id.starts_with(&reference) || one.name.as_deref() == Some(reference.trim_start_matches('/'))
            };
            for one in model.containers.iter().filter(meant) {
                prop_assert_eq!(said(&registry.lookup(&one.id)), Ok(Some(one.role)));
            }
        }
    }

    /// 2.4: an alias has one owner: whoever got it last through Dhow, in either machine; and only that one has it.
    #[test]
    fn an_alias_that_is_given_has_one_owner(ops in ops(), role in role(), by_rename: bool) {
        let (mut model, mut registry) = Model::after(&ops);
        let last = if by_rename { Op::Rename(role, 3, 0) } else { Op::Create(role, 3, Some(0)) };
        // That ID may have been removed before, and stays so.
        model.step(&mut registry, &Op::Forget(role));
        model.step(&mut registry, &Op::Create(role, 3, None));
        model.step(&mut registry, &last);
        for name in ["web", "/web"] {
            let Lookup::Found(entry) = registry.lookup(name) else { panic!("{name} has no owner") };
            prop_assert_eq!((entry.role, entry.id.as_deref()), (role, Some(&*id(role, 3))));
        }
        prop_assert_eq!(registry.name_taken(role, "web"), None);
        let taken = registry.name_taken(other(role), "/web");
        prop_assert_eq!(taken.as_deref(), Some(&*id(role, 3)));
    }

    /// 2.4: forgetting an old owner, in whatever way, leaves the alias with the new one.
    #[test]
    fn forgetting_an_old_owner_leaves_the_alias_with_the_new_one(old in role(), new in role(), way in 0..5) {
        let mut registry = Registry::new();
        registry.create(old, &id(old, 1), Some("web"));
        registry.create(new, &id(new, 2), Some("web"));
        match way {
            0 => registry.remove(old, &id(old, 1)),
            1 => registry.apply(old, &Change::Destroyed { id: id(old, 1) }),
            2 => registry.rename(old, &id(old, 1), "former"),
            3 if old != new => registry.forget(old),
            3 => registry.replace(old, listed(old, &[(2, 0)])),
            _ => registry.apply(old, &Change::Renamed { id: id(old, 1), name: "former".into() }),
        }
        let Lookup::Found(entry) = registry.lookup("web") else { panic!("the alias is gone") };
        prop_assert_eq!(entry.id.as_deref(), Some(&*id(new, 2)));
    }

    /// 2.4: what is told twice counts once.
    #[test]
    fn duplicates_are_dropped(ops in ops()) {
        let (mut model, mut registry) = Model::after(&ops);
        let (containers, execs) = (registry.containers(), registry.execs());
        prop_assert_eq!((containers, execs), (model.containers.len(), model.execs.len()));
        for one in model.containers.clone() {
            registry.create(one.role, &one.id, one.name.as_deref());
            let name = one.name.map(|name| format!("/{name}"));
            registry.apply(one.role, &Change::Created { id: one.id, name, project: None });
        }
        for one in &mut model.execs {
            registry.exec_create(one.role, &one.id, &one.container);
        }
        prop_assert_eq!((registry.containers(), registry.execs()), (containers, execs));
    }

    /// 2.5: nothing leads to a container that was removed, nor to its execs, though news of its creation come late.
    #[test]
    fn what_is_removed_is_forgotten(ops in ops(), role in role(), n in 0..12usize, by_event: bool) {
        let (mut model, mut registry) = Model::after(&ops);
        model.step(&mut registry, &Op::ExecCreate(role, 0, n));
        model.step(&mut registry, &if by_event { Op::Destroyed(role, n) } else { Op::Remove(role, n) });
        registry.create(role, &id(role, n), Some("late"));
        // Its ID may be another's name.
        prop_assert_eq!(said(&registry.lookup(&id(role, n))), model.lookup(&id(role, n)));
        prop_assert_eq!(registry.containers(), model.containers.len());
        prop_assert_eq!(registry.lookup("late"), Lookup::Missing);
        for gone in (0..8).map(|e| exec(role, e)) {
            let known = model.execs.iter().any(|one| one.id == gone);
            prop_assert_eq!(registry.lookup_exec(&gone) != Lookup::Missing, known);
        }
    }

    /// 2.6: a new daemon knows nothing; once it has listed every engine it knows all that the old one knew of containers.
    #[test]
    fn a_restart_is_made_good_by_listing_the_engines(ops in ops()) {
        let (model, before) = Model::after(&ops);
        let mut after = Registry::new();
        prop_assert!(references().iter().all(|reference| after.lookup(reference) == Lookup::Missing));
        for role in Role::ALL {
            prop_assert_eq!(after.knowledge(role), Knowledge::Nothing);
            let theirs = model.containers.iter().filter(|one| one.role == role);
            let list = |one: &model::Container| Listed {
                id: one.id.clone(),
                names: one.name.iter().map(|name| format!("/{name}")).collect(),
                project: None,
            };
            after.replace(role, theirs.map(list));
            prop_assert_eq!(after.knowledge(role), Knowledge::Whole);
        }
        for reference in references() {
            prop_assert_eq!(after.lookup(&reference), before.lookup(&reference), "{}", reference);
        }
    }

    /// 2.6: a machine that sleeps is answered for from its record, as if it were awake.
    #[test]
    fn a_sleeping_machine_is_answered_for_from_its_record(ops in ops(), role in role()) {
        let (_, mut registry) = Model::after(&ops);
        let awake: Vec<Lookup> = references().iter().map(|reference| registry.lookup(reference)).collect();
        let written = serde_json::to_string(&registry.record(role)).unwrap();
        registry.forget(role);
        registry.adopt(role, serde_json::from_str(&written).unwrap());
        prop_assert_eq!(registry.knowledge(role), Knowledge::Asleep);
        let asleep: Vec<Lookup> = references().iter().map(|reference| registry.lookup(reference)).collect();
        prop_assert_eq!(awake, asleep);
    }

    /// 2.2: what is known follows from what was said last: a list is the whole truth, and doubt keeps what is known.
    #[test]
    fn a_list_is_the_whole_truth_of_its_engine_only(ops in ops(), role in role(), list in prop::collection::vec((0..12usize, 0..6usize), 0..6)) {
        let (mut model, mut registry) = Model::after(&ops);
        let others = model.containers.iter().filter(|one| one.role != role).count();
        model.step(&mut registry, &Op::Replace(role, list));
        prop_assert_eq!(registry.knowledge(role), Knowledge::Whole);
        prop_assert_eq!(registry.containers(), model.containers.len());
        prop_assert_eq!(model.containers.iter().filter(|one| one.role != role).count(), others);
        model.step(&mut registry, &Op::Doubt(role));
        prop_assert_eq!(registry.knowledge(role), Knowledge::Partial);
        for reference in references() {
            prop_assert_eq!(said(&registry.lookup(&reference)), model.lookup(&reference), "{}", reference);
        }
    }
}

fn role() -> impl Strategy<Value = Role> {
    prop::sample::select(Role::ALL.to_vec())
}

/// 2.2: dockerd's own order, over both machines: an exact ID beats a name, and a name beats first digits.
#[test]
fn an_id_hides_a_name_and_a_name_hides_first_digits() {
    let (one, two) = (id(Native, 0), id(Foreign, 0));
    let mut registry = Registry::new();
    registry.create(Native, &one, Some("ac"));
    registry.create(Foreign, &two, Some(&one));
    registry.create(Foreign, &id(Foreign, 1), None);
    assert_eq!(said(&registry.lookup(&one)), Ok(Some(Native)), "the ID of one, the name of another");
    assert_eq!(
        said(&registry.lookup("ac")),
        Ok(Some(Native)),
        "the name of one, the first digits of another"
    );
    assert_eq!(said(&registry.lookup("ac0")), Ok(Some(Foreign)));
    assert_eq!(said(&registry.lookup("ab")), Err(()), "first digits in both");
}

/// 2.2: several in one machine are found there, without an ID; its own dockerd says which they are.
#[test]
fn several_in_one_machine_are_for_its_own_engine_to_tell_apart() {
    let mut registry = Registry::new();
    registry.create(Native, &id(Native, 0), None);
    registry.create(Native, &id(Native, 3), None);
    let Lookup::Found(entry) = registry.lookup("ab") else { panic!("not found") };
    assert_eq!((entry.role, entry.id), (Native, None));
}

/// 2.2: two engines that both say they have a name are not guessed between.
#[test]
fn a_name_that_both_engines_list_is_ambiguous() {
    let mut registry = Registry::new();
    for role in Role::ALL {
        registry.replace(role, listed(role, &[(1, 0), (2, 1)]));
        registry.remove(role, &id(role, if role == Native { 2 } else { 99 }));
    }
    assert_eq!(registry.lookup("/web"), Lookup::Ambiguous);
    assert_eq!(said(&registry.lookup("db")), Ok(Some(Foreign)));
}

/// 2.2: names that links gave, which dockerd takes as references too.
#[test]
fn a_links_alias_leads_to_the_container_behind_it() {
    let mut registry = Registry::new();
    let names = ["/front/db", "/db"].map(String::from).to_vec();
    registry.replace(Native, [Listed { id: id(Native, 0), names, project: None }]);
    for reference in ["front/db", "/front/db", "db"] {
        let Lookup::Found(entry) = registry.lookup(reference) else { panic!("{reference}") };
        assert_eq!(entry.name.as_deref(), Some("db"));
    }
    assert_eq!(registry.record(Native).containers[0].name, "db");
}

/// 2.3: the message asks for the full ID.
#[test]
fn the_answer_to_an_ambiguous_reference_asks_for_the_full_id() {
    assert_eq!(
        ambiguous("ab"),
        "both engines have a container that \"ab\" may mean: use its full ID, which `docker ps --all --no-trunc` shows"
    );
}

/// 2.5: what a guest says that cannot be so is not recorded.
#[test]
fn an_id_that_dockerd_would_never_give_is_not_recorded() {
    let mut registry = Registry::new();
    for odd in ["", "ab", &"g".repeat(64), &"A".repeat(64), &"a".repeat(65)] {
        registry.replace(Native, [Listed { id: odd.to_owned(), names: vec!["/web".into()], project: None }]);
        registry.create(Native, odd, Some("web"));
        registry.remove(Native, odd);
    }
    assert_eq!((registry.containers(), registry.lookup("web")), (0, Lookup::Missing));
}

/// 2.6: the record of a machine that stops has every container, and a machine without one has none.
#[test]
fn a_record_has_each_container_with_its_name_and_project() {
    let (one, two) = (id(Foreign, 0), id(Foreign, 1));
    let mut registry = Registry::new();
    registry.adopt(Foreign, record(&[(&one, "web"), (&two, "")]));
    registry.apply(
        Foreign,
        &Change::Created { id: two.clone(), name: Some("db".into()), project: Some("shop".into()) },
    );
    let written = serde_json::to_value(registry.record(Foreign)).unwrap();
    let expected = serde_json::json!({"containers": [
        {"id": one, "name": "web"}, {"id": two, "name": "db", "project": "shop"}]});
    assert_eq!(written, expected);
    assert_eq!(registry.roles_of_project("shop"), [Foreign]);
    assert_eq!(registry.record(Native), record(&[]));
}
