//! Lists of translators, and the foreign machine's sizes.

use crate::{Arch, Config, Placement, Size, TranslatorName};

fn error(text: &str) -> String {
    Config::parse(text).unwrap_err().to_string()
}

/// Spec 1.3: the defaults, and the user's order.
#[test]
fn the_default_lists_are_fex_and_qemu_and_a_list_keeps_its_order() {
    use TranslatorName::{Box64, Fex, Qemu};
    let config = Config::default();
    assert_eq!(config.workloads.placement, Placement::NativeMachine);
    assert_eq!(config.translators.list(Arch::Amd64), [Fex]);
    assert_eq!(config.translators.list(Arch::Arm64), [Qemu]);
    let config = Config::parse("[translators]\namd64 = ['qemu', 'box64', 'fex']\narm64 = []").unwrap();
    assert_eq!(config.translators.list(Arch::Amd64), [Qemu, Box64, Fex]);
    assert_eq!(config.translators.list(Arch::Arm64), []);
}

/// Spec 1.3, 15.3: an unknown name is an error with a suggestion.
#[test]
fn an_unknown_translator_is_an_error_that_names_the_nearest() {
    let told = error("[translators]\narm64 = ['quemu']");
    assert!(told.contains("`quemu` is no translator: did you mean `qemu`?"), "{told}");
    let told = error("[translators]\namd64 = ['FEX']");
    assert!(told.contains("did you mean `fex`?"), "{told}");
    let told = error("[translators]\namd64 = ['wine']");
    assert!(told.contains("use one of fex, rosetta, box64, qemu"), "{told}");
    let told = error("[translators]\nriscv64 = ['qemu']");
    assert!(told.contains("unknown field"), "{told}");
}

/// Spec 15.3.
#[test]
fn one_translator_may_be_written_without_brackets_and_anything_else_is_an_error() {
    let config = Config::parse("[translators]\namd64 = 'box64'").unwrap();
    assert_eq!(config.translators.list(Arch::Amd64), [TranslatorName::Box64]);
    for value in ["1", "true", "['qemu', 1]", "{ qemu = true }"] {
        let told = error(&format!("[translators]\namd64 = {value}"));
        assert!(told.contains("is no list of translators"), "{told}");
    }
}

#[test]
fn a_translator_that_stands_twice_is_an_error() {
    let told = error("[translators]\namd64 = ['fex', 'box64', 'fex']");
    assert!(told.contains("`fex` stands in the list twice"), "{told}");
}

/// Spec 1.9: a list never claims what cannot be.
#[test]
fn a_translator_in_the_list_of_an_architecture_that_it_does_not_serve_is_an_error() {
    let told = error("[translators]\narm64 = ['qemu', 'fex']");
    assert!(told.contains("translators.arm64 names fex, which runs no arm64 programs; use qemu"), "{told}");
}

/// Spec 1.10.
#[test]
fn the_placement_is_one_of_two_words() {
    let config = Config::parse("[workloads]\nplacement = 'foreign-machine'").unwrap();
    assert_eq!(config.workloads.placement, Placement::ForeignMachine);
    let told = error("[workloads]\nplacement = 'foreign'");
    assert!(told.contains("native-machine") && told.contains("foreign-machine"), "{told}");
}

/// Spec 6.5, 15.3: the foreign machine has sizes of its own, in the same ranges.
#[test]
fn the_foreign_machine_s_sizes_are_checked_as_the_native_one_s() {
    let config = Config::parse("[foreign]\ncpus = 2\nmemory = '1GiB'\ndisk = '8GiB'").unwrap();
    assert_eq!((config.foreign.memory, config.foreign.disk), (Size::gib(1), Size::gib(8)));
    assert_eq!(config.machine, super::Machine::default());
    for (text, words) in [
        ("cpus = 0", "1 to 256"),
        ("memory = '100MiB'", "foreign.memory = 100MiB is out of range: 512MiB or more"),
        ("disk = '1GiB'", "foreign.disk = 1GiB is out of range: 4GiB to 16TiB"),
    ] {
        let told = error(&format!("[foreign]\n{text}"));
        assert!(told.contains(words), "{told}");
    }
}
