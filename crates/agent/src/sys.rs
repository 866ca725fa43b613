//! The kernel calls that take a struct by address: what the random generator is seeded with, and which blocks a file system lets go.
#![allow(unsafe_code)]

use std::fs::File;

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
