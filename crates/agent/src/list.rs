//! The lists of kernel modules that the boot assets carry: one file name a line, in an order in which each module
//! stands after those it needs.

use std::path::{Component, Path, PathBuf};

/// What a line names: a module's file and the name that the kernel knows it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where its file is.
    pub file: PathBuf,
    /// `nf_tables` for `nf-tables.ko.xz`.
    pub name: String,
    /// The kernel must decompress it (`MODULE_INIT_COMPRESSED_FILE`).
    pub compressed: bool,
}

/// A line that names no module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text:?} is not the file of a kernel module")]
pub struct BadLine {
    /// Counted from 1.
    pub line: usize,
    /// What stands there.
    pub text: String,
}

/// Reads a list. Relative names are relative to `base`; empty lines and those that begin with `#` say nothing.
pub fn parse(text: &str, base: &Path) -> Result<Vec<Listed>, BadLine> {
    let mut modules = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let bad = || BadLine { line: index + 1, text: line.to_owned() };
        let path = Path::new(line);
        if path.components().any(|part| matches!(part, Component::ParentDir)) {
            return Err(bad());
        }
        let file_name = path.file_name().and_then(|name| name.to_str()).ok_or_else(bad)?;
        let (stem, extension) = file_name.split_once(".ko").ok_or_else(bad)?;
        let compressed = match extension {
            "" => false,
            ".xz" | ".zst" | ".gz" => true,
            _ => return Err(bad()),
        };
        if stem.is_empty() {
            return Err(bad());
        }
        modules.push(Listed { file: base.join(path), name: stem.replace('-', "_"), compressed });
    }
    Ok(modules)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 7.5.
    #[test]
    fn a_list_names_files_and_modules_in_its_order() {
        let text = "# made by the builder\nvirtio_blk.ko.xz\n\n  net/nf-tables.ko  \n/abs/erofs.ko.zst\n";
        let modules = parse(text, Path::new("/modules")).unwrap();
        let seen: Vec<_> =
            modules.iter().map(|m| (m.file.to_str().unwrap(), m.name.as_str(), m.compressed)).collect();
        assert_eq!(
            seen,
            [
                ("/modules/virtio_blk.ko.xz", "virtio_blk", true),
                ("/modules/net/nf-tables.ko", "nf_tables", false),
                ("/abs/erofs.ko.zst", "erofs", true),
            ]
        );
    }

    #[test]
    fn a_line_that_names_no_module_is_an_error_with_its_number() {
        for (text, line) in [("a.ko\nb.txt", 2), (".ko", 1), ("a.ko.exe", 1), ("../a.ko", 1)] {
            assert_eq!(parse(text, Path::new("/")).unwrap_err().line, line, "{text:?}");
        }
    }
}
