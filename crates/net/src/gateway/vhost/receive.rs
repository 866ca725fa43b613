//! The ring on which the guest receives: frames that wait for the guest go into the buffers that it offers. Without a
//! buffer they wait, and with them the flows.

use std::sync::Arc;
use std::time::Instant;

use vm_memory::{Bytes as _, GuestMemoryMmap};

use super::device::{Device, receive};
use super::ring::{Broken, Ring};
use crate::gateway::counters::{Counters, Reason};
use crate::gateway::offload::{HEADER, header};
use crate::gateway::outbound::{Outbound, PREFIX, Taken};

/// After so many bytes the guest is told of what it has already, so that it works while we copy, bytes.
const EAGER: usize = 32 << 10;

/// Moves frames from the queue to the guest while it is awake, for ever.
pub(super) async fn run(device: &Arc<Device>, outbound: &Outbound, taken: &mut Taken) {
    loop {
        outbound.take(taken).await;
        let partial = device.partial_checksums();
        let pair = device.steering.borrow_mut().pair(taken.rest(), Instant::now());
        // A guest that stopped a pair still has the first one.
        let pair = if device.runs(receive(pair)) { pair } else { 0 };
        let filled = taken.give(|rest| {
            device.with(receive(pair), |ring, memory| fill(ring, memory, rest, partial, &device.counters))
        });
        if filled != Some(true) {
            device.kicked(receive(pair)).await;
        }
    }
}

/// Writes as many frames as there are buffers and cuts them off `rest`. False: it is the guest's turn. Small frames cost the
/// guest one interrupt together.
pub(super) fn fill(
    ring: &mut Ring,
    memory: &GuestMemoryMmap,
    rest: &mut &mut [u8],
    partial: bool,
    counters: &Counters,
) -> Result<bool, Broken> {
    loop {
        let more = fill_some(ring, memory, rest, partial, counters)?;
        ring.notify(memory)?;
        if rest.is_empty() {
            return Ok(true);
        }
        if !more && !ring.ask(memory)? {
            return Ok(false);
        }
    }
}

/// Writes frames until it is time to tell the guest. False: there is no buffer.
fn fill_some(
    ring: &mut Ring,
    memory: &GuestMemoryMmap,
    rest: &mut &mut [u8],
    partial: bool,
    counters: &Counters,
) -> Result<bool, Broken> {
    let mut told = 0;
    while told < EAGER
        && let Some((prefix, _)) = rest.split_first_chunk::<PREFIX>()
    {
        let length = u32::from_be_bytes(*prefix) as usize;
        let Some((head, room)) = ring.pop(memory, true)? else { return Ok(false) };
        // The queue's own framing: a prefix, then as many bytes.
        let (frame, after) = std::mem::take(rest)[PREFIX..].split_at_mut(length);
        *rest = after;
        if room < HEADER + frame.len() {
            // A guest that offers less than it said it would (its MTU) loses what does not fit.
            counters.count(Reason::TooBig);
            ring.finish(memory, head, 0)?;
            continue;
        }
        let written = HEADER + frame.len();
        scatter(ring, memory, &header(frame, partial), frame)?;
        ring.finish(memory, head, written)?;
        told += written;
    }
    Ok(true)
}

/// Writes header and frame, one after the other, over a chain's pieces.
fn scatter(ring: &Ring, memory: &GuestMemoryMmap, header: &[u8], frame: &[u8]) -> Result<(), Broken> {
    let mut sources = [header, frame];
    let mut source = 0;
    for piece in &ring.pieces {
        let (mut address, mut room) = (piece.address, piece.length);
        while room > 0 && source < sources.len() {
            let (now, later) = sources[source].split_at(room.min(sources[source].len()));
            memory.write_slice(now, address).map_err(|_| Broken::Buffer)?;
            ring.log(address, now.len());
            address.0 = address.0.checked_add(now.len() as u64).ok_or(Broken::Buffer)?;
            room -= now.len();
            sources[source] = later;
            if later.is_empty() {
                source += 1;
            }
        }
    }
    Ok(())
}
