//! Gives memory back while nobody needs it (spec 13.3). Pages that a guest frees go to the host by themselves, in blocks of
//! 2 MiB and within two seconds (free-page reporting); what stays is the cache of files, and free pages in pieces too
//! small to be told. When the guest has had nothing to do for a while, the cache shrinks to a floor, least used first, and
//! the pieces are put together.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{console, settings};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(3);
/// For so many looks the guest must have been quiet.
const QUIET: u32 = 3;
/// A guest whose processors are this busy or more, in hundredths, is not quiet.
const BUSY: u64 = 5;
/// Nor is one that reads or writes more than this between two looks, KiB.
const TRAFFIC: u64 = 2048;
/// The cache that stays: what an engine needs to answer at once.
const FLOOR: u64 = 160 << 20;
/// Less than this is not worth the work.
const WORTH: u64 = 24 << 20;
/// At most so much at a time: a request that comes meanwhile waits for no more.
const STEP: u64 = 128 << 20;

/// What the kernel has counted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Processor time, all of it and what was spent idle.
    pub ticks: u64,
    /// The part of it that was idle or waiting for disks.
    pub idle: u64,
    /// KiB read from and written to disks.
    pub traffic: u64,
    /// Bytes of files that are in memory and could be read again.
    pub cache: u64,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Wait,
    /// Let go of so many bytes of cache.
    Shrink(u64),
    /// Put free pages together.
    Compact,
}

/// What was seen so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    before: Counters,
    quiet: u32,
    /// Whether the pages were put together since the guest was last busy.
    compacted: bool,
}

impl Seen {
    /// Takes a look, and decides.
    pub fn look(&mut self, now: Counters) -> Action {
        let before = std::mem::replace(&mut self.before, now);
        let ticks = now.ticks.saturating_sub(before.ticks);
        let busy = ticks.saturating_sub(now.idle.saturating_sub(before.idle));
        let traffic = now.traffic.saturating_sub(before.traffic);
        if ticks == 0 || busy * 100 >= ticks * BUSY || traffic > TRAFFIC {
            (self.quiet, self.compacted) = (0, false);
            return Action::Wait;
        }
        self.quiet = self.quiet.saturating_add(1);
        if self.quiet < QUIET {
            return Action::Wait;
        }
        match now.cache.checked_sub(FLOOR) {
            Some(excess) if excess >= WORTH => {
                self.compacted = false;
                Action::Shrink(excess.min(STEP))
            }
            _ if !self.compacted => {
                self.compacted = true;
                Action::Compact
            }
            _ => Action::Wait,
        }
    }
}

/// Looks and acts for as long as the guest lives.
pub async fn follow() {
    let mut seen = Seen::default();
    loop {
        sleep(LOOK).await;
        let action = seen.look(counters());
        if action == Action::Wait {
            continue;
        }
        let began = Instant::now();
        let done = tokio::task::spawn_blocking(move || act(action)).await;
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => console::line(format!("dhow: {action:?}: {error}")),
            Err(error) => console::line(format!("dhow: {action:?}: {error}")),
        }
        // What was just done is no work of the guest's.
        seen.before = counters();
        if began.elapsed() > LOOK {
            sleep(began.elapsed()).await;
        }
    }
}

fn act(action: Action) -> std::io::Result<()> {
    match action {
        Action::Wait => Ok(()),
        // Without swap only pages of files can go, the least used first (`Documentation/admin-guide/cgroup-v2.rst`).
        Action::Shrink(bytes) => {
            match settings::poke(Path::new("/sys/fs/cgroup/memory.reclaim"), &bytes.to_string()) {
                // It let go of less than was asked: the rest is in use.
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
                other => other,
            }
        }
        Action::Compact => settings::poke(Path::new("/proc/sys/vm/compact_memory"), "1"),
    }
}

fn counters() -> Counters {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    parse(&read("/proc/stat"), &read("/proc/vmstat"), &read("/proc/meminfo"))
}

fn parse(stat: &str, vmstat: &str, meminfo: &str) -> Counters {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    // user nice system idle iowait irq softirq steal; guests' time is part of user's (proc_stat(5)).
    let ticks: Vec<u64> = line.split_whitespace().take(8).filter_map(|word| word.parse().ok()).collect();
    let idle = |at: usize| ticks.get(at).copied().unwrap_or(0);
    let named = |text: &str, name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once([' ', ':']));
        let found = lines.find(|(key, _)| *key == name).map(|(_, rest)| rest.trim());
        found.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let kibibytes = |name| named(meminfo, name).saturating_mul(1024);
    Counters {
        ticks: ticks.iter().sum(),
        idle: idle(3).saturating_add(idle(4)),
        traffic: named(vmstat, "pgpgin").saturating_add(named(vmstat, "pgpgout")),
        cache: kibibytes("Cached").saturating_add(kibibytes("Buffers")).saturating_sub(kibibytes("Shmem")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(each: &[(u64, u64, u64)]) -> Vec<Action> {
        let mut seen = Seen::default();
        let mut now = Counters::default();
        let look = |(busy, traffic, cache): &(u64, u64, u64)| {
            now.ticks += 600;
            now.idle += 600 - busy;
            now.traffic += traffic;
            now.cache = cache << 20;
            seen.look(now)
        };
        each.iter().map(look).collect()
    }

    /// Spec 13.3: the cache shrinks when nobody works, in steps, to a floor, and the pages are then put together once.
    #[test]
    fn a_quiet_guest_lets_go_of_its_cache_step_by_step_and_then_rests() {
        use Action::{Compact, Shrink, Wait};
        let mib = |count: u64| Shrink(count << 20);
        let cache = [400, 400, 400, 272, 190, 160, 160, 160];
        let seen = looks(&cache.map(|cache| (5, 0, cache)));
        assert_eq!(seen, [Wait, Wait, mib(128), mib(112), mib(30), Compact, Wait, Wait]);
    }

    /// A workload never pays for it.
    #[test]
    fn a_guest_that_computes_or_reads_keeps_its_cache() {
        for busy in [(200, 0, 900), (5, 50_000, 900)] {
            assert_eq!(looks(&[busy; 8]), [Action::Wait; 8]);
        }
        // A burst in between begins the wait anew.
        let (quiet, burst) = ((5, 0, 900), (300, 0, 900));
        let seen = looks(&[quiet, quiet, burst, quiet, quiet, quiet]);
        assert_eq!(seen.iter().filter(|action| **action != Action::Wait).count(), 1);
        assert_ne!(seen[5], Action::Wait);
    }

    #[test]
    fn the_kernels_counters_are_read_by_their_names() {
        let stat = "cpu  10 0 20 100 5 1 2 0 7 0\ncpu0 1 1 1 1\n";
        let vmstat = "nr_free_pages 5\npgpgin 30\npgpgout 12\n";
        let meminfo = "MemTotal: 9 kB\nBuffers: 1 kB\nCached: 20 kB\nSwapCached: 0 kB\nShmem: 4 kB\n";
        let expected = Counters { ticks: 138, idle: 105, traffic: 42, cache: 17 << 10 };
        assert_eq!(parse(stat, vmstat, meminfo), expected);
        assert_eq!(parse("", "", ""), Counters::default());
    }
}
