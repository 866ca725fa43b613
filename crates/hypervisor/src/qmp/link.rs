//! One QMP connection and the task that owns it.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use futures_util::StreamExt as _;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, Interest, WriteHalf};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};

use super::wire::{self, Event, Greeting, Message, Refusal};
use super::{Error, LONGEST_MESSAGE, Result};

/// How long QEMU may take to read a command.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// A command on its way to the task.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) command: String,
    pub(super) arguments: Map<String, Value>,
    pub(super) fds: Vec<OwnedFd>,
    pub(super) reply: oneshot::Sender<Result<Value>>,
}

/// The writing half, with or without descriptors.
#[async_trait::async_trait]
pub(super) trait Writer: Send {
    async fn send(&mut self, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()>;
}

/// Any stream.
pub(super) struct Plain<S>(pub(super) WriteHalf<S>);

#[async_trait::async_trait]
impl<S: AsyncWrite + Send> Writer for Plain<S> {
    async fn send(&mut self, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        if !fds.is_empty() {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "only a Unix socket carries descriptors"));
        }
        self.0.write_all(bytes).await?;
        self.0.flush().await
    }
}

#[async_trait::async_trait]
impl Writer for OwnedWriteHalf {
    async fn send(&mut self, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        let mut sent = 0;
        if !fds.is_empty() {
            let stream: &UnixStream = self.as_ref();
            sent = stream.async_io(Interest::WRITABLE, || send_with(stream, bytes, fds)).await?;
        }
        self.write_all(bytes.get(sent..).unwrap_or_default()).await
    }
}

/// One `sendmsg` with `SCM_RIGHTS`: the descriptors travel with the first byte.
fn send_with(stream: &UnixStream, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<usize> {
    let fds: Vec<_> = fds.iter().map(OwnedFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one message"));
    }
    let sent = rustix::net::sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::empty())?;
    Ok(sent)
}

/// A connection after its greeting.
pub(super) struct Link {
    lines: FramedRead<Box<dyn AsyncRead + Send + Unpin>, LinesCodec>,
    writer: Box<dyn Writer>,
    next: u64,
    waiting: BTreeMap<u64, (String, oneshot::Sender<Result<Value>>)>,
}

impl Link {
    pub(super) async fn greet(
        read: Box<dyn AsyncRead + Send + Unpin>,
        writer: Box<dyn Writer>,
    ) -> Result<(Self, Greeting)> {
        let lines = FramedRead::new(read, LinesCodec::new_with_max_length(LONGEST_MESSAGE));
        let mut link = Self { lines, writer, next: 0, waiting: BTreeMap::new() };
        let greeting = wire::greeting(&link.line().await?)?;
        Ok((link, greeting))
    }

    /// Runs until the last sender of requests has gone or the connection is of no more use.
    pub(super) async fn run(
        &mut self,
        mut requests: mpsc::Receiver<Request>,
        events: broadcast::Sender<Event>,
    ) {
        let end = loop {
            tokio::select! {
                request = requests.recv() => match request {
                    None => return,
                    Some(request) => if let Err(error) = self.send(request).await { break error },
                },
                line = self.line() => match line.and_then(|line| self.receive(&line, &events)) {
                    Ok(()) => {}
                    Err(error) => break error,
                },
            }
        };
        // Everybody who waits learns why; who asks later finds the channel closed.
        let reason = end.to_string();
        for (_, (_, reply)) in std::mem::take(&mut self.waiting) {
            drop(reply.send(Err(match &end {
                Error::QmpProtocol(what) => Error::QmpProtocol(what.clone()),
                Error::QmpClosed(why) => Error::QmpClosed(why.clone()),
                _ => Error::QmpClosed(reason.clone()),
            })));
        }
    }

    async fn send(&mut self, request: Request) -> Result<()> {
        let Request { command, arguments, fds, reply } = request;
        // Replies that nobody waits for any more (their time was over) are not kept for ever.
        self.waiting.retain(|_, (_, reply)| !reply.is_closed());
        let id = self.next;
        self.next += 1;
        let text = wire::command(&command, arguments, id);
        let sent = tokio::time::timeout(WRITE_LIMIT, self.writer.send(text.as_bytes(), &fds)).await;
        match sent {
            Ok(Ok(())) => {
                self.waiting.insert(id, (command, reply));
                Ok(())
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::Unsupported => {
                drop(reply.send(Err(Error::Unsupported(error.to_string()))));
                Ok(())
            }
            Ok(Err(error)) => {
                self.waiting.insert(id, (command, reply));
                Err(Error::QmpClosed(error.to_string()))
            }
            Err(_) => {
                self.waiting.insert(id, (command, reply));
                Err(Error::QmpClosed(format!("QEMU read no command for {WRITE_LIMIT:?}")))
            }
        }
    }

    /// The next line; cancel safe.
    async fn line(&mut self) -> Result<String> {
        match self.lines.next().await {
            Some(Ok(line)) => Ok(line),
            Some(Err(LinesCodecError::MaxLineLengthExceeded)) => {
                Err(Error::QmpProtocol(format!("a message of more than {LONGEST_MESSAGE} bytes")))
            }
            Some(Err(LinesCodecError::Io(e))) if e.kind() == io::ErrorKind::InvalidData => {
                Err(Error::QmpProtocol(e.to_string()))
            }
            Some(Err(LinesCodecError::Io(e))) => Err(Error::QmpClosed(e.to_string())),
            None => Err(Error::QmpClosed("QEMU has closed it".to_owned())),
        }
    }

    fn receive(&mut self, line: &str, events: &broadcast::Sender<Event>) -> Result<()> {
        match wire::message(line)? {
            Message::Event(event) => {
                tracing::debug!(event = event.name, data = %event.data, "event of QEMU");
                // An event that nobody listens for is no error.
                drop(events.send(event));
            }
            Message::Reply { id, result } => match self.waiting.remove(&id) {
                Some((command, reply)) => {
                    drop(reply.send(result.map_err(|refusal| refused(command, refusal))))
                }
                None if id < self.next => tracing::debug!(id, "a reply came after its time limit"),
                None => {
                    return Err(Error::QmpProtocol(format!("a reply to command {id}, which was never sent")));
                }
            },
        }
        Ok(())
    }
}

fn refused(command: String, refusal: Refusal) -> Error {
    Error::QmpRefused { command, class: refusal.class, description: refusal.desc }
}
