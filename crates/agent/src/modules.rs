//! Loads kernel modules, in this process: one `modprobe` process a module costs seconds under software emulation.

use std::ffi::CStr;
use std::fs::File;
use std::path::Path;

use rustix::io::Errno;

use crate::list::{self, Listed};
use crate::{Error, Result};

/// `MODULE_INIT_COMPRESSED_FILE` of `linux/module.h`.
const COMPRESSED: i32 = 4;

/// Modules without which the boot cannot go on; where one is built into the kernel no list names it.
const NEEDED: [&str; 8] =
    ["qemu_fw_cfg", "virtio_blk", "virtio_console", "virtio_pci", "erofs", "overlay", "ext4", "virtio_net"];

/// What modules are told. The network device is not to interrupt for each packet that it has sent: the next one, or one
/// that comes, collects it, which saves an interrupt of the two that a round trip costs an emulated guest.
const PARAMETERS: [(&str, &CStr); 1] = [("virtio_net", c"napi_tx=0")];

/// Loads the modules that the list at `path` names; answers what a reader may want to know. A list that is not there
/// names none.
pub fn load_list(path: &Path) -> Result<String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok("no list".to_owned()),
        Err(error) => return Err(Error::file("read", path)(error)),
    };
    let base = path.parent().unwrap_or(Path::new("/"));
    let modules =
        list::parse(&text, base).map_err(|bad| Error::file("read", path)(std::io::Error::other(bad)))?;
    let mut missed = Vec::new();
    let mut loaded = 0;
    for module in &modules {
        match load(module) {
            Ok(()) => loaded += 1,
            Err(why) if NEEDED.contains(&module.name.as_str()) => {
                return Err(Error::NeededModule { name: module.name.clone(), why: why.to_string() });
            }
            Err(why) => missed.push(format!("{} ({why})", module.name)),
        }
    }
    Ok(if missed.is_empty() {
        format!("{loaded} modules")
    } else {
        format!("{loaded} modules; not loaded: {}", missed.join(", "))
    })
}

fn load(module: &Listed) -> std::io::Result<()> {
    let file = File::open(&module.file)?;
    let flags = if module.compressed { COMPRESSED } else { 0 };
    let parameters = PARAMETERS.iter().find(|(name, _)| *name == module.name).map_or(c"", |(_, what)| what);
    match rustix::system::finit_module(&file, parameters, flags) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
