//! Directories of the host in the guest, at the same paths: a file server of our own for virtio-fs, in a process of its own for
//! each machine.
//!
//! ```text
//!  container ─► guest's kernel (virtiofs) ─► ring ─► vhost ─► fs ─► the host's files
//!                                             ▲ shared memory │
//!  supervisor ── starts, listening socket ──► process ── sandbox
//! ```
//!
//! - **One device and one process for all shares of a machine.** The guest mounts one file system, whose top holds each share by its
//!   number, and binds each to its path. One connection, one thread, one sandbox; asleep it is one process that waits.
//! - **Why our own**: `virtiofsd` needs C libraries and rights of root for what we do in an attribute; `fuse-backend-rs` changes its
//!   user for each request, which only root can. The protocol is small, and what is ours is what matters: whose files are,
//!   what is never opened, how many descriptors it takes.
//! - **Containment** (spec 14.3): a guest names one entry of one directory at a time; names with a slash, `.`, `..` and NUL are refused;
//!   nothing follows a link; everything is reached by an open directory with `openat2(BENEATH, NO_SYMLINKS, NO_MAGICLINKS)`,
//!   and opened by its own descriptor after it was found to be the file that was meant, so that no rename can put
//!   another in its place. Only regular files and directories are ever opened. Whether a share may be written to is asked here,
//!   for each request. Around all of it: Landlock, seccomp, no capability but root's over files if it is root's.
//! - **Whose files are** (spec 14.2): on the host the user's, always. What the guest sets with `chown`, the special bits of modes, and what a
//!   device node, FIFO or socket is, stand in `user.dhow.owner` beside the file. Without that record a file is seen with its owner's
//!   own numbers, as `docker run -v` on the host itself shows it. Where the file system has no such attributes the owner
//!   stays the user's, and device nodes cannot be made.
//! - **Fresh within a second**: names, their absence, attributes and contents are believed by the guest for 0.9 s, and by nobody for longer;
//!   listings bring attributes along. Writes go through to the host at once.
//! - **Millions of files**: what the guest knows costs memory here and no descriptor. Directories are kept open while there is room.
//! - **Sleep**: while the machine sleeps this process stays, with all that its guest knew and had open. What the hypervisor saves of
//!   the device says it too, by place and identity, so that another process can go on (`fs::saved`).
//! - **`inotify`**: programs in the guest are told of what the host changes in directories that the guest knows (`fs::watch`).
//! - **Locks** (`flock`, `fcntl`) are the guest's kernel's own: all containers see them, programs of the host do not.
#![forbid(unsafe_code)]

mod error;
#[cfg(target_os = "linux")]
mod fs;
#[cfg(all(target_os = "linux", any(test, feature = "fuzzing")))]
pub mod fuzzing;
pub mod news;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod sandbox;
#[cfg(target_os = "linux")]
mod vhost;

use std::ffi::OsString;

pub use error::{Error, Result};

/// The verb of Dhow's executable that is this process.
pub const VERB: &str = "serve-shares";
/// How the guest knows the device.
pub use dhow_model::SHARES_TAG as TAG;

/// What the process is started with, for shares in this order: a path, and whether the guest may write to it. `hidden` is a
/// directory that is not there for the guest.
pub fn words<'a>(
    shares: impl IntoIterator<Item = (&'a std::path::Path, bool)>,
    hidden: Option<&std::path::Path>,
) -> Vec<OsString> {
    let shares = shares.into_iter().flat_map(|(path, writable)| {
        [OsString::from(if writable { "read-write" } else { "read-only" }), path.into()]
    });
    let hidden = hidden.into_iter().flat_map(|path| [OsString::from("hidden"), path.into()]);
    std::iter::once(OsString::from(VERB)).chain(shares).chain(hidden).collect()
}

/// Whether this process was started to serve shares.
#[must_use]
pub fn is_wanted() -> bool {
    std::env::args_os().nth(1).is_some_and(|word| word == VERB)
}

/// Is the file server, until the supervisor that started it is gone.
///
/// # Errors
/// When it cannot serve.
pub fn run() -> Result<()> {
    #[cfg(target_os = "linux")]
    return process::run(std::env::args_os().skip(2));
    #[cfg(not(target_os = "linux"))]
    Err(Error::Unsupported)
}
