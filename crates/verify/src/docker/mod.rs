//! A small client of Docker's Engine API over its Unix socket: what the checks need, each call with a time limit. A connection serves one
//! call, so that an engine that is started again in between is found again.

mod api;
mod frames;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::Request;
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_util::io::ReaderStream;

pub(crate) use self::api::{Builder, LABEL, Program, Spec};
use crate::error::{Error, Result};

/// For a call that has no work to do.
pub(crate) const CALL: Duration = Duration::from_secs(60);
/// Largest answer that is read whole: the largest output of a check, framed.
const LARGEST: usize = 64 << 20;

/// The engine behind one socket.
#[derive(Debug, Clone)]
pub struct Docker {
    socket: PathBuf,
    /// How many times longer than on a fast computer anything may take.
    patience: Arc<AtomicU32>,
}

/// What is sent.
pub(crate) enum Body {
    Nothing,
    Json(Value),
    Tar(Vec<u8>),
    /// A tar archive, streamed.
    File(PathBuf),
}

/// A connection that is served until its answer has been read.
struct Served(JoinHandle<()>);

impl Drop for Served {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Docker {
    /// The engine behind this socket. Nothing is asked of it yet.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), patience: Arc::new(AtomicU32::new(1)) }
    }

    /// Gives every call and every program so many times their time from now on.
    pub(crate) fn be_patient(&self, times: u32) {
        self.patience.store(times.max(1), Ordering::Relaxed);
    }

    /// A limit, on this computer.
    pub(crate) fn limit(&self, limit: Duration) -> Duration {
        limit.saturating_mul(self.patience.load(Ordering::Relaxed))
    }

    /// Asks, and reads the whole answer.
    pub(crate) async fn ask(
        &self,
        method: &str,
        target: &str,
        body: Body,
        limit: Duration,
    ) -> Result<(u16, Vec<u8>)> {
        let (what, limit) = (what(method, target), self.limit(limit));
        let late = Error::Late { what: what.clone(), limit };
        tokio::time::timeout(limit, self.asked(method, target, body, &what)).await.unwrap_or(Err(late))
    }

    /// The same; an answer that is not of the 200s is an error.
    pub(crate) async fn call(
        &self,
        method: &str,
        target: &str,
        body: Body,
        limit: Duration,
    ) -> Result<Vec<u8>> {
        let (status, answer) = self.ask(method, target, body, limit).await?;
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let told: Option<Value> = serde_json::from_slice(&answer).ok();
        let message = told.as_ref().and_then(|told| told["message"].as_str()).map_or_else(
            || String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned(),
            str::to_owned,
        );
        Err(Error::Refused { what: what(method, target), status, message })
    }

    /// The same, of an answer in JSON.
    pub(crate) async fn json(
        &self,
        method: &str,
        target: &str,
        body: Body,
        limit: Duration,
    ) -> Result<Value> {
        let answer = self.call(method, target, body, limit).await?;
        serde_json::from_slice(&answer)
            .map_err(|error| Error::Answer { what: what(method, target), cause: error.to_string() })
    }

    async fn asked(&self, method: &str, target: &str, body: Body, what: &str) -> Result<(u16, Vec<u8>)> {
        let broken =
            |cause: &dyn std::fmt::Display| Error::Broken { what: what.to_owned(), cause: cause.to_string() };
        let unreachable = |source| Error::Unreachable { socket: self.socket.clone(), source };
        let stream = UnixStream::connect(&self.socket).await.map_err(unreachable)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        let _served = Served(tokio::spawn(async move {
            // Its error comes through the answer that it breaks.
            connection.await.ok();
        }));
        let request = request(method, target, body).await?;
        let answer = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = answer.status().as_u16();
        Ok((status, content(answer.into_body(), what).await?))
    }
}

async fn content(mut body: Incoming, what: &str) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Error::Broken { what: what.to_owned(), cause: error.to_string() })?;
        if let Some(data) = frame.data_ref() {
            content.extend_from_slice(data);
        }
        if content.len() > LARGEST {
            return Err(Error::TooLarge { what: what.to_owned(), limit: LARGEST });
        }
    }
    Ok(content)
}

type Sent = BoxBody<Bytes, std::io::Error>;

async fn request(method: &str, target: &str, body: Body) -> Result<Request<Sent>> {
    let head = Request::builder()
        .method(method)
        .uri(target)
        .header("Host", "docker")
        .header("User-Agent", concat!("dhow-verify/", env!("CARGO_PKG_VERSION")));
    let whole = |bytes: Vec<u8>| Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed();
    let built = match body {
        Body::Nothing => head.body(whole(Vec::new())),
        Body::Json(value) => {
            head.header("Content-Type", "application/json").body(whole(value.to_string().into_bytes()))
        }
        Body::Tar(bytes) => head.header("Content-Type", "application/x-tar").body(whole(bytes)),
        Body::File(path) => {
            let unreadable = |source| Error::File { path: path.clone(), source };
            let file = tokio::fs::File::open(&path).await.map_err(unreadable)?;
            let length = file.metadata().await.map_err(unreadable)?.len();
            let pieces = ReaderStream::with_capacity(file, 256 << 10).map(|piece| piece.map(Frame::data));
            head.header("Content-Type", "application/x-tar")
                .header("Content-Length", length)
                .body(StreamBody::new(pieces).boxed())
        }
    };
    built.map_err(|error| Error::Answer { what: what(method, target), cause: error.to_string() })
}

/// A call in an error: without its query, which nobody reads.
fn what(method: &str, target: &str) -> String {
    format!("{method} {}", target.split('?').next().unwrap_or(target))
}

/// A value in a query (RFC 3986: everything but the unreserved).
pub(crate) fn escaped(value: &str) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}
