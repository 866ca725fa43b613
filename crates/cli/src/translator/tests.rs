use dhow_model::{Arch, TranslatorName};
use dhow_proto::control;

use super::*;
use crate::house::TranslatorProbe;
use crate::output::Style;

/// QEMU for arm64, as the executable tells it.
pub(super) fn row(provisioned: bool) -> TranslatorRow {
    TranslatorRow {
        name: TranslatorName::Qemu,
        guest: Arch::Amd64,
        serves: Arch::Arm64,
        listed: true,
        chosen: provisioned,
        file: "/home/me/.dhow/runtime/bin/qemu-aarch64".into(),
        provisioned,
        reason: if provisioned { String::new() } else { "does not exist".to_owned() },
        hint: "`dhow translator provision qemu`".to_owned(),
        sha256: provisioned.then(|| "5d".repeat(32)),
        size: provisioned.then_some(6_000_000),
        gaps: vec!["ptrace".to_owned(), "io_uring".to_owned()],
        probe: None,
    }
}

fn told(rows: Vec<(TranslatorRow, Vec<control::Translator>)>) -> Translators {
    let row = |(host, given): (TranslatorRow, Vec<control::Translator>)| {
        let machines = live::of("native", "amd64", given).about(&host).into_iter().collect();
        Row { host, machines }
    };
    let translators = rows.into_iter().map(row).collect();
    Translators { summary: String::new(), translators, warnings: Vec::new() }
}

fn given(problem: &str) -> control::Translator {
    control::Translator {
        name: "qemu".to_owned(),
        serves: "arm64".to_owned(),
        sha256: "5d".repeat(32),
        problem: problem.to_owned(),
        interpreter: "/run/dhow/translators/5d5d/qemu-aarch64".to_owned(),
        flags: "POCF".to_owned(),
        version: "10.0.2".to_owned(),
    }
}

/// Spec 1.9: what is said to serve is what the machine says.
#[test]
fn each_translator_shows_both_sides() {
    let probe = TranslatorProbe { failed: false, words: "ran in 12 ms".to_owned() };
    let refused = given("the kernel refused it");
    let told = told(vec![
        (row(false), Vec::new()),
        (TranslatorRow { probe: Some(probe), ..row(true) }, vec![given("")]),
        (row(true), vec![refused]),
        (TranslatorRow { listed: false, chosen: false, ..row(true) }, Vec::new()),
    ]);
    insta::assert_snapshot!(table::render(&told, false, Style::PLAIN), @r"
    qemu for arm64 in amd64 guests: not provisioned; `dhow translator provision qemu`
      file     /home/me/.dhow/runtime/bin/qemu-aarch64
      why      does not exist
    qemu for arm64 in amd64 guests: provisioned
      file     /home/me/.dhow/runtime/bin/qemu-aarch64
      probe    ran in 12 ms
      native   serves (10.0.2, flags POCF)
      gaps     ptrace; io_uring
    qemu for arm64 in amd64 guests: provisioned
      file     /home/me/.dhow/runtime/bin/qemu-aarch64
      native   the kernel refused it
      gaps     ptrace; io_uring
    qemu for arm64 in amd64 guests: provisioned, and on no list of the configuration
      file     /home/me/.dhow/runtime/bin/qemu-aarch64
      gaps     ptrace; io_uring
    ");
}

#[test]
fn the_json_document_keeps_its_field_names() {
    let told = told(vec![(row(true), vec![given("")])]);
    insta::assert_snapshot!(serde_json::to_string_pretty(&told).unwrap(), @r#"
    {
      "summary": "",
      "translators": [
        {
          "name": "qemu",
          "guest": "amd64",
          "serves": "arm64",
          "listed": true,
          "chosen": true,
          "file": "/home/me/.dhow/runtime/bin/qemu-aarch64",
          "provisioned": true,
          "reason": "",
          "hint": "`dhow translator provision qemu`",
          "sha256": "5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d",
          "size": 6000000,
          "gaps": [
            "ptrace",
            "io_uring"
          ],
          "probe": null,
          "machines": [
            {
              "machine": "native",
              "serves": true,
              "problem": "",
              "interpreter": "/run/dhow/translators/5d5d/qemu-aarch64",
              "flags": "POCF",
              "version": "10.0.2"
            }
          ]
        }
      ],
      "warnings": []
    }
    "#);
}

/// Spec 1.3: what the list does not name is not used, and that is said.
#[test]
fn a_file_that_nothing_uses_is_warned_of() {
    let of = |host: TranslatorRow| unused(&Row { host, machines: Vec::new() });
    assert_eq!(of(row(true)), None);
    assert_eq!(of(row(false)), None);
    let unlisted = of(TranslatorRow { listed: false, chosen: false, ..row(true) }).unwrap();
    assert!(unlisted.contains("not on the list translators.arm64"), "{unlisted}");
    let second = of(TranslatorRow { chosen: false, ..row(true) }).unwrap();
    assert!(second.contains("stands before qemu"), "{second}");
}

#[test]
fn a_probe_fails_when_either_side_does() {
    let probe = TranslatorCommand::Probe { guest: Arch::Amd64, name: None };
    let list = TranslatorCommand::List { guest: Arch::Amd64 };
    let bad = told(vec![(row(true), vec![given("gone")])]);
    assert_eq!(status(&probe, &bad), exit::FAILED);
    assert_eq!(status(&list, &bad), exit::OK);
    assert_eq!(status(&probe, &told(vec![(row(true), vec![given("")])])), exit::OK);
}
