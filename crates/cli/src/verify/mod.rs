//! `dhow verify`: gates that prove translation against the engine that runs, through its Docker socket (spec 10.x).

mod args;
mod serving;

use std::time::Duration;

use dhow_model::{Arch, Config, Failure, Placement};
use dhow_proto::control;
use dhow_verify::{Docker, Request, Serving, Source, Surroundings, Verdict};

pub use self::args::VerifyArgs;
use crate::client::{Daemon, Deadline};
use crate::command::Caller;
use crate::error::{Error, Result};
use crate::house::Report as _;
use crate::interrupt::Interrupts;
use crate::output::Style;
use crate::progress::Progress;
use crate::{VERSION, config, launch};

/// Images are downloaded, made and loaded, and every program may take its time.
const LIMIT: Duration = Duration::from_secs(2 * 60 * 60);

/// Runs the gates. The exit status is that of spec 10.3.
///
/// # Errors
/// When it was given up, or the answer cannot be written. What cannot be tested is part of the answer.
pub async fn verify(caller: &Caller, typed: &VerifyArgs) -> Result<u8> {
    let config = config::load(&caller.home)?;
    let deadline = Deadline::after(caller.time_limit.unwrap_or(LIMIT));
    let mut interrupts = Interrupts::from_now_on()?;
    let machine = machine(caller).await?;
    let request = request(caller, &config, typed, machine.as_ref())?;
    let docker = Docker::new(&caller.home.docker_socket());
    let mut progress = Progress::new(&caller.output);
    let mut last = "the engine".to_owned();
    let report = {
        let mut tell = |words: &str| {
            words.clone_into(&mut last);
            progress.step(words);
        };
        tokio::select! {
            report = dhow_verify::verify(&docker, &request, &mut tell) => Some(report),
            () = tokio::time::sleep(deadline.left()) => None,
            () = interrupts.pressed() => None,
        }
    };
    let Some(report) = report else {
        progress.finish();
        dhow_verify::clean(&docker, &request.run).await;
        if deadline.left().is_zero() {
            return Err(deadline.missed(&last, false));
        }
        let consequence = "containers of this run were removed".to_owned();
        return Err(Error::Interrupted { step: last, consequence, hint: "dhow verify".to_owned() });
    };
    progress.finish();
    drop(progress);
    let style = caller.output.stdout;
    let text = dhow_verify::table(&report, &|verdict, word| paint(style, verdict, word));
    caller.output.answer(&text, &report)?;
    Ok(report.exit())
}

/// The native machine, as the daemon tells; `None` where none runs.
async fn machine(caller: &Caller) -> Result<Option<control::Machine>> {
    let deadline = Deadline::after(launch::CALL);
    let Some(mut daemon) = Daemon::reach(&caller.home.control_socket(), deadline).await? else {
        return Ok(None);
    };
    let machines = daemon.status(deadline).await?.machines;
    Ok(machines.into_iter().find(|machine| machine.name == dhow_model::MachineName::native().as_str()))
}

fn request(
    caller: &Caller,
    config: &Config,
    typed: &VerifyArgs,
    machine: Option<&control::Machine>,
) -> Result<Request> {
    let ours = machine.and_then(|machine| machine.arch.parse().ok()).or(Arch::host()).ok_or_else(|| {
        let message = "Dhow has no machines for this computer's processor";
        Error::Failed(Failure::new("arch-unsupported", message, "--arch amd64 or --arch arm64"))
    })?;
    let arch = typed.arch.unwrap_or(match ours {
        Arch::Amd64 => Arch::Arm64,
        Arch::Arm64 => Arch::Amd64,
    });
    let mirror =
        typed.mirror.clone().or_else(|| Some(config.assets.mirror.clone()).filter(|m| !m.is_empty()));
    let store = caller.home.asset_store();
    let source = match &typed.registry {
        Some(prefix) => Source::Registry { prefix: prefix.clone(), store, mirror },
        None => Source::Packages { store, mirror, refresh: typed.refresh },
    };
    let serving = match machine {
        // Another machine runs such programs on a processor of its own: nobody translates.
        _ if config.workloads.placement == Placement::ForeignMachine => Serving::default(),
        Some(machine) => serving::serving(machine, arch, config.translators.list(arch), &typed.translators),
        None => {
            Serving { problem: Some("the engine does not run: `dhow up`".to_owned()), ..Serving::default() }
        }
    };
    Ok(Request {
        run: format!("{}-{:x}", caller.home.tag(), std::process::id()),
        arch,
        gates: typed.gates(),
        checks: typed.checks.clone(),
        source,
        keep: typed.keep_images,
        at_most: None,
        pull: dhow_verify::PULL,
        serving,
        surroundings: surroundings(machine),
    })
}

fn surroundings(machine: Option<&control::Machine>) -> Surroundings {
    let translators = machine.map(|machine| machine.translators.as_slice()).unwrap_or_default();
    let entry = |given: &control::Translator| {
        crate::text::one_line(&format!("{} for {}, flags {}", given.interpreter, given.serves, given.flags))
    };
    Surroundings {
        dhow: VERSION.to_owned(),
        host: host(),
        accelerator: machine.map(|machine| machine.accelerator.clone()).unwrap_or_default(),
        binfmt: translators.iter().filter(|given| !given.interpreter.is_empty()).map(entry).collect(),
        ..Surroundings::default()
    }
}

/// Operating system, architecture and kernel of this computer.
fn host() -> String {
    let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    match std::fs::read_to_string("/proc/sys/kernel/osrelease") {
        Ok(kernel) => format!("{system}, kernel {}", kernel.trim()),
        Err(_) => system,
    }
}

fn paint(style: Style, verdict: Option<Verdict>, word: &str) -> String {
    match verdict {
        Some(Verdict::Pass) => style.good(word),
        Some(Verdict::Fail) => style.bad(word),
        Some(Verdict::Unsupported | Verdict::Infra) => style.warning(word),
        None => style.dim(word),
    }
}
