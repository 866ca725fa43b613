//! Two real dockerds behind one face: lists are whole, events interleave, Compose projects stay together, sessions wait.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture fails its test at the first surprise"
)]

#[path = "../common/mod.rs"]
mod common;
mod compose;
mod events;
mod lists;
mod session;
