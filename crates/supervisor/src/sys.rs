//! The one unsafe call of this crate.
#![allow(unsafe_code)]

/// Gives memory that the allocator holds and nobody uses back to the host: a machine that sleeps shall cost nearly nothing.
pub(crate) fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: malloc_trim(3) takes no pointer, and may be called at any time from any thread.
        let given = unsafe { libc::malloc_trim(0) };
        tracing::debug!(given, "memory that nobody uses was given back");
    }
}
