//! The guest's memory as the hypervisor shares it. Nothing here is read or written except through checked access: an
//! address outside is an error, and no reference into the memory exists that the guest could change under us.

use std::fs::File;

use rustix::fs::SealFlags;
use vhost::vhost_user::message::VhostUserMemoryRegion;
use vhost::vhost_user::{Error as Protocol, Result};
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap};

/// The memory of one guest, mapped into this process.
pub struct Memory {
    /// What the guest's own addresses mean.
    pub guest: GuestMemoryMmap,
    regions: Vec<VhostUserMemoryRegion>,
}

impl Memory {
    /// Maps what the hypervisor shares. A file that could still shrink is refused: reading behind its end would kill
    /// this process.
    ///
    /// # Errors
    /// When a file is not fit, cannot be mapped, or regions overlap.
    pub fn map(regions: &[VhostUserMemoryRegion], files: Vec<File>) -> Result<Self> {
        let mut shared: Vec<_> = regions.iter().copied().zip(files).collect();
        shared.sort_by_key(|(region, _)| region.guest_phys_addr);
        let regions = shared.iter().map(|(region, _)| *region).collect();
        let mapped = shared.into_iter().map(map).collect::<Result<Vec<_>>>()?;
        let guest = GuestMemoryMmap::from_regions(mapped).map_err(|_| Protocol::InvalidParam)?;
        Ok(Self { guest, regions })
    }

    /// The guest's address for one in the hypervisor's process.
    ///
    /// # Errors
    /// When it lies in no region.
    pub fn translate(&self, user: u64) -> Result<GuestAddress> {
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
pub(crate) fn check(file: &File, offset: u64, size: u64) -> Result<()> {
    let end = offset.checked_add(size).ok_or(Protocol::InvalidParam)?;
    let length = file.metadata().map_err(Protocol::ReqHandlerError)?.len();
    let seals = rustix::fs::fcntl_get_seals(file).map_err(|error| Protocol::ReqHandlerError(error.into()))?;
    if end <= length && seals.contains(SealFlags::SHRINK) { Ok(()) } else { Err(Protocol::InvalidParam) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use rustix::fs::{MemfdFlags, fcntl_add_seals, memfd_create};
    use vm_memory::{Bytes as _, GuestMemoryBackend as _};

    use super::*;

    /// A file as a hypervisor shares it.
    fn shared(bytes: &[u8], sealed: bool) -> File {
        let mut file = File::from(memfd_create("guest", MemfdFlags::ALLOW_SEALING).unwrap());
        file.write_all(bytes).unwrap();
        if sealed {
            fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
        }
        file
    }

    fn region(guest: u64, size: u64, user: u64) -> VhostUserMemoryRegion {
        VhostUserMemoryRegion::new(guest, size, user, 0)
    }

    /// A machine's memory has a hole below 4 GiB, and the hypervisor names its own addresses.
    #[test]
    fn regions_lie_where_the_guest_has_them_whatever_their_order() {
        let (low, high) = (region(0, 0x2000, 0x7f00_0000), region(0x10_0000, 0x1000, 0x5500_0000));
        let files = vec![shared(&[2; 0x1000], true), shared(&[1; 0x2000], true)];
        let memory = Memory::map(&[high, low], files).unwrap();
        let byte = |address| memory.guest.read_obj::<u8>(GuestAddress(address)).ok();
        assert_eq!([byte(0x1fff), byte(0x2000), byte(0x10_0000)], [Some(1), None, Some(2)]);
        assert_eq!(memory.guest.num_regions(), 2);
        assert_eq!(memory.translate(0x7f00_1fff).unwrap(), GuestAddress(0x1fff));
        assert_eq!(memory.translate(0x5500_0010).unwrap(), GuestAddress(0x10_0010));
        for nowhere in [0, 0x7f00_2000, 0x5500_1000, u64::MAX] {
            assert!(memory.translate(nowhere).is_err(), "{nowhere:#x}");
        }
    }

    /// Spec 14.3: what the other side shares may be made shorter while we read it.
    #[test]
    fn a_file_that_could_shrink_or_is_too_short_is_refused() {
        for (bytes, sealed, size) in
            [(0x1000, false, 0x1000), (0xfff, true, 0x1000), (0x1000, true, u64::MAX)]
        {
            let file = shared(&vec![0; bytes], sealed);
            assert!(Memory::map(&[region(0, size, 0)], vec![file]).is_err(), "{bytes:#x} {sealed} {size:#x}");
        }
    }

    #[test]
    fn regions_that_overlap_are_refused() {
        let files = vec![shared(&[0; 0x2000], true), shared(&[0; 0x2000], true)];
        assert!(Memory::map(&[region(0, 0x2000, 0), region(0x1000, 0x2000, 0x8000)], files).is_err());
    }
}
