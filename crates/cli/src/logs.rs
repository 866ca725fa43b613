//! `dhow logs`: the last lines of a log, and new ones as they come, across rotation.

mod tail;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use dhow_home::Home;
use dhow_model::MachineName;
use serde_json::json;

use crate::command::Caller;
use crate::error::{Error, Result};
use crate::exit;
use crate::output::write_stdout;
use crate::text;
use tail::Tail;

/// How often a followed log is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(150);

/// Whose log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The daemon's.
    Daemon,
    /// A machine's supervisor's.
    Supervisor,
    /// Its hypervisor's own output.
    Hypervisor,
    /// Its guest's console.
    Console,
    /// dockerd's lines on the console.
    Dockerd,
    /// containerd's lines on the console.
    Containerd,
}

/// How many of the last lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// Every line.
    All,
    /// At most this many.
    Last(usize),
}

/// What to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Whose log.
    pub source: Source,
    /// Which machine's, of all sources but the daemon.
    pub machine: MachineName,
    /// Whether to go on with new lines.
    pub follow: bool,
    /// How many of those that are there.
    pub amount: Amount,
}

impl Source {
    /// Every source, in the order of help.
    pub const ALL: [Self; 6] =
        [Self::Daemon, Self::Supervisor, Self::Hypervisor, Self::Console, Self::Dockerd, Self::Containerd];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Supervisor => "supervisor",
            Self::Hypervisor => "hypervisor",
            Self::Console => "console",
            Self::Dockerd => "dockerd",
            Self::Containerd => "containerd",
        }
    }

    /// What it tells of.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Daemon => "Docker API, machines' states, start and stop",
            Self::Supervisor => "the machine's process on this computer",
            Self::Hypervisor => "what the hypervisor itself says",
            Self::Console => "the guest's kernel, agent and services",
            Self::Dockerd => "dockerd in the guest",
            Self::Containerd => "containerd in the guest",
        }
    }

    fn path(self, home: &Home, machine: &MachineName) -> PathBuf {
        let machine = home.machine(machine);
        match self {
            Self::Daemon => home.daemon_log(),
            Self::Supervisor => machine.supervisor_log(),
            Self::Hypervisor => machine.hypervisor_log(),
            Self::Console | Self::Dockerd | Self::Containerd => machine.console_log(),
        }
    }

    /// The line as this source's; `None` if it is another's. The agent puts a service's name before each of its lines.
    fn own(self, line: &str) -> Option<&str> {
        let line = line.trim_end_matches(['\n', '\r']);
        match self {
            Self::Dockerd => line.strip_prefix("dockerd: "),
            Self::Containerd => line.strip_prefix("containerd: "),
            _ => Some(line),
        }
    }
}

impl FromStr for Amount {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "all" => Ok(Self::All),
            _ => word
                .parse()
                .map(Self::Last)
                .map_err(|_| format!("`{word}` is no number of lines; write one, or `all`")),
        }
    }
}

/// Shows a log.
///
/// # Errors
/// When there is none yet and it is not followed, or it cannot be read.
pub async fn logs(caller: &Caller, request: &Request) -> Result<u8> {
    let source = request.source;
    let path = source.path(&caller.home, &request.machine);
    let show = |line: &str| match source.own(line) {
        None => Ok(()),
        Some(line) if caller.output.json => {
            caller.output.line(&json!({ "source": source.as_str(), "line": line }))
        }
        // The guest is not trusted, and a log may end up on a terminal by way of any pipe.
        Some(line) => write_stdout(format!("{}\n", text::harmless(line)).as_bytes()),
    };
    let keep = |line: &str| source.own(line).is_some();
    let read = |source| Error::Read { path: path.clone(), source };
    let mut tail = Tail::new(path.clone());
    let last = tail.last(request.amount, keep).map_err(read)?;
    if last.is_none() && !request.follow {
        return Err(Error::NoLog { what: source.as_str().to_owned(), path });
    }
    for line in last.unwrap_or_default() {
        show(&line)?;
    }
    if !request.follow {
        return Ok(exit::OK);
    }
    loop {
        let lines = tail.new_lines().map_err(read)?;
        if lines.is_empty() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        for line in lines {
            show(&line)?;
        }
    }
}
