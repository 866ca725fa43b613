//! How both ends of a serial port find the beginning of a session.
//!
//! A virtio-serial port is one pipe for the whole life of the machine. What an earlier process on the host sent, or did
//! not read, may still be in it, and neither side is told reliably when the other one changes. So:
//!
//! ```text
//!  host                                   guest
//!  DHOW-CHANNEL/1 HELLO nonce  ────────▶  skips everything until a line like this
//!       (again and again)
//!  skips everything until its nonce ◀───  DHOW-CHANNEL/1 WELCOME nonce
//!  DHOW-CHANNEL/1 GO nonce  ───────────▶  answers a newer HELLO, or begins
//!  ═══════════════════ frames of the multiplexer ═══════════════════
//! ```
//!
//! No byte of a line is a zero, and each yamux frame begins with one: a guest that still believes in an earlier session
//! fails on the line, and listens for the next. It may be in the middle of a frame, so each repetition comes after
//! enough filler to complete any.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::time::{Instant, timeout_at};

use crate::header::VERSION;
use crate::token::{fill_random, hex};
use crate::{Error, Result};

const PREFIX: &[u8] = b"DHOW-CHANNEL/";

/// Longest rest of a line after its prefix: a version, a word and a nonce.
const LONGEST: usize = 64;

/// How long the host waits for its answer before it greets again, at first and at most. The guest answers in less than
/// a millisecond when it is there at all; while it boots, everything sent is kept for it and would only pile up.
const AGAIN: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(4));

/// More than one frame of the multiplexer, head included.
static FILLER: [u8; super::driver::FRAME + 64] = [0xff; super::driver::FRAME + 64];

/// What a line says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Hello,
    Welcome,
    Go,
}

/// A line that was found among other bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Greeting {
    version: u8,
    line: Line,
    nonce: String,
}

/// The host's part. The caller sets the time limit.
pub(crate) async fn host<P: AsyncRead + AsyncWrite + Unpin>(port: &mut BufReader<P>) -> Result<()> {
    let nonce = nonce()?;
    let mut scanner = Scanner::default();
    let mut filler: &[u8] = &[];
    let (mut wait, longest) = AGAIN;
    loop {
        port.write_all(filler).await.map_err(failed)?;
        send(port, &Line::Hello, &nonce).await?;
        let again = Instant::now() + wait;
        while let Ok(found) = timeout_at(again, scanner.next(port)).await {
            let found = found?;
            if found.line == Line::Welcome && found.nonce == nonce {
                if found.version != VERSION {
                    return Err(Error::Version { theirs: found.version, ours: VERSION });
                }
                return send(port, &Line::Go, &nonce).await;
            }
        }
        filler = &FILLER;
        wait = longest.min(wait * 2);
    }
}

/// The guest's part: returns when a host has begun a session. It ends in an error when the port does.
pub(crate) async fn guest<P: AsyncRead + AsyncWrite + Unpin>(port: &mut BufReader<P>) -> Result<()> {
    let mut scanner = Scanner::default();
    let mut answered = None;
    loop {
        let found = scanner.next(port).await?;
        match found.line {
            // Each greeting is answered once: a second answer would end up among the host's first frames.
            Line::Hello if answered.as_ref() != Some(&found.nonce) => {
                send(port, &Line::Welcome, &found.nonce).await?;
                answered = Some(found.nonce);
            }
            Line::Go if found.version == VERSION && answered.as_ref() == Some(&found.nonce) => return Ok(()),
            Line::Hello | Line::Welcome | Line::Go => {}
        }
    }
}

/// Finds lines among other bytes, and remembers its place when it is cancelled.
#[derive(Debug, Default)]
struct Scanner {
    line: Vec<u8>,
}

impl Scanner {
    /// The next line. It takes no byte after it. Cancelling it loses nothing.
    async fn next<P: AsyncRead + AsyncWrite + Unpin>(&mut self, port: &mut BufReader<P>) -> Result<Greeting> {
        loop {
            let bytes = port.fill_buf().await.map_err(failed)?;
            if bytes.is_empty() {
                return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
            }
            let mut taken = 0;
            let found = bytes.iter().find_map(|byte| {
                taken += 1;
                self.feed(*byte)
            });
            port.consume(taken);
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }

    fn feed(&mut self, byte: u8) -> Option<Greeting> {
        if self.line.len() < PREFIX.len() {
            if byte != PREFIX[self.line.len()] {
                self.line.clear();
            }
            // Only the prefix's first byte can begin it anew, as that letter is not in it twice.
            if byte == PREFIX[self.line.len()] {
                self.line.push(byte);
            }
            return None;
        }
        if byte == b'\n' {
            let found = parse(&self.line[PREFIX.len()..]);
            self.line.clear();
            return found;
        }
        self.line.push(byte);
        if self.line.ends_with(PREFIX) {
            // The line before was cut off by this one.
            self.line.truncate(PREFIX.len());
        } else if self.line.len() > PREFIX.len() + LONGEST {
            self.line.clear();
        }
        None
    }
}

fn parse(rest: &[u8]) -> Option<Greeting> {
    let mut words = std::str::from_utf8(rest).ok()?.split(' ');
    let version = words.next()?.parse().ok()?;
    let line = match words.next()? {
        "HELLO" => Line::Hello,
        "WELCOME" => Line::Welcome,
        "GO" => Line::Go,
        _ => return None,
    };
    let nonce = words.next().filter(|nonce| nonce.len() == 32)?.to_owned();
    words.next().is_none().then_some(Greeting { version, line, nonce })
}

async fn send<P: AsyncRead + AsyncWrite + Unpin>(
    port: &mut BufReader<P>,
    line: &Line,
    nonce: &str,
) -> Result<()> {
    let word = match line {
        Line::Hello => "HELLO",
        Line::Welcome => "WELCOME",
        Line::Go => "GO",
    };
    let text = format!("DHOW-CHANNEL/{VERSION} {word} {nonce}\n");
    port.write_all(text.as_bytes()).await.map_err(failed)?;
    port.flush().await.map_err(failed)
}

fn nonce() -> Result<String> {
    let mut bytes = [0; 16];
    fill_random(&mut bytes)?;
    Ok(hex(&bytes))
}

fn failed(source: std::io::Error) -> Error {
    Error::Io { doing: "the serial channel failed during its handshake", source }
}
