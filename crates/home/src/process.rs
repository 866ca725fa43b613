//! What processes and files cost the host.

/// Resident memory of process `pid` in bytes, from `/proc/PID/statm` (proc(5)); 0 where it is gone or the host has no such
/// file.
#[must_use]
pub fn resident_bytes(pid: u32) -> u64 {
    let Ok(statm) = std::fs::read_to_string(format!("/proc/{pid}/statm")) else { return 0 };
    let pages: u64 = statm.split_whitespace().nth(1).and_then(|w| w.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// What processes cost the host together, in bytes: what each has for itself, its share of what others have too, and the memory that
/// they share through unnamed files (memfd_create(2)), such as a guest's, once. 0 where the host does not tell.
#[must_use]
pub fn cost_bytes(pids: &[u32]) -> u64 {
    let mut files = std::collections::BTreeMap::new();
    let mut own = 0_u64;
    for pid in pids.iter().filter(|pid| **pid != 0) {
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        own = own.saturating_add(parts(&rollup));
        for (file, bytes) in unnamed_files(*pid) {
            files.insert(file, bytes);
        }
    }
    files.values().fold(own, |sum, bytes| sum.saturating_add(*bytes))
}

/// The proportional part of anonymous memory and of files on disks (proc_pid_smaps(5)).
fn parts(rollup: &str) -> u64 {
    let named = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let kibibytes = |name| named(name).unwrap_or(0);
    (kibibytes("Pss_Anon:") + kibibytes("Pss_File:")).saturating_mul(1024)
}

/// The memory files that a process has open, and what each takes.
fn unnamed_files(pid: u32) -> Vec<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let memory = |path: &std::path::Path| {
        let link = std::fs::read_link(path).ok()?;
        let metadata = link.to_str()?.starts_with("/memfd:").then(|| path.metadata().ok())??;
        Some((metadata.ino(), metadata.blocks() * 512))
    };
    entries.flatten().filter_map(|entry| memory(&entry.path())).collect()
}

/// Bytes that a file takes on its disk, which for a sparse one are fewer than its size; 0 when there is none.
#[must_use]
pub fn allocated_bytes(path: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    path.metadata().map_or(0, |m| m.blocks() * 512)
}

#[cfg(test)]
mod tests {
    #[test]
    fn memory_on_disk_and_of_ones_own_counts_by_its_share_and_shared_memory_does_not_count_here() {
        let rollup = "Rss: 900 kB\nPss: 600 kB\nPss_Anon: 100 kB\nPss_File: 20 kB\nPss_Shmem: 480 kB\n";
        assert_eq!(super::parts(rollup), 120 << 10);
        assert_eq!(super::parts(""), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_two_processes_share_counts_once() {
        let me = std::process::id();
        let before = super::cost_bytes(&[me]);
        let file = rustix::fs::memfd_create("shared", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut file = std::fs::File::from(file);
        std::io::Write::write_all(&mut file, &vec![1; 32 << 20]).unwrap();
        let cost = super::cost_bytes(&[me, me]) / 2;
        assert!(before > 100_000 && cost > before.saturating_sub(8 << 20), "{before} {cost}");
        assert!(super::unnamed_files(me).iter().any(|(_, bytes)| *bytes >= 32 << 20));
        assert_eq!(super::cost_bytes(&[0, u32::MAX]), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn our_own_process_has_memory_and_one_that_is_gone_has_none() {
        assert!(super::resident_bytes(std::process::id()) > 100_000);
        assert_eq!(super::resident_bytes(u32::MAX), 0);
    }
}
