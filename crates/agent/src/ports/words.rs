//! What a `docker-proxy` and the agent say to each other: lines of text.
//!
//! ```text
//!  proxy:  bind tcp 0.0.0.0:8080 172.17.0.2:80      agent:  bound          or  refused listen tcp4 0.0.0.0:8080: bind: …
//!  proxy:  release                                  agent:  released
//! ```
//!
//! A proxy that goes away without `release` was killed, or its dockerd was.

use std::net::SocketAddr;

use dhow_model::port::Binding;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

/// Where the agent listens.
pub const SOCKET: &str = "/run/dhow/ports.sock";
/// The longest line, bytes.
const LINE: u64 = 1024;

/// What a proxy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Listen on the host.
    Bind(Binding),
    /// Listen no more.
    Release,
}

/// What the agent says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The host listens.
    Bound,
    /// The host does not; why, in Docker's words.
    Refused(String),
    /// The host listens no more.
    Released,
}

impl Ask {
    /// The line, with its end.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Bind(Binding { protocol, host, container }) => {
                format!("bind {protocol} {host} {container}\n")
            }
            Self::Release => "release\n".to_owned(),
        }
    }

    /// What a line asks; `None` when it is none of ours.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let ask = match words.next()? {
            "release" => Self::Release,
            "bind" => {
                let protocol = words.next()?.parse().ok()?;
                let mut address = || words.next()?.parse::<SocketAddr>().ok().filter(|a| a.port() != 0);
                Self::Bind(Binding { protocol, host: address()?, container: address()? })
            }
            _ => return None,
        };
        words.next().is_none().then_some(ask)
    }
}

impl Told {
    /// The line, with its end.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Bound => "bound\n".to_owned(),
            Self::Refused(why) => format!("refused {}\n", why.replace(['\n', '\r'], " ")),
            Self::Released => "released\n".to_owned(),
        }
    }

    /// What a line tells; `None` when it is none of ours.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        match line {
            "bound" => Some(Self::Bound),
            "released" => Some(Self::Released),
            _ => line.strip_prefix("refused ").map(|why| Self::Refused(why.to_owned())),
        }
    }
}

/// The next line without its end; `None` at the end of the stream.
///
/// # Errors
/// When the stream breaks, or the line is too long or no text.
pub async fn line<R: AsyncRead + Unpin>(from: &mut BufReader<R>) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    if from.take(LINE).read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    match line.strip_suffix('\n') {
        Some(line) => Ok(Some(line.to_owned())),
        None => Err(std::io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for (host, container) in [("0.0.0.0:8080", "172.17.0.2:80"), ("[::]:1", "[fd00::2]:65535")] {
            let (host, container) = (host.parse().unwrap(), container.parse().unwrap());
            for protocol in ["tcp", "udp"] {
                let ask = Ask::Bind(Binding { protocol: protocol.parse().unwrap(), host, container });
                assert_eq!(Ask::parse(ask.line().trim_end()), Some(ask));
            }
        }
        assert_eq!(Ask::parse("release"), Some(Ask::Release));
        let refused = Told::Refused("listen tcp4 0.0.0.0:80: bind: address already in use".to_owned());
        for told in [Told::Bound, Told::Released, refused] {
            assert_eq!(Told::parse(told.line().trim_end()), Some(told));
        }
    }

    /// Spec 4.1: SCTP is never treated as TCP, and port 0 is no port.
    #[test]
    fn what_is_not_understood_is_refused() {
        for line in [
            "",
            "bind",
            "bind tcp",
            "bind tcp 0.0.0.0:80",
            "bind sctp 0.0.0.0:80 172.17.0.2:80",
            "bind tcp 0.0.0.0:0 172.17.0.2:80",
            "bind tcp 0.0.0.0:80 172.17.0.2:0",
            "bind tcp 0.0.0.0:70000 172.17.0.2:80",
            "bind tcp 0.0.0.0:80 172.17.0.2:80 more",
            "release now",
        ] {
            assert_eq!(Ask::parse(line), None, "{line:?}");
        }
        assert_eq!(Told::parse("refused"), None);
    }

    #[tokio::test]
    async fn a_line_has_an_end_and_a_limit() {
        let mut good = BufReader::new(&b"one\ntwo\n"[..]);
        assert_eq!(line(&mut good).await.unwrap().as_deref(), Some("one"));
        assert_eq!(line(&mut good).await.unwrap().as_deref(), Some("two"));
        assert_eq!(line(&mut good).await.unwrap(), None);
        assert!(line(&mut BufReader::new(&b"cut"[..])).await.is_err());
        assert!(line(&mut BufReader::new(&vec![b'x'; 5000][..])).await.is_err());
    }
}
