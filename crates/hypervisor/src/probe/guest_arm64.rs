//! A guest of a few Arm64 instructions: twenty million turns of a loop, then a store to an address without memory, which
//! leaves the guest with the result.

use kvm_bindings::{KVM_REG_ARM_CORE, KVM_REG_ARM64, KVM_REG_SIZE_U64, kvm_vcpu_init};
use kvm_ioctls::{Kvm, VcpuExit};

use crate::sys::kvm::Guest;

/// Enough for hosts with pages of 64 KiB.
const MEMORY: usize = 0x1_0000;
/// Where there is no memory.
const NOWHERE: u64 = MEMORY as u64;
const STEP: u32 = 0x1235;
const TURNS: u32 = 20_000_000;

/// Index of the program counter among the core registers, in units of four bytes: after 31 general registers and the stack
/// pointer, eight bytes each (`struct kvm_regs` and `KVM_REG_ARM_CORE_REG` in the kernel's `asm/kvm.h`).
const PC: u64 = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE as u64 | (32 * 8 / 4);

pub(super) fn run(kvm: &Kvm) -> Result<(), String> {
    let image: Vec<u8> = code().into_iter().flat_map(u32::to_le_bytes).collect();
    let mut guest = Guest::new(kvm, MEMORY, &image)?;
    let mut target = kvm_vcpu_init::default();
    guest.vm.get_preferred_target(&mut target).map_err(|e| format!("KVM_ARM_PREFERRED_TARGET: {e}"))?;
    guest.vcpu.vcpu_init(&target).map_err(|e| format!("KVM_ARM_VCPU_INIT: {e}"))?;
    guest.vcpu.set_one_reg(PC, &0u64.to_le_bytes()).map_err(|e| format!("KVM_SET_ONE_REG: {e}"))?;
    let expected = u64::from(STEP) * u64::from(TURNS);
    match guest.vcpu.run() {
        Ok(VcpuExit::MmioWrite(NOWHERE, bytes)) if bytes == expected.to_le_bytes() => Ok(()),
        Ok(VcpuExit::MmioWrite(NOWHERE, bytes)) => {
            Err(format!("guest instructions came out wrong: {bytes:x?} in place of {expected:#x}"))
        }
        Ok(VcpuExit::InternalError) => Err("KVM reports an internal error on guest instructions".to_owned()),
        Ok(other) => Err(format!("KVM leaves the guest unexpectedly: {other:?}")),
        Err(e) => Err(format!("KVM_RUN: {e}")),
    }
}

fn code() -> [u32; 9] {
    [
        0xd280_0000,                      // mov x0, #0
        0xd280_0001 | (STEP << 5),        // mov x1, #STEP
        0xd280_0002 | (low(TURNS) << 5),  // mov x2, #TURNS[15:0]
        0xf2a0_0002 | (TURNS >> 16 << 5), // movk x2, #TURNS[31:16], lsl #16
        0x8b01_0000,                      // turn: add x0, x0, x1
        0xf100_0442,                      // subs x2, x2, #1
        0x54ff_ffc1,                      // b.ne turn
        0xd2a0_0023,                      // movz x3, #1, lsl #16: NOWHERE
        0xf900_0060,                      // str x0, [x3]
    ]
}

const fn low(number: u32) -> u32 {
    number & 0xffff
}
