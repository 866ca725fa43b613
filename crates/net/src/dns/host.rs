//! The port on 127.0.0.1 that the host's resolver asks for our names.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::server::{Dns, From, Over};

/// How long until a port that somebody else has is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// The most TCP clients at once.
const CLIENTS: usize = 64;

/// Why the host cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else listens there, perhaps another engine of Dhow's.
    #[error(
        "names of containers are not answered on the host: another program listens on {address} ({protocol}); end it, or choose another port with `dhow config set dns.port N`"
    )]
    InUse {
        /// Where.
        address: SocketAddr,
        /// UDP or TCP.
        protocol: &'static str,
    },
    /// The host does not let us.
    #[error(
        "names of containers are not answered on the host: {address} ({protocol}) cannot be listened on: {source}; choose another port with `dhow config set dns.port N`"
    )]
    Bind {
        /// Where.
        address: SocketAddr,
        /// UDP or TCP.
        protocol: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// How the host's port is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum HostPort {
    /// Nobody asked for it.
    #[default]
    Off,
    /// It answers here.
    Listening(SocketAddr),
    /// It cannot be had, in an [`Error`]'s words; it is tried again.
    Waiting(String),
}

impl Dns {
    /// Answers the host on 127.0.0.1, UDP and TCP, until it is cancelled. A port that somebody else has is tried again every
    /// 2 s; [`Dns::host_port`] tells how it stands. Port 0 takes any.
    ///
    /// # Errors
    /// When the host does not let us listen there at all.
    pub async fn serve_host(self: Arc<Self>, port: u16, cancel: CancellationToken) -> Result<(), Error> {
        let served = cancel.run_until_cancelled(Arc::clone(&self).serve(port)).await;
        self.host_state().send_replace(match &served {
            Some(Err(error)) => HostPort::Waiting(error.to_string()),
            _ => HostPort::Off,
        });
        served.unwrap_or(Ok(()))
    }

    async fn serve(self: Arc<Self>, port: u16) -> Result<(), Error> {
        let (udp, tcp) = self.listen(port).await?;
        if let Ok(address) = udp.local_addr() {
            tracing::info!(%address, "names of containers are answered on the host");
            self.upstreams().avoid(address);
            self.host_state().send_replace(HostPort::Listening(address));
        }
        tokio::join!(self.datagrams(&udp), self.clients(&tcp));
        Ok(())
    }

    async fn listen(&self, port: u16) -> Result<(UdpSocket, TcpListener), Error> {
        loop {
            match bind(port).await {
                Ok(sockets) => return Ok(sockets),
                Err(error @ Error::InUse { .. }) => {
                    let words = error.to_string();
                    if *self.host_state().borrow() != HostPort::Waiting(words.clone()) {
                        tracing::warn!("{words}");
                        self.host_state().send_replace(HostPort::Waiting(words));
                    }
                    sleep(RETRY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Nobody on the host waits for an upstream, so one datagram after the other is soon enough.
    async fn datagrams(self: &Arc<Self>, socket: &UdpSocket) {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        loop {
            match socket.recv_from(&mut buffer).await {
                Ok((length, client)) => {
                    let query = buffer.get(..length).unwrap_or_default();
                    if let Some(answer) = self.answer(query, From::Host, Over::Udp).await
                        && let Err(error) = socket.send_to(&answer, client).await
                    {
                        tracing::debug!(%client, %error, "an answer cannot be sent");
                    }
                }
                // An earlier client that is gone, say.
                Err(error) => {
                    tracing::debug!(%error, "a question cannot be received");
                    sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    async fn clients(self: &Arc<Self>, listener: &TcpListener) {
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if clients.len() < CLIENTS => match accepted {
                    Ok((stream, _)) => {
                        clients.spawn(client(Arc::clone(self), stream));
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a client cannot be accepted");
                        sleep(Duration::from_millis(100)).await;
                    }
                },
                Some(ended) = clients.join_next() => {
                    if let Err(error) = ended {
                        tracing::warn!(%error, "serving a client ended");
                    }
                }
            }
        }
    }
}

async fn client(dns: Arc<Dns>, stream: TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a stream keeps its delay");
    }
    dns.serve_stream(stream, From::Host).await;
}

async fn bind(port: u16) -> Result<(UdpSocket, TcpListener), Error> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let fail = |protocol| {
        move |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => Error::InUse { address, protocol },
            _ => Error::Bind { address, protocol, source },
        }
    };
    let tcp = TcpListener::bind(address).await.map_err(fail("TCP"))?;
    let port = tcp.local_addr().map_err(fail("TCP"))?.port();
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(fail("UDP"))?;
    Ok((udp, tcp))
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
