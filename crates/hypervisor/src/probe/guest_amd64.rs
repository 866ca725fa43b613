//! A guest of a few x86-64 instructions, in long mode with paging, as an ordinary kernel runs: arithmetic of the BMI2
//! extension where the processor has it (which partial emulation does not know), twenty million turns of a loop, a hundred
//! CPUID instructions (each leaves the guest), a reload of the page tables.

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_segment};
use kvm_ioctls::{Kvm, VcpuExit};

use crate::sys::kvm::Guest;

const MEMORY: usize = 0x1_0000;
/// Page tables, one page each; then the code.
const LEVEL4: usize = 0x1000;
const LEVEL3: usize = 0x2000;
const LEVEL2: usize = 0x3000;
const CODE: usize = 0x4000;

const SEED: u64 = 0x0123_4567_89ab_cdef;
const SHIFT: u32 = 13;
const TURNS: u32 = 20_000_000;

pub(super) fn run(kvm: &Kvm) -> Result<(), String> {
    execute(kvm, std::arch::is_x86_feature_detected!("bmi2"), TURNS)
}

fn execute(kvm: &Kvm, bmi2: bool, turns: u32) -> Result<(), String> {
    let mut guest = Guest::new(kvm, MEMORY, &image(bmi2, turns))?;
    guest.vm.set_tss_address(0xfffb_d000).map_err(|e| format!("KVM_SET_TSS_ADDR: {e}"))?;
    let cpuid = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(|e| format!("KVM_GET_SUPPORTED_CPUID: {e}"))?;
    guest.vcpu.set_cpuid2(&cpuid).map_err(|e| format!("KVM_SET_CPUID2: {e}"))?;
    enter_long_mode(&guest)?;
    let regs = kvm_regs { rip: CODE as u64, rsp: MEMORY as u64, rflags: 2, ..Default::default() };
    guest.vcpu.set_regs(&regs).map_err(|e| format!("KVM_SET_REGS: {e}"))?;
    match guest.vcpu.run() {
        Ok(VcpuExit::Hlt) => {}
        Ok(VcpuExit::InternalError) => {
            return Err("KVM reports an internal error on guest instructions".to_owned());
        }
        Ok(VcpuExit::Shutdown) => return Err("KVM ends in a triple fault on guest instructions".to_owned()),
        Ok(other) => return Err(format!("KVM leaves the guest unexpectedly: {other:?}")),
        Err(e) => return Err(format!("KVM_RUN: {e}")),
    }
    let result = guest.vcpu.get_regs().map_err(|e| format!("KVM_GET_REGS: {e}"))?.rax;
    let expected = expected(turns);
    if result == expected {
        Ok(())
    } else {
        Err(format!("guest instructions came out wrong: {result:#x} in place of {expected:#x}"))
    }
}

/// What the code leaves in RAX.
fn expected(turns: u32) -> u64 {
    let shifted = SEED << SHIFT;
    shifted.wrapping_add(shifted.rotate_right(7).wrapping_mul(turns.into()))
}

fn image(bmi2: bool, turns: u32) -> Vec<u8> {
    const PRESENT_WRITABLE: usize = 0b11;
    const LARGE: usize = 1 << 7;
    let code = code(bmi2, turns);
    let mut image = vec![0; CODE];
    for (table, entry) in [
        (LEVEL4, LEVEL3 | PRESENT_WRITABLE),
        (LEVEL3, LEVEL2 | PRESENT_WRITABLE),
        (LEVEL2, PRESENT_WRITABLE | LARGE),
    ] {
        image.splice(table..table + 8, (entry as u64).to_le_bytes());
    }
    image.extend(code);
    image
}

fn code(bmi2: bool, turns: u32) -> Vec<u8> {
    let mut code = vec![0x48, 0xb8]; // mov rax, SEED
    code.extend(SEED.to_le_bytes());
    code.push(0xb9); // mov ecx, SHIFT
    code.extend(SHIFT.to_le_bytes());
    if bmi2 {
        code.extend([0xc4, 0xe2, 0xf1, 0xf7, 0xc0]); // shlx rax, rax, rcx
        code.extend([0xc4, 0xe3, 0xfb, 0xf0, 0xd0, 7]); // rorx rdx, rax, 7
    } else {
        code.extend([0x48, 0xd3, 0xe0]); // shl rax, cl
        code.extend([0x48, 0x89, 0xc2]); // mov rdx, rax
        code.extend([0x48, 0xc1, 0xca, 7]); // ror rdx, 7
    }
    code.push(0xbb); // mov ebx, turns
    code.extend(turns.to_le_bytes());
    code.extend([0x48, 0x01, 0xd0]); // turn: add rax, rdx
    code.extend([0x48, 0xff, 0xcb]); // dec rbx
    code.extend([0x75, 0xf8]); // jnz turn
    code.extend([0x49, 0x89, 0xc0]); // mov r8, rax
    code.extend([0xbe, 100, 0, 0, 0]); // mov esi, 100
    code.extend([0x31, 0xc0]); // leave: xor eax, eax
    code.extend([0x0f, 0xa2]); // cpuid
    code.extend([0xff, 0xce]); // dec esi
    code.extend([0x75, 0xf8]); // jnz leave
    code.extend([0x0f, 0x20, 0xd8]); // mov rax, cr3
    code.extend([0x0f, 0x22, 0xd8]); // mov cr3, rax
    code.extend([0x4c, 0x89, 0xc0]); // mov rax, r8
    code.push(0xf4); // hlt
    code
}

/// 64-bit mode with paging on, flat segments, no interrupt table: any fault is a triple fault.
fn enter_long_mode(guest: &Guest) -> Result<(), String> {
    const PROTECTED_WITH_PAGING: u64 = 1 | 1 << 31;
    const PHYSICAL_ADDRESS_EXTENSION: u64 = 1 << 5;
    const LONG_MODE_ENABLED_AND_ACTIVE: u64 = 1 << 8 | 1 << 10;
    let mut sregs = guest.vcpu.get_sregs().map_err(|e| format!("KVM_GET_SREGS: {e}"))?;
    let flat = kvm_segment { limit: u32::MAX, present: 1, s: 1, g: 1, ..Default::default() };
    sregs.cs = kvm_segment { selector: 0x8, type_: 0xb, l: 1, ..flat };
    let data = kvm_segment { selector: 0x10, type_: 0x3, db: 1, ..flat };
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.idt.limit = 0;
    sregs.cr0 |= PROTECTED_WITH_PAGING;
    sregs.cr3 = LEVEL4 as u64;
    sregs.cr4 |= PHYSICAL_ADDRESS_EXTENSION;
    sregs.efer |= LONG_MODE_ENABLED_AND_ACTIVE;
    guest.vcpu.set_sregs(&sregs).map_err(|e| format!("KVM_SET_SREGS: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 9.1. Even a KVM that emulates gets this far, when it is there at all: a thousand turns without BMI2.
    #[test]
    fn the_guests_code_comes_out_right_wherever_it_is_executed() {
        let Ok(kvm) = Kvm::new() else { return eprintln!("skipped: no /dev/kvm") };
        assert_eq!(execute(&kvm, false, 1000), Ok(()));
    }
}
