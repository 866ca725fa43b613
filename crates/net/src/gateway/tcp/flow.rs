//! One connection: its endpoint towards the guest, fed by the link, and the task that moves its bytes.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use smoltcp::socket::tcp::State;
use tokio::sync::Notify;
use tokio::time::sleep_until;

use super::end::End;
use super::pool::Lease;
use super::pump::{Next, Pump, Wait, established};
use crate::gateway::outbound::Outbound;
use crate::packet::word;

/// How long the guest may take to complete a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// When nothing else is due: an alarm that costs nothing.
const IDLE: Duration = Duration::from_secs(3600);

/// A connection as the link sees it.
pub(super) struct Flow {
    stack: RefCell<Lease>,
    outbound: Outbound,
    /// The guest sent something, or the flow is to end.
    wake: Notify,
    ended: Cell<bool>,
    /// The guest has said that it takes no more bytes.
    shut: Cell<bool>,
}

impl Flow {
    pub(super) fn new(stack: Lease, outbound: Outbound) -> Flow {
        Flow {
            stack: RefCell::new(stack),
            outbound,
            wake: Notify::new(),
            ended: Cell::new(false),
            shut: Cell::new(false),
        }
    }

    /// Takes a packet of this connection. The task answers.
    pub(super) fn receive(&self, packet: &[u8]) {
        self.shut.set(window(packet) == Some(0));
        // Nothing is known that makes the stack panic. A guest that finds something loses this connection and no more.
        let taken = catch_unwind(AssertUnwindSafe(|| {
            self.stack.borrow_mut().receive(packet, &self.outbound, self.outbound.clock().now());
        }));
        if taken.is_err() {
            self.ended.set(true);
        }
        self.wake();
    }

    /// Lets the task look at everything.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Whether a guest that was awake would take or answer something: a SYN, bytes or an end of the host's. The last step of
    /// a handshake is on its way to us at most, and nothing can be asked of the host before it.
    pub(super) fn expects(&self) -> bool {
        let mut stack = self.stack.borrow_mut();
        match stack.state() {
            State::Listen | State::SynSent | State::SynReceived => true,
            State::FinWait1 | State::Closing | State::LastAck => true,
            _ => stack.socket().send_queue() > 0 && !self.shut.get(),
        }
    }

    /// Our SYN went nowhere.
    pub(super) fn not_taken(&self) {
        if self.stack.borrow().state() == State::SynSent {
            self.end();
        }
    }

    /// Ends the connection: the guest's link is gone.
    pub(super) fn end(&self) {
        self.ended.set(true);
        self.wake();
    }

    /// Moves bytes until the connection is over, and closes `end`: with a reset unless both directions came to their
    /// end. `opened` is dropped when the handshake is.
    pub(super) async fn run(&self, end: End, mut pump: Pump, opened: impl Sized) {
        let clock = self.outbound.clock();
        let mut opened = Some((opened, clock.now() + HANDSHAKE));
        let mut waited_for_room = false;
        let alarm = sleep_until(clock.on_host(clock.now() + IDLE));
        tokio::pin!(alarm);
        loop {
            if self.ended.get() {
                return;
            }
            let now = clock.now();
            let next = {
                let mut stack = self.stack.borrow_mut();
                match &opened {
                    Some(_) if established(stack.state()) => opened = None,
                    Some((_, by)) if now >= *by => pump.abort(&mut stack),
                    _ => {}
                }
                pump.turn(&mut stack, &end, &self.outbound, now)
            };
            if std::mem::take(&mut waited_for_room) {
                self.outbound.pass_on();
            }
            let Wait { readable, writable, room, deadline } = match next {
                Next::Wait(wait) => wait,
                Next::Again => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Next::Done => return end.close(),
                Next::Gone | Next::Reset => return,
            };
            let due = [deadline, opened.as_ref().map(|(_, by)| *by)].into_iter().flatten().min();
            // One that rings too early only costs a turn; setting it for each segment costs more.
            let due = clock.on_host(due.unwrap_or(now + IDLE));
            if due < alarm.deadline() || alarm.is_elapsed() {
                alarm.as_mut().reset(due);
            }
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                () = end.readable(), if readable => {}
                () = end.writable(), if writable => {}
                () = self.outbound.room(), if room => waited_for_room = true,
                () = &mut alarm, if !clock.frozen() => {}
            }
        }
    }
}

/// The window that a TCP packet offers.
fn window(packet: &[u8]) -> Option<u16> {
    let header = if packet.first()? >> 4 == 4 { usize::from(packet[0] & 0xf) * 4 } else { 40 };
    word(packet, header + 14)
}
