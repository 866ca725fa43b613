//! The guest's time. It stands still while the gateway is frozen, as it does in the guest: nothing that the guest could be late
//! for becomes due, and no conversation ends of a silence that nobody could break. The host's time, by which the rules about
//! the world outside go, passes.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The clock of one gateway, and whether its guest sleeps. A clone is the same. No other part of the gateway looks at the time.
#[derive(Clone)]
pub(crate) struct Clock(Rc<Inner>);

struct Inner {
    standing: Cell<Standing>,
    thawed: Notify,
    wanted: Arc<watch::Sender<bool>>,
}

#[derive(Clone, Copy, Default)]
struct Standing {
    /// Since when the guest sleeps, as the host has it.
    frozen: Option<Instant>,
    /// How long it has slept before.
    asleep: Duration,
}

impl Standing {
    fn now(&self) -> Instant {
        let host = self.frozen.unwrap_or_else(Instant::now);
        // A guest has never slept for longer than the host runs.
        host.checked_sub(self.asleep).unwrap_or(host)
    }
}

thread_local! {
    /// The same for [`Clock::ticks`], which is called without a clock: there is one gateway on a thread.
    static STANDING: Cell<Standing> = const { Cell::new(Standing { frozen: None, asleep: Duration::ZERO }) };
}

/// Where ticks begin.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Clock {
    /// A clock that goes. `wanted` is set while the guest sleeps and somebody wants it.
    pub(crate) fn new(wanted: Arc<watch::Sender<bool>>) -> Clock {
        LazyLock::force(&START);
        let clock = Clock(Rc::new(Inner { standing: Cell::default(), thawed: Notify::new(), wanted }));
        clock.set(Standing::default());
        clock
    }

    fn set(&self, standing: Standing) {
        self.0.standing.set(standing);
        STANDING.set(standing);
    }

    /// The time in the guest.
    pub(crate) fn now(&self) -> Instant {
        self.0.standing.get().now()
    }

    /// The time on the host, for rules about the world outside.
    pub(crate) fn host() -> std::time::Instant {
        Instant::now().into_std()
    }

    /// Whether the guest sleeps.
    pub(crate) fn frozen(&self) -> bool {
        self.0.standing.get().frozen.is_some()
    }

    /// Stands still from now on.
    pub(crate) fn freeze(&self) {
        let standing = self.0.standing.get();
        if standing.frozen.is_none() {
            self.0.wanted.send_replace(false);
            self.set(Standing { frozen: Some(Instant::now()), ..standing });
        }
    }

    /// Goes on where it stood.
    pub(crate) fn thaw(&self) {
        let Standing { frozen, asleep } = self.0.standing.get();
        if let Some(since) = frozen {
            self.set(Standing { frozen: None, asleep: asleep + since.elapsed() });
            self.0.wanted.send_replace(false);
            self.0.thawed.notify_waiters();
        }
    }

    /// Somebody has something for the guest. Of no meaning while it is awake.
    pub(crate) fn want(&self) {
        if self.frozen() {
            self.0.wanted.send_if_modified(|wanted| !std::mem::replace(wanted, true));
        }
    }

    /// Waits while the guest sleeps.
    pub(crate) async fn awake(&self) {
        while self.frozen() {
            self.0.thawed.notified().await;
        }
    }

    /// Waits until it is so late in the guest.
    pub(crate) async fn sleep_until(&self, then: Instant) {
        loop {
            self.awake().await;
            let left = then.saturating_duration_since(self.now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    /// Waits for so long in the guest.
    pub(crate) async fn sleep(&self, time: Duration) {
        self.sleep_until(self.now() + time).await;
    }

    /// When it will be so late in the guest, by the host's clock, if the guest does not sleep before.
    pub(crate) fn on_host(&self, then: Instant) -> Instant {
        then + self.0.standing.get().asleep
    }

    /// Tenths of a millisecond of this thread's guest since the process began. They wrap.
    pub(crate) fn ticks() -> u32 {
        let time = STANDING.get().now().saturating_duration_since(*START);
        (time.as_micros() / 100) as u32
    }
}

#[cfg(test)]
impl Clock {
    /// One that nobody listens to.
    pub(crate) fn for_test() -> Clock {
        Clock::new(Arc::new(watch::Sender::new(false)))
    }

    /// Whether the guest sleeps and somebody wants it.
    pub(crate) fn wanted(&self) -> bool {
        *self.0.wanted.borrow()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Spec 13.2: what was open goes on after a wake, however long the sleep was.
    #[tokio::test(start_paused = true)]
    async fn time_asleep_is_no_time() {
        let clock = Clock::for_test();
        let start = clock.now();
        for _ in 0..2 {
            clock.freeze();
            advance(HOUR).await;
            clock.freeze();
            advance(HOUR).await;
            clock.thaw();
        }
        assert_eq!(clock.now(), start);
        advance(HOUR).await;
        assert_eq!(clock.now(), start + HOUR);
        assert_eq!(clock.on_host(clock.now()), Instant::now());
    }

    #[tokio::test(start_paused = true)]
    async fn who_sleeps_until_a_time_of_the_guest_sleeps_longer_when_it_is_frozen() {
        let clock = Clock::for_test();
        let then = clock.now() + HOUR;
        let sleeping = clock.sleep_until(then);
        tokio::pin!(sleeping);
        tokio::select! {
            () = &mut sleeping => panic!("an hour is not over"),
            () = tokio::time::sleep(HOUR / 2) => clock.freeze(),
        }
        tokio::select! {
            () = &mut sleeping => panic!("time stands still"),
            () = tokio::time::sleep(10 * HOUR) => clock.thaw(),
        }
        let host = Instant::now();
        sleeping.await;
        assert_eq!((clock.now(), host.elapsed()), (then, HOUR / 2));
    }

    /// RFC 7323: a time stamp that seems to be older than the last is thrown away.
    #[tokio::test(start_paused = true)]
    async fn ticks_go_on_where_they_stood() {
        let clock = Clock::for_test();
        let before = Clock::ticks();
        clock.freeze();
        advance(100 * HOUR).await;
        assert_eq!(Clock::ticks(), before);
        clock.thaw();
        advance(Duration::from_millis(1)).await;
        assert_eq!(Clock::ticks(), before + 10);
    }

    /// Spec 13.1: what comes for a guest that sleeps is told once, and what came while it was awake is not.
    #[tokio::test]
    async fn only_a_guest_that_sleeps_is_wanted() {
        let clock = Clock::for_test();
        let mut wanted = clock.0.wanted.subscribe();
        clock.want();
        assert!(!*wanted.borrow_and_update());
        clock.freeze();
        clock.want();
        assert!(*wanted.borrow_and_update());
        clock.thaw();
        assert!(!*wanted.borrow_and_update());
    }
}
