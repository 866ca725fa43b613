//! The file system: a request of the guest's in, an answer out. It knows nothing of rings and memory, so that tests
//! speak FUSE to it directly.
//!
//! ```text
//!  request ──► abi (take apart) ──► server (which share, may it write?) ─┬─► tree   names: look up, make, rename, remove
//!                                          │                            ├─► file   handles: open, read, write, …
//!                                          ▼                            ├─► dir    listings
//!                                   nodes (number → file)               ├─► attr   attributes: owner, mode, times, size
//!                                          │                            ├─► xattr
//!                                          │                            └─► teller  what is answered and not done (see watch)
//!                                          ▼
//!                                   reach (the only ways to the host's files)
//! ```

mod abi;
mod attr;
mod dir;
mod file;
mod handles;
mod nodes;
mod owner;
mod reach;
mod saved;
mod seen;
mod server;
mod teller;
#[cfg(test)]
mod tests;
mod tree;
mod watch;
mod xattr;

pub(crate) use abi::{Answer, IN_HEADER, MAX_REQUEST, OUT_HEADER};
pub(crate) use server::{Answered, Server};
pub(crate) use watch::allowed as watches;
