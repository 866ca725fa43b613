//! Finds out what works by asking: our port with a question of DNS, the host's resolver as every program does.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::time::Duration;

use dhow_model::network::DOMAIN;
use serde::Serialize;

/// Types of records.
const A: u8 = 1;
const TXT: u8 = 16;

/// Whether something works, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// It does.
    pub works: bool,
    /// In words.
    pub found: String,
}

impl Answer {
    fn good(found: impl Into<String>) -> Self {
        Self { works: true, found: found.into() }
    }

    fn bad(found: impl Into<String>) -> Self {
        Self { works: false, found: found.into() }
    }
}

/// The name that is asked for.
pub fn name() -> String {
    format!("host.{DOMAIN}")
}

/// Asks our port, over UDP and TCP, and whose engine it is.
pub fn port(address: SocketAddr, engine: &str, limit: Duration) -> Answer {
    let asked = question(&name(), A);
    for (protocol, answer) in [("UDP", udp(address, &asked, limit)), ("TCP", tcp(address, &asked, limit))] {
        match answer {
            Ok(reply) if is_answer(&asked, &reply) && reply.ends_with(&[0, 4, 127, 0, 0, 1]) => {}
            Ok(_) => return Answer::bad(format!("{address} answers over {protocol}, but is not Dhow")),
            Err(error) => {
                return Answer::bad(format!("{address} does not answer over {protocol}: {}", words(&error)));
            }
        }
    }
    let asked = question(DOMAIN, TXT);
    match udp(address, &asked, limit).ok().and_then(|reply| engine_of(&asked, &reply)) {
        Some(other) if other != engine => {
            Answer::bad(format!("{address} is another engine's ({other}); this one is {engine}"))
        }
        _ => Answer::good(format!("{address} answers")),
    }
}

/// Asks the host's resolver, as every program does. It may take longer than `limit` by itself; then it is left alone.
pub async fn resolver(limit: Duration) -> Answer {
    let (send, receive) = tokio::sync::oneshot::channel();
    let question = format!("{}:0", name());
    std::thread::spawn(move || {
        // Whoever waited may have given up.
        send.send(question.to_socket_addrs().map(|found| found.map(|a| a.ip()).collect::<Vec<_>>())).ok();
    });
    match tokio::time::timeout(limit, receive).await {
        Ok(Ok(answer)) => judge(answer),
        Ok(Err(_)) | Err(_) => Answer::bad(format!("{} was not found within {} s", name(), limit.as_secs())),
    }
}

fn judge(answer: io::Result<Vec<IpAddr>>) -> Answer {
    match answer {
        Ok(addresses) if !addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback) => {
            Answer::good(format!("{} is {}", name(), addresses[0]))
        }
        Ok(addresses) => {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            Answer::bad(format!("somebody else answers {} with {}", name(), addresses.join(", ")))
        }
        Err(error) => Answer::bad(format!("{} is not found: {error}", name())),
    }
}

fn question(name: &str, kind: u8) -> Vec<u8> {
    let id = std::process::id().to_be_bytes();
    let mut bytes = vec![id[2], id[3], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, kind, 0, 1]);
    bytes
}

/// Whether it answers this question, with a record, and as one who owns the name.
fn is_answer(asked: &[u8], reply: &[u8]) -> bool {
    let head = reply.len() > asked.len() && reply[..2] == asked[..2] && reply[2] & 0x84 == 0x84;
    head && reply[3] & 0x0f == 0 && reply[6..8] != [0, 0]
}

/// The engine's tag, in the one string of a TXT record at the message's end.
fn engine_of(asked: &[u8], reply: &[u8]) -> Option<String> {
    if !is_answer(asked, reply) {
        return None;
    }
    let text = String::from_utf8_lossy(reply.get(asked.len()..)?).into_owned();
    text.split_once("engine=").map(|(_, tag)| crate::text::one_line(tag))
}

fn udp(address: SocketAddr, question: &[u8], limit: Duration) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(limit))?;
    socket.send(question)?;
    let mut reply = vec![0; 512];
    let length = socket.recv(&mut reply)?;
    reply.truncate(length);
    Ok(reply)
}

fn tcp(address: SocketAddr, question: &[u8], limit: Duration) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let mut framed = u16::try_from(question.len()).unwrap_or(0).to_be_bytes().to_vec();
    framed.extend(question);
    stream.write_all(&framed)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply)?;
    Ok(reply)
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "not in time".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
#[path = "ask_tests.rs"]
mod tests;
