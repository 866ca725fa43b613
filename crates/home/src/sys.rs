//! What a process that waits for long gives back to the host, and the unsafe calls that this takes.
#![allow(unsafe_code)]

use std::ops::Range;

/// Where the code of this process's executable lies in its memory. While a machine sleeps hardly any of it is needed, and it is the
/// largest part of what the processes that wait would cost.
#[derive(Debug, Default, Clone)]
pub struct Code(Vec<Range<usize>>);

impl Code {
    /// As `/proc/self/maps` has it (proc_pid_maps(5)); nothing where the host has no such file.
    #[must_use]
    pub fn find() -> Self {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let own = std::fs::read_link("/proc/self/exe").unwrap_or_default();
        Self(
            own.to_str()
                .map(|own| maps.lines().filter_map(|line| code(line, own)).collect())
                .unwrap_or_default(),
        )
    }

    /// Lets the host have the memory of it; what runs again is mapped again from the page cache, or read from the disk.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn give_back(&self) -> std::io::Result<()> {
        self.0.iter().try_for_each(let_go)
    }
}

#[cfg(target_os = "linux")]
fn let_go(range: &Range<usize>) -> std::io::Result<()> {
    let start = std::ptr::with_exposed_provenance_mut(range.start);
    // SAFETY: the range is the executable's own code, which stays mapped until the process ends. It is a private mapping of a file
    // that is never written to (`r-xp`), so that a page that is dropped is read again as it was (madvise(2), MADV_DONTNEED).
    unsafe { rustix::mm::madvise(start, range.len(), rustix::mm::Advice::LinuxDontNeed)? };
    Ok(())
}

/// Other systems do not tell where it lies.
#[cfg(not(target_os = "linux"))]
fn let_go(_: &Range<usize>) -> std::io::Result<()> {
    Ok(())
}

/// The range of a line of `/proc/self/maps` that is code of the file `own`.
fn code(line: &str, own: &str) -> Option<Range<usize>> {
    // address perms offset dev inode path
    let mut words = line.splitn(6, ' ');
    let (range, access) = (words.next()?, words.next()?);
    if access != "r-xp" || words.nth(3)?.trim_start() != own {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let address = |word| usize::from_str_radix(word, 16).ok();
    Some(address(start)?..address(end)?)
}

/// Gives memory that the allocator holds and nobody uses back to the host.
pub fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: malloc_trim(3) takes no pointer, and may be called at any time from any thread.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_what_is_executed_and_not_written_of_the_executable_alone() {
        let line = |access: &str, path: &str| {
            format!("55ded568e000-55ded68f6000 {access} 005d7000 fe:00 2179077                    {path}")
        };
        assert_eq!(code(&line("r-xp", "/a b/dhow"), "/a b/dhow"), Some(0x55de_d568_e000..0x55de_d68f_6000));
        for (access, path) in
            [("rwxp", "/dhow"), ("r--p", "/dhow"), ("r-xs", "/dhow"), ("r-xp", "/libc.so.6")]
        {
            assert_eq!(code(&line(access, path), "/dhow"), None, "{access} {path}");
        }
        assert_eq!(
            code("7f14de85b000-7f14de85d000 r-xp 00000000 00:00 0                          [vdso]", "/dhow"),
            None
        );
        assert_eq!(code("", "/dhow"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_goes_on_without_the_memory_of_its_code() {
        let found = Code::find();
        assert!(!found.0.is_empty());
        let resident = || {
            let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let own = std::fs::read_link("/proc/self/exe").unwrap();
            let at = maps.lines().position(|line| code(line, own.to_str().unwrap()).is_some()).unwrap();
            let rss = maps.lines().skip(at).find_map(|line| line.strip_prefix("Rss:")).unwrap();
            rss.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        };
        let before = resident();
        found.give_back().unwrap();
        let after = resident();
        assert!(after < before, "{after} KiB of {before} are left");
    }
}
