//! A virtual machine of KVM's with one processor and a little memory.

use std::ptr::NonNull;

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use rustix::mm::{MapFlags, ProtFlags};

/// The machine. Its parts are dropped in this order, so that nothing can run when the memory goes.
pub(crate) struct Guest {
    pub(crate) vcpu: VcpuFd,
    pub(crate) vm: VmFd,
    _memory: Memory,
}

impl Guest {
    /// Memory from address 0 on, with `image` at its start; `size` is in bytes, a multiple of the page size.
    pub(crate) fn new(kvm: &Kvm, size: usize, image: &[u8]) -> Result<Self, String> {
        let memory = Memory::new(size, image).map_err(|e| format!("no memory for a guest: {e}"))?;
        let vm = kvm.create_vm().map_err(|e| format!("KVM_CREATE_VM: {e}"))?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: size as u64,
            userspace_addr: memory.start.as_ptr() as u64,
        };
        // SAFETY: the region is a mapping of ours of exactly this size, which outlives the machine (see the order of
        // `Guest`'s fields); nothing in this process reads or writes it while the guest runs.
        unsafe { vm.set_user_memory_region(region) }
            .map_err(|e| format!("KVM_SET_USER_MEMORY_REGION: {e}"))?;
        let vcpu = vm.create_vcpu(0).map_err(|e| format!("KVM_CREATE_VCPU: {e}"))?;
        Ok(Self { vcpu, vm, _memory: memory })
    }
}

/// Anonymous memory, unmapped on drop.
struct Memory {
    start: NonNull<u8>,
    size: usize,
}

impl Memory {
    fn new(size: usize, image: &[u8]) -> std::io::Result<Self> {
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                size,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        let memory = Self { start, size };
        let length = image.len().min(size);
        // SAFETY: the mapping is `size` bytes, writable, ours alone, and `length` is not more than either side has.
        unsafe { std::ptr::copy_nonoverlapping(image.as_ptr(), memory.start.as_ptr(), length) };
        Ok(memory)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: start and size are those of the mapping that `new` made, and nobody has a reference into it.
        if let Err(error) = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.size) } {
            tracing::debug!(%error, "a guest's memory stays mapped");
        }
    }
}
