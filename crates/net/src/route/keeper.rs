//! Keeps the way open: starts the installed program, has it make the device, tells it the guest's networks, and begins
//! again when something ends. What is not installed, or is not what was installed, is looked at again later.

use std::sync::Arc;
use std::time::Duration;

use dhow_route_helper::client::{Client, Opened, Routed};
use dhow_route_helper::install::Place;
use dhow_route_helper::rules::MOST_ROUTES;
use dhow_route_helper::{Error, Network, Result};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::device::Device;
use super::metrics::{Counts, Status};

/// Routes are set anew after this time: a network of the host's may have come or gone.
const AGAIN: Duration = Duration::from_secs(10);
/// After a failure, and while nothing is installed.
const LATER: Duration = Duration::from_secs(15);

/// Who carries a device's packets: the gateway.
pub trait Carrier: Send + Sync + 'static {
    /// Takes a device in place of the one before; `None` when there is none any more.
    fn carry(&self, device: Option<Arc<Device>>);
}

/// One machine's way from the host to its containers. Dropped, it ends in the background; [`Route::stop`] waits.
#[derive(Debug)]
pub struct Route {
    networks: watch::Sender<Vec<Network>>,
    status: watch::Receiver<Status>,
    counts: Arc<Counts>,
    cancel: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Route {
    /// Keeps a device for a machine from now on, whenever the program is installed at `place`. It needs a runtime.
    ///
    /// # Errors
    /// On hosts that have no such devices.
    pub fn start(place: Place, carrier: Arc<dyn Carrier>) -> Result<Self> {
        let (networks, wanted) = watch::channel(Vec::new());
        let (said, status) = watch::channel(Status::default());
        let cancel = CancellationToken::new();
        let counts = Arc::new(Counts::default());
        let keeper = Keeper { place, carrier, wanted, said, counts: Arc::clone(&counts) };
        let task = Some(tokio::spawn(keeper.run(cancel.clone())));
        Ok(Self { networks, status, counts, cancel, task })
    }

    /// Says which networks are the guest's from now on. More than the program takes are left out.
    pub fn networks(&self, networks: &[Network]) {
        let networks: Vec<Network> = networks.iter().take(MOST_ROUTES).copied().collect();
        self.networks.send_if_modified(|current| {
            let changed = *current != networks;
            *current = networks;
            changed
        });
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> Status {
        Status { metrics: self.counts.read(), ..self.status.borrow().clone() }
    }

    /// How it is now, and after each change; without figures of what passed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Ends it: the device and its routes are gone when this returns.
    pub async fn stop(mut self) {
        self.cancel.cancel();
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            warn!(%error, "the keeper of the route to containers did not end well");
        }
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

struct Keeper {
    place: Place,
    carrier: Arc<dyn Carrier>,
    wanted: watch::Receiver<Vec<Network>>,
    said: watch::Sender<Status>,
    counts: Arc<Counts>,
}

impl Keeper {
    async fn run(mut self, cancel: CancellationToken) {
        loop {
            let trouble = match blocking({
                let place = self.place.clone();
                move || open(&place)
            })
            .await
            {
                Ok((client, opened)) => self.keep(client, opened, &cancel).await.err(),
                Err(error) => Some(error),
            };
            match &trouble {
                Some(Error::NotInstalled(_)) | None => debug!("no route to containers: not installed"),
                // Every time anew only where it changes.
                Some(error) if self.said.borrow().trouble != Some(error.to_string()) => {
                    warn!(%error, "no route to containers' own addresses");
                }
                Some(_) => {}
            }
            let installed = trouble.filter(|error| !matches!(error, Error::NotInstalled(_)));
            let trouble = installed.map(|error| error.to_string());
            self.said.send_replace(Status { trouble, ..Status::default() });
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(LATER) => {}
            }
        }
    }

    /// Returns when it is to end, with an error when something ended it.
    async fn keep(&mut self, mut client: Client, opened: Opened, cancel: &CancellationToken) -> Result<()> {
        let device = Arc::new(Device::new(opened.tun, Arc::clone(&self.counts)));
        info!(device = opened.name, ipv6 = opened.ipv6, "the host reaches containers' own addresses");
        self.carrier.carry(Some(Arc::clone(&device)));
        let result = loop {
            let networks = self.wanted.borrow_and_update().clone();
            let asked = blocking(move || {
                let routed = client.routes(&networks);
                Ok((client, routed))
            });
            let routed;
            (client, routed) = match asked.await {
                Ok(answer) => answer,
                Err(error) => {
                    self.carrier.carry(None);
                    return Err(error);
                }
            };
            match routed {
                Err(error) => break Err(error),
                Ok(_) if device.is_gone() => {
                    break Err(Error::Refused(format!("{} was deleted", opened.name)));
                }
                Ok(routed) => {
                    device.set_networks(routed.set.clone());
                    self.say(&opened.name, routed);
                }
            }
            tokio::select! {
                () = cancel.cancelled() => break Ok(()),
                _ = self.wanted.changed() => {}
                () = tokio::time::sleep(AGAIN) => {}
            }
        };
        self.carrier.carry(None);
        // The program's end is waited for.
        blocking(move || {
            drop(client);
            Ok(())
        })
        .await
        .and(result)
    }

    fn say(&self, device: &str, Routed { set, refused }: Routed) {
        let refused: Vec<(Network, String)> =
            refused.into_iter().map(|(network, why)| (network, why.to_string())).collect();
        self.said.send_if_modified(|status| {
            for (network, why) in refused.iter().filter(|entry| !status.refused.contains(entry)) {
                warn!(%network, why, "the host does not reach this network of containers");
            }
            let new = Status {
                device: Some(device.to_owned()),
                trouble: None,
                routes: set,
                refused,
                metrics: super::Metrics::default(),
            };
            let changed = *status != new;
            *status = new;
            changed
        });
    }
}

fn open(place: &Place) -> Result<(Client, Opened)> {
    let installed = place.check()?;
    let mut client = Client::start(&installed.program)?;
    let opened = client.open()?;
    Ok((client, opened))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    spawn_blocking(work).await.map_err(|error| Error::Conversation(std::io::Error::other(error)))?
}
