//! Carries what comes to a published address from inside the guest: a container that speaks to the engine's address, or
//! to its own published port. What comes from the host never passes here.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dhow_model::port::{Binding, Protocol};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

/// A client of a datagram port that says nothing for this long is forgotten; as long as Docker's proxy waits.
const IDLE: Duration = Duration::from_secs(90);
/// Clients of one datagram port at once.
const CLIENTS: usize = 1024;
/// The largest datagram, bytes.
const DATAGRAM: usize = 65_507;
/// After the kernel had no descriptor or memory for a connection.
const SHORT_OF: Duration = Duration::from_millis(100);

/// Carries for ever what `socket`, which was taken for `binding`, accepts.
///
/// # Errors
/// When the socket breaks.
pub async fn run(socket: OwnedFd, binding: Binding) -> io::Result<()> {
    match binding.protocol {
        Protocol::Tcp => connections(TcpListener::from_std(socket.into())?, binding.container).await,
        Protocol::Udp => datagrams(UdpSocket::from_std(socket.into())?, binding.container).await,
    }
}

async fn connections(listener: TcpListener, container: SocketAddr) -> io::Result<()> {
    loop {
        match listener.accept().await {
            Ok((client, _)) => drop(tokio::spawn(connection(client, container))),
            // The client gave up while it waited, or we are short of something: the listener stays.
            Err(_) => sleep(SHORT_OF).await,
        }
    }
}

/// A client whose container does not answer sees its connection end, as with Docker's proxy; what breaks one side ends
/// the other.
async fn connection(mut client: TcpStream, container: SocketAddr) {
    if let Ok(mut server) = TcpStream::connect(container).await {
        tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
    }
}

async fn datagrams(socket: UdpSocket, container: SocketAddr) -> io::Result<()> {
    let socket = Arc::new(socket);
    let clients: Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>> = Arc::default();
    let mut buffer = vec![0; DATAGRAM];
    loop {
        // An ICMP error of an earlier answer comes up here and is none of this port's.
        let Ok((count, client)) = socket.recv_from(&mut buffer).await else { continue };
        let known = clients.lock().unwrap_or_else(PoisonError::into_inner).get(&client).cloned();
        let server = match known {
            Some(server) => server,
            None => {
                if clients.lock().unwrap_or_else(PoisonError::into_inner).len() >= CLIENTS {
                    continue;
                }
                let Ok(server) = towards(container).await else { continue };
                let server = Arc::new(server);
                clients.lock().unwrap_or_else(PoisonError::into_inner).insert(client, Arc::clone(&server));
                let (socket, server, clients) =
                    (Arc::clone(&socket), Arc::clone(&server), Arc::clone(&clients));
                let answering = answers(socket, Arc::clone(&server), client);
                tokio::spawn(async move {
                    answering.await;
                    clients.lock().unwrap_or_else(PoisonError::into_inner).remove(&client);
                });
                server
            }
        };
        // A datagram may be lost.
        server.send(&buffer[..count]).await.ok();
    }
}

async fn towards(container: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match container {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(container).await?;
    Ok(socket)
}

/// Carries answers back until none came for a while.
async fn answers(socket: Arc<UdpSocket>, server: Arc<UdpSocket>, client: SocketAddr) {
    let mut buffer = vec![0; DATAGRAM];
    loop {
        match timeout(IDLE, server.recv(&mut buffer)).await {
            Ok(Ok(count)) => drop(socket.send_to(&buffer[..count], client).await),
            // Nobody listens in the container yet.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::socket;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn local(protocol: Protocol, container: SocketAddr) -> (SocketAddr, Binding, OwnedFd) {
        let mut binding = Binding { protocol, host: ([127, 0, 0, 1], 0).into(), container };
        let taken = socket::take(&binding).unwrap();
        binding.host = SocketAddr::try_from(rustix::net::getsockname(&taken).unwrap()).unwrap();
        (binding.host, binding, taken)
    }

    /// The end of one direction is carried and leaves the other open.
    #[tokio::test]
    async fn a_connection_is_carried_with_its_half_close() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (host, binding, taken) = local(Protocol::Tcp, server.local_addr().unwrap());
        let running = tokio::spawn(run(taken, binding));
        let mut client = TcpStream::connect(host).await.unwrap();
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut accepted, _) = server.accept().await.unwrap();
        let mut question = String::new();
        accepted.read_to_string(&mut question).await.unwrap();
        accepted.write_all(b"answer").await.unwrap();
        drop(accepted);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
        running.abort();
    }

    #[tokio::test]
    async fn datagrams_of_every_size_come_back_to_their_own_client() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (host, binding, taken) = local(Protocol::Udp, server.local_addr().unwrap());
        let running = tokio::spawn(run(taken, binding));
        let echo = tokio::spawn(async move {
            let mut buffer = vec![0; DATAGRAM];
            loop {
                let (count, from) = server.recv_from(&mut buffer).await.unwrap();
                server.send_to(&buffer[..count], from).await.unwrap();
            }
        });
        for size in [1, 1_400, 8_000, DATAGRAM] {
            let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let sent = vec![u8::try_from(size % 251).unwrap(); size];
            client.send_to(&sent, host).await.unwrap();
            let mut got = vec![0; DATAGRAM + 1];
            let (count, from) = timeout(IDLE, client.recv_from(&mut got)).await.unwrap().unwrap();
            assert_eq!((from, &got[..count]), (host, &sent[..]));
        }
        running.abort();
        echo.abort();
    }
}
