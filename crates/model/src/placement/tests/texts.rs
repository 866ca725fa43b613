//! What people read: refusals whole, and the reasons of decisions.

use super::super::admit;
use super::*;

fn refused(host: &Host, asked: &Asked) -> String {
    admit(host, asked).unwrap_err().to_string()
}

/// Spec 1.4: the architecture, the translator, the file and the command.
#[test]
fn an_unprovisioned_translator_is_named_with_its_file_and_its_command() {
    let host = host(Arch::Amd64, vec![missing(TranslatorName::Qemu, Arch::Amd64)]);
    assert_eq!(
        refused(&host, &asks("linux/arm64")),
        "platform linux/arm64 was asked for, and nothing can run arm64 programs here: \
         qemu is not provisioned for arm64: /d/runtime/bin/qemu-aarch64 does not exist; \
         run `dhow translator provision qemu`"
    );
}

/// Spec 1.4: every translator of the list is named, in its order.
#[test]
fn each_translator_of_the_list_is_named_with_its_own_reason() {
    let mut list: Vec<_> =
        [TranslatorName::Fex, TranslatorName::Rosetta].map(|name| missing(name, Arch::Arm64)).into();
    if let (_, Err(unprovisioned)) = &mut list[1] {
        unprovisioned.why = Why::OtherHost;
        unprovisioned.file = None;
    }
    let reasons: Vec<String> =
        list.iter().map(|(_, state)| state.as_ref().unwrap_err().to_string()).collect();
    let told = refused(&host(Arch::Arm64, list), &has("linux/amd64"));
    let start = "the image exists only for linux/amd64, and nothing can run amd64 programs here: ";
    assert_eq!(told, format!("{start}{}", reasons.join("; ")));
    assert!(told.contains("fex is not provisioned") && told.contains("rosetta is not provisioned"), "{told}");
}

/// Spec 1.3: nothing may serve, and the key that says so.
#[test]
fn an_empty_list_is_told_with_its_key() {
    assert_eq!(
        refused(&host(Arch::Amd64, vec![]), &asks("linux/arm64")),
        "platform linux/arm64 was asked for, and no translator may run arm64 programs here: translators.arm64 is an \
         empty list; name one that may, such as `dhow config set translators.arm64 qemu`"
    );
    assert_eq!(
        refused(&host(Arch::Arm64, vec![]), &asks("linux/amd64")),
        "platform linux/amd64 was asked for, and no translator may run amd64 programs here: translators.amd64 is an \
         empty list; name one that may, such as `dhow config set translators.amd64 fex`"
    );
}

/// Spec 1.3.
#[test]
fn an_architecture_that_nothing_serves_is_told_with_those_that_are_served() {
    assert_eq!(
        refused(&amd64(), &asks("linux/riscv64")),
        "platform linux/riscv64 was asked for, and no translator that Dhow knows runs riscv64 programs on amd64: \
         this engine runs linux/amd64, and linux/arm64 through a translator; choose an image for one of these"
    );
    assert_eq!(
        refused(&two_machines(), &asks("linux/s390x")),
        "platform linux/s390x was asked for, and neither of this engine's machines runs s390x programs: the native one \
         runs linux/amd64, and the foreign one, which the host (linux/amd64) offers, runs linux/arm64; choose an image \
         for one of these"
    );
    assert_eq!(
        refused(&apple(), &asks("linux/386")),
        "platform linux/386 was asked for, and neither of this engine's machines runs 386 programs: the native one \
         runs linux/arm64, and the foreign one, which the host (macos/arm64) offers, runs linux/arm64 and linux/amd64; \
         choose an image for one of these"
    );
}

/// Spec 1.10: an error that names the host's platform.
#[test]
fn a_machine_that_cannot_be_offered_is_told_with_the_host_s_platform() {
    let host = Host { foreign: Err("qemu-system-aarch64 is not installed".to_owned()), ..two_machines() };
    assert_eq!(
        refused(&host, &asks("linux/arm64")),
        "platform linux/arm64 was asked for, which the foreign machine runs (workloads.placement is \
         \"foreign-machine\"), and this host, linux/amd64, cannot offer one: qemu-system-aarch64 is not installed; \
         with `dhow config set workloads.placement native-machine && dhow up` a translator runs it in the native machine"
    );
}

/// Spec 3.6: the project, its machine and the service's platform.
#[test]
fn a_service_that_its_project_s_machine_cannot_run_is_told_with_all_three() {
    assert_eq!(
        refused(&two_machines(), &bound(Role::Native, asks("linux/arm64"))),
        "platform linux/arm64 was asked for, and the Compose project \"shop\" is bound to the native machine, which does \
         not run linux/arm64: give all services of a project platforms that one machine runs, divide it into two \
         projects, or `dhow config set workloads.placement native-machine && dhow up`, where projects mix platforms freely"
    );
    assert_eq!(
        refused(&two_machines(), &bound(Role::Foreign, asks(""))),
        "no platform was asked for, which means linux/amd64, and the Compose project \"shop\" is bound to the foreign \
         machine, which does not run linux/amd64: give all services of a project platforms that one machine runs, divide \
         it into two projects, or `dhow config set workloads.placement native-machine && dhow up`, where projects mix platforms \
         freely"
    );
}

/// A project's name is a label's value, and that can be anything.
#[test]
fn a_project_s_name_is_shown_on_one_line_and_in_bounds() {
    let mut asked = bound(Role::Native, asks("linux/arm64"));
    asked.project.as_mut().unwrap().project = format!("a\r\nb{}", "é".repeat(5000));
    let text = refused(&two_machines(), &asked);
    assert!(text.contains("\"a\\r\\nbéé") && text.len() < 600, "{text}");
    assert!(!text.contains('\n'));
}

/// Spec 1.10.
#[test]
fn a_build_for_both_machines_is_told_with_a_platform_of_each() {
    assert_eq!(
        refused(&two_machines(), &asks("linux/amd64 linux/arm64")),
        "one build cannot be for linux/amd64, which the native machine runs, and for linux/arm64, which the foreign one \
         runs (workloads.placement is \"foreign-machine\"): build for each platform by itself, or \
         `dhow config set workloads.placement native-machine && dhow up`, where one machine builds both"
    );
}

/// Issue 4, point 5: every decision says why.
#[test]
fn each_decision_says_why_in_one_clause() {
    for (asked, why) in [
        (asks("linux/arm64/v8"), "platform linux/arm64 was asked for"),
        (
            asks("linux/amd64 linux/arm64 linux/386"),
            "platforms linux/amd64, linux/arm64 and linux/386 were asked for",
        ),
        (has("linux/arm64"), "the image exists only for linux/arm64"),
        (has("linux/386"), "no platform was asked for, and the image exists for linux/386"),
        (has(""), "no platform was asked for, which means linux/amd64"),
    ] {
        assert_eq!(admit(&amd64(), &asked).unwrap().why, why);
    }
}

/// The guide shows a refusal as it is, but for where the lines break and whose directory it is.
#[test]
fn the_guide_shows_a_refusal_as_it_is() {
    let guide = include_str!("../../../../../docs/placement.md").replace('\n', " ");
    let broken = host(Arch::Amd64, vec![missing(TranslatorName::Qemu, Arch::Amd64)]);
    let told = refused(&broken, &asks("linux/arm64"));
    let theirs = told.replace("/d/runtime", "/home/me/.dhow/runtime");
    assert!(guide.contains(&format!("Error response from daemon: {theirs}")), "{theirs}");
}
