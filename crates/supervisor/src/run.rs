//! The supervisor's life, from its lock to its last word.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use dhow_channel::{Dialer, Mux, hub};
use dhow_home::lock::{FileLock, LockError};
use dhow_home::rotating::Rotating;
use dhow_home::{Home, LastEnd, MachineDir, socket};
use dhow_hypervisor::{Hypervisor, Origin, Output, Qemu, Running};
use dhow_model::{Config, MachineName, MachineSpec};
use dhow_proto::supervisor::Phase;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::disk::DataImage;
use crate::network::Network;
use crate::prepare::{self, Reach};
use crate::serve::{self, Stop};
use crate::status::Status;
use crate::translators;
use crate::watch::{self, Machine};
use crate::{Error, Result, disk};

/// For the guest's agent to answer the channel's first bytes.
const CHANNEL: Duration = Duration::from_secs(60);
/// How large a log of the machine may grow, and how many older ones are kept.
const LOG_LIMIT: u64 = 8 << 20;
const LOG_KEEP: u32 = 3;
/// For those who watch the status to be told of the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Whoever looks whether a supervisor runs has its lock for a moment; a supervisor has it for good.
const LOOKERS: Duration = Duration::from_secs(1);

/// Runs machine `name` until it ends. `serving` is called once the API can be reached.
///
/// # Errors
/// When the supervisor cannot serve at all. A machine that fails is no error of the supervisor: its failure is written
/// down, told to those who watch, and the supervisor ends.
pub async fn run(home: &Home, name: &MachineName, config: &Config, serving: impl FnOnce()) -> Result<()> {
    let dir = home.machine(name);
    let _lock = match FileLock::wait_exclusive(&dir.supervisor_lock(), LOOKERS).await {
        Ok(lock) => lock,
        Err(LockError::Held { .. }) => return Err(Error::AlreadySupervised(name.to_string())),
        Err(LockError::Io { path, source }) => return Err(Error::File { path, source }),
    };
    LastEnd::clear(&dir).map_err(|source| Error::File { path: dir.last_end(), source })?;
    let spec = prepare::spec(&dir)?;
    let listen =
        |path: std::path::PathBuf| socket::listen(&path).map_err(|source| Error::Serve { path, source });
    let api = listen(dir.supervisor_socket())?;
    let hub = listen(dir.channel_socket())?;
    let cancel = CancellationToken::new();
    let network = Network::start(home, &dir, &spec, &cancel)?;
    let mut status = Status::new(&spec);
    let (stop, mut stops) = mpsc::channel(8);
    let service = serve::Service::new(status.subscribe(), network.view(), stop.clone());
    let server = tokio::spawn(serve::serve(api, service, cancel.clone()));
    let signals =
        tokio::spawn(stop_on_signal(stop, Duration::from_secs(config.limits.stop.into()), cancel.clone()));
    serving();

    let ended = live(home, &spec, config, &network, hub, &mut status, &mut stops).await;
    // Nobody is told that the machine is off before its ports are.
    network.stop().await;
    let failure = ended.err().map(|e| e.failure());
    if let Some(failure) = &failure {
        tracing::error!(code = failure.code, "{}", failure.message);
    }
    LastEnd { supervisor_pid: std::process::id(), failure: failure.clone() }
        .write(&dir)
        .map_err(|source| Error::File { path: dir.last_end(), source })?;
    match &failure {
        Some(failure) => status.phase(Phase::Failed, &failure.message),
        None => status.phase(Phase::Stopped, ""),
    }
    // The sockets go before the lock, so that the next supervisor's are not removed by us.
    let network_socket = dir.network_socket();
    for path in
        [dir.supervisor_socket(), dir.channel_socket(), dir.serial_socket(), dir.qmp_socket(), network_socket]
    {
        socket::remove(&path).map_err(|source| Error::File { path, source })?;
    }
    drop(status);
    cancel.cancel();
    signals.abort();
    match tokio::time::timeout(FAREWELL, server).await {
        Ok(Ok(Ok(()))) | Err(_) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "the API ended with an error"),
        Ok(Err(error)) => tracing::warn!(%error, "the API's task ended with an error"),
    }
    Ok(())
}

/// Starts the machine and owns it until it is off. A request to stop that comes before there is a guest ends the start.
async fn live(
    home: &Home,
    spec: &MachineSpec,
    config: &Config,
    network: &Network,
    hub: tokio::net::UnixListener,
    status: &mut Status,
    stops: &mut mpsc::Receiver<Stop>,
) -> Result<()> {
    let cancel = CancellationToken::new();
    let _cancel_tasks = cancel.clone().drop_guard();
    let started = tokio::select! {
        started = start(home, spec, config, network, hub, status, &cancel) => started?,
        Some(stop) = stops.recv() => {
            tracing::info!("asked to stop before the guest ran");
            status.phase(Phase::Stopped, "");
            return match stop.reply.send(dhow_proto::supervisor::StopReply::default()) {
                Ok(()) | Err(_) => Ok(()),
            };
        }
    };
    started.watch(status, stops).await
}

/// From the files to a running hypervisor and an open channel.
async fn start(
    home: &Home,
    spec: &MachineSpec,
    config: &Config,
    network: &Network,
    hub: tokio::net::UnixListener,
    status: &Status,
    cancel: &CancellationToken,
) -> Result<Machine> {
    let dir = home.machine(&spec.name);
    let began = Instant::now();
    let image = disk::open(&dir, spec.disk).await?;
    status.host_step(
        "data image",
        began,
        &format!(
            "{} sparse, {} bytes used",
            spec.disk,
            dhow_home::process::allocated_bytes(&dir.data_image())
        ),
    );

    let began = Instant::now();
    let arch = spec.arch;
    let found = tokio::task::spawn_blocking(move || Qemu::find(arch)).await;
    let qemu = found.map_err(|_| Error::Ending)??;
    let (mut running, reach) = hypervise(home, spec, &qemu, &image).await?;
    let cid = match &reach {
        Reach::Vsock(lease, _) => Some(lease.cid),
        Reach::Serial(_) => None,
    };
    status.hypervisor(running.pid(), cid);
    status.host_step("hypervisor", began, qemu.name());
    status.phase(Phase::Booting, "");
    tracing::info!(pid = running.pid(), hypervisor = qemu.name(), accelerator = %spec.accelerator, "the machine is on");

    let began = Instant::now();
    let (dialer, mux) = match channel(&reach, running.as_ref()).await {
        Ok(opened) => opened,
        Err(error) => return Err(watch::explain(running.as_mut(), error).await),
    };
    status.host_step("channel", began, "");
    let served = hub::serve(hub, dialer.clone(), cancel.clone());
    tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "the channel's hub ended");
        }
    });
    let agent = Agent::new(dialer.clone());
    let listening = network.follow(dialer, agent.clone(), cancel.clone());
    let (sender, heard) = mpsc::channel(64);
    let translators = translators::follow(home.clone(), spec.arch, agent.clone(), sender.clone());
    let follow = agent.clone().follow(sender);
    let cancelled = cancel.clone().cancelled_owned();
    tokio::spawn(async move {
        // The lease of a context ID lives as long as the machine is followed.
        let _reach = reach;
        tokio::select! {
            ((), ()) = async { tokio::join!(follow, translators) } => {}
            () = cancelled => {}
        }
    });
    let limit = Duration::from_secs(config.limits.start.into());
    Ok(Machine { running, mux, agent, heard, listening, dir, limit })
}

/// Starts the hypervisor, with the next context ID when the kernel says that one is taken (spec 8.2).
async fn hypervise(
    home: &Home,
    spec: &MachineSpec,
    qemu: &Qemu,
    image: &DataImage,
) -> Result<(Box<dyn Running>, Reach)> {
    let dir = home.machine(&spec.name);
    let mut refused = BTreeSet::new();
    loop {
        let reach = prepare::reach(home, spec, &refused)?;
        let hardware = prepare::hardware(&dir, spec, image, &reach)?;
        let copy = image.lock.file().try_clone();
        let inherit =
            vec![OwnedFd::from(copy.map_err(|source| Error::File { path: dir.data_image(), source })?)];
        match qemu.start(&hardware, output(&dir)?, inherit, None, Origin::Boot).await {
            Ok(running) => return Ok((running, reach)),
            Err(dhow_hypervisor::Error::CidTaken(cid)) if refused.insert(cid) => {
                tracing::info!(%cid, "the context ID is taken by another program; trying the next");
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn channel(reach: &Reach, running: &dyn Running) -> Result<(Dialer, Option<Mux>)> {
    match reach {
        Reach::Vsock(lease, token) => Ok((Dialer::vsock(lease.cid, token.clone()), None)),
        Reach::Serial(_) => {
            let mux = Mux::connect(running.serial().await?, CHANNEL).await?;
            Ok((mux.dialer(), Some(mux)))
        }
    }
}

fn output(dir: &MachineDir) -> Result<Output> {
    let log = |path: std::path::PathBuf| {
        let opened = Rotating::open(&path, LOG_LIMIT, LOG_KEEP);
        opened.map_err(|source| Error::File { path, source })
    };
    Ok(Output { console: Box::new(log(dir.console_log())?), log: Box::new(log(dir.hypervisor_log())?) })
}

/// The first signal stops in order, the second forces (spec 6.6).
async fn stop_on_signal(stop: mpsc::Sender<Stop>, limit: Duration, cancel: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::warn!("signals cannot be handled; stop the machine with `dhow down`");
        return;
    };
    let mut force = false;
    loop {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            () = cancel.cancelled() => return,
        }
        let (reply, _) = tokio::sync::oneshot::channel();
        if stop.send(Stop { force, limit, reply }).await.is_err() {
            return;
        }
        force = true;
    }
}
