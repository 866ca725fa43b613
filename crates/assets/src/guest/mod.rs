//! What becomes of the packages: the kernel that a hypervisor can start, its modules in loading order, and the root that
//! a container engine needs.

pub(crate) mod initrd;
pub mod kernel;
pub(crate) mod libraries;
pub mod modules;
pub(crate) mod root;
