//! A guest that speaks FUSE by itself: a good one finds its files, a hostile one gets nowhere.
#![allow(clippy::disallowed_methods, reason = "what a test writes is gone after it")]

mod changes;
mod client;
mod everyday;
mod hostile;
mod owners;
mod saved;
