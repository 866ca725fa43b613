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
        qmp: dir.join("qmp.sock"),
        name: MachineName::native(),
    }
}

/// QEMU for x86-64 guests, or a note that it is not here.
pub fn qemu() -> Option<Qemu> {
    match Qemu::find(Arch::Amd64) {
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
