//! A way to the guest that may be shut for a while: while the machine sleeps, and between the end of one boot and the next.
//!
//! ```text
//!  Dialer ── dial ──▶ open? ──▶ the guest's own dialler
//!                       └ shut: waits; [`Gate::wanted`] tells, so that somebody wakes the machine and opens the gate
//! ```

use std::sync::Arc;
use std::time::Duration;

use dhow_model::Port;
use tokio::sync::watch;

use crate::{Dialer, Ended, Error, Result, Stream};

/// Where dials wait for the guest. It begins shut; dropping it fails those that wait.
#[derive(Debug)]
pub struct Gate {
    way: watch::Sender<Option<Dialer>>,
    waiting: Arc<watch::Sender<usize>>,
}

/// A dialler's side; costs nothing to clone.
#[derive(Debug, Clone)]
pub(crate) struct Passage {
    way: watch::Receiver<Option<Dialer>>,
    /// Where its waiting is counted; a patient one's is not.
    waiting: Option<Arc<watch::Sender<usize>>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A gate that is shut.
    #[must_use]
    pub fn new() -> Self {
        Self { way: watch::Sender::new(None), waiting: Arc::new(watch::Sender::new(0)) }
    }

    /// Dials through it, whatever stands behind it at the time; a dial waits, within its limit, while the gate is shut.
    #[must_use]
    pub fn dialer(&self) -> Dialer {
        Dialer::gate(Passage { way: self.way.subscribe(), waiting: Some(Arc::clone(&self.waiting)) })
    }

    /// The same for one who has time: its waiting opens no gate.
    #[must_use]
    pub fn patient(&self) -> Dialer {
        Dialer::gate(Passage { way: self.way.subscribe(), waiting: None })
    }

    /// Lets dials through to the guest.
    pub fn open(&self, guest: Dialer) {
        self.way.send_replace(Some(guest));
    }

    /// Holds dials back from now on. Streams that are open are not touched.
    pub fn shut(&self) {
        self.way.send_replace(None);
    }

    /// Waits until somebody impatient waits to be let through; at once when somebody does already. Cancelling it loses nothing.
    pub async fn wanted(&self) {
        // The sender is ours: it cannot be gone.
        self.waiting.subscribe().wait_for(|waiting| *waiting > 0).await.map(drop).unwrap_or_default();
    }
}

impl Passage {
    /// Waits for the way and takes it. A session that ended before the stream stood has carried nothing: the dial waits for the
    /// next one. The caller sets the time limit.
    pub(crate) async fn dial(&self, port: Port, limit: Duration) -> Result<Stream> {
        let mut way = self.way.clone();
        let mut last = Error::SessionEnded(Ended::Dropped);
        loop {
            let waits = self.waiting.as_deref().map(Waits::begin);
            let Ok(guest) = way.wait_for(Option::is_some).await.map(|guest| guest.clone()) else {
                return Err(last);
            };
            drop(waits);
            let Some(guest) = guest else { continue };
            match guest.straight(port, limit).await {
                Err(error @ Error::SessionEnded(_)) => last = error,
                dialled => return dialled,
            }
            if way.changed().await.is_err() {
                return Err(last);
            }
        }
    }
}

/// One that waits, for as long as this lives.
struct Waits<'a>(&'a watch::Sender<usize>);

impl<'a> Waits<'a> {
    fn begin(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_modify(|waiting| *waiting += 1);
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting = waiting.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A guest that answers each stream with one byte, behind a hub's socket; answers with its dialler.
    fn guest(dir: &tempfile::TempDir) -> Dialer {
        let path = dir.path().join("hub");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.read_exact(&mut [0; 8]).await.unwrap();
                stream.write_all(&[0xd5, 1, 0, 0, b'!']).await.unwrap();
            }
        });
        Dialer::hub(path)
    }

    /// Spec 3.9, 13.1: a dial waits for the machine and wakes it.
    #[tokio::test]
    async fn a_dial_at_a_shut_gate_is_noticed_and_goes_through_when_it_opens() {
        let dir = tempfile::tempdir().unwrap();
        let gate = Gate::new();
        let dialer = gate.dialer();
        let dial = tokio::spawn(async move { dialer.dial(Port::ECHO, LIMIT).await });
        tokio::time::timeout(LIMIT, gate.wanted()).await.unwrap();
        gate.open(guest(&dir));
        let mut stream = dial.await.unwrap().unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'!');
    }

    /// Spec 8.3: nothing is left of a dial that gave up, and so nothing wakes the machine for it.
    #[tokio::test]
    async fn a_dial_that_gave_up_does_not_want_anything_any_more() {
        let gate = Gate::new();
        let dialled = gate.dialer().dial(Port::ECHO, Duration::from_millis(10)).await;
        assert!(matches!(dialled, Err(Error::DialTimedOut { .. })));
        assert!(tokio::time::timeout(Duration::from_millis(10), gate.wanted()).await.is_err());
    }

    /// Spec 16.2.
    #[tokio::test]
    async fn a_dial_fails_when_the_gate_is_gone() {
        let gate = Gate::new();
        let dialer = gate.dialer();
        drop(gate);
        assert!(matches!(dialer.dial(Port::ECHO, LIMIT).await, Err(Error::SessionEnded(_))));
    }

    /// Spec 13.1: our own questions do not keep a machine awake.
    #[tokio::test]
    async fn a_patient_dial_waits_without_wanting_anything() {
        let dir = tempfile::tempdir().unwrap();
        let gate = Gate::new();
        let dialer = gate.patient();
        let dial = tokio::spawn(async move { dialer.dial(Port::ECHO, LIMIT).await });
        assert!(tokio::time::timeout(Duration::from_millis(20), gate.wanted()).await.is_err());
        gate.open(guest(&dir));
        assert!(dial.await.unwrap().is_ok());
    }

    /// An open gate holds nobody up, and wants nothing.
    #[tokio::test]
    async fn an_open_gate_lets_everybody_through_until_it_is_shut() {
        let dir = tempfile::tempdir().unwrap();
        let gate = Gate::new();
        gate.open(guest(&dir));
        assert!(gate.dialer().dial(Port::ECHO, LIMIT).await.is_ok());
        gate.shut();
        let dialled = gate.dialer().dial(Port::ECHO, Duration::from_millis(10)).await;
        assert!(matches!(dialled, Err(Error::DialTimedOut { .. })));
    }
}
