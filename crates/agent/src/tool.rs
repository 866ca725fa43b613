//! Runs a program of the root image to its end.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::reaper::Reaper;
use crate::{Error, Result, reaper};

/// Runs `command` within a time limit; answers its exit status and the end of its output. A program that takes longer is
/// killed.
pub fn run(reaper: &Reaper, command: &mut Command, limit: Duration) -> Result<(i32, String)> {
    let program = command.get_program().to_string_lossy().into_owned();
    let (output, input) = std::io::pipe().map_err(Error::kernel("make a pipe"))?;
    let second = input.try_clone().map_err(Error::kernel("make a pipe"))?;
    command.stdin(Stdio::null()).stdout(input).stderr(second);
    let child = reaper.spawn(command)?;
    // The command holds the pipe's writing ends; without them the reader sees the end of the output.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let reader = std::thread::Builder::new()
        .stack_size(128 << 10)
        .spawn(move || crate::output::tail_of(output))
        .map_err(Error::kernel("start a thread"))?;
    let end = child.wait_blocking(limit);
    if end.is_none() {
        reaper::kill(child.pid, Signal::KILL);
    }
    let tail = reader.join().unwrap_or_default();
    match end {
        Some(end) => match end.code() {
            Some(code) => Ok((code, tail)),
            None => Err(Error::Tool { program, how: end.to_string(), tail: Some(tail) }),
        },
        None => Err(Error::Tool {
            program,
            how: format!("took longer than {} s", limit.as_secs()),
            tail: Some(tail),
        }),
    }
}
