//! The kernel calls that take a struct by address: what the random generator is seeded with, which blocks a file system lets go, and a
//! file by its file system's own number.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};

use rustix::ioctl::{NoArg, Opcode, Setter, Updater, ioctl, opcode};

/// `RNDADDENTROPY` of `linux/random.h`, which is declared with the head of its struct alone.
const ADD_ENTROPY: Opcode = opcode::write::<[i32; 2]>(b'R', 0x03);
/// `RNDRESEEDCRNG` of the same.
const RESEED: Opcode = opcode::none(b'R', 0x07);
/// `FITRIM` of `linux/fs.h`.
const TRIM: Opcode = opcode::read_write::<[u64; 3]>(b'X', 121);

/// Most bytes of one seed.
pub const SEED: usize = 512;

/// `struct rand_pool_info` of `linux/random.h`.
#[repr(C)]
struct Pool {
    /// Bits that the bytes are worth.
    entropy: i32,
    /// How many of them count.
    length: i32,
    bytes: [u8; SEED],
}

/// Gives the kernel's random generator bytes that nobody in the guest knows; what is beyond [`SEED`] is left out.
pub fn add_entropy(random: &File, seed: &[u8]) -> std::io::Result<()> {
    let seed = &seed[..seed.len().min(SEED)];
    let length = i32::try_from(seed.len()).unwrap_or(0);
    let mut pool = Pool { entropy: length * 8, length, bytes: [0; SEED] };
    pool.bytes[..seed.len()].copy_from_slice(seed);
    // SAFETY: the kernel reads the head and `length` bytes behind it, which are inside of the struct.
    unsafe { ioctl(random, Setter::<ADD_ENTROPY, Pool>::new(pool)) }.map_err(Into::into)
}

/// Has the kernel make new keys from what it was given, now and not in a minute.
pub fn reseed(random: &File) -> std::io::Result<()> {
    // SAFETY: it takes no argument.
    unsafe { ioctl(random, NoArg::<RESEED>::new()) }.map_err(Into::into)
}

/// Tells the disk below the file system of `directory` which blocks from `start` on, within `length` bytes, hold nothing; runs
/// shorter than `least` bytes are left alone. Answers how many bytes that were.
pub fn trim(directory: &File, start: u64, length: u64, least: u64) -> std::io::Result<u64> {
    let mut range = [start, length, least];
    // SAFETY: `struct fstrim_range` is three numbers of 64 bits; the kernel reads them and writes the second.
    unsafe { ioctl(directory, Updater::<TRIM, [u64; 3]>::new(&mut range)) }?;
    Ok(range[1])
}

/// `FILEID_INO64_GEN` of Linux, as FUSE makes its handles: the halves of the node's number and a generation.
const NODE: i32 = 0x81;

/// `struct file_handle` of `fcntl.h` with a node of FUSE.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    words: [u32; 3],
}

/// Opens a directory of a mounted FUSE file system by its number there, as a place only. The kernel must still know it; it is not asked
/// for. `mount` is anything open on the mount.
pub fn open_node(mount: impl AsFd, node: u64) -> std::io::Result<OwnedFd> {
    let high = u32::try_from(node >> 32).unwrap_or_default();
    let low = u32::try_from(node & 0xffff_ffff).unwrap_or_default();
    let mut handle = Handle { bytes: 12, kind: NODE, words: [high, low, 0] };
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: the handle is laid out as the kernel reads it, and lives through the call; the kernel does not keep it.
    let fd = unsafe { libc::open_by_handle_at(mount.as_fd().as_raw_fd(), (&raw mut handle).cast(), flags) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
