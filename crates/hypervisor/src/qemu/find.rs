//! Finding QEMU: in the search path, recent enough, with its firmware.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dhow_model::{Accelerator, Arch};
use rustix::event::{PollFd, PollFlags, Timespec};

use super::arguments::SANDBOX;
use super::{Qemu, QemuVersion};
use crate::board::board;
use crate::{Error, Result};

/// How long QEMU may take to print a few lines.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// What it prints is shorter than this.
const LONGEST_ANSWER: usize = 64 * 1024;

impl Qemu {
    /// [`find`](Self::find) in another search path: directories, separated by colons.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn find_in(arch: Arch, search: &OsStr) -> Result<Self> {
        // The executable and its firmware do not depend on what executes the guest.
        let board = board(arch, Accelerator::Tcg);
        let path = std::env::split_paths(search)
            .filter(|directory| directory.is_absolute())
            .map(|directory| directory.join(board.program))
            .find(|path| is_executable(path))
            .ok_or_else(|| Error::NotInstalled { program: board.program.to_owned(), advice: advice(arch) })?;
        let said = ask(&path, &["--version"])?;
        let version = QemuVersion::parse(&said).ok_or_else(|| Error::NoVersion {
            path: path.clone(),
            said: said.lines().next().unwrap_or("it printed nothing").to_owned(),
        })?;
        if version < Self::OLDEST {
            let (found, needed, advice) = (version, Self::OLDEST, advice(arch));
            return Err(Error::TooOld { path, found, needed, advice });
        }
        firmware(&path, arch, board.firmware)?;
        Ok(Self { arch, path, version, name: format!("QEMU {version}") })
    }
}

/// What to type where QEMU is missing or too old.
pub(crate) fn advice(arch: Arch) -> String {
    let board = board(arch, Accelerator::Tcg);
    if cfg!(target_os = "macos") {
        return "install it with `brew install qemu`".to_owned();
    }
    format!(
        "install it with `apt install {0}` on Debian 13 or Ubuntu 24.04, `apt install -t bookworm-backports {0}` on \
         Debian 12, `dnf install {1}` on Fedora",
        board.debian, board.fedora
    )
}

/// Directories in which this QEMU looks for firmware (`-L help`), in its order.
pub(crate) fn data_directories(qemu: &Path) -> Result<Vec<PathBuf>> {
    Ok(ask(qemu, &["-L", "help"])?.lines().map(|line| PathBuf::from(line.trim())).collect())
}

fn firmware(qemu: &Path, arch: Arch, files: &[&str]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    let directories = data_directories(qemu)?;
    for file in files {
        if !directories.iter().any(|directory| directory.join(file).is_file()) {
            let looked: Vec<_> = directories.iter().map(|d| d.display().to_string()).collect();
            return Err(Error::FirmwareMissing {
                file: (*file).to_owned(),
                looked: looked.join(", "),
                advice: advice(arch),
            });
        }
    }
    Ok(())
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// What the program prints on its standard output when it is run with these arguments. It is killed when it goes on for too
/// long or prints too much.
pub(crate) fn ask(program: &Path, arguments: &[&str]) -> Result<String> {
    ask_until(program, arguments, |_| false)
}

/// Whether QEMU comes as far as its greeting with the sandbox that Dhow starts it with.
pub(crate) fn greets_in_its_sandbox(qemu: &Path) -> Result<bool> {
    let arguments = [
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-machine",
        "none",
        "-sandbox",
        SANDBOX,
        "-chardev",
        "stdio,id=qmp,signal=off",
        "-mon",
        "chardev=qmp,mode=control",
    ];
    let greeting = ask_until(qemu, &arguments, |printed| printed.contains(&b'\n'))?;
    Ok(greeting.contains("QMP"))
}

fn ask_until(program: &Path, arguments: &[&str], enough: impl Fn(&[u8]) -> bool) -> Result<String> {
    let failed = |source| Error::Spawn { path: program.to_owned(), source };
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let printed = child.stdout.take().map(|mut stdout| read_for(&mut stdout, ANSWER_LIMIT, enough));
    // What it printed is all that counts, so that a program that closes its output and stays cannot hold us up.
    let ended = child.kill().and_then(|()| child.wait());
    let printed = printed.unwrap_or_else(|| Ok(Vec::new())).and_then(|bytes| ended.map(|_| bytes));
    Ok(String::from_utf8_lossy(&printed.map_err(failed)?).into_owned())
}

fn read_for(
    from: &mut (impl std::io::Read + std::os::fd::AsFd),
    limit: Duration,
    enough: impl Fn(&[u8]) -> bool,
) -> std::io::Result<Vec<u8>> {
    let end = Instant::now() + limit;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while bytes.len() < LONGEST_ANSWER && !enough(&bytes) {
        let left = end.saturating_duration_since(Instant::now());
        let wait = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(0),
            tv_nsec: left.subsec_nanos().into(),
        };
        let ready = rustix::event::poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&wait));
        match ready {
            Ok(0) => return Err(std::io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        match from.read(&mut buffer)? {
            0 => break,
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(bytes)
}
