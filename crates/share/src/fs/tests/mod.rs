//! A guest that speaks FUSE by itself: a good one finds its files, a hostile one gets nowhere.

mod client;
mod everyday;
mod hostile;
mod owners;
