//! Boot assets (spec 7.1 to 7.4): the kernel, initial RAM disk and read-only root image that a machine boots from. They are
//! made from Debian packages whose index and content are verified, in process and without root, identical byte for
//! byte whenever the packages are the same, and kept by digest in a store that several engines share.
//!
//! From the outside in: [`build()`](build()) and [`fetch`] turn [`BuildOptions`] into a [`Bundle`] in a [`Store`]; `debian` finds and
//! verifies packages; `guest` decides what becomes of them; `image` writes the formats.
#![forbid(unsafe_code)]

mod agent;
mod build;
mod bundle;
pub mod debian;
mod error;
pub mod guest;
pub mod hash;
mod http;
pub mod image;
mod lock;
mod manifest;
mod progress;
mod recipe;
mod rootfs;
mod store;
pub mod translator;

pub use build::{BuildOptions, build, fetch};
pub use error::{Error, Result};
pub use lock::{Lock, LockedPackage};
pub use manifest::{Bundle, Manifest, Output};
pub use progress::{Progress, Step};
pub use recipe::Recipe;
pub use rootfs::{Made, Rootfs, rootfs};
pub use store::{Removed, Store};
