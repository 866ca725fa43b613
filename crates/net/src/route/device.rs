//! The TUN device: packets of the host's kernel on one side, the gateway on the other.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use dhow_model::network;
use dhow_route_helper::Network;
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::filter::{Filter, Reason};
use super::metrics::Counts;
use crate::gateway::ip::IpPacket;

/// How many packets are read in one go before other flows have their turn.
const BURST: usize = 32;

/// A device that is up, shared between the keeper, who says which networks are the guest's, and the gateway's thread, which
/// moves packets.
#[derive(Debug)]
pub struct Device {
    tun: Arc<OwnedFd>,
    filter: Mutex<Filter>,
    counts: Arc<Counts>,
    gone: AtomicBool,
}

impl Device {
    /// A device from its descriptor, which must not block.
    pub(crate) fn new(tun: OwnedFd, counts: Arc<Counts>) -> Self {
        Self { tun: Arc::new(tun), filter: Mutex::default(), counts, gone: AtomicBool::new(false) }
    }

    pub(crate) fn set_networks(&self, networks: Vec<Network>) {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner).set_networks(networks);
    }

    /// Whether the device was deleted under us.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }

    /// Takes a packet from the guest that is for the host's interface. It is written or dropped at once.
    pub(crate) fn to_host(&self, packet: &IpPacket<'_>) {
        let verdict =
            self.filter.lock().unwrap_or_else(PoisonError::into_inner).admit_to_host(packet, Instant::now());
        let written = verdict.and_then(|()| match rustix::io::write(&self.tun, packet.bytes) {
            Ok(_) => Ok(()),
            Err(Errno::INVAL) => Err(Reason::Malformed),
            Err(_) => Err(Reason::Full),
        });
        match written {
            Ok(()) => self.counts.to_host(packet.bytes.len()),
            Err(reason) => self.counts.dropped(reason),
        }
    }

    /// Gives the host's packets to the guest, until the device is gone. `give` queues a packet, and says false where there is
    /// no room for it; `room` waits for some, so that a fast sender waits in the device's own queue.
    ///
    /// # Errors
    /// When the device cannot be read.
    pub(crate) async fn run(
        &self,
        mut give: impl FnMut(&[u8]) -> bool,
        room: impl AsyncFn(),
    ) -> io::Result<()> {
        let result = self.forward(&mut give, room).await;
        self.gone.store(true, Relaxed);
        result
    }

    async fn forward(&self, give: &mut impl FnMut(&[u8]) -> bool, room: impl AsyncFn()) -> io::Result<()> {
        #[expect(
            deprecated,
            reason = "the descriptor is an OwnedFd behind an Arc, so it stays open and the same"
        )]
        let readable = AsyncFd::with_interest(Arc::clone(&self.tun), Interest::READABLE)?;
        let mut packet = vec![0; network::MTU as usize];
        loop {
            let mut guard = readable.readable().await?;
            for _ in 0..BURST {
                room().await;
                match guard.try_io(|tun| Ok(rustix::io::read(tun.get_ref(), &mut packet)?)) {
                    Ok(length) => self.pass(&packet[..length?], give),
                    Err(_would_block) => break,
                }
            }
            tokio::task::yield_now().await;
        }
    }

    fn pass(&self, packet: &[u8], give: &mut impl FnMut(&[u8]) -> bool) {
        let verdict =
            self.filter.lock().unwrap_or_else(PoisonError::into_inner).admit_to_guest(packet, Instant::now());
        let given = verdict.and_then(|()| if give(packet) { Ok(()) } else { Err(Reason::Full) });
        match given {
            Ok(()) => self.counts.to_guest(packet.len()),
            Err(reason) => self.counts.dropped(reason),
        }
    }
}
