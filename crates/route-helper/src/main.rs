//! `dhow-route-helper`: started by a machine's supervisor, never by hand. See the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", dhow_route_helper::PROGRAM);
            ExitCode::FAILURE
        }
    }
}

#[cfg(target_os = "linux")]
fn run() -> dhow_route_helper::Result<()> {
    dhow_route_helper::serve::serve(dhow_route_helper::confine::confine()?)
}

#[cfg(not(target_os = "linux"))]
fn run() -> dhow_route_helper::Result<()> {
    Err(dhow_route_helper::Error::Unsupported)
}
