//! The guest's memory as the hypervisor shares it. Nothing here is read or written except through checked access: an
//! address outside is an error, and no reference into the memory exists that the guest could change under us.

use std::fs::File;

use rustix::fs::SealFlags;
use vhost::vhost_user::message::VhostUserMemoryRegion;
use vhost::vhost_user::{Error as Protocol, Result};
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap};

/// The memory of one guest, mapped into this process.
pub(super) struct Memory {
    guest: GuestMemoryMmap,
    regions: Vec<VhostUserMemoryRegion>,
}

impl Memory {
    /// Maps what the hypervisor shares. A file that could still shrink is refused: reading behind its end would kill
    /// this process.
    pub(super) fn map(regions: &[VhostUserMemoryRegion], files: Vec<File>) -> Result<Memory> {
        let mut shared: Vec<_> = regions.iter().copied().zip(files).collect();
        shared.sort_by_key(|(region, _)| region.guest_phys_addr);
        let regions = shared.iter().map(|(region, _)| *region).collect();
        let mapped = shared.into_iter().map(map).collect::<Result<Vec<_>>>()?;
        let guest = GuestMemoryMmap::from_regions(mapped).map_err(|_| Protocol::InvalidParam)?;
        Ok(Memory { guest, regions })
    }

    /// What the guest's own addresses mean.
    pub(super) fn guest(&self) -> &GuestMemoryMmap {
        &self.guest
    }

    /// The guest's address for one in the hypervisor's process.
    pub(super) fn translate(&self, user: u64) -> Option<GuestAddress> {
        self.regions.iter().find_map(|region| {
            let offset = user.checked_sub(region.user_addr)?;
            (offset < region.memory_size).then(|| GuestAddress(region.guest_phys_addr + offset))
        })
    }
}

fn map((region, file): (VhostUserMemoryRegion, File)) -> Result<GuestRegionMmap> {
    check(&file, region.mmap_offset, region.memory_size)?;
    let mapping = region.mmap_region(file)?;
    GuestRegionMmap::new(mapping, GuestAddress(region.guest_phys_addr)).ok_or(Protocol::InvalidParam)
}

/// Whether a file has these bytes now and cannot lose them.
pub(super) fn check(file: &File, offset: u64, size: u64) -> Result<()> {
    let end = offset.checked_add(size).ok_or(Protocol::InvalidParam)?;
    let length = file.metadata().map_err(Protocol::ReqHandlerError)?.len();
    let seals = rustix::fs::fcntl_get_seals(file).map_err(|error| Protocol::ReqHandlerError(error.into()))?;
    if end <= length && seals.contains(SealFlags::SHRINK) { Ok(()) } else { Err(Protocol::InvalidParam) }
}
