//! A guest's RAM as a file without a name (memfd), made by us and mapped by the hypervisor: it outlives the hypervisor's
//! process, other processes that serve the guest's devices map it too, and it can be written to a file and read back.
//!
//! ```text
//!  Memory::new ──► hypervisor runs, saves its devices, ends ──► Memory::dump ──► file
//!                                                                                 │
//!  hypervisor starts, loads its devices ◄── Memory::new, filled while it starts ◄─┘
//! ```

mod copy;
mod image;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use dhow_model::Size;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What was written to a file, for whoever reads it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dumped {
    /// The file's length.
    pub bytes: u64,
    /// Stands for every byte of it (XXH3, 64 bits): of the file itself, or of its header, which holds its blocks'
    /// checksums.
    pub checksum: u64,
}

impl Dumped {
    /// What a file of these bytes holds.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, checksum: image::checksum(bytes) }
    }
}

/// A guest's RAM. Its size is sealed: whoever maps it need not fear that it shrinks. It is given back to the host when this
/// and every mapping of it are gone.
#[derive(Debug, Clone)]
pub struct Memory {
    file: Arc<File>,
    size: Size,
}

impl Memory {
    /// Memory of this size, all zeroes, of which nothing takes room yet.
    ///
    /// # Errors
    /// When the size is not one or more whole mebibytes, or the system refuses; [`Unsupported`](Error::Unsupported) outside of
    /// Linux.
    pub fn new(size: Size) -> Result<Self> {
        if !size.is_whole_mib() || size.as_mib() == 0 {
            return Err(Error::Unsupported(format!(
                "a guest's memory is whole mebibytes, which {size} is not"
            )));
        }
        let file = Arc::new(anonymous(size)?);
        Ok(Self { file, size })
    }

    /// Its size.
    #[must_use]
    pub const fn size(&self) -> Size {
        self.size
    }

    /// Bytes of it that the host has given room for.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn held(&self) -> Result<Size> {
        let metadata = self.file.metadata().map_err(|source| Error::Memory { doing: "measure", source })?;
        Ok(Size::bytes(std::os::unix::fs::MetadataExt::blocks(&metadata) * 512))
    }

    /// Writes it to a new file of mode 0600, what is not zero of it, and syncs the file. Nobody may write to the memory
    /// meanwhile. This takes its time; it belongs on a blocking thread.
    ///
    /// # Errors
    /// When the file cannot be written, as on a full disk; what there is of it is removed.
    pub fn dump(&self, path: &Path) -> Result<Dumped> {
        let dumped = copy::dump(&self.file, self.size, path);
        if dumped.is_err()
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::debug!(%error, path = %path.display(), "a dump that failed stays behind");
        }
        dumped
    }

    /// Memory with the content of a file that [`dump`](Self::dump) wrote. It belongs on a blocking thread.
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    pub fn load(path: &Path, size: Size, dumped: &Dumped) -> Result<Self> {
        let memory = Self::new(size)?;
        memory.fill(path, dumped)?;
        Ok(memory)
    }

    /// Fills memory that is new with the content of a file that [`dump`](Self::dump) wrote. It belongs on a blocking thread.
    ///
    /// # Errors
    /// [`Damaged`](Error::Damaged) when the file is not what was written, whatever is in it; what the memory then holds is of
    /// no use.
    pub fn fill(&self, path: &Path, dumped: &Dumped) -> Result<()> {
        copy::fill(&self.file, self.size, path, dumped)
    }
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(target_os = "linux")]
fn anonymous(size: Size) -> Result<File> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let failed = |errno: rustix::io::Errno| Error::Memory { doing: "make", source: errno.into() };
    let file = rustix::fs::memfd_create(c"guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
    let file = file.map_err(failed)?;
    rustix::fs::ftruncate(&file, size.as_bytes()).map_err(failed)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
        .map_err(failed)?;
    Ok(file.into())
}

#[cfg(not(target_os = "linux"))]
fn anonymous(_: Size) -> Result<File> {
    Err(Error::Unsupported("only Linux has memory that outlives its hypervisor".to_owned()))
}

#[cfg(test)]
mod tests;
