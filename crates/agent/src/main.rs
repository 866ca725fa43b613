//! The guest's process 1. Everything is in the library, where tests reach it.

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    dhow_agent::run()
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("dhow-agent is process 1 of a Linux guest and does nothing elsewhere");
    std::process::ExitCode::FAILURE
}
