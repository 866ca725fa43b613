//! What the process gives up before it reads its first byte of a guest: rights of root beyond those over files, every file outside
//! of the shares (Landlock, where the kernel has it), and every system call that serving files does not need. None of it
//! takes a privilege.

use std::io;
use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::{Error, Result};

/// The newest set of Landlock's rules that is asked for; an older kernel enforces what it knows.
const LANDLOCK: ABI = ABI::V6;
/// More descriptors than this do not help.
const DESCRIPTORS: u64 = 1 << 20;

fn gives_up<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Error {
    move |source| Error::Confine { what, source: source.into() }
}

/// As many descriptors as the process may have; answers how many.
pub(crate) fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(DESCRIPTORS).min(DESCRIPTORS);
    let raised = Rlimit { current: Some(most), maximum: limit.maximum };
    let now = match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => most,
        Err(_) => limit.current.unwrap_or(1024),
    };
    usize::try_from(now).unwrap_or(1024)
}

/// Gives everything up. Answers what the kernel does not let it, in words for a log.
///
/// # Errors
/// When something that every supported kernel can does not work.
pub(crate) fn confine<'a>(shares: impl Iterator<Item = (&'a Path, bool)>) -> Result<Option<&'static str>> {
    rustix::process::chdir("/").map_err(gives_up("the working directory"))?;
    // The guest says what a file's mode is.
    rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(gives_up("being traced"))?;
    capabilities()?;
    rustix::thread::set_no_new_privs(true).map_err(gives_up("new privileges"))?;
    let missing = landlock(shares)?;
    let filter = filter().map_err(|error| gives_up("other system calls")(io::Error::other(error)))?;
    seccompiler::apply_filter(&filter)
        .map_err(|error| gives_up("other system calls")(io::Error::other(error)))?;
    Ok(missing)
}

/// Root keeps its rights over files, so that what root shares is shared; nobody else has any.
fn capabilities() -> Result<()> {
    let has = rustix::thread::capabilities(None).map_err(gives_up("capabilities"))?;
    let files = CapabilitySet::DAC_OVERRIDE | CapabilitySet::FOWNER;
    rustix::thread::clear_ambient_capability_set().map_err(gives_up("ambient capabilities"))?;
    if has.effective.contains(CapabilitySet::SETPCAP) {
        for bit in CapabilitySet::all().iter().filter(|bit| !files.contains(*bit)) {
            match rustix::thread::remove_capability_from_bounding_set(bit) {
                Ok(()) | Err(Errno::INVAL) => {}
                Err(error) => return Err(gives_up("bounding capabilities")(error)),
            }
        }
    }
    let only = files & has.permitted;
    let sets = CapabilitySets { effective: only, permitted: only, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).map_err(gives_up("capabilities"))
}

/// No file outside of the shares can be opened or changed, whatever this program does.
fn landlock<'a>(shares: impl Iterator<Item = (&'a Path, bool)>) -> Result<Option<&'static str>> {
    let failed = |error: landlock::RulesetError| gives_up("other files")(io::Error::other(error));
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(LANDLOCK)))
        .and_then(Ruleset::create)
        .map_err(failed)?;
    let mut ruleset = ruleset;
    for (path, writable) in shares {
        let access = if writable { AccessFs::from_all(LANDLOCK) } else { AccessFs::from_read(LANDLOCK) };
        let fd = PathFd::new(path).map_err(|error| gives_up("other files")(io::Error::other(error)))?;
        // No program is ever started from a share here.
        ruleset = ruleset.add_rule(PathBeneath::new(fd, access & !AccessFs::Execute)).map_err(failed)?;
    }
    let status = ruleset.restrict_self().map_err(failed)?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => None,
        RulesetStatus::PartiallyEnforced => Some("this kernel's Landlock is older than what was asked of it"),
        RulesetStatus::NotEnforced => Some("this kernel has no Landlock; the file server has one wall less"),
    })
}

/// No program can be started, no socket opened, no process touched.
fn filter() -> seccompiler::Result<BpfProgram> {
    let only = |argument: u8, value: u64| -> seccompiler::Result<Vec<SeccompRule>> {
        let is = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)?;
        Ok(vec![SeccompRule::new(vec![is])?])
    };
    let mut rules: Vec<(i64, Vec<SeccompRule>)> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    rules.push((libc::SYS_ioctl, only(1, libc::FIONBIO)?));
    let arch = std::env::consts::ARCH.try_into()?;
    let refused = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let filter = SeccompFilter::new(rules.into_iter().collect(), refused, SeccompAction::Allow, arch)?;
    Ok(filter.try_into()?)
}

/// What serving takes, beside what memory, standard library and an orderly end do.
const ALLOWED: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_pwritev2,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_statx,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_fstatfs,
    libc::SYS_fcntl,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_readlinkat,
    libc::SYS_renameat2,
    libc::SYS_fchmodat,
    libc::SYS_utimensat,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_copy_file_range,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_syncfs,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_setxattr,
    libc::SYS_listxattr,
    libc::SYS_removexattr,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    libc::SYS_geteuid,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_accept4,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_exit,
    libc::SYS_exit_group,
];
