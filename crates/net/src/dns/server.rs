//! Answers one message, whoever asks and over whatever it came.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dhow_model::network::DOMAIN;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::answer::Answer;
use super::cache::{Cache, Key};
use super::flights::Flights;
use super::forward;
use super::gate::Gate;
use super::host::HostPort;
use super::message::{self, Parsed, Question, Why};
use super::names::Names;
use super::table::Found;
use super::upstreams::Upstreams;

/// The longest that anybody waits for an answer. Whoever asks gives up after 5 to 10 s.
const PATIENCE: Duration = Duration::from_secs(9);

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The guest, over the gateway: everything is answered.
    Guest,
    /// The host, over the port on 127.0.0.1: only our own names are.
    Host,
}

/// How a message came, and its answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// A datagram: answers are short, and cut where they are not.
    Udp,
    /// A stream.
    Tcp,
}

/// A machine's resolver.
pub struct Dns {
    names: Arc<Names>,
    upstreams: Upstreams,
    gate: Arc<dyn Gate>,
    cache: Mutex<Cache>,
    flights: Flights,
    denied: Mutex<Denied>,
    host: watch::Sender<HostPort>,
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns").field("upstreams", &self.upstreams).finish_non_exhaustive()
    }
}

impl Dns {
    /// A resolver that knows `names`, asks `upstreams` for others, and lets through what `gate` lets.
    #[must_use]
    pub fn new(names: Arc<Names>, upstreams: Upstreams, gate: Arc<dyn Gate>) -> Arc<Self> {
        Arc::new(Self {
            names,
            upstreams,
            gate,
            cache: Mutex::default(),
            flights: Flights::default(),
            denied: Mutex::default(),
            host: watch::Sender::new(HostPort::Off),
        })
    }

    /// The answer to a message, if it deserves one. It is there within 9 s; for our own names, and whenever the host asks, at
    /// once. Dropping the future is fine.
    pub async fn answer(self: &Arc<Self>, query: &[u8], from: From, over: Over) -> Option<Vec<u8>> {
        let answer = match message::parse(query, over) {
            Parsed::Ask(question) => match self.local(&question, from) {
                Some(answer) => answer,
                None => self.forward(&question).await,
            },
            Parsed::Refuse(answer) => answer,
            Parsed::Silence => return None,
        };
        Some(answer).filter(|bytes| !bytes.is_empty())
    }

    /// How the host's port is: listening or not, and why not.
    #[must_use]
    pub fn host_port(&self) -> watch::Receiver<HostPort> {
        self.host.subscribe()
    }

    pub(super) const fn host_state(&self) -> &watch::Sender<HostPort> {
        &self.host
    }

    pub(super) const fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }

    /// The answer to what is ours, and to whatever the host asks.
    fn local(&self, question: &Question, from: From) -> Option<Vec<u8>> {
        let (zone, records) = match self.names.table().find(&question.key, from) {
            Found::Known { zone, addresses, pointers } => {
                let mut records = question.addresses(&addresses);
                records.extend(question.pointers(&pointers));
                if question.key == zone {
                    match question.kind {
                        RecordType::SOA => records.extend(Question::start_of(&zone)),
                        RecordType::TXT if zone == DOMAIN => {
                            records.extend(self.names.engine().map(|tag| question.engine(tag)));
                        }
                        _ => {}
                    }
                }
                (zone, records)
            }
            Found::Missing { zone } => return Some(question.nothing(ResponseCode::NXDomain, &zone)),
            Found::Elsewhere if from == From::Host => {
                return Some(question.fail(ResponseCode::Refused, None));
            }
            Found::Elsewhere => return None,
        };
        Some(if records.is_empty() {
            question.nothing(ResponseCode::NoError, &zone)
        } else {
            question.answer(records)
        })
    }

    async fn forward(&self, question: &Question) -> Vec<u8> {
        if let Some(denial) = self.gate.resolve(&question.key) {
            return self.deny(question, &denial);
        }
        let now = Instant::now().into_std();
        let current = self.upstreams.current(now);
        let key = Key::of(question);
        let kept = lock(&self.cache).get(&key, current.generation, now);
        if let Some((answer, age)) = kept {
            return self.tell(question, &answer, age);
        }
        if current.settings.servers.is_empty() {
            return question.fail(ResponseCode::ServFail, Some(Why::NotReady));
        }
        let Some(seat) = self.flights.join(&key) else {
            return question.fail(ResponseCode::ServFail, Some(Why::NotReady));
        };
        let ask = async {
            let answer = forward::ask(&self.upstreams, &current.settings, question).await?;
            let answer = Arc::new(answer.shrunk());
            let now = Instant::now().into_std();
            lock(&self.cache).put(&key, &answer, current.generation, now);
            Some(answer)
        };
        match timeout(PATIENCE, seat.wait(ask)).await {
            Ok(Some(answer)) => self.tell(question, &answer, Duration::ZERO),
            Ok(None) | Err(_) => question.fail(ResponseCode::ServFail, Some(Why::Unreachable)),
        }
    }

    /// The policy learns of an answer's addresses before the asker does.
    fn tell(&self, question: &Question, answer: &Answer, age: Duration) -> Vec<u8> {
        let addresses = answer.addresses(age);
        if !addresses.is_empty()
            && let Some(denial) = self.gate.pin(&question.key, &addresses, Instant::now().into_std())
        {
            return self.deny(question, &denial);
        }
        answer.reply(question, age)
    }

    fn deny(&self, question: &Question, denial: &dyn std::fmt::Display) -> Vec<u8> {
        if lock(&self.denied).is_news(&question.key, Instant::now().into_std()) {
            tracing::warn!(target: "egress", name = question.key, "{denial}");
        }
        question.fail(ResponseCode::Refused, Some(Why::Blocked))
    }
}

/// Which denials were logged lately: each name once a minute, and no more than 64 names.
#[derive(Debug, Default)]
struct Denied {
    names: std::collections::HashMap<String, std::time::Instant>,
}

impl Denied {
    fn is_news(&mut self, name: &str, now: std::time::Instant) -> bool {
        self.names.retain(|_, at| now.saturating_duration_since(*at) < Duration::from_secs(60));
        if self.names.len() >= 64 || self.names.contains_key(name) {
            return false;
        }
        self.names.insert(name.to_owned(), now);
        true
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
