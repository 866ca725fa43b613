//! Everything that needs `unsafe`: what a child does between fork and exec ([`child`]), and memory for a virtual machine of
//! KVM's ([`kvm`]).
#![allow(unsafe_code)]

pub(crate) mod child;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) mod kvm;
