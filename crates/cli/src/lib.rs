//! The command line: parse, call the daemon, print.
//!
//! What was typed (`args`) is understood (`command`), asked of the daemon (`client`, which `launch` starts where none runs),
//! and shown (`output`, `progress`). What only the whole executable can do comes in through [`House`]. A file for each
//! command: `up`, `down`, `status`, `logs`, `doctor`, [`config`], [`context`], `assets`, `version`. Exit statuses stand in
//! [`exit`], errors in [`Error`] and, as they leave us, in [`Failure`].
#![forbid(unsafe_code)]

mod args;
mod assets;
mod client;
mod command;
pub mod config;
pub mod context;
mod disk;
mod dns;
mod doctor;
mod down;
mod error;
pub mod exit;
mod house;
mod inspect;
mod interrupt;
mod launch;
mod logs;
mod output;
mod owned;
mod ports;
mod progress;
mod route;
mod service;
mod sleep;
mod status;
mod text;
mod translator;
mod up;
mod verify;
mod version;

use std::future::Future;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

use args::Typed;
use command::{Caller, Command, Task};
use output::{Output, Style};

pub use dhow_model::Failure;
pub use error::{Error, Result};
pub use house::{
    Asset, AssetsCommand, AssetsDone, Check, House, Problem, Report, TranslatorCommand, TranslatorFrom,
    TranslatorProbe, TranslatorRow, TranslatorsDone, Verdict,
};

/// Our version, the same for every crate of a release.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Does what the command line says. The answer is the process's exit status.
pub fn main(house: &dyn House) -> ExitCode {
    let typed = match Typed::try_parse() {
        Ok(typed) => typed,
        Err(error) => return ExitCode::from(usage(&error)),
    };
    let output = command::output(&typed.everywhere);
    match command::understand(typed) {
        Ok(Task::At(caller, Command::Daemon { detached, service })) => {
            be_daemon(house, &caller, detached, service)
        }
        Ok(Task::At(caller, Command::Supervise(name, purpose))) => {
            house.supervise(&caller.home, &name, purpose)
        }
        Ok(Task::ProbeKvm) => house.probe_kvm(),
        Ok(task) => ExitCode::from(end(task_result(house, task), &output)),
        Err(error) => ExitCode::from(end(Err(error), &output)),
    }
}

fn task_result(house: &dyn House, task: Task) -> Result<u8> {
    let (caller, command) = match task {
        Task::At(caller, command) => (caller, command),
        Task::Completions(shell) => return completions(shell),
        Task::ProbeKvm => return Ok(exit::OK),
    };
    match command {
        Command::Up => wait(up::up(&caller)),
        Command::Down { force, suspend } => wait(down::down(&caller, force, suspend)),
        Command::Sleep(wish, role) => wait(sleep::run(&caller, wish, role)),
        Command::Status { timeline } => wait(status::status(&caller, timeline)),
        Command::Inspect(container) => wait(inspect::inspect(&caller, &container)),
        Command::Logs(request) => wait(logs::logs(&caller, &request)),
        Command::Verify(typed) => wait(verify::verify(&caller, &typed)),
        Command::Version => wait(version::version(&caller)),
        Command::Doctor => doctor::doctor(house, &caller),
        Command::Config(verb) => config::run(&caller, &verb),
        Command::Context(verb) => context::run(&caller, &verb),
        Command::Assets(command) => assets::assets(house, &caller, &command),
        Command::Translator(command) => translator::translator(house, &caller, &command),
        Command::Ports => wait(ports::ports(&caller)),
        Command::Disk(verb) => wait(disk::disk(&caller, &verb)),
        Command::Rescue(verb) => wait(disk::rescue(&caller, &verb)),
        Command::Dns(verb) => wait(dns::run(&caller, &verb)),
        Command::Route(verb) => wait(route::run(&caller, &verb)),
        Command::Service(verb) => wait(service::run(&caller, &verb)),
        Command::Daemon { .. } | Command::Supervise(..) => Ok(exit::OK),
    }
}

/// Reports how a command ended, and says its exit status.
fn end(result: Result<u8>, output: &Output) -> u8 {
    match result {
        Ok(status) => status,
        // Whoever read our output has what they wanted (`dhow logs | head`).
        Err(error) if error.is_broken_pipe() => exit::OK,
        Err(error) => {
            output.failure(&Failure::from(&error));
            error.exit()
        }
    }
}

/// A daemon that a command started outlives that command's terminal and its Ctrl-C.
fn be_daemon(house: &dyn House, caller: &Caller, detached: bool, service: bool) -> ExitCode {
    if detached {
        dhow_home::launch::detach();
    }
    house.daemon(&caller.home, service)
}

fn wait<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Surroundings { what: "no runtime can be started", source })?
        .block_on(work)
}

fn completions(shell: clap_complete::Shell) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Typed::command(), "dhow", &mut script);
    output::write_stdout(&script).map(|()| exit::OK)
}

/// Help and versions are answers; everything else is a mistake in the command line.
fn usage(error: &clap::Error) -> u8 {
    let is_answer = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if !is_answer && args::asks_for_json(std::env::args_os()) {
        let words = error.render().to_string();
        let message = words.trim_start_matches("error: ").trim_end().to_owned();
        let output = Output {
            json: true,
            quiet: false,
            no_progress: true,
            verbose: false,
            stdout: Style::PLAIN,
            stderr: Style::PLAIN,
        };
        output.failure(&Failure::new("usage", message, "dhow --help"));
        return exit::USAGE;
    }
    // clap knows which stream and colours suit; that it cannot be written changes nothing.
    error.print().ok();
    if is_answer { exit::OK } else { exit::USAGE }
}
