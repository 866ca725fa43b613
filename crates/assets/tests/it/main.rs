//! Boot assets from a small archive of our own: signed by a throwaway key, served over HTTP on loopback, made faulty on purpose.
// All of this is test code, which clippy.toml's leave for tests does not see outside of test functions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod archive;
mod build;
mod bundles;
mod damage;
mod interruption;
mod real;
mod server;
mod store;
mod translator;
mod users;
