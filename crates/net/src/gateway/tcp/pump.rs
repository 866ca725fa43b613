//! One turn of a flow: everything that can be moved between the guest's endpoint and the host's socket without waiting.
//! The rings of the endpoint are the only buffers, so a side that does not read closes the other side's window.
//!
//! ```text
//!             guest's FIN, all written ──► shutdown(write)
//!  endpoint ────────────── receive ring ──────────────► host socket
//!           ◄───────────── send ring ──────────────────
//!             FIN, after all that was read ◄── end of file
//!  RST ◄──────────── error, or the other way round ────────────► SO_LINGER 0
//! ```

use std::io;
use std::time::Duration;

use smoltcp::socket::tcp::{RecvError, State};
use tokio::time::Instant;

use super::end::End;
use super::judge::Judge;
use super::stack::{Rest, Stack};
use crate::gateway::clock::Clock;
use crate::gateway::outbound::Outbound;

/// Bytes that one turn reads from the host, so that flows take turns.
const SHARE: usize = 256 << 10;
/// Packets that one turn sends.
const PACKETS: usize = 16;
/// How long a guest may leave the last bytes unread after the host is done with the connection.
const LINGER: Duration = Duration::from_secs(60);

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Wait for any of these.
    Wait(Wait),
    /// Another turn: there was more than one turn's share.
    Again,
    /// Both directions came to their end.
    Done,
    /// The guest reset the connection, or is gone: the host's side is to be reset.
    Reset,
    /// The host's side is gone and the guest was told so.
    Gone,
}

/// What a flow waits for, beside the guest's segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// Room in the queue to the guest.
    pub(super) room: bool,
    pub(super) deadline: Option<Instant>,
}

/// Where a flow stands.
#[derive(Default)]
pub(super) struct Pump {
    /// What must judge the guest's first bytes before any goes to the host.
    pub(super) judge: Option<Judge>,
    /// The guest's end has come, though perhaps not all that it sent before was taken.
    guest_finished: bool,
    /// The host will send no more.
    host_ended: bool,
    /// The host takes no more: what the guest still sends is thrown away, and it will get a reset.
    broken: bool,
    /// The guest's end was passed on.
    guest_ended: bool,
    /// A reset is on its way to the guest.
    aborted: bool,
    /// The last acknowledgement has left, on a link that loses nothing: the endpoint's clock has nothing left to do, and
    /// would throw away what a slow host has not taken yet.
    quiet: bool,
    /// Bytes that waited for the guest at the last turn, and since when.
    lingering: Option<(usize, Instant)>,
}

impl Pump {
    /// Moves what can be moved.
    pub(super) fn turn(&mut self, stack: &mut Stack, end: &End, outbound: &Outbound, now: Instant) -> Next {
        let mut wait = Wait::default();
        let mut more = false;
        self.guest_finished |= finished(stack.state());
        if !self.aborted && established(stack.state()) {
            wait.writable = self.feed_host(stack, end, now);
            if self.guest_finished && !self.broken && !self.guest_ended && stack.socket().recv_queue() == 0 {
                end.finish();
                self.guest_ended = true;
            }
            (wait.readable, more) = if outbound.clock().frozen() {
                (self.listen(stack, end, outbound.clock()), false)
            } else {
                self.feed_guest(stack, end)
            };
            if self.broken && self.host_ended && stack.socket().send_queue() == 0 {
                self.abort(stack);
            }
        }
        if self.lingers(stack, now) {
            self.abort(stack);
        }
        let rest = if self.quiet { Rest::Nothing } else { stack.emit(outbound, now, PACKETS) };
        self.quiet |= rest == Rest::Nothing && stack.state() == State::TimeWait;
        if rest == Rest::Blocked {
            wait.room = true;
            wait.deadline = self.linger_deadline();
            return Next::Wait(wait);
        }
        if rest == Rest::More || more {
            return Next::Again;
        }
        if let Some(next) = self.over(stack) {
            return next;
        }
        let clock = if self.quiet { None } else { stack.deadline(now) };
        let judged_by = self.judge.as_ref().and_then(Judge::deadline);
        wait.deadline = [clock, self.linger_deadline(), judged_by].into_iter().flatten().min();
        Next::Wait(wait)
    }

    /// Resets the guest's side.
    pub(super) fn abort(&mut self, stack: &mut Stack) {
        self.aborted = true;
        stack.socket().abort();
    }

    /// Guest to host. True: wait until the host takes more.
    fn feed_host(&mut self, stack: &mut Stack, end: &End, now: Instant) -> bool {
        if self.held_back(stack, now) {
            return false;
        }
        loop {
            let broken = self.broken;
            let written = stack.socket().recv(|bytes| match bytes {
                [] => (0, Ok(false)),
                bytes if broken => (bytes.len(), Ok(true)),
                bytes => match end.try_write(bytes) {
                    Ok(count) => (count, Ok(true)),
                    Err(error) => (0, Err(error)),
                },
            });
            match written {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) | Err(RecvError::Finished | RecvError::InvalidState) => return false,
                Ok(Err(error)) if waits(&error) => return true,
                Ok(Err(_)) => self.broken = true,
            }
        }
    }

    /// Whether the guest's first bytes are still to be judged.
    fn held_back(&mut self, stack: &mut Stack, now: Instant) -> bool {
        let Some(judge) = &mut self.judge else { return false };
        let socket = stack.socket();
        let full = socket.recv_queue() == socket.recv_capacity();
        // The ring was empty when the first byte came, so that all of it is one slice.
        let first = socket.peek(usize::MAX).unwrap_or_default();
        match judge.hear(first, self.guest_finished || full, now) {
            Some(true) => self.judge = None,
            Some(false) => self.abort(stack),
            None => {}
        }
        self.judge.is_some()
    }

    /// Host to guest: whether to wait until the host has more, and whether it had more than the turn's share.
    fn feed_guest(&mut self, stack: &mut Stack, end: &End) -> (bool, bool) {
        let mut share = SHARE;
        while !self.host_ended && !self.aborted && stack.socket().can_send() {
            if share == 0 {
                return (false, true);
            }
            let read = stack.socket().send(|room| {
                let length = room.len().min(share);
                match end.try_read(&mut room[..length]) {
                    Ok(count) => (count, Ok(count)),
                    Err(error) => (0, Err(error)),
                }
            });
            match read {
                Ok(Ok(0)) => self.end_of_host(stack),
                Ok(Ok(count)) => share -= count,
                Ok(Err(error)) if waits(&error) => return (true, false),
                Ok(Err(_)) => {
                    self.broken = true;
                    self.host_ended = true;
                }
                // The sending side is closed already.
                Err(_) => return (false, false),
            }
        }
        (false, false)
    }

    /// While the guest sleeps: whether to wait until the host has something. What it has stays there, and the guest is wanted.
    fn listen(&mut self, stack: &mut Stack, end: &End, clock: &Clock) -> bool {
        if self.host_ended || !stack.socket().can_send() {
            return false;
        }
        match end.peek() {
            Err(error) if waits(&error) => return true,
            Ok(_) => {}
            // Told once: the next read would find an end.
            Err(_) => {
                self.broken = true;
                self.host_ended = true;
            }
        }
        clock.want();
        false
    }

    fn end_of_host(&mut self, stack: &mut Stack) {
        self.host_ended = true;
        if !self.broken {
            stack.socket().close();
        }
    }

    /// The host is done in both directions, and the guest leaves what it was sent unread for too long.
    fn lingers(&mut self, stack: &mut Stack, now: Instant) -> bool {
        let done = self.host_ended && (self.guest_ended || self.broken) && !self.aborted;
        if !done {
            self.lingering = None;
            return false;
        }
        let queued = stack.socket().send_queue();
        match self.lingering {
            Some((before, since)) if before == queued => now >= since + LINGER,
            _ => {
                self.lingering = Some((queued, now));
                false
            }
        }
    }

    fn linger_deadline(&self) -> Option<Instant> {
        self.lingering.map(|(_, since)| since + LINGER)
    }

    /// Whether the connection has come to an end, once everything was sent that could be.
    fn over(&self, stack: &mut Stack) -> Option<Next> {
        match stack.state() {
            _ if self.aborted => Some(Next::Gone),
            State::Closed | State::TimeWait if self.host_ended && self.guest_finished => {
                // Both ended, but the host may have yet to take the guest's last bytes.
                (self.guest_ended || self.broken).then_some(Next::Done)
            }
            // A listener that got a reset before the handshake was over listens again.
            State::Closed | State::Listen => Some(Next::Reset),
            _ => None,
        }
    }
}

/// The guest has ended its direction.
pub(super) fn finished(state: State) -> bool {
    matches!(state, State::CloseWait | State::LastAck | State::Closing | State::TimeWait)
}

/// The handshake is over.
pub(super) fn established(state: State) -> bool {
    !matches!(state, State::Listen | State::SynSent | State::SynReceived)
}

fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
