//! The data image: made sparse, locked before it is touched, grown and never shrunk, and made anew only while it is
//! proven that nothing of the user's was ever in it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::time::Duration;

use dhow_home::lock::FileLock;
use dhow_home::{MachineDir, atomic};
use dhow_model::{DiskBlank, Purpose, Size};
use rustix::fs::SeekFrom;

use crate::{Error, Result};

/// How the guest knows the data disk.
pub const SERIAL: &str = "dhow-data";

/// How long a data image's holders are waited for (spec 6.8).
const HOLDERS: Duration = Duration::from_secs(10);

/// Where ext4 keeps its magic number, and the number: the superblock starts at 1024, `s_magic` at 0x38 in it (kernel,
/// `Documentation/filesystems/ext4/super.rst`).
const EXT4_MAGIC_AT: u64 = 1024 + 0x38;
const EXT4_MAGIC: [u8; 2] = [0x53, 0xEF];

/// A data image that is locked and has the size that was asked for.
#[derive(Debug)]
pub struct DataImage {
    /// Holds the image until it is dropped and the hypervisor, which inherits it, has ended.
    pub lock: FileLock,
    /// What the agent may be told about it.
    pub blank: DiskBlank,
}

/// Makes the image if there is none, waits for its holders, and brings it to `size`. For a check or a rescue it is taken as it
/// is.
///
/// # Errors
/// When it is held for 10 s, holds something that is not ours, would have to shrink, or cannot be written.
pub async fn open(dir: &MachineDir, size: Size, purpose: Purpose) -> Result<DataImage> {
    let path = dir.data_image();
    let file = |source| Error::File { path: path.clone(), source };
    if purpose != Purpose::Serve {
        // The lock would make it.
        path.metadata().map_err(file)?;
        let lock = FileLock::wait_exclusive(&path, HOLDERS).await.map_err(Error::DiskHeld)?;
        return Ok(DataImage { lock, blank: DiskBlank::Unproven });
    }
    if !path.exists() {
        make(dir, size).map_err(file)?;
    }
    let lock = FileLock::wait_exclusive(&path, HOLDERS).await.map_err(Error::DiskHeld)?;
    let blank = has_no_data(lock.file()).map_err(file)?;
    let ext4 = carries_ext4(lock.file()).map_err(file)?;
    if !blank && !ext4 && !dir.data_unformatted().exists() {
        return Err(Error::ForeignDisk { path });
    }
    if !blank && !ext4 {
        // An earlier first boot was cut off while it formatted: no guest ever mounted this image.
        tracing::info!(image = %path.display(), "the data disk was never formatted to the end; starting it over");
        lock.file().set_len(0).map_err(file)?;
        lock.file().set_len(size.as_bytes()).map_err(file)?;
        lock.file().sync_all().map_err(file)?;
    }
    let found = lock.file().metadata().map_err(file)?.len();
    if found > size.as_bytes() {
        return Err(Error::DiskWouldShrink { path, found, asked: size.as_bytes() });
    }
    if found < size.as_bytes() {
        lock.file().set_len(size.as_bytes()).map_err(file)?;
        lock.file().sync_all().map_err(file)?;
    }
    let blank = if has_no_data(lock.file()).map_err(file)? { DiskBlank::Proven } else { DiskBlank::Unproven };
    Ok(DataImage { lock, blank })
}

/// With less than this on the host's disk a guest that ran out of it would do so again at once.
pub const ROOM: u64 = 64 << 20;

/// What is free where the image lies, bytes.
///
/// # Errors
/// When the host does not tell.
pub fn free(dir: &MachineDir) -> Result<u64> {
    let path = dir.data_image();
    let stat = rustix::fs::statvfs(&path).map_err(|e| Error::File { path, source: e.into() })?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Notes that a guest has mounted the image: from now on it is the user's.
///
/// # Errors
/// When the mark cannot be removed.
pub fn formatted(dir: &MachineDir) -> Result<()> {
    let mark = dir.data_unformatted();
    atomic::remove(&mark).map_err(|source| Error::File { path: mark, source })
}

fn make(dir: &MachineDir, size: Size) -> io::Result<()> {
    atomic::write(&dir.data_unformatted(), b"", 0o600)?;
    let path = dir.data_image();
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.set_len(size.as_bytes())?;
    file.sync_all()?;
    atomic::sync_dir(dir.path())
}

fn carries_ext4(image: &File) -> io::Result<bool> {
    let mut magic = [0; 2];
    match image.read_exact_at(&mut magic, EXT4_MAGIC_AT) {
        Ok(()) => Ok(magic == EXT4_MAGIC),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether not one byte was ever written to the file: it has a hole from its start to its end (lseek(2), `SEEK_DATA`). A
/// file system without holes says that all is data, which only means that we cannot prove it.
fn has_no_data(image: &File) -> io::Result<bool> {
    match rustix::fs::seek(image, SeekFrom::Data(0)) {
        Err(rustix::io::Errno::NXIO) => Ok(true),
        Ok(_) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dhow_home::Home;
    use dhow_model::MachineName;

    fn dir(temp: &tempfile::TempDir) -> MachineDir {
        let home = Home::at(temp.path().join("h")).unwrap();
        home.create().unwrap();
        let dir = home.machine(&MachineName::native());
        dir.create().unwrap();
        dir
    }

    fn poke(dir: &MachineDir, bytes: &[u8], at: u64) {
        OpenOptions::new().write(true).open(dir.data_image()).unwrap().write_all_at(bytes, at).unwrap();
    }

    /// Spec 7.5.
    #[tokio::test]
    async fn a_new_image_is_sparse_and_proven_blank_and_one_written_byte_ends_that() {
        let temp = tempfile::tempdir().unwrap();
        let dir = dir(&temp);
        let image = open(&dir, Size::gib(64), Purpose::Serve).await.unwrap();
        assert_eq!(image.blank, DiskBlank::Proven);
        assert!(dhow_home::process::allocated_bytes(&dir.data_image()) < 1 << 20);
        drop(image);
        formatted(&dir).unwrap();
        poke(&dir, &EXT4_MAGIC, EXT4_MAGIC_AT);
        assert_eq!(open(&dir, Size::gib(64), Purpose::Serve).await.unwrap().blank, DiskBlank::Unproven);
    }

    /// Spec 7.5: what is not ours is not formatted, not resized, not touched.
    #[tokio::test]
    async fn a_file_that_is_not_ours_is_refused_and_stays_as_it_was() {
        let temp = tempfile::tempdir().unwrap();
        let dir = dir(&temp);
        atomic::write(&dir.data_image(), b"somebody's file", 0o600).unwrap();
        assert!(matches!(open(&dir, Size::gib(4), Purpose::Serve).await, Err(Error::ForeignDisk { .. })));
        assert_eq!(std::fs::read(dir.data_image()).unwrap(), b"somebody's file");
    }

    /// Spec 7.5: a first boot that was cut off while formatting starts over; a disk that was mounted once never does.
    #[tokio::test]
    async fn only_an_image_that_no_guest_ever_mounted_is_made_anew() {
        let temp = tempfile::tempdir().unwrap();
        let dir = dir(&temp);
        drop(open(&dir, Size::gib(4), Purpose::Serve).await.unwrap());
        poke(&dir, b"half a file system", 1 << 20);
        assert_eq!(open(&dir, Size::gib(4), Purpose::Serve).await.unwrap().blank, DiskBlank::Proven);
        poke(&dir, &EXT4_MAGIC, EXT4_MAGIC_AT);
        assert_eq!(open(&dir, Size::gib(4), Purpose::Serve).await.unwrap().blank, DiskBlank::Unproven);
        formatted(&dir).unwrap();
        poke(&dir, &[0, 0], EXT4_MAGIC_AT);
        assert!(matches!(open(&dir, Size::gib(4), Purpose::Serve).await, Err(Error::ForeignDisk { .. })));
    }

    /// Spec 6.4.
    #[tokio::test]
    async fn an_image_grows_and_never_shrinks() {
        let temp = tempfile::tempdir().unwrap();
        let dir = dir(&temp);
        drop(open(&dir, Size::gib(4), Purpose::Serve).await.unwrap());
        drop(open(&dir, Size::gib(8), Purpose::Serve).await.unwrap());
        assert_eq!(dir.data_image().metadata().unwrap().len(), Size::gib(8).as_bytes());
        assert!(matches!(open(&dir, Size::gib(4), Purpose::Serve).await, Err(Error::DiskWouldShrink { .. })));
    }

    /// Spec 7.6: whatever is wrong with an image, a check and a rescue take it as it is and change nothing.
    #[tokio::test]
    async fn a_check_and_a_rescue_open_what_a_start_refuses_and_leave_it_alone() {
        let temp = tempfile::tempdir().unwrap();
        let dir = dir(&temp);
        drop(open(&dir, Size::gib(4), Purpose::Serve).await.unwrap());
        formatted(&dir).unwrap();
        poke(&dir, b"what was a file system", 1 << 20);
        assert!(matches!(open(&dir, Size::gib(8), Purpose::Serve).await, Err(Error::ForeignDisk { .. })));
        for purpose in [Purpose::Check, Purpose::Rescue] {
            assert_eq!(open(&dir, Size::gib(8), purpose).await.unwrap().blank, DiskBlank::Unproven);
        }
        assert_eq!(dir.data_image().metadata().unwrap().len(), Size::gib(4).as_bytes());
    }
}
