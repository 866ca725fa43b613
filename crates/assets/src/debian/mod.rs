//! Debian's archive as a source: which mirror, what its signed index says, which packages follow from a short list,
//! and what is inside one.

pub(crate) mod archive;
pub(crate) mod date;
pub(crate) mod deb;
pub(crate) mod mirror;
pub(crate) mod package;
pub(crate) mod release;
pub(crate) mod resolve;
pub(crate) mod signature;
pub(crate) mod version;

pub use mirror::{Mirrors, mirrors_of_host};
pub use package::{Package, parse_packages};
pub use resolve::resolve;
pub use version::compare;
