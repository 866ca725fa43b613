//! One connection: its endpoint towards the guest, fed by the link, and the task that moves its bytes.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use smoltcp::socket::tcp::State;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::end::End;
use super::pool::Lease;
use super::pump::{Next, Pump, Wait, established};
use crate::gateway::outbound::Outbound;

/// How long the guest may take to complete a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// When nothing else is due: a look at the clock that costs nothing.
const IDLE: Duration = Duration::from_secs(3600);

/// A connection as the link sees it.
pub(super) struct Flow {
    stack: RefCell<Lease>,
    outbound: Outbound,
    /// The guest sent something, or the flow is to end.
    wake: Notify,
    ended: Cell<bool>,
}

impl Flow {
    pub(super) fn new(stack: Lease, outbound: Outbound) -> Flow {
        Flow { stack: RefCell::new(stack), outbound, wake: Notify::new(), ended: Cell::new(false) }
    }

    /// Takes a packet of this connection. The task answers.
    pub(super) fn receive(&self, packet: &[u8]) {
        // Nothing is known that makes the stack panic. A guest that finds something loses this connection and no more.
        let taken = catch_unwind(AssertUnwindSafe(|| {
            self.stack.borrow_mut().receive(packet, &self.outbound, Instant::now());
        }));
        if taken.is_err() {
            self.ended.set(true);
        }
        self.wake.notify_one();
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
        self.wake.notify_one();
    }

    /// Moves bytes until the connection is over, and closes `end`: with a reset unless both directions came to their
    /// end. `opened` is dropped when the handshake is.
    pub(super) async fn run(&self, end: End, mut pump: Pump, opened: impl Sized) {
        let mut opened = Some((opened, Instant::now() + HANDSHAKE));
        let mut waited_for_room = false;
        let clock = sleep_until(Instant::now() + IDLE);
        tokio::pin!(clock);
        loop {
            if self.ended.get() {
                return;
            }
            let now = Instant::now();
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
            // A clock that rings too early only costs a turn; setting it for each segment costs more.
            let due = due.unwrap_or(now + IDLE);
            if due < clock.deadline() || clock.is_elapsed() {
                clock.as_mut().reset(due);
            }
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                () = end.readable(), if readable => {}
                () = end.writable(), if writable => {}
                () = self.outbound.room(), if room => waited_for_room = true,
                () = &mut clock => {}
            }
        }
    }
}
