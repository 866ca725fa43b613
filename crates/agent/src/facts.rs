//! What the guest knows of itself: its kernel, its memory, its disk.

use std::fs;

/// Memory, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What programs could still take.
    pub available: u64,
}

/// The guest's memory now.
#[must_use]
pub fn memory() -> Memory {
    parse_memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

fn parse_memory(text: &str) -> Memory {
    Memory { total: kibibytes(text, "MemTotal"), available: kibibytes(text, "MemAvailable") }
}

/// A line of /proc/meminfo, in bytes.
fn kibibytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0).saturating_mul(1024)
}

/// Memory that nothing holds now, not even a cache, bytes.
#[must_use]
pub fn free_memory() -> u64 {
    kibibytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemFree")
}

/// Size and free bytes of the file system at `path`; zeros when there is none.
#[must_use]
pub fn disk(path: &str) -> (u64, u64) {
    rustix::fs::statvfs(path).map_or((0, 0), |stat| {
        (stat.f_blocks.saturating_mul(stat.f_frsize), stat.f_bavail.saturating_mul(stat.f_frsize))
    })
}

/// Differs at every boot.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// `uname -r` and `uname -m`.
#[must_use]
pub fn kernel() -> (String, String) {
    let uname = rustix::system::uname();
    (uname.release().to_string_lossy().into_owned(), uname.machine().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes_and_what_is_not_there_is_zero() {
        let text = "MemTotal:        2048 kB\nMemFree:          100 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(parse_memory(text), Memory { total: 2 << 20, available: 1 << 20 });
        assert_eq!(parse_memory("MemTotal: many kB"), Memory::default());
    }
}
