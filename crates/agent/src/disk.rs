//! Finds the guest's disks by the serials that the host gave them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The root image's disk.
pub const ROOT: &str = "dhow-root";
/// The data disk.
pub const DATA: &str = "dhow-data";

/// A disk of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its device file.
    pub device: PathBuf,
    /// Its size, bytes.
    pub bytes: u64,
}

/// The disk with the serial.
pub fn find(serial: &'static str) -> Result<Disk> {
    find_under(Path::new("/sys/block"), serial)
}

fn find_under(block: &Path, serial: &'static str) -> Result<Disk> {
    let mut seen = Vec::new();
    for entry in fs::read_dir(block).map_err(Error::file("list", block))? {
        let entry = entry.map_err(Error::file("list", block))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Only virtio disks have the attribute here.
        let Ok(text) = fs::read_to_string(entry.path().join("serial")) else { continue };
        if text.trim_end() == serial {
            let size = entry.path().join("size");
            let sectors = fs::read_to_string(&size).map_err(Error::file("read", &size))?;
            let sectors: u64 = sectors
                .trim()
                .parse()
                .map_err(|error| Error::file("read", &size)(std::io::Error::other(error)))?;
            return Ok(Disk { device: Path::new("/dev").join(name), bytes: sectors.saturating_mul(512) });
        }
        seen.push(format!("{name} ({})", text.trim_end()));
    }
    seen.sort();
    let seen = if seen.is_empty() { "no disks".to_owned() } else { seen.join(", ") };
    Err(Error::NoDisk { serial, seen })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_found_by_its_serial_and_not_by_its_name() {
        let block = tempfile::tempdir().unwrap();
        for (name, serial, size) in
            [("vda", "dhow-data", "2048\n"), ("vdb", "dhow-root\n", "8\n"), ("loop0", "", "0\n")]
        {
            fs::create_dir(block.path().join(name)).unwrap();
            if !serial.is_empty() {
                fs::File::create(block.path().join(name).join("serial")).unwrap();
                std::io::Write::write_all(
                    &mut fs::File::create(block.path().join(name).join("serial")).unwrap(),
                    serial.as_bytes(),
                )
                .unwrap();
            }
            std::io::Write::write_all(
                &mut fs::File::create(block.path().join(name).join("size")).unwrap(),
                size.as_bytes(),
            )
            .unwrap();
        }
        let disk = find_under(block.path(), DATA).unwrap();
        assert_eq!(disk, Disk { device: "/dev/vda".into(), bytes: 1 << 20 });
        let error = find_under(block.path(), "other").unwrap_err().to_string();
        assert!(error.contains("vda (dhow-data), vdb (dhow-root)"), "{error}");
    }
}
