//! Sessions on a pipe, one after the other, and the requests of the streams in them.

use std::sync::Arc;
use std::time::Duration;

use dhow_model::Port;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::header::{Answer, Request};
use crate::mux::{MuxStream, Session, handshake};
use crate::{Error, Result, Stream, Token};

/// How long a stream may take to say what it wants.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// Pause between two sessions, so that a pipe that fails at once costs nothing.
const BETWEEN: Duration = Duration::from_millis(5);

/// Streams of one session; the multiplexer's own limit is lower.
const STREAMS: usize = 1 << 16;

/// Bytes read from the port at a time when only a few are wanted. It gives one page at most (the kernel's buffers for it
/// are pages); frames of that size and more are read to where they belong.
const PIECE: usize = 4096;

/// Where sessions happen.
pub(super) trait Pipes: Send + 'static {
    /// One pipe.
    type Pipe: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Waits for a pipe that has a host at its other end; `None` when there will be no more.
    fn next(&mut self) -> impl Future<Output = Option<Self::Pipe>> + Send;
}

impl<P: AsyncRead + AsyncWrite + Send + Unpin + 'static> Pipes for mpsc::Receiver<P> {
    type Pipe = P;

    async fn next(&mut self) -> Option<P> {
        self.recv().await
    }
}

/// Serves one session after the other until there are no more pipes.
pub(super) async fn sessions(mut pipes: impl Pipes, ports: Vec<Port>, found: mpsc::Sender<(Port, Stream)>) {
    let ports: Arc<[Port]> = ports.into();
    while let Some(pipe) = pipes.next().await {
        match session(pipe, &ports, &found).await {
            Ok(why) => tracing::debug!(%why, "a session of the serial channel ended"),
            Err(error) => tracing::debug!(%error, "no session on the serial channel"),
        }
        sleep(BETWEEN).await;
    }
}

async fn session(
    pipe: impl AsyncRead + AsyncWrite + Unpin,
    ports: &Arc<[Port]>,
    found: &mpsc::Sender<(Port, Stream)>,
) -> Result<crate::Ended> {
    let mut pipe = BufReader::with_capacity(PIECE, pipe);
    handshake::guest(&mut pipe).await?;
    tracing::debug!("a host began a session on the serial channel");
    let slots = Arc::new(Semaphore::new(STREAMS));
    let (_opens, requests) = mpsc::channel(1);
    let never = CancellationToken::new();
    let mut greetings = JoinSet::new();
    let why = Session::guest(pipe)
        .drive(requests, &never, |stream| {
            while greetings.try_join_next().is_some() {}
            // Without a slot the stream is dropped, which resets it.
            if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
                let stream = MuxStream::new(stream, slot);
                greetings.spawn(welcome(stream, Arc::clone(ports), found.clone()));
            }
        })
        .await;
    greetings.shutdown().await;
    Ok(why)
}

async fn welcome(mut stream: MuxStream, ports: Arc<[Port]>, found: mpsc::Sender<(Port, Stream)>) {
    let greeted = greet(&mut stream.raw(), &ports, None, &found).await;
    match greeted {
        Ok((port, place)) => place.send((port, Stream::Mux(Box::new(stream)))),
        Err(error) => tracing::debug!(%error, "a stream was not accepted"),
    }
}

/// Reads a stream's request and answers it. The stream is accepted only when there is a place for it among those that
/// wait to be taken, so that a slow agent is seen as a slow dial.
pub(super) async fn greet<'a, S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    ports: &[Port],
    token: Option<&Token>,
    found: &'a mpsc::Sender<(Port, Stream)>,
) -> Result<(Port, mpsc::Permit<'a, (Port, Stream)>)> {
    let request = match timeout(REQUEST_LIMIT, Request::read(stream)).await {
        Ok(read) => read?,
        Err(_) => return Err(Error::Protocol("a stream asked for nothing".into())),
    };
    let request = match request {
        Ok(request) => request,
        Err(bad) => {
            if let Some(answer) = bad.answer() {
                answer.write(stream).await?;
            }
            return Err(Error::Protocol(bad.to_string()));
        }
    };
    let refusal = if token.is_some() && request.token.as_ref() != token {
        Some(Answer::TokenRefused)
    } else if !ports.contains(&request.port) {
        Some(Answer::NotServed)
    } else {
        None
    };
    if let Some(refusal) = refusal {
        refusal.write(stream).await?;
        return Err(refusal.into_error(request.port));
    }
    let place = found.reserve().await.map_err(|_| Error::SessionEnded(crate::Ended::Dropped))?;
    Answer::Accepted.write(stream).await?;
    Ok((request.port, place))
}
