//! The command line from outside, as a shell sees it: the example `fake` is the whole of it before a daemon that is told
//! what to do wrong.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "what a test may do")]

mod answers;
mod lifecycle;
mod scene;
mod sleep;
