//! Translators on the host (spec 1.3 to 1.5): whether the file of one is fit for a guest, which serve which architecture, and how
//! a file gets into the runtime directory.

mod check;
pub mod probe;
mod provision;
mod served;

pub use check::{Opened, open, state};
pub use provision::{From, Placed, provision, remove};
pub use served::{Live, Serving, served};
