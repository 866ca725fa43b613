//! Small servers on the host's loopback, for containers to reach: each ends when it is dropped.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::{Error, Result};

/// The host's loopback by IPv4.
pub const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The host's loopback by IPv6.
pub const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// How long a served connection may keep silent.
const SILENCE: Duration = Duration::from_secs(120);

/// A server on a port of its own.
pub struct Server {
    address: SocketAddr,
    accepted: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Server {
    /// Does `serve` with each connection, in a thread of its own. How it ends is the client's business.
    ///
    /// # Errors
    /// When nothing can listen on `ip`.
    pub fn tcp(
        ip: IpAddr,
        serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind((ip, 0)).map_err(Error::io("listen on", ip.to_string()))?;
        let address = listener.local_addr().map_err(Error::io("ask for", ip.to_string()))?;
        let server = Self { address, accepted: Arc::default(), ended: Arc::default() };
        let (accepted, ended, serve) = (server.accepted.clone(), server.ended.clone(), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                accepted.fetch_add(1, Ordering::Relaxed);
                let serve = Arc::clone(&serve);
                thread::spawn(move || prepare(&stream).and_then(|()| serve(stream)).unwrap_or_default());
            }
        });
        Ok(server)
    }

    /// Sends back what it is sent, and ends a stream when its client has ended its own.
    ///
    /// # Errors
    /// As [`Server::tcp`].
    pub fn echo(ip: IpAddr) -> Result<Self> {
        Self::tcp(ip, |mut stream| io::copy(&mut stream.try_clone()?, &mut stream).map(drop))
    }

    /// Answers each command of a Redis client's with `+PONG`.
    ///
    /// # Errors
    /// As [`Server::tcp`].
    pub fn pong(ip: IpAddr) -> Result<Self> {
        Self::tcp(ip, pong)
    }

    /// Answers every request with these bytes.
    ///
    /// # Errors
    /// As [`Server::tcp`].
    pub fn web(ip: IpAddr, body: impl Into<Vec<u8>>) -> Result<Self> {
        let body = body.into();
        Self::tcp(ip, move |mut stream| {
            let mut head = Vec::new();
            let mut piece = [0; 4096];
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut piece)? {
                    0 => return Ok(()),
                    length => head.extend_from_slice(&piece[..length]),
                }
            }
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
            stream.write_all(&body)
        })
    }

    /// Sends each datagram back to where it came from.
    ///
    /// # Errors
    /// When nothing can listen on `ip`.
    pub fn udp_echo(ip: IpAddr) -> Result<Self> {
        let socket = UdpSocket::bind((ip, 0)).map_err(Error::io("listen on", ip.to_string()))?;
        let address = socket.local_addr().map_err(Error::io("ask for", ip.to_string()))?;
        let server = Self { address, accepted: Arc::default(), ended: Arc::default() };
        let (accepted, ended) = (server.accepted.clone(), server.ended.clone());
        thread::spawn(move || {
            let mut datagram = vec![0; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut datagram) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                accepted.fetch_add(1, Ordering::Relaxed);
                // A client that has gone does not end the server.
                socket.send_to(&datagram[..length], from).unwrap_or_default();
            }
        });
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port alone.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections, or datagrams, have come.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Its thread looks when something comes. If nothing can, it has nothing to hold open either.
        drop(TcpStream::connect_timeout(&self.address, Duration::from_secs(1)));
        let any = SocketAddr::new(self.address.ip(), 0);
        UdpSocket::bind(any).and_then(|socket| socket.send_to(&[0], self.address)).unwrap_or_default();
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))
}

/// A command is `*N`, then N times a length and a word, each line ended by CR LF.
fn pong(mut stream: TcpStream) -> io::Result<()> {
    let mut piece = [0; 4096];
    let mut lines_left = 0_u32;
    let mut line = Vec::new();
    loop {
        let length = stream.read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        for byte in &piece[..length] {
            line.push(*byte);
            if !line.ends_with(b"\r\n") {
                continue;
            }
            let words = line.strip_prefix(b"*").and_then(|rest| std::str::from_utf8(rest).ok());
            match words.and_then(|words| words.trim().parse::<u32>().ok()) {
                Some(words) if lines_left == 0 => lines_left = words * 2,
                _ => lines_left = lines_left.saturating_sub(1),
            }
            if lines_left == 0 {
                stream.write_all(b"+PONG\r\n")?;
            }
            line.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_of_two_words_is_answered_once() {
        let server = Server::pong(V4).unwrap();
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(b"*2\r\n$4\r\nPING\r\n$2\r\nhi\r\n*1\r\n$4\r\nPING\r\n").unwrap();
        let mut answer = [0; 14];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"+PONG\r\n+PONG\r\n");
        assert_eq!(server.accepted(), 1);
    }

    #[test]
    fn a_dropped_server_no_longer_listens() {
        for server in [Server::echo(V4).unwrap(), Server::web(V4, "x").unwrap()] {
            let address = server.address();
            drop(server);
            let gone = || TcpStream::connect(address).is_err().then_some(());
            crate::wait::until("the port to close", Duration::from_secs(5), gone).unwrap();
        }
    }
}
