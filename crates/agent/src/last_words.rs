//! What happens when process 1 cannot go on. A process 1 that ends makes the kernel panic, which hides the reason; so it
//! never ends by itself: it says what failed, and then stays for the host to ask, or powers the machine off.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use rustix::system::{RebootCommand, reboot};

use crate::steps::{Steps, begin};
use crate::{Error, console};

/// Set once the host can ask what happened.
static SERVED: AtomicBool = AtomicBool::new(false);

/// From now on a failure leaves the machine up, so that the host can read the failed step and stop it.
pub fn host_can_ask() {
    SERVED.store(true, Ordering::Release);
}

/// Makes every panic a failed step. The thread that panicked stays where it is, and the others go on.
pub fn catch_panics(steps: &Arc<Steps>) {
    let steps = Arc::clone(steps);
    let once = std::sync::Mutex::new(());
    std::panic::set_hook(Box::new(move |panic| {
        let guard = once.lock().unwrap_or_else(PoisonError::into_inner);
        let error = Error::Panic(panic.to_string());
        console::last_line(&format!("dhow: {error}"));
        steps.fail(begin("agent"), &error);
        drop(guard);
        stay_or_power_off();
    }));
}

/// After a failed boot: the steps tell what failed. Does not return.
pub fn stay_or_power_off() -> ! {
    if SERVED.load(Ordering::Acquire) {
        console::line("dhow: the boot failed; waiting for the host to stop the machine");
        stay()
    }
    console::last_line("dhow: the host cannot be told over the channel; powering off");
    power_off()
}

/// Lets the other threads work, for ever.
pub fn stay() -> ! {
    loop {
        std::thread::park();
    }
}

/// Writes everything to the disks and switches the machine off. Does not return.
pub fn power_off() -> ! {
    rustix::fs::sync();
    power_off_now()
}

/// Switches the machine off without waiting for anything. Does not return.
pub fn power_off_now() -> ! {
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        console::last_line(&format!("dhow: the machine could not be switched off: {error}"));
    }
    stay()
}
