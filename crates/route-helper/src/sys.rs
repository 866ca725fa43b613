//! The three things that only unsafe code can do.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Opcode, Setter, ioctl};

/// `TUNSETIFF` (`linux/if_tun.h`): `_IOW('T', 202, int)`.
pub const TUNSETIFF: Opcode = rustix::ioctl::opcode::write::<libc::c_int>(b'T', 202);
/// Packets without a header before them, never a device that exists already.
const FLAGS: libc::c_short = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL) as libc::c_short;

/// Makes `tun`, a new description of `/dev/net/tun`, the new device `name`.
pub fn make_device(tun: impl AsFd, name: &str) -> io::Result<()> {
    // SAFETY: all bytes zero are a valid `ifreq`: it is made of integers and arrays of them.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_flags = FLAGS;
    // SAFETY: TUNSETIFF takes a pointer to an `ifreq`, whatever its opcode says about an int.
    Ok(unsafe { ioctl(tun, Setter::<TUNSETIFF, libc::ifreq>::new(request)) }?)
}

/// Closes every descriptor but standard input, output and error. To be called before anything else is open.
pub fn close_others() -> io::Result<()> {
    // SAFETY: nothing in this process owns a descriptor yet, so that none is closed under its owner.
    match unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Empties the environment. To be called while there is one thread.
pub fn clear_environment() {
    for (name, _) in std::env::vars_os().collect::<Vec<_>>() {
        // SAFETY: there is one thread, so that nobody reads the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
}
