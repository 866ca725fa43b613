//! A writer of read-only EROFS images (Documentation/filesystems/erofs.rst; fs/erofs/erofs_fs.h), uncompressed and
//! deterministic: the same tree and UUID give the same bytes, on any host and without privileges.
//!
//! ```text
//!  block 0        superblock at byte 1024, then inodes: 32 bytes each, followed by the tail of small content
//!  ...
//!  data blocks    whole blocks of directories and files, in the order of their paths
//! ```
//!
//! Uncompressed on purpose: a page fault reads, and nothing is decompressed. Under software emulation that is the larger cost,
//! and elsewhere the host's page cache has the image anyway.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::tree::{Content, Node, Tree};

const BLOCK: usize = 4096;
const BLOCK_BITS: u8 = 12;
const MAGIC: u32 = 0xE0F5_E1E2;
const SUPERBLOCK: usize = 1024;
const SUPERBLOCK_SIZE: usize = 128;
const SLOT: usize = 32;
const DIRENT: usize = 12;
/// `EROFS_INODE_FLAT_PLAIN`, `EROFS_INODE_FLAT_INLINE`.
const PLAIN: u16 = 0;
const INLINE: u16 = 2;
/// `EROFS_FT_*`.
const REGULAR: u8 = 1;
const DIRECTORY: u8 = 2;
const CHARACTER: u8 = 3;
const SYMLINK: u8 = 7;

/// Writes a tree as an image; gives back its length, whole blocks.
///
/// # Errors
/// The output cannot be written; a tree that the format cannot hold (a file of 4 GiB or more, an image of 16 TiB).
pub fn write(tree: &Tree, uuid: [u8; 16], output: &mut impl Write) -> io::Result<u64> {
    let plan = Plan::new(tree)?;
    output.write_all(&plan.metadata(uuid)?)?;
    let mut length = plan.metadata_blocks * BLOCK;
    for inode in &plan.inodes {
        let content = plan.content(inode);
        let stored = &content[..inode.stored];
        output.write_all(stored)?;
        output.write_all(&vec![0; stored.len().next_multiple_of(BLOCK) - stored.len()])?;
        length += stored.len().next_multiple_of(BLOCK);
    }
    Ok(length as u64)
}

/// Where everything goes, decided before anything is written: directories name inodes by their position.
struct Plan<'a> {
    inodes: Vec<Inode<'a>>,
    metadata_blocks: usize,
    data_blocks: usize,
}

struct Inode<'a> {
    node: &'a Node,
    /// Byte at which the inode stands; its number is that divided by the size of a slot.
    position: usize,
    size: usize,
    /// Bytes of the content that stand in data blocks; the rest follows the inode.
    stored: usize,
    first_block: usize,
    links: u32,
    directory: Vec<u8>,
}

impl<'a> Plan<'a> {
    fn new(tree: &'a Tree) -> io::Result<Self> {
        let entries: Vec<(&str, &Node)> = tree.iter().collect();
        let index: BTreeMap<&str, usize> =
            entries.iter().enumerate().map(|(at, (path, _))| (*path, at)).collect();
        let children = children(&entries, &index)?;
        let mut position = SUPERBLOCK + SUPERBLOCK_SIZE;
        let mut data_blocks = 0;
        let mut inodes = Vec::with_capacity(entries.len());
        for (at, (_, node)) in entries.iter().enumerate() {
            let size = match &node.content {
                Content::File(bytes) => bytes.len(),
                Content::Symlink(target) => target.len(),
                Content::Directory => directory_size(children[at].iter().map(|(name, _)| name.len())),
                Content::Character { .. } => 0,
            };
            let tail = size % BLOCK;
            let inline = tail > 0 && SLOT + tail <= BLOCK;
            let stored = if inline { size - tail } else { size };
            let needed = SLOT + if inline { tail } else { 0 };
            if position % BLOCK + needed > BLOCK {
                position = position.next_multiple_of(BLOCK);
            }
            // A directory is linked from its parent, from its own `.` and from each child's `..`; its own `..` stands for
            // the first, so that counting its entries that are directories gives the same.
            let linked = children[at].iter().filter(|(_, child)| is_directory(entries[*child].1)).count();
            let links = if is_directory(node) { linked as u32 } else { 1 };
            inodes.push(Inode {
                node,
                position,
                size,
                stored,
                first_block: data_blocks,
                links,
                directory: Vec::new(),
            });
            data_blocks += stored.div_ceil(BLOCK);
            position = (position + needed).next_multiple_of(SLOT);
        }
        for at in 0..inodes.len() {
            if is_directory(entries[at].1) {
                inodes[at].directory = directory(&children[at], &inodes);
            }
        }
        let plan = Self { inodes, metadata_blocks: position.div_ceil(BLOCK), data_blocks };
        match u32::try_from(plan.metadata_blocks + plan.data_blocks) {
            Ok(_) => Ok(plan),
            Err(_) => Err(io::Error::other("the tree is too large for one image")),
        }
    }

    fn content<'b>(&'b self, inode: &'b Inode<'a>) -> &'b [u8] {
        match &inode.node.content {
            Content::File(bytes) => bytes,
            Content::Symlink(target) => target.as_bytes(),
            Content::Directory => &inode.directory,
            Content::Character { .. } => &[],
        }
    }

    /// Superblock, inodes and tails.
    fn metadata(&self, uuid: [u8; 16]) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.metadata_blocks * BLOCK];
        self.superblock(uuid, &mut bytes[SUPERBLOCK..SUPERBLOCK + SUPERBLOCK_SIZE]);
        for (number, inode) in self.inodes.iter().enumerate() {
            let content = self.content(inode);
            let head = self.inode(number as u32 + 1, inode)?;
            bytes[inode.position..inode.position + SLOT].copy_from_slice(&head);
            let tail = &content[inode.stored..];
            bytes[inode.position + SLOT..inode.position + SLOT + tail.len()].copy_from_slice(tail);
        }
        Ok(bytes)
    }

    /// `struct erofs_super_block`. No feature is claimed: the oldest kernel with EROFS reads the image.
    fn superblock(&self, uuid: [u8; 16], bytes: &mut [u8]) {
        let blocks = (self.metadata_blocks + self.data_blocks) as u32;
        let root = self.inodes.first().map_or(0, |root| root.position / SLOT) as u16;
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[12] = BLOCK_BITS;
        bytes[14..16].copy_from_slice(&root.to_le_bytes());
        bytes[16..24].copy_from_slice(&(self.inodes.len() as u64).to_le_bytes());
        bytes[36..40].copy_from_slice(&blocks.to_le_bytes());
        bytes[48..64].copy_from_slice(&uuid);
    }

    /// `struct erofs_inode_compact`: its time is the superblock's, which is 0.
    fn inode(&self, number: u32, inode: &Inode<'a>) -> io::Result<[u8; SLOT]> {
        let (kind, union) = match &inode.node.content {
            Content::Directory => (0o040_000, None),
            Content::File(_) => (0o100_000, None),
            Content::Symlink(_) => (0o120_000, None),
            // `new_encode_dev` of the kernel.
            Content::Character { major, minor } => {
                (0o020_000, Some((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)))
            }
        };
        let layout = if inode.stored < inode.size { INLINE } else { PLAIN };
        let block = (self.metadata_blocks + inode.first_block) as u32;
        let size = u32::try_from(inode.size).map_err(|_| io::Error::other("a file is 4 GiB or larger"))?;
        let links = u16::try_from(inode.links).map_err(io::Error::other)?;
        let mut bytes = [0; SLOT];
        bytes[0..2].copy_from_slice(&(layout << 1).to_le_bytes());
        bytes[4..6].copy_from_slice(&(kind | inode.node.mode).to_le_bytes());
        bytes[6..8].copy_from_slice(&links.to_le_bytes());
        bytes[8..12].copy_from_slice(&size.to_le_bytes());
        bytes[16..20].copy_from_slice(&union.unwrap_or(block).to_le_bytes());
        bytes[20..24].copy_from_slice(&number.to_le_bytes());
        bytes[24..26].copy_from_slice(&inode.node.uid.to_le_bytes());
        bytes[26..28].copy_from_slice(&inode.node.gid.to_le_bytes());
        Ok(bytes)
    }
}

fn is_directory(node: &Node) -> bool {
    node.content == Content::Directory
}

/// The entries of each directory, `.` and `..` among them, sorted by bytes as a lookup expects.
fn children<'a>(
    entries: &[(&'a str, &Node)],
    index: &BTreeMap<&str, usize>,
) -> io::Result<Vec<Vec<(&'a str, usize)>>> {
    let mut children: Vec<Vec<(&str, usize)>> = vec![Vec::new(); entries.len()];
    for (at, (path, node)) in entries.iter().enumerate() {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let above = index.get(parent).copied().filter(|above| is_directory(entries[*above].1));
        let above = above.ok_or_else(|| io::Error::other(format!("{path} stands in no directory")))?;
        if !path.is_empty() {
            children[above].push((name, at));
        }
        if is_directory(node) {
            children[at].push((".", at));
            children[at].push(("..", above));
        }
    }
    for list in &mut children {
        list.sort_unstable_by(|left, right| left.0.as_bytes().cmp(right.0.as_bytes()));
    }
    Ok(children)
}

/// How many of the next entries fit into one block.
fn fitting(lengths: impl Iterator<Item = usize>) -> (usize, usize) {
    let (mut count, mut used) = (0, 0);
    for length in lengths {
        if used + DIRENT + length > BLOCK {
            break;
        }
        used += DIRENT + length;
        count += 1;
    }
    (count, used)
}

fn directory_size(lengths: impl Iterator<Item = usize>) -> usize {
    let lengths: Vec<usize> = lengths.collect();
    let (mut rest, mut size) = (lengths.as_slice(), 0);
    while !rest.is_empty() {
        let (count, used) = fitting(rest.iter().copied());
        rest = &rest[count.max(1)..];
        size += if rest.is_empty() { used } else { BLOCK };
    }
    size
}

/// Blocks of `struct erofs_dirent`, each followed by its names.
fn directory(children: &[(&str, usize)], inodes: &[Inode<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = children;
    while !rest.is_empty() {
        let (count, _) = fitting(rest.iter().map(|(name, _)| name.len()));
        let (block, later) = rest.split_at(count.max(1));
        let mut offset = block.len() * DIRENT;
        for (name, child) in block {
            let inode = &inodes[*child];
            let kind = match inode.node.content {
                Content::Directory => DIRECTORY,
                Content::File(_) => REGULAR,
                Content::Symlink(_) => SYMLINK,
                Content::Character { .. } => CHARACTER,
            };
            bytes.extend_from_slice(&((inode.position / SLOT) as u64).to_le_bytes());
            bytes.extend_from_slice(&(offset as u16).to_le_bytes());
            bytes.extend_from_slice(&[kind, 0]);
            offset += name.len();
        }
        for (name, _) in block {
            bytes.extend_from_slice(name.as_bytes());
        }
        rest = later;
        if !rest.is_empty() {
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Names and sizes at the format's edges: directories of several blocks, names that sort before `.`, tails that just fit.
    fn edges() -> Tree {
        let mut tree = Tree::default();
        for size in [0, 1, 4063, 4064, 4065, 4095, 4096, 4097, 8192 + 4064, 8192 + 4065, 100_000] {
            tree.file(&format!("sizes/{size}"), vec![size as u8 | 1; size]);
        }
        for number in 0..1000 {
            tree.file(&format!("many/+{number}-of a long enough name"), number.to_string());
        }
        for name in ["!first", "-dash", ".hidden", "..twice", "zed", "ümlaut"] {
            tree.symlink(&format!("names/{name}"), &"target/".repeat(40));
        }
        tree.directory("empty");
        tree
    }

    #[test]
    fn the_same_tree_gives_the_same_whole_blocks() {
        let images = [edges(), edges()].map(|tree| {
            let mut image = Vec::new();
            assert_eq!(write(&tree, [7; 16], &mut image).unwrap(), image.len() as u64);
            image
        });
        assert!(images[0] == images[1]);
        assert_eq!(images[0].len() % BLOCK, 0);
    }

    #[test]
    fn another_implementation_reads_what_was_written() {
        if Command::new("fsck.erofs").arg("--version").output().is_err() {
            println!("skipped: erofs-utils is not installed");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let (image, extracted) = (directory.path().join("image"), directory.path().join("extracted"));
        let mut file = std::fs::File::create(&image).unwrap();
        write(&edges(), [7; 16], &mut file).unwrap();
        let mut command = Command::new("fsck.erofs");
        let output = command.arg(format!("--extract={}", extracted.display())).arg(&image).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for (path, node) in edges().iter() {
            let found = extracted.join(path);
            match &node.content {
                Content::File(bytes) => assert!(std::fs::read(&found).unwrap() == **bytes, "{path}"),
                Content::Symlink(target) => {
                    assert_eq!(std::fs::read_link(&found).unwrap().to_str(), Some(target.as_str()))
                }
                _ => assert!(found.is_dir(), "{path}"),
            }
        }
        assert_eq!(extracted.join("many").read_dir().unwrap().count(), 1000);
    }

    #[test]
    fn a_file_below_a_file_is_refused() {
        let mut tree = Tree::default();
        tree.file("a/b", "x");
        tree.file("a", "y");
        assert!(write(&tree, [0; 16], &mut Vec::new()).is_err());
    }
}
