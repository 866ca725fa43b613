//! A session whose machine sleeps.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::DropGuard;

use super::switch::{HostPort, Switch};
use super::{Line, Mux};
use crate::{Error, Result};

/// How often to look whether the hypervisor has read everything.
const LOOK: Duration = Duration::from_millis(1);

/// A session that neither sends nor receives: its machine is being put to sleep, sleeps, or wakes. Its streams are open, and
/// dials wait. Dropping it without [`unpark`](Self::unpark) or [`go_on`](Self::go_on) ends the session.
pub struct Parked {
    switch: Switch,
    line: Line,
    end: DropGuard,
}

/// Lets a held port go on unless it has been parked.
struct Held<'a>(Option<&'a Switch>);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(switch) = self.0 {
            switch.release();
        }
    }
}

impl Mux {
    /// Stops sending, waits until the hypervisor has read all that was sent, and stops receiving. The guest runs until then,
    /// since it is the guest that takes the bytes; pause it afterwards. The streams are not told.
    ///
    /// # Errors
    /// [`NotRead`](Error::NotRead) when the guest does not take its bytes in time, [`AlreadyParked`](Error::AlreadyParked), and
    /// when the session has ended. In every case but the last it goes on as before, as it does when this is cancelled.
    pub async fn park(&self, limit: Duration) -> Result<Parked> {
        if !self.switch.hold() {
            return Err(Error::AlreadyParked);
        }
        let mut held = Held(Some(&self.switch));
        let read = async {
            while self.switch.unread().map_err(unknown)? > 0 {
                tokio::time::sleep(LOOK).await;
            }
            Ok(())
        };
        tokio::select! {
            biased;
            why = self.line.closed() => return Err(why),
            read = timeout(limit, read) => read.map_err(|_| Error::NotRead { limit })??,
        }
        self.switch.park();
        held.0 = None;
        let (switch, line) = (self.switch.clone(), self.line.clone());
        Ok(Parked { switch, line, end: self.cancel.clone().drop_guard() })
    }
}

fn unknown(source: std::io::Error) -> Error {
    Error::Io { doing: "cannot tell whether the guest has read all that was sent", source }
}

impl Parked {
    /// Waits until there is something to send: bytes of an open stream, or a dial. The machine is wanted.
    pub async fn wants_to_send(&self) {
        let mut wants = self.switch.wants();
        if wants.wait_for(|wants| *wants).await.is_err() {
            std::future::pending().await
        }
    }

    /// Goes on over `port`, which leads to the same guest in another hypervisor. The one before must have ended; what it said
    /// last is read first. The guest must not run before its hypervisor has taken this connection.
    ///
    /// # Errors
    /// [`OldPortOpen`](Error::OldPortOpen) when the port before does not end within the limit, and when the session has ended.
    /// It is over then.
    pub async fn unpark(self, port: impl HostPort, limit: Duration) -> Result<()> {
        let mut followed = self.switch.replace(port);
        tokio::select! {
            biased;
            why = self.line.closed() => return Err(why),
            changed = timeout(limit, followed.changed()) => match changed {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(self.line.closed().await),
                Err(_) => return Err(Error::OldPortOpen { limit }),
            },
        }
        self.end.disarm();
        Ok(())
    }

    /// Goes on over the port that it had: the machine was not put to sleep after all.
    pub fn go_on(self) {
        self.switch.release();
        self.end.disarm();
    }
}

impl std::fmt::Debug for Parked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parked").finish_non_exhaustive()
    }
}
