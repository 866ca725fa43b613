//! The way between containers' own addresses and the host's kernel: packets pass as they are, between the guest's link and the
//! device that [`crate::route`] keeps and filters.

use std::cell::RefCell;
use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_local};

use super::ip::IpPacket;
use super::offload;
use super::outbound::Outbound;
use crate::route::Device;

/// At most one device.
pub(super) struct Route {
    outbound: Outbound,
    /// The guest leaves checksums out.
    link_sums: bool,
    carried: RefCell<Option<Carried>>,
}

struct Carried {
    device: Arc<Device>,
    /// Moves packets from the host to the guest.
    task: JoinHandle<()>,
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Route {
    /// No device yet. With `link_sums` the guest's packets come without their checksums.
    pub(super) fn new(outbound: Outbound, link_sums: bool) -> Route {
        Route { outbound, link_sums, carried: RefCell::new(None) }
    }

    /// Takes a device in place of the one before.
    pub(super) fn carry(&self, device: Option<Arc<Device>>) {
        *self.carried.borrow_mut() = device.map(|device| {
            let task = spawn_local(to_guest(device.clone(), self.outbound.clone()));
            Carried { device, task }
        });
    }

    /// Gives a packet of the guest to the host's kernel. False: there is no device.
    pub(super) fn packet(&self, packet: &IpPacket<'_>) -> bool {
        let carried = self.carried.borrow();
        if let Some(Carried { device, .. }) = &*carried {
            if self.link_sums {
                let mut whole = packet.bytes.to_vec();
                offload::complete(&mut whole);
                if let Ok(whole) = IpPacket::parse(&whole) {
                    device.to_host(&whole);
                }
            } else {
                device.to_host(packet);
            }
        }
        carried.is_some()
    }
}

async fn to_guest(device: Arc<Device>, outbound: Outbound) {
    let give = |packet: &[u8]| outbound.packet(packet.len(), |room| room.copy_from_slice(packet));
    let room = async || {
        while !outbound.has_room() {
            outbound.room().await;
        }
        outbound.pass_on();
    };
    if let Err(error) = device.run(give, room).await {
        tracing::debug!(%error, "the device of the host's interface");
    }
}
