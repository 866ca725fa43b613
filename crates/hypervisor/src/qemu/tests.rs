//! The command line, as people would read it.

use std::path::PathBuf;

use dhow_model::{Accelerator, GuestCid, MachineName, Size};

use super::*;
use crate::{Access, Disk, Network, cmdline};

fn hardware(arch: Arch, accelerator: Accelerator, channel: ChannelDevice) -> Hardware {
    let file = |name: &str| PathBuf::from("/home/u/.dhow").join(name);
    Hardware {
        arch,
        accelerator,
        cpus: 2,
        memory: Size::gib(2),
        kernel: file("assets/kernel"),
        initrd: file("assets/initrd"),
        cmdline: cmdline(arch, accelerator),
        disks: vec![
            Disk { path: file("assets/root"), serial: "dhow-root".into(), access: Access::ReadOnly },
            Disk { path: file("native/a,b.img"), serial: "dhow-data".into(), access: Access::ReadWrite },
        ],
        channel,
        boot_config: file("native/boot.json"),
        network: Network::Stream { socket: file("run/native.net"), mac: [2, 0, 0, 0, 0, 0x1f] },
        shares: Vec::new(),
        qmp: file("run/native.qmp"),
        name: MachineName::native(),
    }
}

/// One option on each line.
fn shown(hardware: &Hardware) -> String {
    let channel = match hardware.channel {
        ChannelDevice::Serial(_) => Some(6),
        ChannelDevice::Vsock(_) => None,
    };
    let given = Given { qmp: 5, channel, tsc_khz: None, memory: None, incoming: false };
    let words = arguments(hardware, &Qemu::OLDEST, &given);
    let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
    words.join(" ").replace(" -", "\n-")
}

/// Spec 9.1, 9.4: one table, every combination.
#[test]
#[cfg(target_os = "linux")]
fn the_command_line_of_each_architecture_accelerator_and_channel() {
    for arch in Arch::ALL {
        for accelerator in [Accelerator::Kvm, Accelerator::Hvf, Accelerator::Tcg] {
            let serial = ChannelDevice::Serial("/home/u/.dhow/run/native.serial".into());
            let vsock = ChannelDevice::Vsock(GuestCid::FIRST);
            for (channel, name) in [(serial, "serial"), (vsock, "vsock")] {
                let hardware = hardware(arch, accelerator, channel);
                insta::assert_snapshot!(format!("{arch}-{accelerator}-{name}"), shown(&hardware));
            }
        }
    }
}

/// Spec 9.1.
#[test]
fn highmem_belongs_to_arms_virt_only() {
    for arch in Arch::ALL {
        let text = shown(&hardware(arch, Accelerator::Tcg, ChannelDevice::Vsock(GuestCid::FIRST)));
        assert_eq!(text.contains("highmem"), arch == Arch::Arm64);
    }
}

/// Spec 9.4.
#[test]
fn a_machine_without_a_network_has_no_device_for_one() {
    let channel = ChannelDevice::Vsock(GuestCid::FIRST);
    let mut hardware = hardware(Arch::Amd64, Accelerator::Kvm, channel);
    hardware.network = Network::None;
    let text = shown(&hardware);
    assert!(text.contains("-nic none") && !text.contains("netdev") && !text.contains("virtio-net"), "{text}");
}

/// Issue 3: a network device that another process serves needs memory that both see; no other machine shares its own.
#[test]
#[cfg(target_os = "linux")]
fn a_network_device_of_another_process_shares_the_guests_memory() {
    let mut hardware = hardware(Arch::Amd64, Accelerator::Tcg, ChannelDevice::Vsock(GuestCid::FIRST));
    assert!(!shown(&hardware).contains("memory-backend"));
    hardware.network = Network::VhostUser { socket: "/run/a,b.net".into(), mac: [2, 0, 0, 0, 0, 0x1f] };
    let text = shown(&hardware);
    let about: Vec<_> = text.lines().filter(|line| line.contains("memory") || line.contains("net")).collect();
    insta::assert_snapshot!("vhost-user", about.join("\n"));
}

/// A guest that is told its clock's rate need not measure it on a busy host.
#[test]
fn the_rate_of_the_clock_is_added_to_the_command_line_of_the_kernel() {
    let hardware = hardware(Arch::Amd64, Accelerator::Tcg, ChannelDevice::Vsock(GuestCid::FIRST));
    let given = Given { qmp: 5, channel: None, tsc_khz: Some(2_600_000), memory: None, incoming: false };
    let words = arguments(&hardware, &Qemu::OLDEST, &given);
    let expected = format!("{} tsc_early_khz=2600000 tsc=nowatchdog", hardware.cmdline);
    assert!(words.iter().any(|word| word == expected.as_str()), "{words:?}");
}
