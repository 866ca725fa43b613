//! The order of a boot. Everything that can go on beside something else does: a second saved here is saved at every start.
//!
//! ```text
//!  kernel ─▶ modules ─▶ config ─▶ channel ─▶ root ─▶ settings ─┬▶ data ────┬▶ containerd ────────────┬▶ ready
//!                                              │               └▶ network ─┴▶ translators ▶ dockerd ─┘
//!                                              ├▶ late modules ▶ shares (before dockerd)
//!                                              └▶ read-ahead of the engine's programs
//! ```

use std::convert::Infallible;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dhow_model::{ChannelKind, Purpose};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use crate::guest::{Engine, Guest};
use crate::ports::Ports;
use crate::reaper::Reaper;
use crate::services::Service;
use crate::steps::{Begun, Steps, begin};
use crate::{
    Error, Result, clock, config, console, data, disk, engine, last_words, modules, mounts, network,
    readahead, reclaim, rescue, root, serve, settings, shares, shutdown,
};

/// Made by the boot assets: modules that the way to the root needs, in the initial RAM disk.
const EARLY_MODULES: &str = "/modules/load";
/// Modules that the engine wants, in the root.
const LATE_MODULES: &str = "/usr/lib/modules/load-order";
/// Modules for `AF_VSOCK`, in the root.
const VSOCK_MODULES: &str = "/usr/lib/modules/load-order-vsock";
/// For the host to say which translators to use, which it does as soon as it is greeted.
const TRANSLATORS: Duration = Duration::from_secs(10);
/// Under software emulation a loaded host may need most of it.
const ENGINE_LIMIT: Duration = Duration::from_secs(120);

/// Boots, and serves for ever. Returns only when it is not process 1.
#[must_use]
pub fn run() -> ExitCode {
    if !rustix::process::getpid().is_init() {
        eprintln!(
            "dhow-agent {} is process 1 of a guest and does nothing elsewhere",
            env!("CARGO_PKG_VERSION")
        );
        return ExitCode::FAILURE;
    }
    let steps = Arc::new(Steps::default());
    match boot(&steps) {
        Ok(never) => match never {},
        Err(error) => {
            console::line(format!("dhow: the boot failed: {error}"));
            last_words::stay_or_power_off()
        }
    }
}

fn boot(steps: &Arc<Steps>) -> Result<Infallible> {
    mounts::first()?;
    console::open();
    last_words::catch_panics(steps);
    console::line(format!("dhow: agent {} is process 1", env!("CARGO_PKG_VERSION")));
    let reaper = Reaper::start()?;
    steps.run("modules", || Ok(((), modules::load_list(Path::new(EARLY_MODULES))?)))?;
    let config = steps.run("config", || {
        let config = config::read(Path::new(config::PATH))?;
        let detail = format!("machine {}", config.machine);
        Ok((config, detail))
    })?;
    // For ever: a boot that fails must still be able to tell the host.
    let runtime: &'static Runtime = Box::leak(Box::new(runtime()?));
    let ports = {
        let _inside = runtime.enter();
        Ports::start()
    };
    let guest = Guest::new(config, Arc::clone(steps), reaper, ports);
    let vsock = guest.config.channel == ChannelKind::Vsock;
    if !vsock {
        steps.run("channel", || open_channel(&guest, runtime))?;
    }
    steps.run("root", || {
        let disk = disk::find(disk::ROOT)?;
        readahead::widen(&disk)?;
        root::switch(&disk)?;
        mounts::rest()?;
        guest.translators.open();
        Ok(((), format!("{}, {} MiB", disk.device.display(), disk.bytes >> 20)))
    })?;
    if vsock {
        steps.run("channel", || {
            modules::load_list(Path::new(VSOCK_MODULES))?;
            open_channel(&guest, runtime)
        })?;
    }
    if guest.config.purpose == Purpose::Check {
        steps
            .run("data", || Ok(((), format!("{}, not mounted", disk::find(disk::DATA)?.device.display()))))?;
        steps.ready(begin("ready"));
        last_words::stay()
    }
    let programs = thread::Builder::new()
        .name("readahead".to_owned())
        .spawn(|| readahead::files(&engine::PROGRAMS))
        .map_err(Error::kernel("start a thread"))?;
    let late = beside("modules", steps, || modules::load_list(Path::new(LATE_MODULES)))?;
    let begun = start(&guest, runtime, late)?;
    drop(programs.join());
    runtime.spawn(shut_down_when_told(Arc::clone(&guest)));
    runtime.spawn(reclaim::follow());
    wait_for_engine(&guest, runtime, begun)?;
    last_words::stay()
}

/// Somebody in the guest may tell process 1 to end, as on any machine; it means the machine.
async fn shut_down_when_told(guest: Arc<Guest>) {
    match signal(SignalKind::terminate()) {
        Ok(mut told) => {
            while told.recv().await.is_some() {
                shutdown::begin(&guest, shutdown::DEFAULT_LIMIT);
            }
        }
        Err(error) => console::line(format!("dhow: SIGTERM is not heeded: {error}")),
    }
}

/// Lets the host in: from now on it is told how the boot goes. A serial port's driver is there from the beginning; that of
/// vsock lies in the root, since most machines need one of the two.
fn open_channel(guest: &Arc<Guest>, runtime: &Runtime) -> Result<((), String)> {
    let _inside = runtime.enter();
    let (incoming, detail) = serve::open(&guest.config)?;
    runtime.spawn(serve::serve(Arc::clone(guest), incoming));
    last_words::host_can_ask();
    Ok(((), detail))
}

/// Everything up to the running services. The data disk does not need the network, nor the network the disk.
/// Answers when the services' steps began.
fn start(guest: &Arc<Guest>, runtime: &Runtime, late: thread::JoinHandle<Result<()>>) -> Result<[Begun; 2]> {
    let (steps, config) = (&guest.steps, &guest.config);
    steps.run("settings", || Ok(((), settings::apply()?)))?;
    steps.run("clock", || Ok(((), clock::from_rtc())))?;
    let network = {
        let guest = Arc::clone(guest);
        beside("network", steps, move || network::up(&guest.config))?
    };
    steps.run("data", || {
        let disk = disk::find(disk::DATA)?;
        let detail = match config.purpose {
            Purpose::Rescue => rescue::attach(&disk, &guest.reaper)?,
            Purpose::Serve | Purpose::Check => data::attach(&disk, config.disk, &guest.reaper)?,
        };
        guest.data.get_or_init(|| disk.device);
        Ok(((), detail))
    })?;
    engine::configure(&config.network)?;
    joined(network)?;
    {
        let _inside = runtime.enter();
        guest.ports.listen()?;
    }
    let start = |definition| {
        let _inside = runtime.enter();
        Service::start(definition, guest.reaper.clone())
    };
    let (first, containerd) = (begin("containerd"), start(engine::containerd()));
    // Whose driver is one of the modules, and containers that dockerd starts by itself may have them mounted.
    joined(late)?;
    steps.run("shares", || Ok(((), shares::mount(&config.shares)?)))?;
    // dockerd starts containers by itself, and those of another architecture need their translator (spec 1.6: not for long).
    steps.run("translators", || Ok(((), runtime.block_on(guest.translators.settled(TRANSLATORS)))))?;
    let second = begin("dockerd");
    guest.engine.get_or_init(|| {
        let engine = Engine { dockerd: start(engine::dockerd()), containerd };
        runtime.spawn(guest.ports.clone().follow(engine.dockerd.watch()));
        engine
    });
    Ok([first, second])
}

/// Reports each service when it answers, and then that the guest is ready.
fn wait_for_engine(guest: &Arc<Guest>, runtime: &Runtime, begun: [Begun; 2]) -> Result<()> {
    let Some(engine) = guest.engine.get() else { return Ok(()) };
    for (begun, service) in begun.into_iter().zip([&engine.containerd, &engine.dockerd]) {
        match runtime.block_on(service.ready(ENGINE_LIMIT)) {
            Ok(()) => guest.steps.end(begun, format!("process {}", service.status().pid)),
            Err(error) => {
                guest.steps.fail(begun, &error);
                return Err(error);
            }
        }
    }
    guest.steps.ready(begin("ready"));
    Ok(())
}

/// Runs a step in a thread of its own.
fn beside(
    name: &'static str,
    steps: &Arc<Steps>,
    work: impl FnOnce() -> Result<String> + Send + 'static,
) -> Result<thread::JoinHandle<Result<()>>> {
    let steps = Arc::clone(steps);
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || steps.run(name, || Ok(((), work()?))))
        .map_err(Error::kernel("start a thread"))
}

/// Waits for a step beside. A panic in there is a failed step already, and the thread stays.
fn joined(step: thread::JoinHandle<Result<()>>) -> Result<()> {
    step.join().unwrap_or(Ok(()))
}

/// Two workers: one that stands still because of a panic leaves one that tells the host.
fn runtime() -> Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .thread_name("agent")
        .thread_stack_size(512 << 10)
        .enable_all()
        .build()
        .map_err(Error::kernel("start the runtime"))
}
