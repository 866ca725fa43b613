//! What the command line asks of the rest of the executable.

use std::process::ExitCode;

use dhow_cli::{
    AssetsCommand, AssetsDone, Check, House, Report, TranslatorCommand, TranslatorsDone, Verdict,
};
use dhow_home::{Home, launch};
use dhow_model::{Config, Failure, MachineName};

use crate::{assets, background, translators};

/// Threads of a supervisor: it moves bytes and waits.
const THREADS: usize = 2;

/// All of Dhow.
pub struct Whole;

impl House for Whole {
    fn daemon(&self, home: &Home) -> ExitCode {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        background::run(home, &home.daemon_log(), dhow_daemon::threads(processors), |_, serving| async {
            let executable = executable()?;
            dhow_daemon::run(home, executable, serving).await.map_err(|e| e.failure())
        })
    }

    fn supervise(&self, home: &Home, machine: &MachineName) -> ExitCode {
        launch::detach();
        background::run(
            home,
            &home.machine(machine).supervisor_log(),
            THREADS,
            |config, serving| async move {
                dhow_supervisor::run(home, machine, &config, serving).await.map_err(|e| e.failure())
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
