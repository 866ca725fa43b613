//! The one executable. What it was started as, its command line says: the CLI, the daemon (`dhow daemon`), a machine's
//! supervisor (`dhow supervise NAME`) or its file server (`dhow serve-shares`). This crate puts the parts together; nothing imports it.
#![forbid(unsafe_code)]

mod assets;
mod background;
mod house;
mod translators;

use std::process::ExitCode;

fn main() -> ExitCode {
    if dhow_share::is_wanted() {
        return background::share();
    }
    dhow_cli::main(&house::Whole)
}
