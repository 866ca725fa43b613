//! From packages to files of the store.

use std::io::Write as _;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::packages;
use crate::debian::deb;
use crate::error::{Error, Result};
use crate::guest::{initrd as disk, kernel, root};
use crate::hash;
use crate::image::erofs;
use crate::image::tree::Tree;
use crate::lock::Lock;
use crate::manifest::{Manifest, Output};
use crate::progress::{Progress, Report, Step, begin};
use crate::recipe::Recipe;
use crate::store::Store;

/// What depends on packages alone.
pub(super) struct Parts {
    pub(super) kernel_version: String,
    pub(super) kernel: Output,
    pub(super) initrd_base: Output,
    pub(super) root: Output,
}

impl Parts {
    /// Those of an earlier build.
    pub(super) fn of(manifest: &Manifest) -> Self {
        Self {
            kernel_version: manifest.kernel_version.clone(),
            kernel: manifest.kernel.clone(),
            initrd_base: manifest.initrd_base.clone(),
            root: manifest.root.clone(),
        }
    }
}

/// Unpacks the packages of a lock and makes everything but the agent's part.
pub(super) fn parts(store: &Store, recipe: &Recipe, lock: &Lock, report: Report<'_>) -> Result<Parts> {
    let mut tree = unpack(store, recipe, lock, report)?;
    begin(report, Step::Write, "kernel");
    let name = format!("boot/vmlinuz-{}", root::kernel_version(&tree)?);
    let packaged = tree.bytes(&name).cloned().ok_or_else(|| Error::Incomplete { what: name.clone() })?;
    let content = kernel::extract(&packaged, &name, lock.arch)?;
    let kernel = store.put(|sink| sink.write_all(&content))?;
    drop((packaged, content));
    begin(report, Step::Unpack, "kernel modules");
    let (modules, kernel_version) = root::complete(&mut tree, recipe)?;
    let archive = disk::base(&tree, &modules, recipe)
        .map_err(|error| Error::malformed("initial RAM disk", "cpio archive", error))?;
    let initrd_base = store.put(|sink| sink.write_all(&archive))?;
    begin(report, Step::Write, "root image");
    let uuid = uuid(recipe, lock);
    let root = store.put(|sink| erofs::write(&tree, uuid, sink).map(drop))?;
    Ok(Parts { kernel_version, kernel, initrd_base, root })
}

/// The part that packages decide, followed by the agent.
pub(super) fn initrd(store: &Store, base: &Output, agent: Vec<u8>) -> Result<Output> {
    store.put(|sink| {
        let mut source = std::fs::File::open(store.blob(&base.sha256))?;
        std::io::copy(&mut source, sink)?;
        sink.write_all(&disk::agent(agent)?)
    })
}

/// Names the image by what it is made from (RFC 9562, version 8: for uses of one's own).
fn uuid(recipe: &Recipe, lock: &Lock) -> [u8; 16] {
    let digest = hash::bytes(format!("{} {}", recipe.digest(), lock.digest()).as_bytes());
    let mut uuid = [0; 16];
    for (byte, pair) in uuid.iter_mut().zip(digest.as_bytes().chunks(2)) {
        *byte =
            std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()).unwrap_or(0);
    }
    uuid[6] = (uuid[6] & 0x0f) | 0x80;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
    uuid
}

/// Unpacks on every processor; the result is put together in the order of the lock, so that it does not depend on which was ready
/// first.
fn unpack(store: &Store, recipe: &Recipe, lock: &Lock, report: Report<'_>) -> Result<Tree> {
    let packages = &lock.packages;
    let mut largest_first: Vec<usize> = (0..packages.len()).collect();
    largest_first.sort_by_key(|index| std::cmp::Reverse(packages[*index].size));
    let next = AtomicUsize::new(0);
    let done = AtomicU64::new(0);
    let trees: Vec<Mutex<Option<Result<Tree>>>> = packages.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        while let Some(index) = largest_first.get(next.fetch_add(1, Ordering::Relaxed)) {
            let package = &packages[*index];
            let mut tree = Tree::default();
            let result = packages::read(store, package)
                .and_then(|content| {
                    deb::unpack(&content, &package.filename, &|path| recipe.keeps(path), &mut tree)
                })
                .map(|()| tree);
            *trees[*index].lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(result);
            done.fetch_add(package.size, Ordering::Relaxed);
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(8);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            thread::park_timeout(Duration::from_millis(50));
            let (done, total) = (done.load(Ordering::Relaxed), lock.total_size());
            report(Progress::Bytes { step: Step::Unpack, detail: "packages".to_owned(), done, total });
        }
    });
    let mut whole = Tree::default();
    for (tree, package) in trees.into_iter().zip(packages) {
        let tree = tree.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let lost = || Error::Incomplete { what: format!("content of {}", package.name) };
        whole.merge(tree.unwrap_or_else(|| Err(lost()))?);
    }
    Ok(whole)
}
