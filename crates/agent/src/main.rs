//! The guest's process 1, and the `docker-proxy` that dockerd runs for each published port. Everything is in the library,
//! where tests reach it.

/// musl's own allocator gives memory back to the kernel and asks for it again at every turn, and each page fault is dear
/// in an emulated guest.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    if dhow_agent::ports::proxy::is_wanted() { dhow_agent::ports::proxy::run() } else { dhow_agent::run() }
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("dhow-agent is process 1 of a Linux guest and does nothing elsewhere");
    std::process::ExitCode::FAILURE
}
