//! The guest's process 1. It boots the engine machine ([`boot`] tells the order), starts and supervises containerd
//! and dockerd, serves the host on the channel, and stops everything in order. Decisions stand apart from effects:
//! [`blank`], [`backoff`], [`list`] and [`ext4`] decide, and a table can test them anywhere.
#![cfg(target_os = "linux")]
#![deny(unsafe_code)]

pub mod admit;
pub mod awake;
pub mod backoff;
pub mod blank;
pub mod boot;
pub mod changes;
pub mod check;
pub mod clock;
pub mod config;
pub mod console;
pub mod data;
pub mod disk;
pub mod docker;
pub mod engine;
pub mod error;
pub mod ext4;
pub mod facts;
pub mod guest;
pub mod history;
pub mod last_words;
pub mod list;
pub mod modules;
pub mod mounts;
pub mod neighbours;
pub mod netlink;
pub mod network;
pub mod output;
pub mod ports;
pub mod quiesce;
pub mod readahead;
pub mod reaper;
pub mod reclaim;
pub mod rescue;
pub mod root;
pub mod rpc;
pub mod serve;
pub mod services;
pub mod settings;
pub mod shares;
pub mod shutdown;
pub mod steps;
mod sys;
pub mod tool;
pub mod translators;
pub mod trim;
pub mod usage;
pub mod watchers;

pub use boot::run;
pub use error::{Error, Result};
