//! Asks the host's resolvers: in their order, each with a time limit, over UDP and, when that does not suffice, TCP. Every
//! question has a socket and a random number of its own, so that a forger has to guess both (RFC 5452).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::{self, Answer, Wrong, rcode};
use super::message::Question;
use super::resolv::Settings;
use super::upstreams::Upstreams;

/// Answers to something else that are passed over before TCP is tried: somebody is guessing (RFC 5452, 9.2).
const FORGERIES: usize = 16;
/// More than we ask for: some resolvers send what they like.
const DATAGRAM: usize = 4096;

/// Why one resolver has no answer.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("no answer within {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("it cannot be reached: {0}")]
    Unreachable(#[from] io::Error),
    #[error("its answer is damaged")]
    Damaged,
    #[error("it answers with other questions or numbers")]
    Forged,
    #[error("no random number: {0}")]
    Random(#[from] getrandom::Error),
}

/// Asks until one resolver has an answer; what says least stands last: an error, a truncated answer, nothing.
pub(crate) async fn ask(upstreams: &Upstreams, settings: &Settings, question: &Question) -> Option<Answer> {
    let mut best: Option<Answer> = None;
    for _ in 0..settings.attempts {
        for server in upstreams.order(settings, Instant::now().into_std()) {
            match ask_one(server, settings, question).await {
                Ok(answer) => {
                    upstreams.answered(server);
                    let final_answer = matches!(answer.code(), rcode::NO_ERROR | rcode::NX_DOMAIN);
                    if final_answer && !answer.truncated() {
                        return Some(answer);
                    }
                    if best.as_ref().is_none_or(|b| !b.truncated()) {
                        best = Some(answer);
                    }
                }
                Err(error) => {
                    if matches!(error, Failed::Silent(_) | Failed::Unreachable(_)) {
                        upstreams.was_silent(server, Instant::now().into_std());
                    }
                    tracing::debug!(%server, name = question.key, %error, "a resolver has no answer");
                }
            }
        }
        // Who answered with an error would do so again.
        if best.is_some() {
            break;
        }
    }
    best
}

async fn ask_one(server: SocketAddr, settings: &Settings, question: &Question) -> Result<Answer, Failed> {
    let answer = ask_as(server, settings, question, question.flags.edns).await?;
    // Old resolvers do not know EDNS (RFC 6891, 7).
    if question.flags.edns && matches!(answer.code(), rcode::FORM_ERR | rcode::NOT_IMP) {
        return ask_as(server, settings, question, false).await;
    }
    Ok(answer)
}

async fn ask_as(
    server: SocketAddr,
    settings: &Settings,
    question: &Question,
    edns: bool,
) -> Result<Answer, Failed> {
    let id = u16::from_ne_bytes(random()?);
    let asked = answer::question(question, id, edns);
    let limit = settings.timeout;
    if settings.tcp {
        return tcp(server, &asked, limit).await;
    }
    match udp(server, &asked, limit).await {
        Ok(answer) if answer.truncated() => Ok(tcp(server, &asked, limit).await.unwrap_or(answer)),
        Err(Failed::Forged | Failed::Damaged) => tcp(server, &asked, limit).await,
        other => other,
    }
}

async fn udp(server: SocketAddr, asked: &[u8], limit: Duration) -> Result<Answer, Failed> {
    let until = Instant::now() + limit;
    // The kernel picks a random port for each; connected, it lets no other address through.
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(asked).await?;
    let mut buffer = vec![0; DATAGRAM];
    for _ in 0..FORGERIES {
        let length =
            timeout_at(until, socket.recv(&mut buffer)).await.map_err(|_| Failed::Silent(limit))??;
        match Answer::read(buffer.get(..length).unwrap_or_default(), asked) {
            Ok(answer) => return Ok(answer),
            Err(Wrong::Damaged) => return Err(Failed::Damaged),
            Err(Wrong::Unasked) => {}
        }
    }
    Err(Failed::Forged)
}

async fn tcp(server: SocketAddr, asked: &[u8], limit: Duration) -> Result<Answer, Failed> {
    timeout(limit, stream(server, asked)).await.map_err(|_| Failed::Silent(limit))?
}

async fn stream(server: SocketAddr, asked: &[u8]) -> Result<Answer, Failed> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = u16::try_from(asked.len()).unwrap_or(0).to_be_bytes().to_vec();
    framed.extend(asked);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    match Answer::read(&bytes, asked) {
        Ok(answer) => Ok(answer),
        Err(Wrong::Unasked) => Err(Failed::Forged),
        Err(Wrong::Damaged) => Err(Failed::Damaged),
    }
}

fn random() -> Result<[u8; 2], getrandom::Error> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
