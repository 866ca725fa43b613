//! Hosts without Linux's TUN devices: the same names, and an error that says so.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use super::{Network, Status};
use crate::gateway::ip::IpPacket;

/// A device that cannot be.
#[derive(Debug)]
pub struct Device(Infallible);

impl Device {
    /// Takes a packet from the guest.
    pub(crate) fn to_host(&self, _: &IpPacket<'_>) {
        match self.0 {}
    }

    /// Gives the host's packets to the guest.
    pub(crate) async fn run(&self, _: impl FnMut(&[u8]) -> bool, _: impl AsyncFn()) -> io::Result<()> {
        match self.0 {}
    }
}

/// Where the program would be installed.
#[derive(Debug, Default)]
pub struct Place;

/// Who would carry packets.
pub trait Carrier: Send + Sync + 'static {
    /// Takes a device; there is none.
    fn carry(&self, device: Option<Arc<Device>>);
}

/// A keeper that cannot be.
#[derive(Debug)]
pub struct Route(Infallible);

impl Route {
    /// Says that there is no such thing here.
    ///
    /// # Errors
    /// Always: [`dhow_route_helper::Error::Unsupported`].
    pub fn start(_: Place, _: Arc<dyn Carrier>) -> dhow_route_helper::Result<Self> {
        Err(dhow_route_helper::Error::Unsupported)
    }

    /// Takes networks.
    pub fn networks(&self, _: &[Network]) {
        match self.0 {}
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> Status {
        match self.0 {}
    }

    /// How it is, now and later.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Status> {
        match self.0 {}
    }

    /// Ends it.
    pub async fn stop(self) {
        match self.0 {}
    }
}
