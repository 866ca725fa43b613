//! How a guest is told that buffers of a ring came back.

use std::fs::File;

use vhost::vhost_user::{Error as Protocol, Result};

/// How often a guest is told after a ring was started, whether or not it seems to want that. In one of some fifty sleeps in the middle
/// of traffic an emulated guest missed the interrupt for which it waited, although it was told once after the wake; by the rules of
/// the ring it would never be told again. Each costs the guest one look at a ring.
const INSIST: u8 = 32;

/// The eventfd on which the hypervisor makes an interrupt of each notification.
#[derive(Debug, Default)]
pub struct Call {
    file: Option<File>,
    /// How often the guest is still to be told whether or not it wants to know.
    insist: u8,
}

impl Call {
    /// Takes the eventfd. Without one the guest looks by itself.
    ///
    /// # Errors
    /// When it is no file that can be written without waiting.
    pub fn set(&mut self, file: Option<File>) -> Result<()> {
        if let Some(file) = &file {
            // A hypervisor that is not itself any more must not be able to make us wait.
            rustix::io::ioctl_fionbio(file, true).map_err(|error| Protocol::ReqHandlerError(error.into()))?;
        }
        self.file = file;
        Ok(())
    }

    /// The ring was started: what the guest was told before is not known.
    pub fn restarted(&mut self) {
        self.insist = INSIST;
    }

    /// Tells the guest if it wants to know. The first times after a start always: a guest that woke may have missed what it was told
    /// around its sleep, and would not ask again.
    pub fn notify(&mut self, wanted: bool) {
        let Some(file) = &self.file else { return };
        let insists = self.insist > 0;
        self.insist = self.insist.saturating_sub(1);
        if insists || wanted {
            // It cannot be full before 2^64 notifications that nobody took, and then the guest is notified already.
            if let Err(error) = rustix::io::write(file, &1_u64.to_ne_bytes()) {
                tracing::debug!(%error, "notifying the guest");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    fn told(file: &File) -> u64 {
        let mut count = [0; 8];
        rustix::io::read(file, &mut count).map_or(0, |_| u64::from_ne_bytes(count))
    }

    /// Spec 13.2: devices of a guest that woke go on, whatever interrupt was lost.
    #[test]
    fn a_guest_is_told_without_asking_only_after_a_start() {
        let file = File::from(eventfd(0, EventfdFlags::NONBLOCK).unwrap());
        let mut call = Call::default();
        call.set(Some(file.try_clone().unwrap())).unwrap();
        call.notify(false);
        assert_eq!(told(&file), 0);
        call.notify(true);
        assert_eq!(told(&file), 1);
        call.restarted();
        (0..100).for_each(|_| call.notify(false));
        assert_eq!(told(&file), u64::from(INSIST));
        call.notify(true);
        assert_eq!(told(&file), 1);
    }
}
