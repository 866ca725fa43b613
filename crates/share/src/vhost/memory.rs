//! The guest's memory as the hypervisor shares it, and which of its pages were written, for a hypervisor that asks. Nothing is
//! read or written except through checked access.

use std::fs::File;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::fs::SealFlags;
use vhost::vhost_user::message::{VhostUserLog, VhostUserMemoryRegion};
use vhost::vhost_user::{Error as Protocol, Result};
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion, VolatileMemory as _,
};

/// Bytes that one bit of the log stands for.
const PAGE: u64 = 4096;

/// The memory of one guest, mapped into this process.
pub(super) struct Memory {
    pub(super) guest: GuestMemoryMmap,
    regions: Vec<VhostUserMemoryRegion>,
}

impl Memory {
    /// Maps what the hypervisor shares. A file that could still shrink is refused: reading behind its end would kill us.
    pub(super) fn map(regions: &[VhostUserMemoryRegion], files: Vec<File>) -> Result<Memory> {
        let mut shared: Vec<_> = regions.iter().copied().zip(files).collect();
        shared.sort_by_key(|(region, _)| region.guest_phys_addr);
        let regions = shared.iter().map(|(region, _)| *region).collect();
        let mapped = shared.into_iter().map(map).collect::<Result<Vec<_>>>()?;
        let guest = GuestMemoryMmap::from_regions(mapped).map_err(|_| Protocol::InvalidParam)?;
        Ok(Memory { guest, regions })
    }

    /// The guest's address for one in the hypervisor's process.
    pub(super) fn translate(&self, user: u64) -> Result<GuestAddress> {
        let found = self.regions.iter().find_map(|region| {
            let offset = user.checked_sub(region.user_addr)?;
            (offset < region.memory_size).then(|| GuestAddress(region.guest_phys_addr + offset))
        });
        found.ok_or(Protocol::InvalidParam)
    }
}

fn map((region, file): (VhostUserMemoryRegion, File)) -> Result<GuestRegionMmap> {
    check(&file, region.mmap_offset, region.memory_size)?;
    let mapping = region.mmap_region(file)?;
    GuestRegionMmap::new(mapping, GuestAddress(region.guest_phys_addr)).ok_or(Protocol::InvalidParam)
}

/// Whether a file has these bytes now and cannot lose them.
fn check(file: &File, offset: u64, size: u64) -> Result<()> {
    let end = offset.checked_add(size).ok_or(Protocol::InvalidParam)?;
    let length = file.metadata().map_err(Protocol::ReqHandlerError)?.len();
    let seals = rustix::fs::fcntl_get_seals(file).map_err(|error| Protocol::ReqHandlerError(error.into()))?;
    if end <= length && seals.contains(SealFlags::SHRINK) { Ok(()) } else { Err(Protocol::InvalidParam) }
}

/// One bit for each page that this device has written.
pub(super) struct Log(MmapRegion);

impl Log {
    pub(super) fn map(log: &VhostUserLog, file: File) -> Result<Log> {
        check(&file, log.mmap_offset, log.mmap_size)?;
        let size = usize::try_from(log.mmap_size).map_err(|_| Protocol::InvalidParam)?;
        let region = MmapRegion::from_file(FileOffset::new(file, log.mmap_offset), size);
        Ok(Log(region.map_err(|error| Protocol::ReqHandlerError(std::io::Error::other(error)))?))
    }

    /// Notes that these bytes were written.
    pub(super) fn wrote(&self, address: GuestAddress, length: usize) {
        let last = (length as u64).checked_sub(1).and_then(|more| address.0.checked_add(more));
        let Some(last) = last else { return };
        for page in address.0 / PAGE..=last / PAGE {
            let byte = usize::try_from(page / 8).unwrap_or(usize::MAX);
            if let Ok(bits) = self.0.get_atomic_ref::<AtomicU8>(byte) {
                bits.fetch_or(1 << (page % 8), Ordering::Release);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::Bytes as _;

    use super::*;

    #[test]
    fn each_page_that_was_touched_has_its_bit() {
        let log = Log(MmapRegion::new(4096).unwrap());
        log.wrote(GuestAddress(0x1fff), 2);
        log.wrote(GuestAddress(0x9000), 0x3000);
        log.wrote(GuestAddress(0), 0);
        log.wrote(GuestAddress(u64::MAX), 1);
        let mut bits = [0; 4];
        log.0.as_volatile_slice().read_slice(&mut bits, 0).unwrap();
        assert_eq!(bits, [0b0000_0110, 0b0000_1110, 0, 0]);
    }
}
