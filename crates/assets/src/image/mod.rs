//! The formats that are written: a tree of files in memory, EROFS and cpio images of it, and the look at ELF files that tells
//! what they are.

pub mod cpio;
pub mod elf;
pub mod erofs;
pub mod tree;
