//! What processes and files cost the host.

/// Resident memory of process `pid` in bytes, from `/proc/PID/statm` (proc(5)); 0 where it is gone or the host has no such
/// file.
#[must_use]
pub fn resident_bytes(pid: u32) -> u64 {
    let Ok(statm) = std::fs::read_to_string(format!("/proc/{pid}/statm")) else { return 0 };
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|w| w.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// Bytes that a file takes on its disk, which for a sparse one are fewer than its size; 0 when there is none.
#[must_use]
pub fn allocated_bytes(path: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    path.metadata().map_or(0, |m| m.blocks() * 512)
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[test]
    fn our_own_process_has_memory_and_one_that_is_gone_has_none() {
        assert!(super::resident_bytes(std::process::id()) > 100_000);
        assert_eq!(super::resident_bytes(u32::MAX), 0);
    }
}
