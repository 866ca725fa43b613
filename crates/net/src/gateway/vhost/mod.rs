//! The hypervisor's end as a virtio network device in this process (vhost-user): the guest's rings lie in memory that both
//! share, so that a frame is copied once, no checksum is computed on either side, and nobody but guest and gateway runs.
//!
//! ```text
//!  hypervisor ── Unix socket: memory, rings, eventfds ──► control ─┐
//!                                                               device (pairs of rings)
//!  guest ── kick ──► transmit ──► station                         ▲  │
//!  guest ◄─ call ─── receive  ◄── outbound                        └──┘
//! ```
//!
//! Rings and buffers are the guest's and hostile: every address goes through checked access to its memory, chains are bounded,
//! and a ring with anything wrong in it stands still, counted, until the guest's driver starts it anew.

mod device;
mod enable;
mod pace;
mod receive;
mod ring;
mod steering;
#[cfg(test)]
mod tests;
mod transmit;

use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::UnixStream;
use vhost::vhost_user::{BackendReqHandler, Error as Protocol};

use self::device::Device;
use super::counters::Counters;
use super::outbound::{Outbound, Taken};

/// How long one message of the hypervisor may take to come whole, and an answer to be taken. They are sent in one piece.
const MESSAGE: Duration = Duration::from_secs(1);

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The hypervisor closed it.
    #[error("the hypervisor closed its connection")]
    Closed,
    /// A message that is none, or that asks for what cannot be.
    #[error("vhost-user: {0}")]
    Protocol(Protocol),
    /// The socket failed.
    #[error("the hypervisor's connection failed: {0}")]
    Failed(#[from] io::Error),
}

/// Carries frames both ways until the hypervisor ends the connection, to the guest those in `taken` first; `take` gets what the
/// guest sends.
pub(super) async fn run(
    stream: UnixStream,
    outbound: &Outbound,
    taken: &mut Taken,
    counters: &Arc<Counters>,
    take: impl FnMut(&[u8]),
) -> Ended {
    #[expect(clippy::arc_with_non_send_sync, reason = "the crate's handler asks for an Arc, on one thread")]
    let device = Arc::new(Device::new(counters.clone()));
    let take = RefCell::new(take);
    let senders = (0..device::PAIRS).map(|pair| transmit::run(&device, pair, &take));
    tokio::select! {
        ended = control(stream, &device) => ended.err().unwrap_or(Ended::Closed),
        _ = join_all(senders) => Ended::Closed,
        () = receive::run(&device, outbound, taken) => Ended::Closed,
    }
}

/// Does what the hypervisor asks for, message by message.
async fn control(stream: UnixStream, device: &Arc<Device>) -> Result<(), Ended> {
    // A message is read in several pieces, so reading waits, but not for long: the hypervisor sends each at once.
    let socket = std::os::unix::net::UnixStream::from(stream.as_fd().try_clone_to_owned()?);
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(MESSAGE))?;
    socket.set_write_timeout(Some(MESSAGE))?;
    let mut requests = BackendReqHandler::from_stream(socket.try_clone()?, device.clone());
    loop {
        stream.readable().await?;
        let mut first = [0; enable::MESSAGE];
        let peeked = stream.try_io(Interest::READABLE, || {
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            Ok(rustix::net::recv(&stream, &mut first, flags)?.0)
        });
        match peeked {
            Ok(0) => return Ok(()),
            Ok(count) if enable::is(&first[..count]) => {
                enable::handle(&socket, device)?;
                continue;
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        }
        match requests.handle_request() {
            Ok(()) => {}
            Err(Protocol::Disconnected) => return Ok(()),
            Err(error) => return Err(Ended::Protocol(error)),
        }
        // The rings' turn.
        tokio::task::yield_now().await;
    }
}
