//! Proof that translation works, against a live engine and through nothing but its Docker socket (spec 10.x).
//!
//! What is tried stands in [`checks`](mod@checks); what was observed is a [`Seen`]; [`judge`] turns it into a [`Verdict`] and is pure. [`verify`]
//! runs the gates in their order and makes a [`Report`], which is JSON and, by [`table`], text. `docker` is a small client of the Engine
//! API, `images` brings what the programs run in, and `programs` are the few that are made here, byte by byte.
#![forbid(unsafe_code)]

pub mod checks;
mod docker;
mod error;
mod images;
pub mod judge;
pub mod matrix;
pub mod programs;
mod project;
mod report;
mod run;
mod seen;
mod table;

pub use checks::{Check, Gate};
pub use docker::Docker;
pub use error::{Error, Result};
pub use images::{Image, Source};
pub use judge::{Judged, Verdict, judge};
pub use report::{CheckReport, Counts, FORMAT, ImageReport, Outcome, Report, Surroundings, TranslatorReport};
pub use run::{PULL, Request, Serving, Tell, clean, names, verify};
pub use seen::{End, Seen};
pub use table::table;
