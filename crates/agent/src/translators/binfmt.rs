//! The kernel's `binfmt_misc`, as `Documentation/admin-guide/binfmt-misc.rst` describes it: entries are files, written to be
//! changed and read to be looked at.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use dhow_model::translator::{PATTERN, Pattern};
use rustix::mount::MountFlags;

use crate::settings::poke;
use crate::{Error, Result, console, mounts};

/// The directory comes with the module, which is loaded beside the boot.
const MODULE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);
/// How the names of Dhow's own entries begin ([`dhow_model::translator::Translator::entry`]).
const OURS: &str = "dhow-";

/// Where the kernel shows its entries.
#[derive(Debug, Clone)]
pub struct Binfmt {
    directory: PathBuf,
}

impl Default for Binfmt {
    fn default() -> Self {
        Self { directory: "/proc/sys/fs/binfmt_misc".into() }
    }
}

/// One entry, as the kernel tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Whether it is used.
    pub enabled: bool,
    /// The program that is run.
    pub interpreter: String,
    /// Its flags.
    pub flags: String,
    /// Where in a file the bytes are looked for.
    pub offset: u64,
    /// The bytes; empty for an entry that goes by a name's end.
    pub magic: Vec<u8>,
    /// Which of their bits count; empty: all.
    pub mask: Vec<u8>,
}

impl Binfmt {
    /// Mounts it unless it is.
    pub fn mount(&self) -> Result<()> {
        let until = Instant::now() + MODULE;
        while !self.directory.is_dir() {
            if Instant::now() >= until {
                let why = "the kernel has no binfmt_misc: its module is not loaded";
                return Err(Error::Translator(why.to_owned()));
            }
            park_timeout(LOOK);
        }
        if self.directory.join("register").exists() {
            return Ok(());
        }
        let safe = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
        mounts::attach("binfmt_misc", &self.directory, "binfmt_misc", safe, "")
    }

    /// Registers an entry.
    pub fn register(&self, text: &str) -> std::io::Result<()> {
        poke(&self.directory.join("register"), text)
    }

    /// Takes an entry away; one that is gone already needs nothing.
    pub fn remove(&self, entry: &str) -> std::io::Result<()> {
        match poke(&self.directory.join(entry), "-1") {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Takes away entries of Dhow's that are not wanted.
    pub fn forget_ours(&self, wanted: impl Fn(&str) -> bool) {
        let names = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let names = names.filter_map(|name| name.file_name().into_string().ok());
        for name in names.filter(|name| name.starts_with(OURS) && !wanted(name)) {
            if let Err(error) = self.remove(&name) {
                console::line(format!("dhow: the entry {name} could not be removed: {error}"));
            }
        }
    }

    /// An entry, if there is one of this name.
    pub fn read(&self, entry: &str) -> Option<Entry> {
        Some(parse(&fs::read_to_string(self.directory.join(entry)).ok()?))
    }

    /// Names of enabled entries but `own` that the kernel may take for programs of this pattern.
    pub fn rivals(&self, own: &str, pattern: &Pattern) -> Vec<String> {
        if fs::read_to_string(self.directory.join("status")).is_ok_and(|status| status.trim() == "disabled") {
            return vec!["binfmt_misc itself is disabled".to_owned()];
        }
        let names = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let names = names.filter_map(|name| name.file_name().into_string().ok());
        let others = names.filter(|name| name != own && name != "register" && name != "status");
        let mut rivals: Vec<String> = others
            .filter(|name| self.read(name).is_some_and(|entry| entry.enabled && entry.overlaps(pattern)))
            .map(|name| format!("the entry {name}, which is not Dhow's, claims the same programs"))
            .collect();
        rivals.sort();
        rivals
    }
}

impl Entry {
    /// Whether a program of this pattern can be one of this entry's: their bytes agree wherever both look.
    fn overlaps(&self, pattern: &Pattern) -> bool {
        let start = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let looks_there = !self.magic.is_empty() && start < PATTERN;
        looks_there
            && self.magic.iter().enumerate().all(|(at, byte)| {
                let mask = self.mask.get(at).copied().unwrap_or(0xff);
                let at = start + at;
                let (Some(ours), Some(our_mask)) = (pattern.magic.get(at), pattern.mask.get(at)) else {
                    return true;
                };
                (byte ^ ours) & mask & our_mask == 0
            })
    }
}

fn parse(text: &str) -> Entry {
    let mut entry = Entry::default();
    for line in text.lines() {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        match key {
            "enabled" => entry.enabled = true,
            "interpreter" => value.clone_into(&mut entry.interpreter),
            "flags:" => value.trim().clone_into(&mut entry.flags),
            "offset" => entry.offset = value.parse().unwrap_or(0),
            "magic" => entry.magic = bytes(value),
            "mask" => entry.mask = bytes(value),
            _ => {}
        }
    }
    entry
}

fn bytes(digits: &str) -> Vec<u8> {
    let pairs = digits.trim().as_bytes().chunks_exact(2);
    pairs
        .map_while(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect()
}

impl AsRef<Path> for Binfmt {
    fn as_ref(&self) -> &Path {
        &self.directory
    }
}

#[cfg(test)]
mod tests {
    use dhow_model::Arch;

    use super::*;

    const TOLD: &str = "enabled\ninterpreter /run/dhow/translators/ab/qemu-aarch64\nflags: POCF\noffset 0\n\
        magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff000000000000000000feffffff\n";

    /// Spec 1.7: the registration is read back.
    #[test]
    fn an_entry_is_read_as_the_kernel_tells_it() {
        let entry = parse(TOLD);
        assert!(entry.enabled);
        assert_eq!(entry.interpreter, "/run/dhow/translators/ab/qemu-aarch64");
        assert_eq!(entry.flags, "POCF");
        assert_eq!((entry.magic.len(), entry.mask.len()), (PATTERN, PATTERN));
        assert!(!parse(&TOLD.replace("enabled", "disabled")).enabled);
        assert_eq!(parse("nonsense\n\nmagic zz"), Entry::default());
    }

    /// Spec 1.9: never claim one and run another.
    #[test]
    fn an_entry_of_somebody_else_for_the_same_programs_is_a_rival() {
        let arm = Pattern::of(Arch::Arm64);
        assert!(parse(TOLD).overlaps(&arm));
        assert!(!parse(TOLD).overlaps(&Pattern::of(Arch::Amd64)));
        // As others write it: no mask for the ABI, or one byte only.
        assert!(parse("enabled\noffset 0\nmagic 7f454c46\n").overlaps(&arm));
        assert!(parse("enabled\noffset 18\nmagic b700\n").overlaps(&arm));
        assert!(!parse("enabled\noffset 18\nmagic 3e00\n").overlaps(&arm));
        assert!(!parse("enabled\nextension .py\n").overlaps(&arm));
        assert!(!parse("enabled\noffset 0\nmagic 7f454c460201010000000000000000000200f300\n").overlaps(&arm));
    }

    /// Spec 1.7: a registration whose file is gone is removed, also one that could not be when it went.
    #[test]
    fn entries_of_ours_that_nobody_wants_are_taken_away_and_others_are_left() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["dhow-qemu-arm64-ab", "dhow-qemu-arm64-cd", "qemu-aarch64", "register", "status"] {
            crate::settings::write(&directory.path().join(name), TOLD).unwrap();
        }
        let binfmt = Binfmt { directory: directory.path().to_path_buf() };
        binfmt.forget_ours(|entry| entry == "dhow-qemu-arm64-cd");
        let text = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        assert!(text("dhow-qemu-arm64-ab").starts_with("-1"));
        for name in ["dhow-qemu-arm64-cd", "qemu-aarch64", "register", "status"] {
            assert_eq!(text(name), TOLD, "{name}");
        }
    }

    #[test]
    fn rivals_are_enabled_entries_but_our_own() {
        let directory = tempfile::tempdir().unwrap();
        let put =
            |name: &str, text: &str| crate::settings::write(&directory.path().join(name), text).unwrap();
        put("register", "");
        put("status", "enabled\n");
        put("dhow-qemu-arm64-ab", TOLD);
        put("off", &TOLD.replace("enabled", "disabled"));
        let binfmt = Binfmt { directory: directory.path().to_path_buf() };
        let rivals = || binfmt.rivals("dhow-qemu-arm64-ab", &Pattern::of(Arch::Arm64));
        assert_eq!(rivals(), Vec::<String>::new());
        put("qemu-aarch64", TOLD);
        assert_eq!(rivals(), ["the entry qemu-aarch64, which is not Dhow's, claims the same programs"]);
        put("status", "disabled\n");
        assert_eq!(rivals(), ["binfmt_misc itself is disabled"]);
        assert_eq!(binfmt.read("dhow-qemu-arm64-ab").unwrap().flags, "POCF");
        assert!(binfmt.remove("not-there").is_ok());
    }
}
