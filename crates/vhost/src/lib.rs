//! What the devices that a hypervisor leaves to another process of ours (vhost-user) have in common: the guest's memory, mapped and
//! reached by checked access only, the log of the pages that a device has written, and how the guest is told. The devices
//! themselves, and what is on their rings, are those of `net` and `share`. Linux only; elsewhere this crate is empty.
#![forbid(unsafe_code)]

#[cfg(target_os = "linux")]
mod call;
#[cfg(target_os = "linux")]
mod log;
#[cfg(target_os = "linux")]
mod memory;

#[cfg(target_os = "linux")]
pub use self::{call::Call, log::Log, memory::Memory};
