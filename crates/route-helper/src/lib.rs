//! The host's way to containers' own addresses, on Linux: one small program with `CAP_NET_ADMIN` and nothing else.
//!
//! ```text
//!  supervisor ── Unix socket (the program's standard input) ── dhow-route-helper
//!      Open 0         →  makes dhow0, answers with its descriptor
//!      Routes […]     →  sets exactly these on dhow0, answers what was set and what was refused, and why
//!      closes it      →  dhow0 is deleted, and its routes with it
//! ```
//!
//! Whoever may run the program is a user, not root: `rules` says which routes there are at all, [`serve`] holds no way to
//! anything else, and [`confine`] takes away whatever more the process could do. [`install`] puts it where root owns it.
//! [`client`] is the other end of the socket, and [`host`] what anybody may see of it.
#![deny(unsafe_code)]

#[cfg(target_os = "linux")]
pub mod client;
#[cfg(target_os = "linux")]
pub mod confine;
mod error;
#[cfg(target_os = "linux")]
pub mod host;
#[cfg(target_os = "linux")]
pub mod install;
#[cfg(target_os = "linux")]
mod netlink;
mod network;
pub mod protocol;
pub mod rules;
#[cfg(target_os = "linux")]
pub mod serve;
#[cfg(target_os = "linux")]
mod sys;

pub use error::{Error, Result};
pub use network::Network;

/// The program's file name.
pub const PROGRAM: &str = "dhow-route-helper";
