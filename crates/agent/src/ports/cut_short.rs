//! Ends containers whose start was cut short by dockerd's death: their first process is made and waits to be told to begin,
//! which nobody will do. The next dockerd would neither start nor remove them ("tried to kill container, but did not
//! receive an exit event"), while their addresses, which it believes free, go to others. Once that process ends, dockerd
//! sees a container that died meanwhile, which it knows how to deal with.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process as proc(5) shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) parent: i32,
    /// As it calls itself.
    pub(super) name: String,
    /// Clock ticks since the boot.
    pub(super) started: u64,
}

/// runc's own name for itself between making a container and becoming its first program (runc 1.1, `nsexec.c`).
const UNSTARTED: &str = "runc:[2:INIT]";
/// containerd's process beside each of dockerd's containers, by its arguments.
const SHIM: [&str; 3] = ["containerd-shim-runc-v2", "-namespace", "moby"];

/// Ends those that there are now; `dockerd` is the one that starts, if one does: what itself has made is its own.
/// Answers how many.
pub fn end(dockerd: u32) -> usize {
    let all: Vec<Process> = processes();
    let dockerd = all.iter().find(|process| u32::try_from(process.pid) == Ok(dockerd));
    let mut ended = 0;
    for unstarted in select(&all, dockerd.map(|dockerd| dockerd.started)) {
        if is_first(unstarted.pid) && shim_of(unstarted.parent).is_some() && kill(unstarted) {
            ended += 1;
        }
    }
    ended
}

/// First processes of containers that a shim older than `dockerd` has made.
fn select(all: &[Process], dockerd: Option<u64>) -> impl Iterator<Item = &Process> {
    all.iter().filter(move |process| {
        let shim = all.iter().find(|shim| shim.pid == process.parent);
        let older = |shim: &Process| dockerd.is_none_or(|dockerd| shim.started < dockerd);
        process.name == UNSTARTED && shim.is_some_and(|shim| shim.parent == 1 && older(shim))
    })
}

/// All that there are.
pub(super) fn processes() -> Vec<Process> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter_map(process).collect()
}

fn process(pid: i32) -> Option<Process> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `/proc/<pid>/stat`: the name stands in parentheses and may hold anything; fields 4 and 22 are what is asked for.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let (_, rest) = stat.split_once('(')?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let parent = fields.nth(1)?.parse().ok()?;
    let started = fields.nth(17)?.trim().parse().ok()?;
    Some(Process { pid, parent, name: name.to_owned(), started })
}

/// Whether it is the first of its container; what `docker exec` adds is not.
fn is_first(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let numbers: Vec<&str> = numbers.split_whitespace().collect();
    numbers.len() > 1 && numbers.last() == Some(&"1")
}

/// The ID of the container whose shim this is.
pub(super) fn shim_of(pid: i32) -> Option<String> {
    shim(&fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?)
}

fn shim(command_line: &str) -> Option<String> {
    let mut words = command_line.split('\0');
    let program = Path::new(words.next()?).file_name()?.to_str()?;
    let ours = program == SHIM[0] && [words.next()?, words.next()?] == [SHIM[1], SHIM[2]];
    (ours && words.next()? == "-id").then(|| words.next().map(str::to_owned))?
}

/// Ends it if it is still who it was.
pub(super) fn kill(who: &Process) -> bool {
    let held = Pid::from_raw(who.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    held.is_some_and(|held| {
        process(who.pid).as_ref() == Some(who) && pidfd_send_signal(held, Signal::KILL).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(pid: i32, parent: i32, name: &str, started: u64) -> Process {
        Process { pid, parent, name: name.to_owned(), started }
    }

    #[test]
    fn only_what_waits_under_a_shim_of_an_earlier_dockerds_is_ended() {
        let all = [
            one(10, 1, "containerd-shim", 100),
            one(11, 10, UNSTARTED, 110),
            one(20, 1, "containerd-shim", 100),
            one(21, 20, "httpd", 110),
            // An engine inside of a container has its own.
            one(30, 21, "containerd-shim", 120),
            one(31, 30, UNSTARTED, 130),
            // Made by the dockerd that starts now.
            one(40, 1, "containerd-shim", 300),
            one(41, 40, UNSTARTED, 310),
        ];
        let ended = |dockerd| select(&all, dockerd).map(|process| process.pid).collect::<Vec<_>>();
        assert_eq!(ended(Some(200)), [11]);
        assert_eq!(ended(None), [11, 41]);
    }

    /// As containerd 1.7 starts it.
    #[test]
    fn a_shim_is_known_by_its_arguments() {
        let line = |text: &str| shim(&text.replace(' ', "\0"));
        let rest = "-address /run/containerd/containerd.sock";
        assert_eq!(
            line(&format!("/usr/bin/containerd-shim-runc-v2 -namespace moby -id 0d7c6b {rest}")),
            Some("0d7c6b".to_owned())
        );
        assert_eq!(
            line(&format!("/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -id 0d7c6b {rest}")),
            None
        );
        assert_eq!(line("sh -namespace moby -id 0d7c6b"), None);
        assert_eq!(line(""), None);
    }

    #[test]
    fn a_process_is_read_whatever_it_is_called() {
        let stat = "7 (a) (b) S 3 7 7 0 -1 4194560 1 0 0 0 2 1 0 0 20 0 1 0 4711 1 2 3\n";
        assert_eq!(parse(7, stat), Some(one(7, 3, "a) (b", 4711)));
        assert_eq!(parse(7, "7 (cut"), None);
        let me = i32::try_from(std::process::id()).unwrap();
        let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get();
        assert_eq!(process(me).unwrap().parent, parent);
        assert!(!is_first(me) || me == 1);
        assert_eq!(shim_of(me), None);
    }
}
