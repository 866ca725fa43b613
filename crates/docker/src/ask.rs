//! The face's own questions to an engine: a small client over the pooled connections, for answers that are read whole
//! (`ask`) or piece by piece (`open`).

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::engines::Unavailable;
use crate::error::Broken;
use crate::pool::{Connection, Pool};
use crate::trace::{self, TraceId};
use crate::wire::body::Body;
use crate::wire::buffer::Buffer;
use crate::wire::head::{self, MAX_HEAD};

/// Longest wait for a whole answer, unless the question says otherwise. An engine that is gone shows at once; one that is emulated
/// on a busy host takes its time, which its client sees as latency and not as an error (spec 3.9).
const LIMIT: Duration = Duration::from_secs(30);
/// Largest answer that is read whole, unless the question says otherwise.
const MAX_CONTENT: usize = 64 << 20;

/// Something that the face asks for itself.
#[derive(Debug, Clone)]
pub(crate) struct Question<'a> {
    method: &'a str,
    target: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    body: &'a [u8],
    trace: &'a TraceId,
    within: Duration,
    at_most: usize,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// As they were sent, in their order.
    pub(crate) headers: Vec<(String, String)>,
    /// The content, without the coding around it.
    pub(crate) body: Vec<u8>,
}

/// An answer of which the head is there and the content still to come.
pub(crate) struct Reply<'p> {
    pub(crate) status: u16,
    /// As they were sent, in their order.
    pub(crate) headers: Vec<(String, String)>,
    pool: &'p Pool,
    /// Until it was given back or has ended.
    connection: Option<Connection>,
    keep_alive: bool,
    body: Body,
    buffer: Buffer,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    /// The engine cannot be reached.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The engine was reached and said nothing that can be used.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// It took too long.
    #[error("the engine did not answer within {} s", .0.as_secs())]
    Late(Duration),
    /// More than the question allows.
    #[error("the engine's answer is larger than {0} bytes")]
    TooLarge(usize),
}

impl Unanswered {
    /// The reason without a command to run, for an error that names one of its own.
    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Unavailable(why) => why.what.clone(),
            why => why.to_string(),
        }
    }
}

impl<'a> Question<'a> {
    /// A `GET` of this path and query.
    pub(crate) fn get(target: &'a str, trace: &'a TraceId) -> Self {
        Self::new("GET", target, trace)
    }

    pub(crate) fn new(method: &'a str, target: &'a str, trace: &'a TraceId) -> Self {
        Self { method, target, headers: Vec::new(), body: &[], trace, within: LIMIT, at_most: MAX_CONTENT }
    }

    /// A further header. `Host`, `User-Agent`, the trace and the body's length are there already.
    pub(crate) fn header(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// A body.
    pub(crate) fn body(mut self, body: &'a [u8]) -> Self {
        self.body = body;
        self
    }

    /// Longest wait: for the whole answer with [`Self::ask`], for its head with [`Self::open`]. 30 s unless set. The time
    /// in which a machine starts is not part of it.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.within = limit;
        self
    }

    /// Largest content in bytes; 64 MiB unless set.
    pub(crate) fn at_most(mut self, bytes: usize) -> Self {
        self.at_most = bytes;
        self
    }

    /// Asks, and reads the answer to its end.
    pub(crate) async fn ask(&self, pool: &Pool) -> Result<Answer, Unanswered> {
        let connection = pool.take().await?;
        let asking = async {
            let mut reply = self.send(pool, connection).await?;
            let mut body = Vec::new();
            while let Some(piece) = reply.next().await? {
                body.extend_from_slice(&piece);
                if body.len() > self.at_most {
                    return Err(Unanswered::TooLarge(self.at_most));
                }
            }
            Ok(Answer { status: reply.status, headers: std::mem::take(&mut reply.headers), body })
        };
        timeout(self.within, asking).await.unwrap_or(Err(Unanswered::Late(self.within)))
    }

    /// Asks, and returns once the answer's head is there.
    pub(crate) async fn open<'p>(&self, pool: &'p Pool) -> Result<Reply<'p>, Unanswered> {
        let connection = pool.take().await?;
        let sending = self.send(pool, connection);
        timeout(self.within, sending).await.unwrap_or(Err(Unanswered::Late(self.within)))
    }

    /// Sends, a second time if a pooled connection turns out to be dead.
    async fn send<'p>(&self, pool: &'p Pool, connection: Connection) -> Result<Reply<'p>, Unanswered> {
        let reused = connection.reused;
        match self.send_once(pool, connection).await {
            Err(Broken::NoAnswer) if reused => {
                let connection = pool.dial().await?;
                Ok(self.send_once(pool, connection).await?)
            }
            other => Ok(other?),
        }
    }

    async fn send_once<'p>(&self, pool: &'p Pool, mut connection: Connection) -> Result<Reply<'p>, Broken> {
        let stream = &mut connection.stream;
        stream.write_all(&self.bytes()).await.map_err(|_| Broken::NoAnswer)?;
        stream.flush().await.map_err(|_| Broken::NoAnswer)?;
        let mut buffer = Buffer::default();
        let answer = loop {
            if let Some(answer) = head::answer(buffer.filled(), self.method == "HEAD", self.trace)? {
                buffer.consume(answer.len);
                if !answer.is_informational() {
                    break answer;
                }
                continue;
            }
            if !buffer.has_room(MAX_HEAD) {
                return Err(Broken::BadAnswer("its headers are larger than 1 MiB"));
            }
            let read = std::future::poll_fn(|cx| buffer.poll_fill(cx, stream, MAX_HEAD)).await;
            if !matches!(read, Ok(n) if n > 0) {
                return Err(Broken::NoAnswer);
            }
        };
        Ok(Reply {
            status: answer.status,
            headers: head::headers(&answer.forward),
            pool,
            connection: Some(connection),
            keep_alive: answer.keep_alive,
            body: answer.body,
            buffer,
        })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: docker\r\nUser-Agent: dhow\r\n{}: {}\r\n",
            self.method,
            self.target,
            trace::HEADER,
            self.trace
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() || matches!(self.method, "POST" | "PUT") {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        [head.as_bytes(), self.body].concat()
    }
}

impl Answer {
    /// The value of this header, whatever its case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

impl Reply<'_> {
    /// The next piece of the content, as it arrives; `None` at its end. Without a time limit. May be cancelled between pieces
    /// without losing one.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        loop {
            if !self.buffer.is_empty() && !self.body.is_done() {
                let mut piece = Vec::new();
                let n = self
                    .body
                    .scan(self.buffer.filled(), |data| piece.extend_from_slice(data))
                    .map_err(|_| Broken::BadAnswer("bad chunk"))?;
                self.buffer.consume(n);
                if !piece.is_empty() {
                    return Ok(Some(piece));
                }
            }
            if self.body.is_done() {
                self.give_back();
                return Ok(None);
            }
            let Some(connection) = &mut self.connection else { return Ok(None) };
            let stream = &mut connection.stream;
            let buffer = &mut self.buffer;
            match std::future::poll_fn(|cx| buffer.poll_fill(cx, stream, Buffer::STREAM)).await {
                Ok(n) if n > 0 => {}
                _ if self.body == Body::UntilClose => {
                    self.connection = None;
                    return Ok(None);
                }
                _ => return Err(Broken::Truncated),
            }
        }
    }

    fn give_back(&mut self) {
        if self.keep_alive
            && self.buffer.is_empty()
            && let Some(connection) = self.connection.take()
        {
            self.pool.put(connection);
        }
    }
}

fn header<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}
