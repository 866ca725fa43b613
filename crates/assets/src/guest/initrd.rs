//! The initial RAM disk: what the agent needs before the root is mounted. The part that packages decide comes first, the agent
//! follows as an archive of its own, so that a new agent needs no package to be unpacked.

use std::io;

use super::modules::Modules;
use crate::image::cpio;
use crate::image::tree::{Content, Tree};
use crate::recipe::Recipe;

/// The archive that packages decide: mount points, the console, early modules and `modules/load`, which lists their paths in
/// the order in which they must be loaded.
pub(crate) fn base(tree: &Tree, modules: &Modules, recipe: &Recipe) -> io::Result<Vec<u8>> {
    let mut disk = Tree::default();
    for directory in ["dev", "proc", "sys", "run", "root", "modules"] {
        disk.directory(directory);
    }
    disk.insert("dev/console", 0o600, Content::Character { major: 5, minor: 1 });
    let names: Vec<&str> = recipe.early_modules.iter().map(String::as_str).collect();
    let mut list = String::new();
    for module in modules.in_order(&names) {
        let Some(bytes) = tree.bytes(&module.path) else { continue };
        let path = format!("modules/{}.ko", module.name);
        list += &format!("/{path}\n");
        disk.insert(&path, 0o644, Content::File(bytes.clone()));
    }
    disk.file("modules/load", list);
    let mut archive = Vec::new();
    cpio::write(&disk, &mut archive)?;
    Ok(archive)
}

/// The archive that holds the agent as `/init`.
pub(crate) fn agent(agent: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut disk = Tree::default();
    disk.insert("init", 0o755, Content::file(agent));
    let mut archive = Vec::new();
    cpio::write(&disk, &mut archive)?;
    Ok(archive)
}
