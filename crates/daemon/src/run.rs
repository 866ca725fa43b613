//! The daemon's life: what it opens, in which order, and how it closes it.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dhow_docker::{Face, LogHooks};
use dhow_engine::{Engine, Event, Supervisors};
use dhow_home::lock::{FileLock, LockError};
use dhow_home::{Code, Home};
use dhow_model::State;
use dhow_proto::control::control_server::ControlServer;
use dhow_proto::{DESCRIPTORS, MESSAGE_LIMIT};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;

use crate::control::Service;
use crate::sockets::{self, Passed};
use crate::upstream::{Connections, Guests};
use crate::{Error, Result};

/// For requests that are under way when the daemon ends.
const GRACE: Duration = Duration::from_secs(5);

/// For machines to stop that cannot be saved.
const STOP: Duration = Duration::from_secs(45);

/// After a machine fell asleep, for what that leads to.
const REST: Duration = Duration::from_secs(2);

/// Whoever looks whether a daemon runs has its lock for a moment; a daemon has it for good.
const LOOKERS: Duration = Duration::from_secs(1);

/// How a daemon runs.
#[derive(Debug)]
pub struct Way {
    /// The sockets that were passed to it.
    pub passed: Passed,
    /// Whether it saves machines to disk when a signal tells it to end, as a service does at logout; otherwise they go on.
    pub saves: bool,
}

/// Serves until it is told to end, by `dhow down` or a signal. `serving` is called once both sockets accept.
///
/// # Errors
/// When it cannot serve. Machines are left as they are in any case.
pub async fn run(home: &Home, executable: PathBuf, way: Way, serving: impl FnOnce()) -> Result<()> {
    home.create()?;
    let _lock = match FileLock::wait_exclusive(&home.daemon_lock(), LOOKERS).await {
        Ok(lock) => lock,
        Err(LockError::Held { .. }) => return Err(Error::AlreadyRunning(home.root().to_owned())),
        Err(LockError::Io { path, source }) => return Err(Error::Serve { path, source }),
    };
    let end = CancellationToken::new();
    let engine = Engine::open(home, executable)?;
    let [(docker_socket, docker), (control_socket, control)] = way.passed.listen(home)?;

    let guests = Guests::new(home.clone(), engine.clone());
    let face = Face::new(Arc::new(guests), Arc::new(LogHooks));
    engine.observe(Arc::new(Connections(face.clone())));
    let service = Service::new(home.clone(), engine.clone(), face.clone(), end.clone());
    let face = tokio::spawn(face.serve(docker, end.clone()));
    let control = tokio::spawn(serve(service, control, end.clone()));
    serving();
    sockets::serves();
    tracing::info!(home = %home.root().display(), pid = std::process::id(), "the daemon serves");

    tokio::select! {
        () = end.cancelled() => {}
        () = signalled() => {
            if way.saves {
                save(&engine).await;
            } else {
                tracing::info!("told to end by a signal; machines go on");
            }
        }
        never = rest(engine.events()) => match never {},
    }
    drop(engine);
    for socket in [docker_socket, control_socket] {
        socket.close()?;
    }
    end.cancel();
    for (name, task) in [("docker", tokio::spawn(joined(face))), ("control", tokio::spawn(joined(control)))] {
        match tokio::time::timeout(GRACE, task).await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(error))) => tracing::warn!(name, error, "a socket's service ended with an error"),
            Ok(Err(error)) => tracing::warn!(name, %error, "a socket's service ended with an error"),
            Err(_) => tracing::warn!(name, "requests were under way for too long and are cut off"),
        }
    }
    tracing::info!("the daemon has ended");
    Ok(())
}

/// Gives memory back to the host whenever a machine has fallen asleep and nothing happens.
async fn rest(mut events: broadcast::Receiver<Event>) -> Infallible {
    let mut asleep = false;
    loop {
        let event = if asleep {
            tokio::time::timeout(REST, events.recv()).await.ok()
        } else {
            Some(events.recv().await)
        };
        match event {
            Some(Ok(event)) => asleep = event.to == State::Suspended,
            Some(Err(RecvError::Lagged(_))) => {}
            // The engine is gone, and this ends with it.
            Some(Err(RecvError::Closed)) => std::future::pending().await,
            None => {
                asleep = false;
                dhow_home::give_memory_back();
                if let Err(error) = Code::find().give_back() {
                    tracing::debug!(%error, "the memory of the code was not given back");
                }
            }
        }
    }
}

/// Saves every machine to disk. One that cannot be saved is stopped in order: its processes would be ended next.
async fn save(engine: &Engine) {
    tracing::info!("told to end by a signal; machines are saved to disk");
    sockets::ends("saving machines to disk");
    let mut kept = true;
    for slept in engine.suspend(None, "the service was told to end", Supervisors::End).await {
        if let Err(error) = slept.result {
            tracing::warn!(machine = %slept.machine, %error, "the machine could not be saved, and is stopped");
            kept = false;
        }
    }
    if !kept {
        for stopped in engine.down(false, STOP).await {
            if let Err(error) = stopped.result {
                tracing::warn!(machine = %stopped.machine, %error, "the machine did not stop");
            }
        }
    }
}

async fn serve(
    service: Service,
    listener: tokio::net::UnixListener,
    end: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let service = ControlServer::new(service)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    let router = tonic::transport::Server::builder().add_service(service);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .build_v1();
    let router = match reflection {
        Ok(reflection) => router.add_service(reflection),
        Err(error) => {
            tracing::warn!(%error, "the API is served without reflection");
            router
        }
    };
    router.serve_with_incoming_shutdown(UnixListenerStream::new(listener), end.cancelled_owned()).await
}

/// The error of a task, in words.
async fn joined<E: std::fmt::Display>(task: tokio::task::JoinHandle<Result<(), E>>) -> Option<String> {
    match task.await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut term), Ok(mut int)) => {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        }
        _ => {
            tracing::warn!("signals cannot be handled; end the daemon with `dhow down`");
            std::future::pending().await
        }
    }
}
