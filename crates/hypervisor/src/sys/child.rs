//! What a child does between fork and exec.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Lets the command's process keep these descriptors, start with a private umask in a process group of its own, and (on
/// Linux) die with the thread that spawns it.
///
/// The descriptors must stay open in this process until the command has been spawned. They are close-on-exec here; only
/// the child, after its fork, takes that off, so that no other child of this process can get them.
pub(crate) fn prepare(command: &mut Command, keep: Vec<RawFd>) {
    let parent = rustix::process::getpid();
    command.process_group(0);
    // SAFETY: the closure runs in the forked child of a process with threads, so it may only do what is
    // async-signal-safe: it makes plain system calls (fcntl, umask, prctl, getppid) and touches no lock and no heap.
    unsafe {
        command.pre_exec(move || {
            for fd in &keep {
                // SAFETY: the caller keeps the descriptor open until after the spawn, and fork copied the table.
                let fd = BorrowedFd::borrow_raw(*fd);
                rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
            }
            rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
            die_with_parent(parent)
        });
    }
}

/// Asks for SIGKILL when the spawning thread ends (`PR_SET_PDEATHSIG`), unless the process is already gone.
#[cfg(target_os = "linux")]
fn die_with_parent(parent: rustix::process::Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    if rustix::process::getppid() == Some(parent) {
        Ok(())
    } else {
        Err(io::Error::from(rustix::io::Errno::SRCH))
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_: rustix::process::Pid) -> io::Result<()> {
    Ok(())
}
