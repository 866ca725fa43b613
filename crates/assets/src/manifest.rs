//! What a build was made from and what came out.

use std::path::Path;

use dhow_model::{Arch, Input};
use serde::{Deserialize, Serialize};

use crate::hash;
use crate::lock::Lock;

/// Version of the manifest's form.
pub(crate) const FORMAT: u32 = 1;

/// A file by its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Digest.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

/// Digests of every input and output of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this form.
    pub format: u32,
    /// Version of Dhow that built it.
    pub dhow: String,
    /// The guest's architecture.
    pub arch: Arch,
    /// The kernel's version, as `uname -r` prints it.
    pub kernel_version: String,
    /// Digest of the recipe.
    pub recipe: String,
    /// The agent.
    pub agent: Output,
    /// The packages.
    pub lock: Lock,
    /// The kernel.
    pub kernel: Output,
    /// The initial RAM disk, whole.
    pub initrd: Output,
    /// Its part that packages decide, which a new agent is appended to.
    pub initrd_base: Output,
    /// The root image.
    pub root: Output,
}

impl Manifest {
    /// The file's content.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// Reads a manifest; the error says what is wrong with it.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let manifest: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if manifest.format != FORMAT {
            return Err(format!("it has format {}, and this Dhow reads {FORMAT}", manifest.format));
        }
        manifest.lock.check()?;
        if manifest.blobs().iter().any(|(_, output)| !hash::is_digest(&output.sha256)) {
            return Err("it has an invalid sha256".to_owned());
        }
        Ok(manifest)
    }

    /// The name by which it is known: the beginning of its own digest.
    #[must_use]
    pub fn id(&self) -> String {
        hash::bytes(&self.to_json())[..16].to_owned()
    }

    /// The files of a build that the store keeps, with what they are.
    pub(crate) fn blobs(&self) -> [(&'static str, &Output); 4] {
        [
            ("kernel", &self.kernel),
            ("initrd", &self.initrd),
            ("initrd base", &self.initrd_base),
            ("root image", &self.root),
        ]
    }

    /// Whether the parts that packages decide are the same as another build's would be.
    pub(crate) fn same_packages(&self, recipe: &str, lock: &Lock) -> bool {
        self.recipe == recipe && self.lock == *lock
    }
}

/// A build that stands in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The guest's architecture.
    pub arch: Arch,
    /// Its name, 16 hexadecimal digits.
    pub id: String,
    /// The kernel.
    pub kernel: Input,
    /// The initial RAM disk.
    pub initrd: Input,
    /// The root image.
    pub root: Input,
    /// What it was made from.
    pub manifest: Manifest,
}

impl Bundle {
    /// A bundle whose files stand in a directory under their digests.
    pub(crate) fn new(manifest: Manifest, blobs: &Path) -> Self {
        let input =
            |output: &Output| Input { path: blobs.join(&output.sha256), sha256: output.sha256.clone() };
        Self {
            arch: manifest.arch,
            id: manifest.id(),
            kernel: input(&manifest.kernel),
            initrd: input(&manifest.initrd),
            root: input(&manifest.root),
            manifest,
        }
    }

    /// Digests of what a machine that boots this uses, for [`crate::Store::register_use`].
    #[must_use]
    pub fn digests(&self) -> Vec<String> {
        [&self.kernel, &self.initrd, &self.root].map(|input| input.sha256.clone()).to_vec()
    }
}
