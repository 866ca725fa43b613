//! The one table of what a machine looks like on each architecture (spec 9.1): QEMU's machine type, the processor
//! model for each accelerator, the firmware files that QEMU needs for it, and the kernel's command line.

use dhow_model::{Accelerator, Arch};

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Board {
    /// The executable.
    pub program: &'static str,
    /// Value of `-machine`.
    pub machine: &'static str,
    /// Value of `-cpu`.
    pub cpu: &'static str,
    /// Value of `-accel`.
    pub accel: &'static str,
    /// Files that QEMU reads from its data directories to boot this machine.
    pub firmware: &'static [&'static str],
    /// Kernel command line.
    pub cmdline: &'static str,
    /// The package that holds the executable, on Debian and Ubuntu.
    pub debian: &'static str,
    /// The package on Fedora.
    pub fedora: &'static str,
}

/// Console on the first virtio console; errors only, for whoever reads the log; a panic ends the machine at once.
const CMDLINE: &str = "console=hvc0 panic=-1 quiet loglevel=4";
/// Under emulation, mitigations of a processor's flaws protect nothing, and the self-tests of the kernel's ciphers are a
/// third of the instructions of its boot.
const EMULATED: &str = "console=hvc0 panic=-1 quiet loglevel=4 mitigations=off cryptomgr.notests";
/// The same on x86-64, without the check at boot that the timer's interrupt comes in time: on a host that is busy it does not, and the
/// kernel panics (`arch/x86/kernel/apic/io_apic.c`, `check_timer`); guests of KVM leave it out by themselves.
const EMULATED_AMD64: &str =
    "console=hvc0 panic=-1 quiet loglevel=4 mitigations=off cryptomgr.notests no_timer_check";

/// The row for a guest of this architecture, executed by this accelerator.
///
/// An emulated processor does not say that it copies strings of bytes fast (ERMS, FSRM): kernel and C library would then copy
/// with one instruction that the emulation executes byte by byte. Without it they copy words: network traffic takes
/// less than half of the time.
///
/// `highmem` belongs to Arm's `virt` only. Software emulation has a larger translation cache than QEMU's default, and
/// Arm's pointer authentication with a cheap hash, since computing the architected one takes most of the time.
#[must_use]
pub const fn board(arch: Arch, accelerator: Accelerator) -> Board {
    let accel = match accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Hvf => "hvf",
        Accelerator::Tcg => "tcg,thread=multi,tb-size=512",
    };
    let emulated = matches!(accelerator, Accelerator::Tcg);
    match arch {
        Arch::Amd64 => Board {
            program: "qemu-system-x86_64",
            machine: "q35,vmport=off,smbus=off,sata=off,hpet=off,usb=off,graphics=off",
            cpu: if emulated { "max,erms=off,fsrm=off" } else { "host" },
            accel,
            firmware: &["bios-256k.bin", "pvh.bin"],
            cmdline: if emulated { EMULATED_AMD64 } else { CMDLINE },
            debian: "qemu-system-x86",
            fedora: "qemu-system-x86-core",
        },
        Arch::Arm64 => Board {
            program: "qemu-system-aarch64",
            machine: "virt,gic-version=3,highmem=on",
            cpu: if emulated { "max,pauth-impdef=on" } else { "host" },
            accel,
            firmware: &[],
            cmdline: if emulated { EMULATED } else { CMDLINE },
            debian: "qemu-system-arm",
            fedora: "qemu-system-aarch64-core",
        },
    }
}

/// The kernel command line for a guest of this architecture: console on the first virtio console, and a panic that
/// ends the machine at once.
#[must_use]
pub fn cmdline(arch: Arch, accelerator: Accelerator) -> String {
    board(arch, accelerator).cmdline.to_owned()
}
