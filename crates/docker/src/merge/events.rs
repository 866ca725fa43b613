//! `GET /events` of both engines as one stream, line by line as they arrive.
//!
//! ```text
//!            ┌── open ──────────────────────────────────────┐
//!   start ──►│ Live ──(ends by itself, `until`)──► Over     │   all Over: the answer ends
//!            │  │ ▲                                         │
//!            │  │ └─(its machine runs, the engine answers)  │
//!            │  └─(engine gone)──► Down ──(`until` is past)─┼─► Over
//!            └──────────────────────────────────────────────┘   none Live: the connection ends, as dockerd's would
//! ```
//!
//! Each engine has one such leg; both run in the client's task. A leg hands its lines over through a short channel, so a
//! client that reads slowly slows both engines down as one dockerd would be.

use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dhow_model::Role;
use dhow_model::query::query_value;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::Machines;
use super::reply::Reply as Whole;
use crate::ask::{Answer, Question, Reply, Unanswered};
use crate::session::gone;
use crate::wire::client::Client;
use crate::wire::head::Request;

/// How often a leg that is down looks whether its machine runs, and the longest pause after it has failed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Longest event that is passed on; dockerd's have an object's labels in them.
const MAX_LINE: usize = 4 << 20;
/// Largest refusal that is read.
const MAX_REFUSAL: usize = 1 << 20;

/// Answers `GET /events` of a client in placement `foreign-machine`, whether one machine runs or two: the other's events
/// come in when it starts. The request's head must be there still. Returns whether the connection can serve a further request.
pub(crate) async fn events(client: &mut Client, request: &Request, machines: Machines<'_>) -> bool {
    let wanted = Wanted::of(request, now());
    let first = open_all(&wanted, machines).await;
    let legs = match first {
        Ok(legs) => legs,
        Err(refused) => {
            let answer = refused.bytes(request.keep_alive, machines.trace);
            return client.stream.write_all(&answer).await.is_ok() && request.keep_alive;
        }
    };
    stream(client, request, &wanted, legs, machines).await
}

type Legs<'p> = [(Role, Option<Reply<'p>>); 2];

/// Asks every machine that runs, and native's in any case: a request wakes it.
async fn open_all<'a>(wanted: &Wanted, machines: Machines<'a>) -> Result<Legs<'a>, Whole> {
    let running = machines.engines.running();
    let open = |role| {
        let ask = role == Role::Native || running.contains(&role);
        async move {
            if !ask {
                return Ok(None);
            }
            let reply = wanted.open(&wanted.target, role, machines).await;
            let reply = reply.map_err(|why| Whole::unreachable(role, &why))?;
            if reply.status == 200 { Ok(Some(reply)) } else { Err(refusal(reply).await) }
        }
    };
    let (native, foreign) = tokio::join!(open(Role::Native), open(Role::Foreign));
    Ok([(Role::Native, native?), (Role::Foreign, foreign?)])
}

async fn refusal(mut reply: Reply<'_>) -> Whole {
    let mut body = Vec::new();
    while let Ok(Some(piece)) = reply.next().await {
        body.extend_from_slice(&piece);
        if body.len() > MAX_REFUSAL {
            break;
        }
    }
    Whole::as_is(Answer { status: reply.status, headers: std::mem::take(&mut reply.headers), body })
}

/// What a leg has to say.
#[derive(Debug)]
enum Said {
    /// Whole lines.
    Lines(Vec<u8>),
    /// The engine is there again.
    Live,
    /// The engine is gone.
    Down,
}

async fn stream(
    client: &mut Client,
    request: &Request,
    wanted: &Wanted,
    [(_, native), (_, foreign)]: Legs<'_>,
    machines: Machines<'_>,
) -> bool {
    let model = native.as_ref().or(foreign.as_ref()).map(|reply| (reply.status, reply.headers.clone()));
    let (status, headers) = model.unwrap_or((200, Vec::new()));
    let framing = Framing::of(request);
    let head = Whole::as_is(Answer { status, headers, body: Vec::new() }).head(machines.trace);
    if client.stream.write_all(framing.head(head, request.keep_alive).as_bytes()).await.is_err() {
        return false;
    }
    let mut live = usize::from(native.is_some()) + usize::from(foreign.is_some());
    let (to_client, mut lines) = mpsc::channel(2);
    let one = Leg { role: Role::Native, wanted, machines, to_client: to_client.clone(), last: None };
    let other = Leg { role: Role::Foreign, wanted, machines, to_client, last: None };
    let mut legs = pin!(async { tokio::join!(one.run(native), other.run(foreign)) });
    let mut over = false;
    loop {
        tokio::select! {
            biased;
            said = lines.recv() => match said {
                Some(Said::Lines(lines)) => {
                    if client.stream.write_all(&framing.piece(lines)).await.is_err() {
                        return false;
                    }
                }
                Some(Said::Live) => live += 1,
                Some(Said::Down) if live > 1 => live -= 1,
                Some(Said::Down) => return false,
                None => return framing.end(client).await && request.keep_alive,
            },
            _ = &mut legs, if !over => over = true,
            // dockerd takes a closed half for the client's end, and says its own.
            () = gone(client) => {
                framing.end(client).await;
                return false;
            }
        }
    }
}

/// One engine's part of the stream.
struct Leg<'a> {
    role: Role,
    wanted: &'a Wanted,
    machines: Machines<'a>,
    to_client: mpsc::Sender<Said>,
    /// The time of the newest event that was passed on, in nanoseconds by that engine's clock.
    last: Option<u64>,
}

/// Nobody listens any more.
struct Unheard;

impl<'a> Leg<'a> {
    /// Passes events on until there can be no more.
    async fn run(mut self, first: Option<Reply<'a>>) {
        let mut open = first;
        loop {
            if let Some(reply) = open {
                match self.relay(reply).await {
                    Ok(true) if self.wanted.until.is_some() => return,
                    Ok(_) => {}
                    Err(Unheard) => return,
                }
                tracing::debug!(role = %self.role, trace = %self.machines.trace, "an engine's events ended");
                if self.to_client.send(Said::Down).await.is_err() {
                    return;
                }
            }
            open = self.again().await;
            if open.is_none() || self.to_client.send(Said::Live).await.is_err() {
                return;
            }
        }
    }

    /// Passes on what comes; whether it ended as an answer should.
    async fn relay(&mut self, mut reply: Reply<'_>) -> Result<bool, Unheard> {
        let mut lines = Lines::default();
        loop {
            let piece = match reply.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => return Ok(true),
                Err(_) => return Ok(false),
            };
            if let Some(whole) = lines.take(&piece) {
                self.last = self.last.max(newest(&whole));
                self.to_client.send(Said::Lines(whole)).await.map_err(|_| Unheard)?;
            }
        }
    }

    /// Waits for the engine to answer again, without starting its machine; `None` when the time asked for is over.
    async fn again(&self) -> Option<Reply<'a>> {
        let target = self.wanted.resumed(self.last);
        let mut pause = LOOK_EVERY;
        loop {
            if self.wanted.until.is_some_and(|until| until <= now().as_secs_f64()) {
                return None;
            }
            sleep(pause).await;
            if !self.machines.engines.running().contains(&self.role) {
                pause = LOOK_EVERY;
                continue;
            }
            match self.wanted.open(&target, self.role, self.machines).await {
                Ok(reply) if reply.status == 200 => return Some(reply),
                Ok(reply) => tracing::debug!(role = %self.role, status = reply.status, "no events"),
                Err(why) => tracing::debug!(role = %self.role, %why, "no events"),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// What the client asked for.
#[derive(Debug)]
struct Wanted {
    target: String,
    accept: Option<String>,
    has_since: bool,
    /// Seconds since 1970; in the past if it is not a number, so that nobody waits for it.
    until: Option<f64>,
    begun: Duration,
}

impl Wanted {
    fn of(request: &Request, begun: Duration) -> Self {
        Self::new(&request.target, request.header("Accept"), begun)
    }

    fn new(target: &str, accept: Option<String>, begun: Duration) -> Self {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let value = |key| query_value(query, key).ok().flatten().filter(|value| !value.is_empty());
        let until = value("until").map(|until| until.parse::<f64>().unwrap_or_default());
        Self { target: target.to_owned(), accept, has_since: value("since").is_some(), until, begun }
    }

    async fn open<'p>(
        &self,
        target: &str,
        role: Role,
        machines: Machines<'p>,
    ) -> Result<Reply<'p>, Unanswered> {
        let mut question = Question::get(target, machines.trace);
        if let Some(accept) = &self.accept {
            question = question.header("Accept", accept);
        }
        question.open(machines.pools.of(role)).await
    }

    /// The target of an engine that comes (again) later: from behind the last event on, or from the stream's beginning.
    fn resumed(&self, last: Option<u64>) -> String {
        let from = match last {
            Some(last) => Duration::from_nanos(last.saturating_add(1)),
            None if self.has_since => return self.target.clone(),
            None => self.begun,
        };
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let kept =
            query.split('&').filter(|pair| !pair.is_empty() && pair.split('=').next() != Some("since"));
        let since = format!("since={}.{:09}", from.as_secs(), from.subsec_nanos());
        let pairs: Vec<&str> = kept.chain([since.as_str()]).collect();
        format!("{path}?{}", pairs.join("&"))
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Cuts a stream into whole lines.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
    /// The line that goes on is too long, and dropped.
    skipping: bool,
}

impl Lines {
    /// The lines that are whole with this piece.
    fn take(&mut self, piece: &[u8]) -> Option<Vec<u8>> {
        let mut rest = piece;
        if self.skipping {
            let end = rest.iter().position(|byte| *byte == b'\n')?;
            rest = &rest[end + 1..];
            self.skipping = false;
        }
        let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut whole = Vec::new();
        if end > 0 {
            whole = std::mem::take(&mut self.begun);
            whole.extend_from_slice(&rest[..end]);
        }
        self.begun.extend_from_slice(&rest[end..]);
        if self.begun.len() > MAX_LINE {
            tracing::warn!("an event of more than {MAX_LINE} bytes was left out");
            self.begun = Vec::new();
            self.skipping = true;
        }
        (!whole.is_empty()).then_some(whole)
    }
}

/// The time of the newest event among these lines.
fn newest(lines: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct At {
        #[serde(rename = "timeNano")]
        nanoseconds: u64,
    }
    // RFC 7464 puts a record separator before each.
    let line = lines.trim_ascii_end().rsplit(|byte| matches!(byte, b'\n' | 0x1e)).next()?;
    serde_json::from_slice::<At>(line).ok().map(|at| at.nanoseconds)
}

/// How the client is told where the answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Chunked,
    /// A client of HTTP/1.0 knows no chunks.
    UntilClose,
}

impl Framing {
    fn of(request: &Request) -> Self {
        let line = request.forward.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if line.trim_ascii_end().ends_with(b"HTTP/1.0") { Self::UntilClose } else { Self::Chunked }
    }

    fn head(self, mut head: String, keep_alive: bool) -> String {
        if self == Self::UntilClose || !keep_alive {
            head.push_str("Connection: close\r\n");
        }
        if self == Self::Chunked {
            head.push_str("Transfer-Encoding: chunked\r\n");
        }
        head + "\r\n"
    }

    fn piece(self, content: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Chunked => [format!("{:x}\r\n", content.len()).as_bytes(), &content, b"\r\n"].concat(),
            Self::UntilClose => content,
        }
    }

    /// Ends the answer; whether another may follow on this connection.
    async fn end(self, client: &mut Client) -> bool {
        self == Self::Chunked && client.stream.write_all(b"0\r\n\r\n").await.is_ok()
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod events_tests;
