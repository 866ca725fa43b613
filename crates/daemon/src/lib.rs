//! The daemon: one per directory. It takes its lock, finds what an earlier daemon left, opens its sockets, serves the
//! Docker API and the control API, and on the way out closes them in the other order. It holds no machine's life.
#![forbid(unsafe_code)]

mod control;
mod disk;
mod error;
mod inspect;
mod run;
mod sockets;
mod status;
mod stop;
mod upstream;

pub use dhow_docker::runtime;
pub use error::{Error, Result};
pub use run::{Way, run};
pub use sockets::Passed;
