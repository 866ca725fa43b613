//! What holds for every host and every request.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::super::{Guest, admit};
use super::*;

fn any_arch() -> impl Strategy<Value = Arch> + Clone {
    select(Arch::ALL.to_vec())
}

fn any_guest() -> impl Strategy<Value = Guest> + Clone {
    (any_arch(), any::<bool>()).prop_map(|(arch, aarch32)| Guest { arch, aarch32 })
}

fn any_platform() -> impl Strategy<Value = Platform> {
    let known = ["amd64", "amd64/v3", "386", "arm64", "arm64/v9", "arm/v5", "arm/v7", "riscv64", "s390x"];
    select(known.to_vec()).prop_map(|cpu| platform(&format!("linux/{cpu}")))
}

fn any_role() -> impl Strategy<Value = Role> {
    select(Role::ALL.to_vec())
}

/// A list in some order, each translator provisioned or not.
fn any_served(guest: Arch) -> impl Strategy<Value = Served> {
    let names = subsequence(TranslatorName::ALL.to_vec(), 0..=4).prop_shuffle();
    (names, vec(any::<bool>(), 4)).prop_map(move |(names, good)| {
        let state = |(name, good)| if good { (name, Ok(())) } else { missing(name, guest) };
        Served { arch: other(guest), translators: names.into_iter().zip(good).map(state).collect() }
    })
}

fn any_host() -> impl Strategy<Value = Host> {
    let placement = select(vec![Placement::NativeMachine, Placement::ForeignMachine]);
    let foreign = (any_guest(), any::<bool>(), any::<bool>());
    any_guest().prop_flat_map(move |native| {
        let rest = (any_served(native.arch), placement.clone(), foreign.clone());
        rest.prop_map(move |(served, placement, (guest, rosetta, offered))| {
            let translator = rosetta.then_some(TranslatorName::Rosetta);
            let machine = ForeignMachine { guest, translator };
            Host {
                name: format!("linux/{}", native.arch),
                placement,
                native,
                translators: vec![served],
                foreign: if offered { Ok(machine) } else { Err("it is too small".to_owned()) },
            }
        })
    })
}

fn any_asked() -> impl Strategy<Value = Asked> {
    let project = proptest::option::of((".*", any_role()));
    let image = vec((any_role(), any_platform()), 0..4);
    (vec(any_platform(), 0..4), image, project).prop_map(|(platforms, image, project)| Asked {
        platforms,
        image,
        project: project.map(|(project, role)| Bound { project, role }),
    })
}

/// The same request, of no project.
fn unbound(asked: Asked) -> Asked {
    Asked { project: None, ..asked }
}

proptest! {
    /// Spec 1.4: a native workload is never affected.
    #[test]
    fn a_native_workload_goes_to_the_native_machine_whatever_the_rest_is(host in any_host(), asked in any_asked()) {
        let asked = unbound(asked);
        let native_image = asked.image.iter().any(|(_, platform)| host.native.runs(platform));
        let native = match asked.platforms.as_slice() {
            [] => asked.image.is_empty() || native_image,
            named => named.iter().all(|platform| host.native.runs(platform)),
        };
        prop_assume!(native);
        let decision = admit(&host, &asked).unwrap();
        prop_assert_eq!((decision.role, decision.translator), (Role::Native, None));
    }

    /// Spec 1.3: nothing runs by a translator that the list does not name, or that is not provisioned; with two machines
    /// none but the foreign machine's own does.
    #[test]
    fn only_a_provisioned_translator_of_the_list_ever_serves(host in any_host(), asked in any_asked()) {
        let Ok(decision) = admit(&host, &asked) else { return Ok(()) };
        let Some(name) = decision.translator else { return Ok(()) };
        match decision.role {
            Role::Native => {
                prop_assert_eq!(host.placement, Placement::NativeMachine);
                let first = host.translators[0].translators.iter().find(|(_, state)| state.is_ok());
                prop_assert_eq!(Some(name), first.map(|(name, _)| *name));
            }
            Role::Foreign => {
                prop_assert_eq!(host.placement, Placement::ForeignMachine);
                prop_assert_eq!(Some(name), host.foreign.as_ref().unwrap().translator);
            }
        }
    }

    /// Spec 1.10: a foreign workload is never aliased to native, and no machine that cannot be offered is chosen.
    #[test]
    fn with_two_machines_the_native_one_gets_no_foreign_workload(host in any_host(), asked in any_asked()) {
        let host = Host { placement: Placement::ForeignMachine, ..host };
        let foreign = match asked.platforms.as_slice() {
            [] => !asked.image.is_empty() && !asked.image.iter().any(|(_, p)| host.native.runs(p)),
            named => named.iter().any(|platform| !host.native.runs(platform)),
        };
        if let Ok(decision) = admit(&host, &asked) {
            prop_assert!(!(foreign && decision.role == Role::Native));
            prop_assert!(decision.role == Role::Native || host.foreign.is_ok());
        }
    }

    /// Spec 1.1: the default placement has one machine.
    #[test]
    fn with_one_machine_nothing_goes_to_another(host in any_host(), asked in any_asked()) {
        let host = Host { placement: Placement::NativeMachine, ..host };
        if let Ok(decision) = admit(&host, &asked) {
            prop_assert_eq!(decision.role, Role::Native);
        }
        prop_assert_eq!(admit(&host, &asked), admit(&host, &unbound(asked.clone())));
    }

    /// Spec 3.6: a project's services are where the project is.
    #[test]
    fn what_is_admitted_of_a_bound_project_is_on_its_machine(host in any_host(), asked in any_asked()) {
        let host = Host { placement: Placement::ForeignMachine, ..host };
        if let (Ok(decision), Some(bound)) = (admit(&host, &asked), &asked.project) {
            prop_assert_eq!(decision.role, bound.role);
        }
    }

    /// A reason fits a header (RFC 9110, 5.5), and a refusal is Docker's own kind of error.
    #[test]
    fn every_answer_can_be_told(host in any_host(), asked in any_asked()) {
        match admit(&host, &asked) {
            Ok(decision) => prop_assert!(decision.why.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b';')),
            Err(refusal) => {
                prop_assert_eq!(refusal.status, 400);
                prop_assert!(!refusal.message.chars().any(char::is_control), "{:?}", refusal.message);
            }
        }
    }
}
