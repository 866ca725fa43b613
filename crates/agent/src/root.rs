//! From the initial RAM disk to the root image, in this one process.

use std::path::Path;

use rustix::mount::{MountFlags, mount_bind, mount_move};

use crate::disk::Disk;
use crate::mounts::attach;
use crate::{Error, Result};

const IMAGE: &str = "/image";
const SCRATCH: &str = "/scratch";
const ROOT: &str = "/root";

/// Mounts the image read-only, memory over it for what the engine writes to /etc and the like, and makes that the root.
/// What must last lies on the data disk.
pub fn switch(disk: &Disk) -> Result<()> {
    attach(&disk.device, IMAGE, "erofs", MountFlags::RDONLY | MountFlags::NODEV, "")?;
    attach("scratch", SCRATCH, "tmpfs", MountFlags::NODEV, "mode=0755,size=25%")?;
    for directory in ["upper", "work"] {
        let path = Path::new(SCRATCH).join(directory);
        std::fs::create_dir(&path).map_err(Error::file("make", &path))?;
    }
    let options = format!("lowerdir={IMAGE},upperdir={SCRATCH}/upper,workdir={SCRATCH}/work");
    attach("root", ROOT, "overlay", MountFlags::empty(), &options)?;
    // Programs are looked up in the image itself, and nothing in the guest can change them.
    let programs = Path::new(ROOT).join("usr");
    mount_bind(Path::new(IMAGE).join("usr"), &programs).map_err(Error::file("mount", &programs))?;
    for kernel in ["/dev", "/proc", "/sys"] {
        let target = Path::new(ROOT).join(kernel.trim_start_matches('/'));
        mount_move(kernel, &target).map_err(Error::file("move", &target))?;
    }
    free_initrd();
    rustix::process::chdir(ROOT).map_err(Error::file("enter", ROOT))?;
    mount_move(".", "/").map_err(Error::file("move", ROOT))?;
    rustix::process::chroot(".").map_err(Error::file("enter", ROOT))?;
    rustix::process::chdir("/").map_err(Error::file("enter", "/"))
}

/// Gives the memory of the initial RAM disk's files back. Our own program stays in memory as long as it runs.
fn free_initrd() {
    for result in [std::fs::remove_dir_all("/modules"), std::fs::remove_file("/init")] {
        if let Err(error) = result {
            crate::console::line(format!("dhow: the initial RAM disk keeps some memory: {error}"));
        }
    }
}
