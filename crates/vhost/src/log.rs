//! Which pages of the guest this device has written, for a hypervisor that copies a running guest's memory elsewhere: one bit
//! for each page, in memory that it shares for that.

use std::fs::File;
use std::sync::atomic::{AtomicU8, Ordering};

use vhost::vhost_user::message::VhostUserLog;
use vhost::vhost_user::{Error as Protocol, Result};
use vm_memory::{FileOffset, GuestAddress, MmapRegion, VolatileMemory as _};

use super::memory;

/// Bytes that one bit stands for (the protocol's, whatever the guest's page size).
const PAGE: u64 = 4096;

/// The shared bits.
pub struct Log(MmapRegion);

impl Log {
    /// Maps what the hypervisor shares.
    ///
    /// # Errors
    /// When the file is shorter than it is said to be, could still shrink, or cannot be mapped.
    pub fn map(log: &VhostUserLog, file: File) -> Result<Log> {
        memory::check(&file, log.mmap_offset, log.mmap_size)?;
        let size = usize::try_from(log.mmap_size).map_err(|_| Protocol::InvalidParam)?;
        let region = MmapRegion::from_file(FileOffset::new(file, log.mmap_offset), size);
        Ok(Log(region.map_err(|error| Protocol::ReqHandlerError(std::io::Error::other(error)))?))
    }

    /// Notes that these bytes were written.
    pub fn wrote(&self, address: GuestAddress, length: usize) {
        let Some(last) = (length as u64).checked_sub(1).and_then(|more| address.0.checked_add(more)) else {
            return;
        };
        for page in address.0 / PAGE..=last / PAGE {
            let byte = usize::try_from(page / 8).unwrap_or(usize::MAX);
            // The hypervisor's log covers all of its guest's memory, or the page is not one that it would copy.
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
        log.wrote(GuestAddress(4096 * 8 * 4096), 1);
        let mut bits = [0; 4];
        log.0.as_volatile_slice().read_slice(&mut bits, 0).unwrap();
        assert_eq!(bits, [0b0000_0110, 0b0000_1110, 0, 0]);
    }
}
