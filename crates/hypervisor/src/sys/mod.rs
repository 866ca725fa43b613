//! Everything that needs `unsafe`: what a child does between fork and exec ([`child`]), memory for a virtual machine of
//! KVM's ([`kvm`]), and reading the processor's counter ([`tsc`]).
#![allow(unsafe_code)]

pub(crate) mod child;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) mod kvm;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(crate) mod tsc;
