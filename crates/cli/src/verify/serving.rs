//! Who translates, from what the daemon tells: pure.

use dhow_model::translator::Translator;
use dhow_model::{Arch, TranslatorName};
use dhow_proto::control;
use dhow_verify::Serving;

use crate::text;

/// Who runs programs of `arch` in a machine. `list` is the configuration's; `wanted` limits it to what was asked for, empty: any.
#[must_use]
pub fn serving(
    machine: &control::Machine,
    arch: Arch,
    list: &[TranslatorName],
    wanted: &[TranslatorName],
) -> Serving {
    let problem = |words: String| Serving { problem: Some(words), ..Serving::default() };
    let Some(given) = machine.translators.iter().find(|given| given.serves == arch.debian()) else {
        let command = match list.first() {
            Some(first) => format!("`dhow translator provision {first}`"),
            None => format!("`dhow config set translators.{arch} ...` and `dhow translator provision ...`"),
        };
        return problem(format!("no translator for {arch} is provisioned: {command}"));
    };
    let known = row(machine, given);
    let mut serving = Serving {
        translator: known,
        version: text::one_line(&given.version),
        sha256: text::one_line(&given.sha256),
        problem: None,
    };
    let name = text::one_line(&given.name);
    if !given.problem.is_empty() {
        serving.problem = Some(format!("{name} does not serve: {}", text::one_line(&given.problem)));
    } else if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted.as_str() == name) {
        let words: Vec<&str> = wanted.iter().map(|wanted| wanted.as_str()).collect();
        serving.problem = Some(format!(
            "{name} serves {arch}, not {}: `dhow config set translators.{arch} {}` puts it first, once it is provisioned",
            words.join(" or "),
            words.first().copied().unwrap_or_default()
        ));
    }
    serving
}

fn row(machine: &control::Machine, given: &control::Translator) -> Option<&'static Translator> {
    let name: TranslatorName = given.name.parse().ok()?;
    name.translator(machine.arch.parse().ok()?, given.serves.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(given: Vec<control::Translator>) -> control::Machine {
        control::Machine { arch: "amd64".to_owned(), translators: given, ..control::Machine::default() }
    }

    fn given(name: &str, problem: &str) -> control::Translator {
        control::Translator {
            name: name.to_owned(),
            serves: "arm64".to_owned(),
            problem: problem.to_owned(),
            version: "10.0.13".to_owned(),
            ..control::Translator::default()
        }
    }

    /// Spec 10.2: what is not provisioned, not registered or not what was asked for is no failure of a translator.
    #[test]
    fn what_cannot_be_expected_to_run_is_said_beforehand() {
        let qemu = TranslatorName::Qemu;
        let of = |given: Vec<control::Translator>, wanted: &[TranslatorName]| {
            serving(&machine(given), Arch::Arm64, &[qemu], wanted)
        };
        let good = of(vec![given("qemu", "")], &[qemu]);
        assert!(good.problem.is_none() && good.version == "10.0.13");
        assert_eq!(good.translator.map(|row| row.file), Some("qemu-aarch64"));
        let table = [
            (of(Vec::new(), &[]), "no translator for arm64 is provisioned: `dhow translator provision qemu`"),
            (
                of(vec![given("qemu", "the entry is disabled")], &[]),
                "qemu does not serve: the entry is disabled",
            ),
            (of(vec![given("qemu", "")], &[TranslatorName::Box64]), "qemu serves arm64, not box64"),
        ];
        for (serving, words) in table {
            let problem = serving.problem.unwrap();
            assert!(problem.starts_with(words), "{problem}");
        }
    }
}
