//! What can go wrong in the face itself; what a Docker client is told stands in `answer`.

use std::io;

use crate::engines::Unavailable;

/// An error of the face that its owner (the daemon) sees.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The Docker socket stopped accepting connections.
    #[error("the Docker socket cannot accept connections: {0}")]
    Accept(#[source] io::Error),
    /// No engine that can be asked has this container.
    #[error("no such container: {0}; `docker ps --all` lists them")]
    NoSuchContainer(String),
    /// Both engines have a container that the reference may mean.
    #[error("{0}")]
    Ambiguous(String),
    /// An engine that has to be asked cannot be reached.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why one client's connection, or the exchange on it, could not go on. Stays inside the crate: it becomes an answer
/// to the client or a line in the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The request is not HTTP as dockerd takes it.
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    /// A header's name has characters that none may have.
    #[error("malformed request: invalid header name")]
    HeaderName,
    /// A transfer coding other than `chunked`.
    #[error("malformed request: unsupported transfer encoding")]
    TransferEncoding,
    /// A version of HTTP other than 1.0 and 1.1.
    #[error("malformed request: unsupported HTTP version")]
    Version,
    /// The request's head is larger than dockerd's own limit.
    #[error("the request's headers are larger than 1 MiB")]
    HeadTooLarge,
    /// The request body is not framed correctly.
    #[error("the request body is malformed: {0}")]
    BadBody(#[from] crate::wire::body::BadChunk),
    /// The client closed its connection; nobody waits for the answer.
    #[error("the client went away")]
    ClientGone,
    /// The engine closed the connection before it answered.
    #[error("the engine closed the connection before it answered")]
    NoAnswer,
    /// The engine's answer is not HTTP.
    #[error("the engine's answer is malformed: {0}")]
    BadAnswer(&'static str),
    /// The engine closed the connection in the middle of its answer.
    #[error("the engine closed the connection in the middle of its answer")]
    Truncated,
}
