//! Where each kind of request goes on each kind of host.

use super::super::{Guest, admit};
use super::*;

type Row<'a> = (Asked, Result<(Role, Option<TranslatorName>), &'a str>);

/// Each request goes where its row says, or is refused with 400 and words of the row.
fn check(host: &Host, rows: &[Row]) {
    for (asked, expected) in rows {
        match (admit(host, asked), expected) {
            (Ok(decision), Ok(place)) => {
                assert_eq!((decision.role, decision.translator), *place, "{asked:?}")
            }
            (Err(refusal), Err(words)) => {
                assert_eq!(refusal.status, 400);
                assert!(refusal.message.contains(words), "{asked:?}: {}", refusal.message);
            }
            (got, _) => panic!("{asked:?}: {got:?}, not {expected:?}"),
        }
    }
}

const NATIVE: Result<(Role, Option<TranslatorName>), &str> = Ok((Role::Native, None));
const FOREIGN: Result<(Role, Option<TranslatorName>), &str> = Ok((Role::Foreign, None));
const QEMU: Result<(Role, Option<TranslatorName>), &str> = Ok((Role::Native, Some(TranslatorName::Qemu)));
const ROSETTA: Result<(Role, Option<TranslatorName>), &str> =
    Ok((Role::Foreign, Some(TranslatorName::Rosetta)));

/// Spec 1.1, 1.2: the platform chooses a translator, not a machine.
#[test]
fn one_machine_runs_everything_and_a_platform_chooses_the_translator() {
    check(
        &amd64(),
        &[
            (asks(""), NATIVE),
            (asks("linux/amd64"), NATIVE),
            (asks("linux/amd64/v3"), NATIVE),
            (asks("linux/386"), NATIVE),
            (asks("linux/arm64"), QEMU),
            (asks("linux/arm64/v8"), QEMU),
            (asks("linux/arm/v7"), Err("no translator that Dhow knows runs arm programs on amd64")),
            (asks("linux/riscv64"), Err("runs riscv64 programs")),
            (asks("linux/s390x"), Err("runs s390x programs")),
        ],
    );
    check(
        &host(Arch::Arm64, vec![(TranslatorName::Fex, Ok(()))]),
        &[
            (asks(""), NATIVE),
            (asks("linux/arm64/v9"), NATIVE),
            (asks("linux/amd64"), Ok((Role::Native, Some(TranslatorName::Fex)))),
            (asks("linux/386"), Err("runs 386 programs")),
            (asks("linux/arm/v7"), Err("runs arm programs")),
        ],
    );
}

/// Spec 1.2: where the request names no platform, the image that is there decides.
#[test]
fn an_image_that_is_there_only_for_others_is_foreign_and_any_other_is_native() {
    let in_foreign = Asked { image: vec![(Role::Foreign, platform("linux/arm64"))], ..Asked::default() };
    check(
        &amd64(),
        &[
            (has("linux/amd64"), NATIVE),
            (has("linux/386"), NATIVE),
            (has("linux/arm64"), QEMU),
            (has("linux/arm64 linux/amd64"), NATIVE),
            (has("linux/s390x linux/arm64"), QEMU),
            (has("linux/s390x linux/riscv64"), Err("the image exists only for linux/s390x")),
            (in_foreign.clone(), QEMU),
        ],
    );
    check(&two_machines(), &[(has("linux/arm64"), FOREIGN), (in_foreign, FOREIGN), (has(""), NATIVE)]);
}

/// Spec 1.2: what a request names counts more than what is there, and Docker itself says when the two differ.
#[test]
fn a_platform_that_is_asked_for_decides_whatever_the_image_is() {
    let for_another = |asked: &str, image: &str| Asked { platforms: asks(asked).platforms, ..has(image) };
    check(
        &amd64(),
        &[
            (for_another("linux/arm64", "linux/amd64"), QEMU),
            (for_another("linux/amd64", "linux/arm64"), NATIVE),
        ],
    );
    check(&two_machines(), &[(for_another("linux/arm64", "linux/amd64"), FOREIGN)]);
}

/// Spec 1.3: the user's list, in order.
#[test]
fn the_first_translator_of_the_list_that_is_provisioned_serves() {
    use TranslatorName::{Box64, Fex, Qemu};
    let arm = |list| host(Arch::Arm64, list);
    let gone = |name| missing(name, Arch::Arm64);
    let by = |name| Ok((Role::Native, Some(name)));
    let asked = || asks("linux/amd64");
    check(&arm(vec![(Fex, Ok(())), (Qemu, Ok(()))]), &[(asked(), by(Fex))]);
    check(&arm(vec![(Qemu, Ok(())), (Fex, Ok(()))]), &[(asked(), by(Qemu))]);
    check(&arm(vec![gone(Fex), gone(Box64), (Qemu, Ok(()))]), &[(asked(), by(Qemu))]);
}

/// Spec 1.3, 1.4: fail closed, and leave native workloads alone.
#[test]
fn without_a_provisioned_translator_foreign_workloads_are_refused_and_native_ones_are_not() {
    let broken = host(Arch::Amd64, vec![missing(TranslatorName::Qemu, Arch::Amd64)]);
    let forbidden = host(Arch::Amd64, vec![]);
    for (host, words) in
        [(broken, "/d/runtime/bin/qemu-aarch64 does not exist"), (forbidden, "an empty list")]
    {
        check(
            &host,
            &[
                (asks("linux/arm64"), Err(words)),
                (has("linux/arm64"), Err(words)),
                (asks("linux/amd64 linux/arm64"), Err(words)),
                (asks("linux/amd64"), NATIVE),
                (asks("linux/386"), NATIVE),
                (has("linux/amd64"), NATIVE),
                (asks(""), NATIVE),
            ],
        );
    }
}

/// Spec 1.4: builds are admitted as creates are, for every platform that they name.
#[test]
fn every_platform_of_a_build_must_be_admitted() {
    check(
        &amd64(),
        &[
            (asks("linux/amd64 linux/386"), NATIVE),
            (asks("linux/amd64 linux/arm64"), QEMU),
            (asks("linux/arm64 linux/riscv64"), Err("linux/riscv64")),
        ],
    );
}

/// Spec 1.10: one build is one request, which goes to one machine.
#[test]
fn a_build_that_needs_both_machines_is_refused_unless_one_of_them_hosts_all() {
    check(
        &two_machines(),
        &[
            (asks("linux/amd64 linux/386"), NATIVE),
            (asks("linux/arm64 linux/arm64"), FOREIGN),
            (asks("linux/amd64 linux/arm64"), Err("one build cannot be for linux/amd64")),
        ],
    );
    check(&apple(), &[(asks("linux/arm64 linux/amd64"), ROSETTA), (asks("linux/amd64"), ROSETTA)]);
}

/// Spec 1.10: foreign workloads go to the foreign machine, translators or not.
#[test]
fn with_two_machines_each_runs_its_own_architecture() {
    check(
        &two_machines(),
        &[
            (asks(""), NATIVE),
            (asks("linux/amd64"), NATIVE),
            (asks("linux/386"), NATIVE),
            (asks("linux/arm64"), FOREIGN),
            (asks("linux/riscv64"), Err("neither of this engine's machines runs riscv64")),
            (asks("linux/arm/v7"), Err("neither of this engine's machines runs arm programs")),
        ],
    );
    check(
        &apple(),
        &[
            (asks("linux/arm64"), NATIVE),
            (asks("linux/amd64"), ROSETTA),
            (asks("linux/386"), Err("neither of this engine's machines runs 386")),
        ],
    );
}

/// Spec 1.10: a role that the host cannot offer is refused by name, and never aliased to native.
#[test]
fn a_foreign_machine_that_the_host_cannot_offer_is_refused_even_if_a_translator_could_serve() {
    let host = Host { foreign: Err("qemu-system-aarch64 is not installed".to_owned()), ..two_machines() };
    check(
        &host,
        &[
            (asks("linux/arm64"), Err("this host, linux/amd64, cannot offer one: qemu-system-aarch64")),
            (has("linux/arm64"), Err("cannot offer one")),
            (bound(Role::Foreign, asks("linux/arm64")), Err("cannot offer one")),
            (asks("linux/amd64"), NATIVE),
            (asks(""), NATIVE),
        ],
    );
    let unused = Host { placement: Placement::NativeMachine, ..host };
    check(&unused, &[(asks("linux/arm64"), QEMU)]);
}

/// Spec 3.6.
#[test]
fn a_bound_project_stays_on_its_machine_and_what_that_cannot_host_is_refused() {
    use Role::{Foreign, Native};
    let words = "bound to the";
    check(
        &two_machines(),
        &[
            (bound(Native, asks("linux/amd64")), NATIVE),
            (bound(Native, asks("")), NATIVE),
            (bound(Native, asks("linux/arm64")), Err(words)),
            (bound(Native, has("linux/arm64")), Err(words)),
            (bound(Foreign, asks("linux/arm64")), FOREIGN),
            (bound(Foreign, has("linux/arm64")), FOREIGN),
            (bound(Foreign, asks("linux/amd64")), Err(words)),
            (bound(Foreign, asks("")), Err(words)),
        ],
    );
    check(
        &apple(),
        &[
            (bound(Foreign, asks("linux/amd64")), ROSETTA),
            (bound(Foreign, asks("linux/arm64")), FOREIGN),
            (bound(Foreign, asks("")), FOREIGN),
            (bound(Native, asks("linux/amd64")), Err(words)),
        ],
    );
}

/// Spec 3.6: in the default placement projects mix architectures freely.
#[test]
fn a_binding_has_no_meaning_in_the_default_placement() {
    check(
        &amd64(),
        &[
            (bound(Role::Native, asks("linux/arm64")), QEMU),
            (bound(Role::Foreign, asks("linux/amd64")), NATIVE),
        ],
    );
}

/// Spec 1.2: 32-bit Arm is native only where the processor is known to run it.
#[test]
fn an_arm64_processor_runs_32_bit_arm_only_if_it_is_said_to() {
    let guest = Guest { arch: Arch::Arm64, aarch32: true };
    let host = Host { native: guest, ..host(Arch::Arm64, vec![]) };
    check(&host, &[(asks("linux/arm/v7"), NATIVE), (asks("linux/arm/v5"), NATIVE)]);
    let foreign = Ok(ForeignMachine { guest, translator: None });
    check(&Host { foreign, ..two_machines() }, &[(asks("linux/arm/v7"), FOREIGN)]);
}
