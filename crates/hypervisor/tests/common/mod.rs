//! Guests that fit in a few bytes, and hardware around them.
#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "only tests and their helper use it")]

use std::path::{Path, PathBuf};

use dhow_hypervisor::{Access, ChannelDevice, Disk, Hardware, Network, Output, Qemu};
use dhow_model::{Accelerator, Arch, MachineName, Size};

/// `cli; hlt; jmp $-1`: a guest that idles for ever.
pub const IDLE: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfd];
/// `lidt` of an empty table and `int3`: a triple fault, which resets the machine. The operand is the absolute address
/// of six zero bytes behind the code.
pub const RESET: &[u8] = &[0x0f, 0x01, 0x1d, 0x08, 0x00, 0x10, 0x00, 0xcc, 0, 0, 0, 0, 0, 0];

/// Counts in a register and writes each number to memory: `xor eax, eax; inc eax; mov [0x200000], eax; jmp $-6`.
pub const COUNT: &[u8] = &[0x31, 0xc0, 0x40, 0xa3, 0x00, 0x00, 0x20, 0x00, 0xeb, 0xf8];
/// Where in the guest's memory [`COUNT`] writes.
pub const COUNT_AT: u64 = 0x20_0000;
/// The same for Arm64, which has its memory from 1 GiB on: `mov w0, 0; mov x1, 0x42000000; add w0, w0, 1; str w0, [x1];
/// b $-8`.
pub const COUNT_ARM: [u32; 5] = [0x5280_0000, 0xd2a8_4001, 0x1100_0400, 0xb900_0020, 0x17ff_fffe];
/// Where in the guest's memory [`COUNT_ARM`] writes.
pub const COUNT_ARM_AT: u64 = 0x200_0000;

/// A 32-bit ELF file with a PVH note (Xen's `XEN_ELFNOTE_PHYS32_ENTRY`), which QEMU boots as it boots a `vmlinux`. The code
/// is loaded and entered at 1 MiB.
pub fn pvh_kernel(code: &[u8]) -> Vec<u8> {
    const ENTRY: u32 = 0x10_0000;
    let (header, program, note) = (52u32, 32u32, 20u32);
    let code_at = header + 2 * program + note;
    let words = |out: &mut Vec<u8>, list: &[u32]| list.iter().for_each(|w| out.extend(w.to_le_bytes()));
    let halves = |out: &mut Vec<u8>, list: &[u16]| list.iter().for_each(|w| out.extend(w.to_le_bytes()));
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    halves(&mut file, &[2, 3]);
    words(&mut file, &[1, ENTRY, header, 0, 0]);
    halves(&mut file, &[52, 32, 2, 40, 0, 0]);
    let size = u32::try_from(code.len()).unwrap();
    words(&mut file, &[1, code_at, ENTRY, ENTRY, size, size, 7, 1]);
    words(&mut file, &[4, header + 2 * program, 0, 0, note, note, 4, 4]);
    words(&mut file, &[4, 4, 18]);
    file.extend(b"Xen\0");
    words(&mut file, &[ENTRY]);
    file.extend(code);
    file
}

/// A machine in `dir` whose kernel is this code.
pub fn hardware(dir: &Path, code: &[u8]) -> Hardware {
    let file = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = dir.join(name);
        dhow_home::atomic::write(&path, bytes, 0o600).unwrap();
        path
    };
    Hardware {
        arch: Arch::Amd64,
        accelerator: Accelerator::Tcg,
        cpus: 2,
        memory: Size::mib(128),
        kernel: file("kernel", &pvh_kernel(code)),
        initrd: file("initrd", b"no initial RAM disk"),
        cmdline: "console=hvc0".to_owned(),
        disks: vec![
            Disk {
                path: file("root, with a comma.img", &[0; 1 << 16]),
                serial: "dhow-root".into(),
                access: Access::ReadOnly,
            },
            Disk {
                path: file("data.img", &[0; 1 << 16]),
                serial: "dhow-data".into(),
                access: Access::ReadWrite,
            },
        ],
        channel: ChannelDevice::Serial(dir.join("channel.sock")),
        boot_config: file("boot.json", b"{}"),
        network: Network::User,
        shares: Vec::new(),
        qmp: dir.join("qmp.sock"),
        name: MachineName::native(),
    }
}

/// A machine in `dir` that counts in its memory, and where.
pub fn counting(dir: &Path, arch: Arch) -> (Hardware, u64) {
    let mut hardware = hardware(dir, COUNT);
    if arch == Arch::Amd64 {
        return (hardware, COUNT_AT);
    }
    let code: Vec<u8> = COUNT_ARM.iter().flat_map(|word| word.to_le_bytes()).collect();
    dhow_home::atomic::write(&hardware.kernel, &code, 0o600).unwrap();
    hardware.arch = arch;
    (hardware, COUNT_ARM_AT)
}

/// QEMU for x86-64 guests, or a note that it is not here.
pub fn qemu() -> Option<Qemu> {
    qemu_for(Arch::Amd64)
}

/// QEMU for guests of this architecture, or a note that it is not here.
pub fn qemu_for(arch: Arch) -> Option<Qemu> {
    match Qemu::find(arch) {
        Ok(qemu) => Some(qemu),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// Logs in `dir`.
pub fn logs(dir: &Path) -> Output {
    let open =
        |name: &str| Box::new(dhow_home::rotating::Rotating::open(&dir.join(name), 1 << 20, 2).unwrap());
    Output { console: open("console.log"), log: open("hypervisor.log") }
}
