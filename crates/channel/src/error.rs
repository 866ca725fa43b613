//! What can go wrong with a channel, each cause told apart.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use dhow_model::Port;

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a dial, a session or a listener failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The limit of a dial passed (spec 8.3).
    #[error("port {port} of the guest did not answer within {limit:?}")]
    DialTimedOut {
        /// The port that was dialled.
        port: Port,
        /// The limit that the caller gave.
        limit: Duration,
    },
    /// Nobody in the guest serves the port.
    #[error("nothing in the guest serves port {port}")]
    NotServed {
        /// The port that was dialled.
        port: Port,
    },
    /// The guest did not accept the token.
    #[error(
        "the guest refused the channel token: it belongs to another boot of the machine, or to another machine"
    )]
    TokenRefused,
    /// The other end speaks another version of the protocol (spec 8.4).
    #[error(
        "the other end of the channel speaks version {theirs} of its protocol and this one {ours}: use the agent that came with this dhow"
    )]
    Version {
        /// What the other end speaks.
        theirs: u8,
        /// What this end speaks.
        ours: u8,
    },
    /// As many streams are open as may be.
    #[error("{limit} streams to the guest are open already, which is the limit")]
    TooManyStreams {
        /// The limit.
        limit: usize,
    },
    /// The other end refused for another reason.
    #[error("port {port} of the guest was refused: {message}")]
    Refused {
        /// The port that was dialled.
        port: Port,
        /// What the other end said, without control characters.
        message: String,
    },
    /// The other end broke the protocol (spec 8.4).
    #[error("the other end of the channel broke its protocol: {0}")]
    Protocol(String),
    /// The guest never answered the first greeting.
    #[error("the agent did not answer on the serial channel within {limit:?}")]
    HandshakeTimedOut {
        /// The limit that the caller gave.
        limit: Duration,
    },
    /// The guest leaves what was sent to it where it is, so its machine cannot be put to sleep without loss.
    #[error("the guest did not read what was sent to it on the serial channel within {limit:?}")]
    NotRead {
        /// The limit that the caller gave.
        limit: Duration,
    },
    /// Somebody has parked the session already.
    #[error("the serial channel is parked already")]
    AlreadyParked,
    /// A parked session was given another port while the first one was still there.
    #[error("the serial channel's old port did not end within {limit:?}: its hypervisor still runs")]
    OldPortOpen {
        /// The limit that the caller gave.
        limit: Duration,
    },
    /// The multiplexer's session is over; a new one must be made.
    #[error("the serial channel is closed: {0}")]
    SessionEnded(Ended),
    /// The hub's socket cannot be used.
    #[error("cannot reach the channel hub at {}: {source}", path.display())]
    Hub {
        /// Its socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Reading or writing failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The guest cannot be dialled over vsock.
    #[error("cannot dial port {port} of guest {cid} over vsock: {source}")]
    Vsock {
        /// The guest.
        cid: u32,
        /// The port.
        port: Port,
        /// Why.
        source: io::Error,
    },
    /// A port of the guest cannot be listened on.
    #[error("cannot listen on vsock port {port}: {source}")]
    Listen {
        /// The port.
        port: Port,
        /// Why.
        source: io::Error,
    },
    /// The serial port cannot be opened.
    #[error("cannot open the serial channel {}: {source}", path.display())]
    Device {
        /// The device.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The hypervisor gave the guest no serial port for the channel.
    #[error("no virtio-serial port is named {name:?}: the machine was started without its channel")]
    NoSerialPort {
        /// The name that was looked for.
        name: &'static str,
    },
    /// The system has no random bytes.
    #[error("cannot get random bytes from the system: {0}")]
    Random(#[source] io::Error),
    /// This platform cannot do it.
    #[error("{0} is only there on Linux")]
    Unsupported(&'static str),
}

/// Why a multiplexer's session ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// The other end closed the port: the hypervisor is gone, or the agent left.
    #[error("the other end closed it")]
    Closed,
    /// The port failed.
    #[error("the port failed: {0}")]
    Io(String),
    /// The other end sent what is not the protocol, or the session's bytes were mixed with others.
    #[error("the other end broke the protocol: {0}")]
    Protocol(String),
    /// This end let go of its session.
    #[error("it was closed on this side")]
    Dropped,
}
