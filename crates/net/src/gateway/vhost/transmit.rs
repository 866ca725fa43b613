//! The ring on which the guest sends: each frame is copied out of the guest's memory once, then nothing that the guest does
//! can change it.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use vm_memory::{Bytes as _, GuestMemoryMmap};

use super::device::{Device, transmit};
use super::ring::{Broken, Ring};
use crate::gateway::counters::{Counters, Reason};
use crate::gateway::offload::HEADER;
use crate::gateway::outbound::ETHERNET;

/// Frames of one turn, so that flows take theirs.
const TURN: usize = 32;
/// The largest frame: one that the guest left for us to cut may be as large as IP allows.
const LARGEST: usize = ETHERNET + 0xffff;

/// Hands every frame that the guest sends by this pair to `take`, for ever.
pub(super) async fn run(device: &Arc<Device>, pair: usize, take: &RefCell<impl FnMut(&[u8])>) {
    let ring = transmit(pair);
    let mut take = |frame: &[u8]| {
        device.steering.borrow_mut().sent(frame, pair, Instant::now());
        take.borrow_mut()(frame);
    };
    let mut buffer = vec![0; HEADER + LARGEST].into_boxed_slice();
    loop {
        let looks = device.steering.borrow().expects(pair, Instant::now());
        let turn = device
            .with(ring, |ring, memory| drain(ring, memory, &mut buffer, looks, &mut take, &device.counters));
        match turn {
            Some(true) => {
                if looks {
                    std::thread::yield_now();
                }
                tokio::task::yield_now().await;
            }
            _ => device.kicked(ring).await,
        }
    }
}

/// One turn. True: there may be more, since there was more than a turn's frames, or because who `looks` does not ask to be told.
pub(super) fn drain(
    ring: &mut Ring,
    memory: &GuestMemoryMmap,
    buffer: &mut [u8],
    looks: bool,
    take: &mut impl FnMut(&[u8]),
    counters: &Counters,
) -> Result<bool, Broken> {
    for taken in 0..TURN {
        let Some((head, length)) = ring.pop(memory, false)? else {
            if taken > 0 || !looks {
                ring.notify(memory)?;
            }
            return if looks { Ok(true) } else { ring.ask(memory) };
        };
        if length > buffer.len() {
            return Err(Broken::Size);
        }
        let mut filled = 0;
        for piece in &ring.pieces {
            let room = &mut buffer[filled..filled + piece.length];
            memory.read_slice(room, piece.address).map_err(|_| Broken::Buffer)?;
            filled += piece.length;
        }
        ring.finish(memory, head, 0)?;
        // What the header says of checksums and segments changes nothing: a flow takes bytes, and who sends a packet on
        // computes its checksum.
        match buffer[..filled].get(HEADER..) {
            Some(frame) if frame.len() >= ETHERNET => take(frame),
            _ => counters.count(Reason::Malformed),
        }
    }
    ring.notify(memory)?;
    Ok(true)
}
