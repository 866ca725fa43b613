//! What was typed. What it means is a [`Command`](crate::command::Command).

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use dhow_model::{Arch, MachineName, Purpose, Role};

use crate::disk::args::{DiskVerb, RescueVerb};
use crate::logs::{Amount, Source};
use crate::translator::TranslatorVerb;
use crate::verify::VerifyArgs;

/// A container and sandbox engine that lives in small virtual machines
#[derive(Debug, Parser)]
#[command(name = "dhow", version, disable_help_subcommand = true, max_term_width = 100)]
#[command(after_long_help = "\
Examples:
  dhow up                   start the engine; `docker run --rm hello-world` works then
  dhow status               what runs and what it costs
  dhow down                 stop it

Exit status:
  0 it worked, 1 it did not, 2 usage, 3 not running (status), 130 interrupted")]
pub struct Typed {
    /// What to do.
    #[command(subcommand)]
    pub command: Verb,
    /// Flags of every command.
    #[command(flatten)]
    pub everywhere: Everywhere,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
pub struct Everywhere {
    /// Answer in JSON: one document, or one a line where there are several
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub json: bool,
    /// Dhow's directory [env: DHOW_HOME] [default: ~/.dhow]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = "Everywhere")]
    pub home: Option<PathBuf>,
    /// Tell more
    #[arg(short, long, global = true, help_heading = "Everywhere")]
    pub verbose: bool,
    /// Print answers, warnings and errors only
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub quiet: bool,
    /// Do not show how far long work is
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub no_progress: bool,
    /// Give up after this time [default: up 1800, down 120, beyond the configured limits; others 10]
    #[arg(long, global = true, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400), help_heading = "Everywhere")]
    pub time_limit: Option<u32>,
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Start the engine: checks, boot assets, machine, Docker context
    #[command(after_long_help = "\
Examples:
  dhow up
  dhow up --time-limit 60
  DHOW_HOME=/srv/second dhow up          an engine of its own beside the first")]
    Up,
    /// Stop the engine and restore the previous Docker context
    #[command(after_long_help = "\
A machine that sleeps is woken, so that what it was doing ends in order; --force drops that instead.
Ctrl-C twice forces it, as --force does.

Examples:
  dhow down
  dhow down --force
  dhow down --suspend       containers go on where they were at the next `dhow up`")]
    Down {
        /// Power machines off at once, without asking containers to stop
        #[arg(long)]
        force: bool,
        /// Save machines to disk as they are, instead of stopping what runs in them
        #[arg(long, conflicts_with = "force")]
        suspend: bool,
    },
    /// Put the engine to sleep: its memory goes to disk, and the next request wakes it
    #[command(after_long_help = "\
An engine with nothing to do is put to sleep by itself (sleep.after in the configuration). Containers
that run, open streams and published ports are kept, and go on when it wakes.

Examples:
  dhow suspend
  dhow suspend foreign")]
    Suspend {
        /// Only this machine: native or foreign
        machine: Option<Role>,
    },
    /// Wake the engine, as the next request would
    #[command(after_long_help = "\
Examples:
  dhow resume
  dhow resume foreign")]
    Resume {
        /// Only this machine: native or foreign
        machine: Option<Role>,
    },
    /// Show what runs, what it costs and what is wrong
    #[command(after_long_help = "\
Exit status: 0 when the engine runs or sleeps, 3 when it does not.

Examples:
  dhow status
  dhow status --timeline    and where the last start's time went
  dhow status --json | jq .machines[0].state")]
    Status {
        /// Show each step of the last start with its time
        #[arg(long)]
        timeline: bool,
    },
    /// Say where a container runs, what runs its programs, and why
    #[command(after_long_help = "\
A machine that sleeps is not woken; what was in it is known.

Examples:
  dhow inspect web
  dhow inspect 5d3f --json | jq -r .role")]
    Inspect {
        /// Its ID, the first digits of one, or its name
        container: String,
    },
    /// Show a log
    #[command(after_long_help = "\
Examples:
  dhow logs                 what the daemon logged last
  dhow logs dockerd -f      dockerd's lines as they come
  dhow logs console -n all
  dhow logs console --machine foreign")]
    Logs {
        /// Whose log
        #[arg(value_enum, default_value_t = Source::Daemon)]
        source: Source,
        /// The machine whose supervisor, hypervisor, console or service it is
        #[arg(short, long, value_name = "NAME", default_value_t = MachineName::native())]
        machine: MachineName,
        /// Go on with new lines as they come
        #[arg(short, long)]
        follow: bool,
        /// How many of the last lines, or `all`
        #[arg(short = 'n', long = "lines", value_name = "N", default_value = "100")]
        lines: Amount,
    },
    /// Look at what the engine needs and say what is missing and what to do
    #[command(after_long_help = "\
Exit status: 0 when the engine can run, 1 when something keeps it from running.

Examples:
  dhow doctor
  dhow doctor --json")]
    Doctor,
    /// Show and change the configuration
    #[command(after_long_help = "\
Examples:
  dhow config                          every key, its value and where it comes from
  dhow config set machine.memory 8GiB
  dhow config unset machine.memory
  dhow config defaults > ~/.dhow/config.toml")]
    Config {
        /// What to do; `show` if left out
        #[command(subcommand)]
        verb: Option<ConfigVerb>,
    },
    /// Show and change the Docker context that leads to this engine
    #[command(after_long_help = "\
Examples:
  dhow context              which context leads here and which is current
  dhow context use          make it current without `dhow up`
  dhow context remove")]
    Context {
        /// What to do; `show` if left out
        #[command(subcommand)]
        verb: Option<ContextVerb>,
    },
    /// Work on boot assets: the kernels and images that machines start from
    #[command(after_long_help = "\
Examples:
  dhow assets list
  dhow assets build --arch arm64
  dhow assets verify
  dhow assets export dhow-assets.tar   for a machine without a network")]
    Assets {
        /// What to do.
        #[command(subcommand)]
        verb: AssetsVerb,
    },
    /// Work on translators: what runs containers of another architecture
    #[command(after_long_help = "\
A list in the configuration (translators.arm64, translators.amd64) says which may serve, in order; nothing else is ever used.

Examples:
  dhow translator list
  dhow translator provision qemu
  dhow translator provision fex --from ./FEX
  dhow translator remove qemu")]
    Translator {
        /// What to do.
        #[command(subcommand)]
        verb: TranslatorVerb,
    },
    /// Show what is published: every address of this host that leads to a container
    #[command(after_long_help = "\
A port that stands here is one that this host listens on.

Examples:
  dhow ports
  dhow ports --json | jq '.ports[] | select(.container_name == \"web\")'")]
    Ports,
    /// Work on a machine's data disk: what it takes, giving back what is free, growth, checks
    #[command(after_long_help = "\
Exit status of check: 0 when the file system is sound or was repaired, 1 when it is damaged.

Examples:
  dhow disk usage
  dhow disk compact
  dhow disk grow 128GiB
  dhow down; dhow disk check
  dhow disk export data.img")]
    Disk {
        /// What to do.
        #[command(subcommand)]
        verb: DiskVerb,
    },
    /// Save what is on a data disk that cannot be used any more
    #[command(after_long_help = "\
A machine whose data disk cannot be repaired without a loss starts in rescue: it runs no containers, works on a copy that is
thrown away, and gives out what is there. Nothing is changed on the disk itself.

Examples:
  dhow rescue list
  dhow rescue export saved               everything, as tar archives
  dhow rescue export saved --volume db --image shop/web:1")]
    Rescue {
        /// What to do.
        #[command(subcommand)]
        verb: RescueVerb,
    },
    /// Find containers by name from this host: NAME.dhow.internal
    #[command(after_long_help = "\
Containers find each other, and this host as host.docker.internal, without it. With it, one file of the host's resolver sends
names under dhow.internal to Dhow. Installing needs root, by a line to type; a file that dhow did not write is never touched.

Exit status of status: 0 when names are found from this host, 1 when they are not.

Examples:
  dhow dns status
  dhow dns install --dry-run             what would be written, and where
  curl http://web.shop.dhow.internal     then, the service web of the Compose project shop")]
    Dns {
        /// What to do; `status` if left out
        #[command(subcommand)]
        verb: Option<DnsVerb>,
    },
    /// Reach containers' own addresses from this host (Linux)
    #[command(after_long_help = "\
Without it, containers are reached by their published ports. With it, a small program that may
change the host's network (CAP_NET_ADMIN) makes a device with routes to Docker's networks for as
long as the machine runs. Installing takes root once, by a line that you type; uninstalling leaves
no trace.

Examples:
  dhow route status
  dhow route install --dry-run
  curl http://172.17.0.2                 then, to a container that publishes nothing")]
    Route {
        /// What to do; `status` if left out
        #[command(subcommand)]
        verb: Option<RouteVerb>,
    },
    /// Have the Docker socket from login on: the daemon starts with the first request (systemd)
    #[command(after_long_help = "\
Without it, `dhow up` starts the daemon. With it, the user's service manager listens on the sockets from
login on and starts the daemon with the first request; at logout machines are saved to disk. Needs no
root. A unit that dhow did not write is never touched.

Exit status of status: 0 when it is installed, 1 when it is not.

Examples:
  dhow service install
  dhow service status
  dhow service uninstall")]
    Service {
        /// What to do; `status` if left out
        #[command(subcommand)]
        verb: Option<ServiceVerb>,
    },
    /// Prove that containers of another architecture work, program by program
    #[command(after_long_help = "\
Gate A: whether anything runs. B: representative programs. C: builds, and a project that mixes architectures. Images are made of
the distribution's packages, in the store of boot assets, and leave the engine at the end.

PASS; FAIL: the translator misbehaved; UNSUPPORTED: a known gap; INFRA: it could not be tested.
Exit status: 0 nothing failed, 1 something failed, 2 nothing could be tested.

Examples:
  dhow verify
  dhow verify --gate a
  dhow verify --json --no-progress > report.json")]
    Verify(VerifyArgs),
    /// Show the version of this command and of the daemon that runs
    #[command(after_long_help = "Example:\n  dhow version --json")]
    Version,
    /// Print a script that completes `dhow` commands in a shell
    #[command(after_long_help = "\
Examples:
  dhow completions bash > ~/.local/share/bash-completion/completions/dhow
  dhow completions zsh > ~/.zfunc/_dhow
  dhow completions fish > ~/.config/fish/completions/dhow.fish")]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Be the daemon
    #[command(hide = true)]
    Daemon {
        /// Leave the caller's session and terminal
        #[arg(long)]
        detached: bool,
        /// Be a service: take the service manager's sockets, and save machines to disk when told to end
        #[arg(long, conflicts_with = "detached")]
        service: bool,
    },
    /// Be a machine's supervisor
    #[command(hide = true)]
    Supervise {
        /// The machine
        name: MachineName,
        /// What this boot is for: serve, check, rescue
        #[arg(long = "for", default_value_t = Purpose::Serve)]
        purpose: Purpose,
    },
    /// Run a few guest instructions on KVM
    #[command(hide = true)]
    ProbeKvm,
}

/// A command about the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Show every key, its value and where it comes from
    Show,
    /// Print one key's effective value
    Get {
        /// Section and key, such as machine.memory
        key: String,
    },
    /// Set one key; comments in the file stay
    Set {
        /// Section and key, such as machine.memory
        key: String,
        /// Its value, such as 8GiB
        value: String,
    },
    /// Remove one key from the file, so that its default holds
    Unset {
        /// Section and key, such as machine.memory
        key: String,
    },
    /// Print where the file is
    Path,
    /// Check the file
    Check,
    /// Print a configuration file with every key, its meaning and its default
    Defaults,
}

/// A command about the Docker context.
#[derive(Debug, Subcommand)]
pub enum ContextVerb {
    /// Show this engine's context and the current one
    Show,
    /// Make the context, and leave the current one as it is
    Create,
    /// Make the context current
    Use,
    /// Make the previous context current again
    Restore,
    /// Restore the previous context and remove this engine's
    Remove,
}

/// A command about containers' names on the host.
#[derive(Debug, Subcommand)]
pub enum DnsVerb {
    /// Show whether the resolver's file, our port and this host's resolver work
    Status {
        #[command(flatten)]
        place: Where,
    },
    /// Send names under dhow.internal to Dhow
    Install {
        #[command(flatten)]
        place: Where,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove what was installed, and nothing else
    Uninstall {
        #[command(flatten)]
        place: Where,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

/// A command about the daemon under the user's service manager.
#[derive(Debug, Subcommand)]
pub enum ServiceVerb {
    /// Show whether the units are installed and the service manager listens
    Status,
    /// Write the units and have the service manager listen
    Install {
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Save machines to disk, end the daemon and remove the units
    Uninstall {
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

/// A command about the route to containers' own addresses.
#[derive(Debug, Subcommand)]
pub enum RouteVerb {
    /// Show whether the program is installed, and which devices and routes are up
    Status {
        #[command(flatten)]
        place: Where,
    },
    /// Install the program that lies beside dhow, as root
    Install {
        /// The group that may run it, by number [default: the caller's]
        #[arg(long, value_name = "GID")]
        group: Option<u32>,
        #[command(flatten)]
        place: Where,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove the program and every trace of it, as root
    Uninstall {
        #[command(flatten)]
        place: Where,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

/// Where the program is installed.
#[derive(Debug, Clone, Default, Args)]
pub struct Where {
    /// Work below this directory, for packages [default: /]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub root: Option<PathBuf>,
}

/// A command about boot assets.
#[derive(Debug, Subcommand)]
pub enum AssetsVerb {
    /// List boot assets and what uses them
    List,
    /// Get what a build needs ahead of the first start
    Fetch {
        #[command(flatten)]
        arch: ForArch,
        /// Where packages are, instead of where the host's configuration says
        #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
        mirror: Option<String>,
    },
    /// Compare every byte with its digest
    Verify {
        /// Only those of this architecture
        #[arg(long, value_parser = arch)]
        arch: Option<Arch>,
    },
    /// Make boot assets from a distribution's packages
    Build {
        #[command(flatten)]
        arch: ForArch,
        /// The file that pins packages; written if it is missing
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        lock: Option<PathBuf>,
        /// Where packages are, instead of where the host's configuration says
        #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
        mirror: Option<String>,
        /// The guest's agent, instead of the one that comes with dhow
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        agent: Option<PathBuf>,
    },
    /// Write boot assets to one file
    Export {
        /// The file to write
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        #[command(flatten)]
        arch: ForArch,
    },
    /// Read boot assets from a file that `export` wrote
    Import {
        /// The file to read
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Remove boot assets that no machine uses
    Clean {
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
    },
}

/// The architecture to work for.
#[derive(Debug, Clone, Copy, Args)]
pub struct ForArch {
    /// The guest's architecture, amd64 or arm64 [default: the native machine's]
    #[arg(long, value_parser = arch)]
    pub arch: Option<Arch>,
}

fn arch(word: &str) -> Result<Arch, dhow_model::arch::UnknownArch> {
    word.parse()
}

/// Whether a word that was typed asks for JSON, for errors in the rest of the line.
#[must_use]
pub fn asks_for_json(words: impl IntoIterator<Item = std::ffi::OsString>) -> bool {
    words.into_iter().take_while(|word| word != "--").any(|word| word == "--json")
}

/// Every word that names a source of logs.
impl ValueEnum for Source {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.as_str()).help(self.about()))
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
