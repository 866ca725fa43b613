//! What the program gives up before it reads its first byte. It runs with a capability that its caller does not have, so
//! everything that the caller chose is suspect: descriptors, environment, working directory, the socket itself.

use std::io;
use std::os::unix::net::UnixStream;

use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::{Error, Result, sys};

/// Checks how the program was started, and leaves it with one capability, a handful of system calls and the socket that
/// is its standard input. To be called first, and once.
///
/// # Errors
/// When it was not started by a supervisor, has no `CAP_NET_ADMIN`, or cannot give something up.
pub fn confine() -> Result<UnixStream> {
    let gives_up = |what| move |source: io::Error| Error::Confine { what, source };
    sys::close_others().map_err(gives_up("other descriptors"))?;
    sys::clear_environment();
    rustix::process::chdir("/").map_err(|e| gives_up("the working directory")(e.into()))?;
    let stream = socket()?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|e| gives_up("being traced")(e.into()))?;
    drop_capabilities()?;
    rustix::thread::set_no_new_privs(true).map_err(|e| gives_up("new privileges")(e.into()))?;
    let filter = filter().map_err(|e| gives_up("other system calls")(io::Error::other(e)))?;
    seccompiler::apply_filter(&filter).map_err(|e| gives_up("other system calls")(io::Error::other(e)))?;
    Ok(stream)
}

/// Standard input, if it is one end of a pair that our own caller made.
fn socket() -> Result<UnixStream> {
    let stdin = rustix::stdio::stdin();
    let is_ours = sockopt::socket_domain(stdin) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(stdin) == Ok(SocketType::STREAM);
    if !is_ours {
        return Err(Error::BadStart("its standard input is no Unix stream socket"));
    }
    let peer = sockopt::socket_peercred(stdin).map_err(|e| Error::Conversation(e.into()))?;
    if peer.uid != rustix::process::getuid() {
        return Err(Error::BadStart("the other end of its socket is another user's"));
    }
    Ok(stdin.try_clone_to_owned().map_err(Error::Conversation)?.into())
}

fn drop_capabilities() -> Result<()> {
    let failed = |e: rustix::io::Errno| Error::Confine { what: "other capabilities", source: e.into() };
    let has = rustix::thread::capabilities(None).map_err(failed)?;
    if !has.permitted.contains(CapabilitySet::NET_ADMIN) {
        return Err(Error::NoCapability);
    }
    rustix::thread::clear_ambient_capability_set().map_err(failed)?;
    if has.effective.contains(CapabilitySet::SETPCAP) {
        // Only root may do this, and only root needs to: without it no program could be started with more.
        for bit in CapabilitySet::all().iter().filter(|bit| *bit != CapabilitySet::NET_ADMIN) {
            match rustix::thread::remove_capability_from_bounding_set(bit) {
                Ok(()) | Err(rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
    let only = CapabilitySet::NET_ADMIN;
    let sets = CapabilitySets { effective: only, permitted: only, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).map_err(failed)
}

/// No program can be started, no process touched, no socket opened but a netlink one.
fn filter() -> seccompiler::Result<BpfProgram> {
    let only = |argument: u8, values: &[u64]| -> seccompiler::Result<Vec<SeccompRule>> {
        let rule = |value: &u64| {
            let is = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, *value)?;
            SeccompRule::new(vec![is])
        };
        Ok(values.iter().map(rule).collect::<Result<_, _>>()?)
    };
    let numbers = |values: &[i64]| values.iter().filter_map(|v| u64::try_from(*v).ok()).collect::<Vec<_>>();
    let requests = [
        i64::from(sys::TUNSETIFF),
        i64::from(libc::SIOCGIFINDEX as u32),
        i64::from(libc::SIOCGIFNAME as u32),
    ];
    let mut rules: Vec<(i64, Vec<SeccompRule>)> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    rules.push((libc::SYS_ioctl, only(1, &numbers(&requests))?));
    rules.push((libc::SYS_socket, only(0, &numbers(&[libc::AF_NETLINK.into()]))?));
    let arch = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(
        rules.into_iter().collect(),
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        arch,
    )?;
    Ok(filter.try_into()?)
}

/// What serving takes, beside what memory, standard library and an orderly end do.
const ALLOWED: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_setsockopt,
    libc::SYS_ppoll,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];
