//! Carries what programs of the host change in shared directories from the file server to the guest's agent, which tells the guest's
//! programs (`inotify`): a batch at a time, each acknowledged before the next. While the machine sleeps nothing is asked, and what
//! changes meanwhile is told after the wake.

use std::io;
use std::os::unix::net::UnixStream as Std;
use std::sync::Arc;
use std::time::Duration;

use dhow_proto::agent::ShareChange;
use dhow_proto::agent::share_change::What as Told;
use dhow_share::news::{Change, LONGEST, Said, What, decode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, watch};

use crate::agent::Agent;

/// Between two attempts while the agent does not answer.
const AGAIN: Duration = Duration::from_millis(500);

/// Carries changes to a guest from whichever file server there is: another one may serve after a sleep.
pub async fn follow(mut lines: watch::Receiver<Option<Line>>, agent: Agent) {
    loop {
        let line = lines.borrow_and_update().clone();
        let carried = async {
            if let Some(line) = line {
                line.follow(agent.clone()).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = carried => {}
            changed = lines.changed() => if changed.is_err() { return },
        }
    }
}

/// Our end of the file server's socket.
#[derive(Debug, Clone)]
pub struct Line(Arc<Mutex<Socket>>);

#[derive(Debug)]
struct Socket {
    stream: UnixStream,
    /// What came of a message so far.
    part: Vec<u8>,
}

impl Line {
    /// Takes the socket, on a runtime.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn new(socket: &Std) -> io::Result<Line> {
        let stream = socket.try_clone()?;
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        Ok(Line(Arc::new(Mutex::new(Socket { stream, part: Vec::new() }))))
    }

    /// Carries changes to one guest until the server is gone. Dropped at any moment, the next one goes on from there.
    async fn follow(self, mut agent: Agent) {
        // One guest at a time: the last one's task may still be ending.
        let mut socket = self.0.lock().await;
        if let Err(error) = socket.carry(&mut agent).await {
            tracing::debug!(%error, "the file server's changes are not told any more");
        }
    }
}

impl Socket {
    async fn carry(&mut self, agent: &mut Agent) -> io::Result<()> {
        let thread = teller(agent).await;
        self.say(Said::Teller(thread)).await?;
        tracing::debug!(thread, "the guest is told of what is changed in shared directories");
        loop {
            let changes = self.next().await?;
            let count = changes.len();
            match agent.tell_changes(changes.into_iter().map(message).collect()).await {
                Ok(told) => tracing::debug!(
                    count,
                    told = told.told,
                    missed = told.missed,
                    "changes of shared directories"
                ),
                Err(why) => {
                    tracing::debug!(count, %why, "changes were not told to the guest in time");
                    // It may still be at them, and the server must answer it as if they were done until it is not.
                    teller(agent).await;
                }
            }
            self.say(Said::Done).await?;
        }
    }

    async fn say(&mut self, said: Said) -> io::Result<()> {
        self.stream.write_all(&said.bytes()).await
    }

    /// The next batch. What came of it stays when this is dropped half-way.
    async fn next(&mut self) -> io::Result<Vec<Change>> {
        let broken = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        loop {
            if let Some((length, rest)) = self.part.split_first_chunk() {
                let length = usize::try_from(u32::from_ne_bytes(*length)).unwrap_or(usize::MAX);
                if length > LONGEST {
                    return Err(broken("a message that is longer than any"));
                }
                if let Some(message) = rest.get(..length) {
                    let changes = decode(message).ok_or_else(|| broken("what is no message"))?;
                    self.part.drain(..4 + length);
                    return Ok(changes);
                }
            }
            if self.stream.read_buf(&mut self.part).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// The agent's thread that tells of changes, once it answers. It takes one question after the other, so what it was asked before is
/// done then.
async fn teller(agent: &mut Agent) -> u32 {
    loop {
        match agent.tell_changes(Vec::new()).await {
            // An agent without this, or without shares.
            Ok(told) if told.thread == 0 => {}
            Ok(told) => return told.thread,
            Err(why) => tracing::trace!(%why, "the agent cannot tell of changes now"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// A change as the agent is told of it.
fn message(change: Change) -> ShareChange {
    let Change { what, dir, name, nodes } = change;
    let mut told = ShareChange { dir, name, nodes: nodes.to_vec(), ..ShareChange::default() };
    let what = match what {
        What::Made { kind } => {
            told.kind = kind;
            Told::Made
        }
        What::Removed { is_dir } => {
            told.kind = u32::from(is_dir);
            Told::Removed
        }
        What::Moved { to, name } => {
            (told.to, told.to_name) = (to, name);
            Told::Moved
        }
        What::Written => Told::Written,
        What::Closed => Told::Closed,
        What::Touched => Told::Touched,
    };
    told.set_what(what);
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_batch_is_read_whole_however_it_comes_and_what_is_none_ends_it() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut socket = Socket { stream: ours, part: Vec::new() };
        let change = Change::new(What::Moved { to: 4, name: b"new".to_vec() }, 3, b"old");
        let bytes = dhow_share::news::encode(std::slice::from_ref(&change));
        let (first, second) = bytes.split_at(9);
        theirs.write_all(first).await.unwrap();
        let cut = tokio::time::timeout(Duration::from_millis(20), socket.next()).await;
        assert!(cut.is_err(), "half of it is none");
        theirs.write_all(&[second, &bytes].concat()).await.unwrap();
        for _ in 0..2 {
            assert_eq!(socket.next().await.unwrap(), vec![change.clone()]);
        }
        theirs.write_all(&u32::MAX.to_ne_bytes()).await.unwrap();
        assert_eq!(socket.next().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_move_says_where_from_and_where_to() {
        let told = message(Change::new(What::Moved { to: 4, name: b"new".to_vec() }, 3, b"old"));
        assert_eq!((told.what(), told.dir, told.to), (Told::Moved, 3, 4));
        assert_eq!((told.name.as_slice(), told.to_name.as_slice()), (&b"old"[..], &b"new"[..]));
    }
}
