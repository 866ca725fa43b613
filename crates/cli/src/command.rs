//! What was typed, understood: directories found, defaults in place, words turned into values.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap_complete::Shell;
use dhow_home::Home;
use dhow_model::{Arch, Failure, MachineName, Purpose, Role};

use crate::args::{
    AssetsVerb, ConfigVerb, ContextVerb, DnsVerb, Everywhere, ForArch, RouteVerb, ServiceVerb, Typed, Verb,
    Where,
};
use crate::config;
use crate::disk::args::{DiskVerb, RescueVerb};
use crate::error::{Error, Result};
use crate::house::{AssetsCommand, TranslatorCommand};
use crate::logs;
use crate::output::{Output, Style, stderr_is_terminal};
use crate::sleep;
use crate::translator;
use crate::verify::VerifyArgs;

/// What to do.
#[derive(Debug)]
pub enum Task {
    /// Print a completion script.
    Completions(Shell),
    /// Find out whether KVM runs instructions.
    ProbeKvm,
    /// Something about one engine.
    At(Caller, Command),
}

/// Which engine a command is about, and how it speaks and waits.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its directory.
    pub home: Home,
    /// How to speak.
    pub output: Output,
    /// How long the command may take, where the user said.
    pub time_limit: Option<Duration>,
}

/// What to do about one engine.
#[derive(Debug)]
pub enum Command {
    /// Start it.
    Up,
    /// Stop it.
    Down {
        /// At once.
        force: bool,
        /// By putting machines to sleep.
        suspend: bool,
    },
    /// Put machines to sleep, or wake them; all of them if none is named.
    Sleep(sleep::Wish, Option<Role>),
    /// Show how it is.
    Status {
        /// And the last start's steps.
        timeline: bool,
    },
    /// Say where a container is.
    Inspect(String),
    /// Show a log.
    Logs(logs::Request),
    /// Look at what it needs.
    Doctor,
    /// Show or change its configuration.
    Config(ConfigVerb),
    /// Show or change its Docker context.
    Context(ContextVerb),
    /// Work on boot assets.
    Assets(AssetsCommand),
    /// Show, install or remove containers' names on the host.
    Dns(DnsVerb),
    /// Work on translators.
    Translator(TranslatorCommand),
    /// Show what is published.
    Ports,
    /// Work on a data disk.
    Disk(DiskVerb),
    /// Save what is on one that cannot be used.
    Rescue(RescueVerb),
    /// Show, install or remove the route to containers' own addresses.
    Route(RouteVerb),
    /// Show, install or remove the service.
    Service(ServiceVerb),
    /// Prove translation.
    Verify(VerifyArgs),
    /// Show versions.
    Version,
    /// Be its daemon.
    Daemon {
        /// Leave the caller's session.
        detached: bool,
        /// Under a service manager.
        service: bool,
    },
    /// Be a machine's supervisor.
    Supervise(MachineName, Purpose),
}

/// How to speak, as typed.
#[must_use]
pub fn output(typed: &Everywhere) -> Output {
    Output {
        json: typed.json,
        quiet: typed.quiet,
        no_progress: typed.no_progress,
        verbose: typed.verbose,
        stdout: if typed.json { Style::PLAIN } else { Style::detect(std::io::stdout().is_terminal()) },
        stderr: Style::detect(stderr_is_terminal()),
    }
}

/// Understands what was typed.
///
/// # Errors
/// When no directory can be found, or this computer's processor is needed and not supported.
pub fn understand(typed: Typed) -> Result<Task> {
    let output = output(&typed.everywhere);
    let time_limit = typed.everywhere.time_limit.map(|s| Duration::from_secs(s.into()));
    let at = typed.everywhere.home;
    let ours = |typed: ForArch| or_ours(typed, at.clone());
    let command = match typed.command {
        Verb::Completions { shell } => return Ok(Task::Completions(shell)),
        Verb::ProbeKvm => return Ok(Task::ProbeKvm),
        Verb::Up => Command::Up,
        Verb::Down { force, suspend } => Command::Down { force, suspend },
        Verb::Suspend { machine } => Command::Sleep(sleep::Wish::Sleep, machine),
        Verb::Resume { machine } => Command::Sleep(sleep::Wish::Wake, machine),
        Verb::Status { timeline } => Command::Status { timeline },
        Verb::Inspect { container } => Command::Inspect(container),
        Verb::Logs { source, machine, follow, lines } => {
            Command::Logs(logs::Request { source, machine, follow, amount: lines })
        }
        Verb::Doctor => Command::Doctor,
        Verb::Config { verb } => Command::Config(verb.unwrap_or(ConfigVerb::Show)),
        Verb::Context { verb } => Command::Context(verb.unwrap_or(ContextVerb::Show)),
        Verb::Assets { verb } => Command::Assets(assets(verb, ours)?),
        Verb::Translator { verb } => Command::Translator(translator::understood(verb, ours, absolute)?),
        Verb::Ports => Command::Ports,
        Verb::Disk { verb } => Command::Disk(disk(verb)?),
        Verb::Rescue { verb } => Command::Rescue(rescue(verb)?),
        Verb::Dns { verb } => Command::Dns(verb.unwrap_or(DnsVerb::Status { place: Where::default() })),
        Verb::Route { verb } => Command::Route(verb.unwrap_or(RouteVerb::Status { place: Where::default() })),
        Verb::Verify(typed) => Command::Verify(typed),
        Verb::Version => Command::Version,
        Verb::Daemon { detached, service } => Command::Daemon { detached, service },
        Verb::Service { verb } => Command::Service(verb.unwrap_or(ServiceVerb::Status)),
        Verb::Supervise { name, purpose } => Command::Supervise(name, purpose),
    };
    let home = home(at)?;
    Ok(Task::At(Caller { home, output, time_limit }, command))
}

fn home(typed: Option<std::path::PathBuf>) -> Result<Home> {
    let Some(path) = typed.filter(|p| !p.as_os_str().is_empty()) else { return Ok(Home::locate()?) };
    let path = std::path::absolute(path)
        .map_err(|source| Error::Surroundings { what: "the working directory is not known", source })?;
    Ok(Home::at(path)?)
}

fn disk(verb: DiskVerb) -> Result<DiskVerb> {
    Ok(match verb {
        DiskVerb::Export { file, whose } => DiskVerb::Export { file: absolute(file)?, whose },
        other => other,
    })
}

fn rescue(verb: RescueVerb) -> Result<RescueVerb> {
    Ok(match verb {
        RescueVerb::Export { directory, image, volume, container, whose } => {
            RescueVerb::Export { directory: absolute(directory)?, image, volume, container, whose }
        }
        list @ RescueVerb::List { .. } => list,
    })
}

fn assets(verb: AssetsVerb, ours: impl Fn(ForArch) -> Result<Arch>) -> Result<AssetsCommand> {
    Ok(match verb {
        AssetsVerb::List => AssetsCommand::List,
        AssetsVerb::Fetch { arch, mirror } => AssetsCommand::Fetch { arch: ours(arch)?, mirror },
        AssetsVerb::Verify { arch } => AssetsCommand::Verify { arch },
        AssetsVerb::Build { arch, lock, mirror, agent } => AssetsCommand::Build {
            arch: ours(arch)?,
            lock: lock.map(absolute).transpose()?,
            mirror,
            agent: agent.map(absolute).transpose()?,
        },
        AssetsVerb::Export { file, arch } => {
            AssetsCommand::Export { arch: ours(arch)?, file: absolute(file)? }
        }
        AssetsVerb::Import { file } => AssetsCommand::Import { file: absolute(file)? },
        AssetsVerb::Clean { dry_run } => AssetsCommand::Clean { dry_run },
    })
}

/// The architecture that was typed, or else that of this engine's native machine.
fn or_ours(typed: ForArch, at: Option<std::path::PathBuf>) -> Result<Arch> {
    if let Some(arch) = typed.arch {
        return Ok(arch);
    }
    config::load(&home(at)?)?.native().ok_or_else(|| {
        Error::Failed(Failure::new(
            "arch-unsupported",
            "Dhow has no machines for this computer's processor",
            "say which architecture is meant: --arch amd64 or --arch arm64",
        ))
    })
}

fn absolute(path: std::path::PathBuf) -> Result<std::path::PathBuf> {
    std::path::absolute(path)
        .map_err(|source| Error::Surroundings { what: "the working directory is not known", source })
}
