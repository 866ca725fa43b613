//! The supervisor's life, from its lock to its last word.

use std::time::Duration;

use dhow_channel::{Gate, hub};
use dhow_home::lock::{FileLock, LockError};
use dhow_home::{Home, LastEnd, MachineDir, socket};
use dhow_model::{Config, MachineName, Purpose};
use dhow_proto::supervisor::Phase;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::inbox::{Inbox, Request, Stop};
use crate::network::Network;
use crate::owner::{self, Ended};
use crate::start::Place;
use crate::status::Status;
use crate::turns::Turns;
use crate::{Error, Result, prepare, serve};

/// For those who watch the status to be told of the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Whoever looks whether a supervisor runs has its lock for a moment; a supervisor has it for good.
const LOOKERS: Duration = Duration::from_secs(1);

/// A check or a repair of a large disk takes longer than any boot that serves.
const PATIENCE: u32 = 40;

/// Runs machine `name` until it ends, for this purpose. `serving` is called once the API can be reached.
///
/// # Errors
/// When the supervisor cannot serve at all. A machine that fails is no error of the supervisor: its failure is written
/// down, told to those who watch, and the supervisor ends.
pub async fn run(
    home: &Home,
    name: &MachineName,
    purpose: Purpose,
    config: &Config,
    serving: impl FnOnce(),
) -> Result<()> {
    let dir = home.machine(name);
    let _lock = match FileLock::wait_exclusive(&dir.supervisor_lock(), LOOKERS).await {
        Ok(lock) => lock,
        Err(LockError::Held { .. }) => return Err(Error::AlreadySupervised(name.to_string())),
        Err(LockError::Io { path, source }) => return Err(Error::File { path, source }),
    };
    let why = why(&dir, purpose);
    LastEnd::clear(&dir).map_err(|source| Error::File { path: dir.last_end(), source })?;
    let spec = prepare::spec(&dir)?;
    let listen =
        |path: std::path::PathBuf| socket::listen(&path).map_err(|source| Error::Serve { path, source });
    let api = listen(dir.supervisor_socket())?;
    let hub = listen(dir.channel_socket())?;
    let cancel = CancellationToken::new();
    let network = Network::start(home, &dir, &spec, &cancel)?;
    let mut status = Status::new(&spec, purpose, why);
    let (requests, mut inbox) = Inbox::new();
    let service = serve::Service::new(status.subscribe(), network.view(), requests.clone());
    let server = tokio::spawn(serve::serve(api, service, cancel.clone()));
    let limit = Duration::from_secs(config.limits.stop.into());
    let signals = tokio::spawn(stop_on_signal(requests, limit, cancel.clone()));
    serving();

    let gate = Gate::new();
    // From the beginning: a dial waits for the guest, however it comes to run.
    let served = hub::serve(hub, gate.dialer(), cancel.clone());
    tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "the channel's hub ended");
        }
    });
    let limit = Duration::from_secs(config.limits.start.into());
    let limit = if purpose == Purpose::Serve { limit } else { limit * PATIENCE };
    let turns = Turns::new();
    let place = Place { home, dir: dir.clone(), spec: &spec, purpose, network: &network, gate, turns, limit };
    let ended = owner::live(place, &mut status, &mut inbox).await;
    // Nobody is told that the machine is off before its ports are.
    network.stop().await;
    let (asleep, failure) = match ended {
        Ok(ended) => (ended == Ended::Asleep, None),
        Err(error) => (false, Some(error.failure())),
    };
    if let Some(failure) = &failure {
        tracing::error!(code = failure.code, "{}", failure.message);
    }
    LastEnd { supervisor_pid: std::process::id(), failure: failure.clone() }
        .write(&dir)
        .map_err(|source| Error::File { path: dir.last_end(), source })?;
    match &failure {
        Some(failure) => status.phase(Phase::Failed, &failure.message),
        None if asleep => status.phase(Phase::Suspended, ""),
        None => status.phase(Phase::Stopped, ""),
    }
    // The sockets go before the lock, so that the next supervisor's are not removed by us.
    let [network, shares] = [dir.network_socket(), dir.shares_socket()];
    let [api, hub, serial, qmp] =
        [dir.supervisor_socket(), dir.channel_socket(), dir.serial_socket(), dir.qmp_socket()];
    for path in [api, hub, serial, qmp, network, shares] {
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

/// Why the machine does not serve: what kept it from doing so the last time.
fn why(dir: &MachineDir, purpose: Purpose) -> String {
    let last = || LastEnd::read(dir).and_then(|end| end.failure).map(|failure| failure.message);
    match purpose {
        Purpose::Serve => String::new(),
        Purpose::Check => "its data disk is being checked".to_owned(),
        Purpose::Rescue => last().unwrap_or_else(|| "its data disk cannot be used".to_owned()),
    }
}

/// The first signal stops in order, the second forces (spec 6.6).
async fn stop_on_signal(requests: mpsc::Sender<Request>, limit: Duration, cancel: CancellationToken) {
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
        let stop = Request::Stop(Stop { force, leave: true, limit, reply });
        if requests.send(stop).await.is_err() {
            return;
        }
        force = true;
    }
}
