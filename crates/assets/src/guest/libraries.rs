//! The check that nothing was left out that a program cannot start without: every shared library and interpreter that a file of
//! the root asks for must be in the root.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::image::elf::Elf;
use crate::image::tree::{Content, Tree};

/// Looks at every program and library of a root.
pub(crate) fn check(tree: &Tree) -> Result<()> {
    let file = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    let libraries: BTreeSet<String> = tree.below("usr").map(|(path, _)| file(path)).collect();
    for (path, node) in tree.below("usr").filter(|(path, _)| !path.starts_with("usr/lib/modules/")) {
        let Content::File(bytes) = &node.content else { continue };
        let Some(elf) = Elf::parse(bytes).filter(|elf| elf.is_program()) else { continue };
        let needed = elf.needed().into_iter().map(str::to_owned).chain(elf.interpreter().map(file));
        if let Some(missing) = needed.into_iter().find(|name| !libraries.contains(name)) {
            return Err(Error::Incomplete { what: format!("library {missing} (for /{path})") });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_without_a_library_that_a_program_needs_is_refused() {
        let Some(program) = std::env::current_exe().ok().filter(|_| cfg!(target_os = "linux")) else {
            println!("skipped: programs of this host are no ELF files");
            return;
        };
        let bytes = std::fs::read(program).unwrap();
        let elf = Elf::parse(&bytes).unwrap();
        let mut tree = Tree::default();
        let names: Vec<String> =
            elf.needed().into_iter().chain(elf.interpreter()).map(str::to_owned).collect();
        tree.file("usr/bin/program", bytes);
        let error = check(&tree).unwrap_err().to_string();
        assert!(error.contains("which a guest needs") && error.contains("/usr/bin/program"), "{error}");
        for name in &names {
            tree.symlink(&format!("usr/lib/{}", name.rsplit('/').next().unwrap()), "elsewhere");
        }
        check(&tree).unwrap();
    }
}
