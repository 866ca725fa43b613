//! What the command line asks of the rest of the executable.

use std::process::ExitCode;

use dhow_cli::{
    AssetsCommand, AssetsDone, Check, House, Report, TranslatorCommand, TranslatorsDone, Verdict,
};
use dhow_daemon::{Passed, Way};
use dhow_home::{Home, launch};
use dhow_model::{Config, Failure, MachineName, Purpose};
use tokio::runtime::Builder;

use crate::{assets, background, translators};

/// Threads of a supervisor: it moves bytes and waits.
const THREADS: usize = 2;

/// All of Dhow.
pub struct Whole;

impl House for Whole {
    fn daemon(&self, home: &Home, service: bool) -> ExitCode {
        // Before there are threads, as its variables are removed.
        let passed = if service { Passed::from_environment() } else { Ok(Passed::nothing()) };
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        background::run(home, &home.daemon_log(), dhow_daemon::runtime(processors), |_, serving| async move {
            let executable = executable()?;
            let passed = passed.map_err(|error| {
                let message = format!("the service manager's sockets cannot be used: {error}");
                Failure::new("files", message, "dhow service install")
            })?;
            let way = Way { passed, saves: service };
            dhow_daemon::run(home, executable, way, serving).await.map_err(|e| e.failure())
        })
    }

    fn supervise(&self, home: &Home, machine: &MachineName, purpose: Purpose) -> ExitCode {
        launch::detach();
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
        background::run(
            home,
            &home.machine(machine).supervisor_log(),
            runtime,
            |config, serving| async move {
                dhow_supervisor::run(home, machine, purpose, &config, serving).await.map_err(|e| e.failure())
            },
        )
    }

    fn probe_kvm(&self) -> ExitCode {
        dhow_hypervisor::probe::run_probe_child()
    }

    fn assets(
        &self,
        home: &Home,
        config: &Config,
        command: &AssetsCommand,
        report: &mut dyn Report,
    ) -> Result<AssetsDone, Failure> {
        assets::run(home, config, command, report)
    }

    fn translators(
        &self,
        home: &Home,
        config: &Config,
        command: &TranslatorCommand,
        report: &mut dyn Report,
    ) -> Result<TranslatorsDone, Failure> {
        translators::run(home, config, command, report)
    }

    fn doctor(&self, home: &Home) -> Vec<Check> {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                return vec![Check::bad("threads", format!("no threads can be started: {error}"), "")];
            }
        };
        let checks = runtime.block_on(dhow_engine::doctor::checks(home));
        checks.into_iter().map(check).collect()
    }
}

fn check(check: dhow_hypervisor::doctor::Check) -> Check {
    use dhow_hypervisor::doctor::Verdict as Found;
    let verdict = match check.verdict {
        Found::Ok => Verdict::Good,
        Found::Warn => Verdict::Warning,
        Found::Fail => Verdict::Bad,
    };
    Check { name: check.name, verdict, found: check.found, hint: check.advice.unwrap_or_default() }
}

fn executable() -> Result<std::path::PathBuf, Failure> {
    std::env::current_exe()
        .map_err(|e| Failure::new("executable", format!("cannot find our own executable: {e}"), ""))
}
