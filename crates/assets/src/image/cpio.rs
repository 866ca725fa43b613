//! cpio archives of the kind that the kernel unpacks as its initial RAM disk (`newc`; Documentation/driver-api/early-userspace/
//! buffer-format.rst). Uncompressed: under software emulation decompressing costs more than reading. Archives may
//! follow each other.

use std::io::{self, Write};

use super::tree::{Content, Tree};

/// The kernel accepts zeros between archives; whole sectors keep them aligned.
const ALIGNMENT: usize = 512;

/// Writes a tree as one archive, padded to whole sectors.
///
/// # Errors
/// The output cannot be written.
pub fn write(tree: &Tree, output: &mut impl Write) -> io::Result<()> {
    let mut written = 0;
    for (index, (path, node)) in tree.iter().filter(|(path, _)| !path.is_empty()).enumerate() {
        let mode = u32::from(node.mode);
        let (mode, content, device): (u32, &[u8], (u32, u32)) = match &node.content {
            Content::Directory => (0o040_000 | mode, &[], (0, 0)),
            Content::File(bytes) => (0o100_000 | mode, bytes, (0, 0)),
            Content::Symlink(target) => (0o120_000 | mode, target.as_bytes(), (0, 0)),
            Content::Character { major, minor } => (0o020_000 | mode, &[], (*major, *minor)),
        };
        let ids = (node.uid.into(), node.gid.into());
        let entry = Entry { inode: index as u32 + 1, mode, ids, device, path, content };
        written += entry.write(output)?;
    }
    let end = Entry { inode: 0, mode: 0, ids: (0, 0), device: (0, 0), path: "TRAILER!!!", content: &[] };
    written += end.write(output)?;
    output.write_all(&vec![0; written.next_multiple_of(ALIGNMENT) - written])
}

struct Entry<'a> {
    inode: u32,
    mode: u32,
    ids: (u32, u32),
    device: (u32, u32),
    path: &'a str,
    content: &'a [u8],
}

impl Entry<'_> {
    fn write(&self, output: &mut impl Write) -> io::Result<usize> {
        let links = if self.mode & 0o170_000 == 0o040_000 { 2 } else { 1 };
        let size = u32::try_from(self.content.len()).map_err(io::Error::other)?;
        let name = self.path.len() as u32 + 1;
        let fields = [
            self.inode,
            self.mode,
            self.ids.0,
            self.ids.1,
            links,
            0,
            size,
            0,
            0,
            self.device.0,
            self.device.1,
            name,
            0,
        ];
        let mut header = b"070701".to_vec();
        for field in fields {
            header.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        header.extend_from_slice(self.path.as_bytes());
        header.push(0);
        header.resize(header.len().next_multiple_of(4), 0);
        output.write_all(&header)?;
        output.write_all(self.content)?;
        let padded = self.content.len().next_multiple_of(4);
        output.write_all(&vec![0; padded - self.content.len()])?;
        Ok(header.len() + padded)
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Checked against another implementation where there is one.
    #[test]
    fn cpio_lists_what_was_written() {
        let mut tree = Tree::default();
        tree.file("modules/a.ko", b"abcde".to_vec());
        tree.symlink("link", "modules/a.ko");
        tree.insert("dev/console", 0o600, Content::Character { major: 5, minor: 1 });
        let mut archive = Vec::new();
        write(&tree, &mut archive).unwrap();
        assert_eq!(archive.len() % ALIGNMENT, 0);
        let program = ["cpio", "busybox"].into_iter().find(|name| {
            Command::new(name).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
        });
        let Some(program) = program else {
            println!("skipped: neither cpio nor busybox is installed");
            return;
        };
        let mut command = Command::new(program);
        if program == "busybox" {
            command.arg("cpio");
        }
        let mut child = command
            .args(["-t", "-v"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it was there");
        child.stdin.take().unwrap().write_all(&archive).unwrap();
        let listing = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        for word in ["crw-------", "dev/console", "modules/a.ko", "link -> modules/a.ko", "drwxr-xr-x"] {
            assert!(listing.contains(word), "{word} is missing in:\n{listing}");
        }
    }
}
