//! How the daemon and the supervisors run: their log, their runtime, and their word to whoever launched them.

use std::future::Future;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;

use dhow_home::rotating::Rotating;
use dhow_home::{Home, launch};
use dhow_model::{Config, Failure};
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;

/// How large a log may grow, and how many older ones are kept.
const LOG_LIMIT: u64 = 8 << 20;
const LOG_KEEP: u32 = 3;

/// Runs a background process that logs to `log`. `work` gets the configuration and a way to say that it serves; a failure before that is told
/// to the launcher, and one after it is logged.
pub fn run<W, F>(home: &Home, log: &Path, runtime: io::Result<Runtime>, work: W) -> ExitCode
where
    W: FnOnce(Config, Box<dyn FnOnce() + Send>) -> F,
    F: Future<Output = Result<(), Failure>>,
{
    let config = home.read_config();
    // A mistake in the configuration must not keep anybody from stopping a machine: it is told when it is asked for.
    start_log(log, config.as_ref().map_or("info", |c| c.log.level.as_str()));
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return refuse(&Failure::new("runtime", format!("no threads can be started: {error}"), ""));
        }
    };
    let serving = Box::new(|| {
        if let Err(error) = launch::answer(Ok(())) {
            tracing::warn!(%error, "standard output cannot be closed");
        }
    });
    match runtime.block_on(work(config.unwrap_or_default(), serving)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => refuse(&failure),
    }
}

/// Is a machine's file server. Its standard error is its supervisor's to log.
pub fn share() -> ExitCode {
    let filter = EnvFilter::try_from_env("DHOW_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).without_time().with_level(false);
    log.with_target(false).with_writer(std::io::stderr).init();
    match dhow_share::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(failure: &Failure) -> ExitCode {
    tracing::error!(code = failure.code, "{}", failure.message);
    match launch::answer(Err(failure)) {
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            tracing::warn!(%error, "the launcher cannot be told");
            ExitCode::FAILURE
        }
    }
}

/// Logs to the rotating file, or to the terminal that it was started from by hand. `DHOW_LOG` overrides the level.
fn start_log(path: &Path, level: &str) {
    let filter = EnvFilter::try_from_env("DHOW_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    // A log that cannot be written (a full disk) is no reason to die: the complaint would go to the same disk.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).log_internal_errors(false);
    let file =
        if std::io::stderr().is_terminal() { None } else { Rotating::open(path, LOG_LIMIT, LOG_KEEP).ok() };
    match file {
        Some(file) => log.with_writer(Mutex::new(file)).init(),
        // Where the file cannot be opened, the launcher has our standard error appended to a file of its own.
        None => log.with_writer(std::io::stderr).init(),
    }
}
