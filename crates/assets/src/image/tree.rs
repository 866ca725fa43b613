//! Files in memory, on the way from packages to an image.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A directory.
    Directory,
    /// A regular file.
    File(Arc<Vec<u8>>),
    /// A symbolic link with its target.
    Symlink(String),
    /// A character device, for an initial RAM disk.
    Character {
        /// Kind of device.
        major: u32,
        /// Which of them.
        minor: u32,
    },
}

impl Content {
    /// A regular file.
    #[must_use]
    pub fn file(bytes: Vec<u8>) -> Self {
        Self::File(Arc::new(bytes))
    }
}

/// One path's content and attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Permission bits, 0 to 0o7777.
    pub mode: u16,
    /// Owner.
    pub uid: u16,
    /// Group.
    pub gid: u16,
    /// What it is.
    pub content: Content,
}

/// Paths, without a slash at either end, and what stands at them; the root directory is always there, as the empty path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Default for Tree {
    fn default() -> Self {
        let root = Node { mode: 0o755, uid: 0, gid: 0, content: Content::Directory };
        Self { nodes: BTreeMap::from([(String::new(), root)]) }
    }
}

impl Tree {
    /// Puts root's content at a path, making directories above it; what stood there is replaced.
    pub fn insert(&mut self, path: &str, mode: u32, content: Content) {
        self.insert_owned(path, mode, (0, 0), content);
    }

    pub(crate) fn insert_owned(&mut self, path: &str, mode: u32, (uid, gid): (u16, u16), content: Content) {
        if let Some((parent, _)) = path.rsplit_once('/')
            && !matches!(self.nodes.get(parent), Some(Node { content: Content::Directory, .. }))
        {
            self.directory(parent);
        }
        let mode = (mode & 0o7777) as u16;
        self.nodes.insert(path.to_owned(), Node { mode, uid, gid, content });
    }

    /// Makes a directory that everyone may read.
    pub fn directory(&mut self, path: &str) {
        self.insert(path, 0o755, Content::Directory);
    }

    /// Makes a file that everyone may read.
    pub fn file(&mut self, path: &str, content: impl Into<Vec<u8>>) {
        self.insert(path, 0o644, Content::file(content.into()));
    }

    /// Makes a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) {
        self.insert(path, 0o777, Content::Symlink(target.to_owned()));
    }

    /// What stands at a path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// The bytes of a regular file.
    #[must_use]
    pub fn bytes(&self, path: &str) -> Option<&Arc<Vec<u8>>> {
        match self.get(path) {
            Some(Node { content: Content::File(bytes), .. }) => Some(bytes),
            _ => None,
        }
    }

    /// Takes a path out.
    pub fn remove(&mut self, path: &str) -> Option<Node> {
        if path.is_empty() { None } else { self.nodes.remove(path) }
    }

    /// Keeps only the paths that a rule accepts, and the root; the rule must accept the directories above what it accepts.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.nodes.retain(|path, _| path.is_empty() || keep(path));
    }

    /// Puts another tree's content over this one's.
    pub fn merge(&mut self, other: Self) {
        for (path, node) in other.nodes {
            // A directory that several packages share keeps what the first said of it.
            if node.content == Content::Directory && self.nodes.contains_key(&path) {
                continue;
            }
            self.insert_owned(&path, node.mode.into(), (node.uid, node.gid), node.content);
        }
    }

    /// Everything, by path: a directory comes before what is in it.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// Paths of everything below a directory.
    pub fn below<'a>(&'a self, directory: &'a str) -> impl Iterator<Item = (&'a str, &'a Node)> + 'a {
        let inside = move |path: &str| path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
        self.iter().filter(move |(path, _)| inside(path))
    }
}
