//! Every input, changed one at a time, keeps a saved state from being used, and is named.

use proptest::prelude::*;

use super::*;
use dhow_model::{Accelerator, Arch, ChannelKind, Input, MachineName, Size, config};

fn inputs() -> Inputs {
    let input = |name: &str| Input { path: format!("/assets/{name}").into(), sha256: "0".repeat(64) };
    let mark =
        |path: &str| Mark { path: path.into(), inode: 7, bytes: 64 << 30, modified: (1_700_000_000, 5) };
    Inputs {
        machine: MachineSpec {
            name: MachineName::native(),
            arch: Arch::Amd64,
            accelerator: Accelerator::Kvm,
            cpus: 2,
            memory: Size::gib(2),
            disk: Size::gib(64),
            kernel: input("kernel"),
            initrd: input("initrd"),
            root: input("root"),
            cmdline: "quiet".to_owned(),
            channel: ChannelKind::Serial,
            network: config::Network::default(),
            dns: config::Dns::default(),
            shares: Vec::new(),
        },
        hypervisor: "QEMU 10.0.2".to_owned(),
        executable: mark("/usr/bin/qemu-system-x86_64"),
        processor: "0".repeat(64),
        disk: mark("/home/u/.dhow/machines/native/data.img"),
    }
}

pub(crate) fn saved() -> Saved {
    Saved {
        format: FORMAT,
        since_unix_nanos: 1,
        inputs: inputs(),
        devices: Dumped { bytes: 600_000, checksum: 1 },
        memory: Dumped { bytes: 300 << 20, checksum: u64::MAX },
        running_containers: Some(3),
    }
}

/// Spec 13.2.
#[test]
fn a_state_is_used_only_with_what_it_was_made_from_and_the_difference_is_named() {
    type Change = fn(&mut Inputs);
    let table: [(&str, Change); 14] = [
        ("cpus", |i| i.machine.cpus = 3),
        ("memory", |i| i.machine.memory = Size::gib(3)),
        ("disk", |i| i.machine.disk = Size::gib(65)),
        ("disk", |i| i.machine.disk = Size::gib(63)),
        ("kernel digest", |i| i.machine.kernel.sha256 = "1".repeat(64)),
        ("initrd digest", |i| i.machine.initrd.sha256 = "1".repeat(64)),
        ("root image digest", |i| i.machine.root.sha256 = "1".repeat(64)),
        ("hypervisor", |i| i.hypervisor = "QEMU 10.0.3".to_owned()),
        ("hypervisor's executable", |i| i.executable.modified.1 += 1),
        ("host's processor", |i| i.processor = "1".repeat(64)),
        ("data disk", |i| i.disk.bytes += 1),
        ("data disk", |i| i.disk.inode += 1),
        ("data disk", |i| i.disk.modified.0 += 1),
        ("data disk", |i| i.disk.path = "/elsewhere/data.img".into()),
    ];
    assert_eq!(inputs().allow(&inputs()), Ok(()));
    for (name, change) in table {
        let mut now = inputs();
        change(&mut now);
        match inputs().allow(&now) {
            Err(Unusable::Differs { field, saved, now }) => {
                assert_eq!(field, name);
                assert_ne!(saved, now, "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_description_is_read_as_it_was_written_and_one_of_another_format_is_not() {
    let text = serde_json::to_vec(&saved()).unwrap();
    assert_eq!(Saved::parse(&text), Ok(saved()));
    assert_eq!(Saved::parse(br#"{"format":2,"more":[]}"#), Err(Unusable::Format { found: 2 }));
    for broken in ["", "{}", "[1]", r#"{"format":1}"#, r#"{"format":"1"}"#] {
        assert!(matches!(Saved::parse(broken.as_bytes()), Err(Unusable::Description(_))), "{broken}");
    }
}

#[test]
fn a_processor_is_known_by_what_a_guest_sees_of_it_and_not_by_its_pace() {
    let text =
        "processor\t: 0\nmodel name\t: One\ncpu MHz\t\t: 2600.1\nflags\t\t: fpu tm\n\nprocessor\t: 1\n";
    assert_eq!(processor(text), processor(&text.replace("2600.1", "3100.7")));
    assert_ne!(processor(text), processor(&text.replace("fpu tm", "fpu")));
    assert_ne!(processor(text), processor(&text.replace("One", "Two")));
}

proptest! {
    /// Spec 13.2: no byte of a description may change unnoticed, unless what it says stays the same.
    #[test]
    fn a_description_with_a_changed_byte_says_the_same_or_is_refused(at in 0usize..2000, byte: u8) {
        let text = serde_json::to_vec(&saved()).unwrap();
        let mut changed = text.clone();
        let at = at % text.len();
        changed[at] = byte;
        match Saved::parse(&changed) {
            // Whatever is parsed is compared with what is there, and with the files' own checksums.
            Ok(parsed) if parsed == saved() => {}
            Ok(parsed) => prop_assert!(
                parsed.inputs.allow(&inputs()).is_err()
                    || (parsed.devices, parsed.memory) != (saved().devices, saved().memory)
                    || parsed.since_unix_nanos != 1
                    || parsed.running_containers != Some(3)
            ),
            Err(_) => {}
        }
    }

    /// What is refused is told with both values, whichever fields differ.
    #[test]
    fn any_other_mark_of_a_file_is_another(inode: u64, bytes: u64, seconds: i64, nanos in 0i64..1_000_000_000) {
        let mut now = inputs();
        now.disk = Mark { inode, bytes, modified: (seconds, nanos), ..now.disk };
        prop_assert_eq!(inputs().allow(&now).is_ok(), now == inputs());
    }
}
