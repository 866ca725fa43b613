//! Kernel modules: unpacked, understood from their own `.modinfo` section, and put in an order in which each comes after what
//! it depends on. Debian's packages carry no `modules.dep`; `depmod` would run on installation, and here nothing does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use crate::error::{Error, Result};
use crate::image::elf::Elf;
use crate::image::tree::Tree;

/// One module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Name as the kernel knows it, with underscores.
    pub name: String,
    /// Path of the `.ko` in the tree.
    pub path: String,
    /// Names of modules that it needs.
    pub depends: Vec<String>,
    /// Patterns by which the kernel asks for it.
    pub aliases: Vec<String>,
}

/// The modules of one kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modules {
    by_name: BTreeMap<String, Module>,
    builtin: BTreeSet<String>,
}

impl Modules {
    /// Unpacks the modules below a directory of a tree (`usr/lib/modules/VERSION`) to plain `.ko` files, and reads them.
    ///
    /// # Errors
    /// A module is no ELF file, or packed in a way that is not known.
    pub fn unpack(tree: &mut Tree, directory: &str) -> Result<Self> {
        let packed: Vec<String> = tree.below(directory).map(|(path, _)| path.to_owned()).collect();
        let mut modules = Self::default();
        for path in packed {
            let Some(stem) = path.find(".ko").map(|at| path[..at].to_owned()) else { continue };
            let Some(bytes) = tree.bytes(&path).cloned() else { continue };
            let suffix = &path[stem.len() + 3..];
            let content = decompress(&bytes, suffix)
                .map_err(|error| Error::malformed(&path, "kernel module", error))?;
            let plain = format!("{stem}.ko");
            let module = read(content.as_deref().unwrap_or(&bytes), &plain)
                .ok_or_else(|| Error::malformed(&path, "kernel module", "it has no .modinfo section"))?;
            if let Some(content) = content {
                tree.remove(&path);
                tree.file(&plain, content);
            }
            modules.by_name.insert(module.name.clone(), module);
        }
        let builtin = tree.bytes(&format!("{directory}/modules.builtin")).cloned().unwrap_or_default();
        modules.builtin = String::from_utf8_lossy(&builtin).lines().map(name_of).collect();
        Ok(modules)
    }

    /// Whether the kernel has this built in.
    #[must_use]
    pub fn is_builtin(&self, name: &str) -> bool {
        self.builtin.contains(name)
    }

    /// The modules of these names and all that they need, each after what it needs; names that are built in, or that this
    /// kernel does not have, are left out.
    #[must_use]
    pub fn in_order(&self, names: &[&str]) -> Vec<&Module> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in names {
            self.visit(name, &mut seen, &mut order);
        }
        order
    }

    fn visit<'a>(&'a self, name: &str, seen: &mut BTreeSet<&'a str>, order: &mut Vec<&'a Module>) {
        let Some((key, module)) = self.by_name.get_key_value(name) else { return };
        if seen.insert(key) {
            for needed in &module.depends {
                self.visit(needed, seen, order);
            }
            order.push(module);
        }
    }

    /// `modules.dep` and `modules.alias` as modprobe reads them, paths relative to the directory.
    #[must_use]
    pub fn indices(&self, directory: &str) -> (String, String) {
        let relative = |path: &str| {
            path.strip_prefix(directory).map_or(path, |rest| rest.trim_start_matches('/')).to_owned()
        };
        let (mut dependencies, mut aliases) = (String::new(), String::new());
        for module in self.by_name.values() {
            let mut needed = self.in_order(&[&module.name]);
            needed.pop();
            let needed: Vec<String> = needed.iter().rev().map(|needed| relative(&needed.path)).collect();
            let separator = if needed.is_empty() { "" } else { " " };
            dependencies += &format!("{}:{separator}{}\n", relative(&module.path), needed.join(" "));
            for alias in &module.aliases {
                aliases += &format!("alias {alias} {}\n", module.name);
            }
        }
        (dependencies, aliases)
    }
}

/// `kernel/fs/foo-bar.ko` is the module `foo_bar`.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

fn decompress(bytes: &[u8], suffix: &str) -> std::io::Result<Option<Vec<u8>>> {
    let mut content = Vec::new();
    match suffix {
        "" => return Ok(None),
        ".xz" => lzma_rust2::XzReader::new(bytes, true).read_to_end(&mut content)?,
        ".gz" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut content)?,
        ".zst" => ruzstd::decoding::StreamingDecoder::new(bytes)
            .map_err(std::io::Error::other)?
            .read_to_end(&mut content)?,
        other => return Err(std::io::Error::other(format!("its compression {other} is not known"))),
    };
    Ok(Some(content))
}

fn read(content: &[u8], path: &str) -> Option<Module> {
    let info = Elf::parse(content)?.section(".modinfo")?;
    let fields: Vec<(String, String)> = info
        .split(|byte| *byte == 0)
        .filter_map(|field| std::str::from_utf8(field).ok()?.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let values = |wanted: &'static str| {
        fields.iter().filter(move |field| field.0 == wanted).map(|field| field.1.clone())
    };
    let split =
        |list: String| list.split(',').filter(|word| !word.is_empty()).map(name_of).collect::<Vec<_>>();
    let mut depends: Vec<String> = values("depends").flat_map(split).collect();
    depends.sort();
    Some(Module {
        name: values("name").next().map_or_else(|| name_of(path), |name| name.replace('-', "_")),
        path: path.to_owned(),
        depends,
        aliases: values("alias").collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modules(table: &[(&str, &[&str])]) -> Modules {
        let module = |(name, depends): &(&str, &[&str])| Module {
            name: (*name).to_owned(),
            path: format!("usr/lib/modules/6/kernel/{name}.ko"),
            depends: depends.iter().map(|name| (*name).to_owned()).collect(),
            aliases: vec![format!("fs-{name}")],
        };
        let by_name = table.iter().map(|row| (row.0.to_owned(), module(row))).collect();
        Modules { by_name, builtin: BTreeSet::new() }
    }

    #[test]
    fn each_module_comes_after_what_it_needs_and_only_once() {
        let modules =
            modules(&[("net", &["fail", "core"]), ("fail", &["core"]), ("core", &[]), ("other", &[])]);
        let names: Vec<&str> =
            modules.in_order(&["net", "absent", "fail"]).iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["core", "fail", "net"]);
    }

    #[test]
    fn the_indices_are_those_that_modprobe_reads() {
        let (dependencies, aliases) =
            modules(&[("a", &["b"]), ("b", &["c"]), ("c", &[])]).indices("usr/lib/modules/6");
        assert_eq!(
            dependencies,
            "kernel/a.ko: kernel/b.ko kernel/c.ko\nkernel/b.ko: kernel/c.ko\nkernel/c.ko:\n"
        );
        assert_eq!(aliases, "alias fs-a a\nalias fs-b b\nalias fs-c c\n");
    }

    #[test]
    fn a_cycle_ends() {
        assert_eq!(modules(&[("a", &["b"]), ("b", &["a"])]).in_order(&["a"]).len(), 2);
    }
}
