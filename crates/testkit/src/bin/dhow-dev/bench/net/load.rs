//! What is done to a way: bytes in bulk, requests, and single bytes back and forth.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use dhow_testkit::{Error, Outcome, Result, Run, wait};
use serde_json::Value;

/// How long a measurement of a rate goes on.
pub const WHILE: Duration = Duration::from_secs(2);
/// Clients side by side, where a rate of requests is measured.
const CLIENTS: usize = 8;
const TRIPS: usize = 400;
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(200);

/// Bytes that arrived, and in how many seconds.
#[derive(Clone, Copy)]
pub struct Carried {
    /// Bytes.
    pub bytes: f64,
    /// Seconds.
    pub seconds: f64,
}

impl Carried {
    /// 10^6 bytes a second.
    pub fn rate(self) -> f64 {
        self.bytes / self.seconds / 1e6
    }
}

/// The arguments of an iperf3 client.
pub fn iperf(server: SocketAddr, extra: &[&str]) -> Vec<String> {
    let (address, port, time) =
        (server.ip().to_string(), server.port().to_string(), WHILE.as_secs().to_string());
    let usual = ["-J", "-c", &address, "-p", &port, "-t", &time, "--connect-timeout", "5000"];
    usual.iter().chain(extra).map(|word| (*word).to_owned()).collect()
}

/// What an iperf3 client with `-J` carried. Between two tests its server does not listen for a moment.
pub fn carried(run: impl Fn() -> Run) -> Result<Carried> {
    let mut last = None;
    let carried = wait::until("iperf3 to be served", PATIENCE, || match once(run()) {
        Ok(carried) => Some(carried),
        Err(error) => {
            wait::nap(PAUSE);
            last = Some(error);
            None
        }
    });
    carried.map_err(|error| last.unwrap_or(error))
}

fn once(run: Run) -> Result<Carried> {
    // It is killed when it hangs, as it does when the other side has gone.
    let outcome = run.limit(PATIENCE).outcome()?;
    let report: Value = serde_json::from_slice(&outcome.stdout).unwrap_or_default();
    let end = &report["end"];
    let received = [&end["sum_received"], &end["sum"]].into_iter().find(|sum| sum.is_object());
    let number = |name: &str| received.and_then(|sum| sum[name].as_f64());
    match (report["error"].as_str(), number("bytes"), number("seconds")) {
        (None, Some(bytes), Some(seconds)) if bytes > 0.0 && seconds > 0.0 => Ok(Carried { bytes, seconds }),
        (error, ..) => Err(unexpected(&outcome, error.unwrap_or_default())),
    }
}

fn unexpected(outcome: &Outcome, error: &str) -> Error {
    let said = if error.is_empty() { outcome.complaint() } else { error.to_owned() };
    Error::Unexpected { what: format!("`{}`", outcome.command), said }
}

/// Requests a second, each on a connection of its own or all of a client on one.
pub fn requests(server: SocketAddr, kept: bool) -> Result<f64> {
    let began = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| thread::spawn(move || if kept { on_one(server, began) } else { one_each(server, began) }))
        .collect();
    let mut done = 0;
    for client in clients {
        done += client.join().map_err(|_| Error::Unexpected {
            what: "a client".to_owned(),
            said: "it panicked".to_owned(),
        })??;
    }
    Ok(f64::from(done) / began.elapsed().as_secs_f64())
}

fn one_each(server: SocketAddr, began: Instant) -> Result<u32> {
    let mut done = 0;
    let mut answer = Vec::new();
    while began.elapsed() < WHILE {
        let mut stream = connect(server)?;
        send(&mut stream, server, b"GET / HTTP/1.0\r\n\r\n")?;
        answer.clear();
        stream.read_to_end(&mut answer).map_err(Error::io("read from", server.to_string()))?;
        expect_ok(server, &answer)?;
        done += 1;
    }
    Ok(done)
}

fn on_one(server: SocketAddr, began: Instant) -> Result<u32> {
    let mut stream = connect(server)?;
    let mut done = 0;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while began.elapsed() < WHILE {
        send(&mut stream, server, b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")?;
        answer.clear();
        while !answer.ends_with(b"\r\n\r\nok") {
            let length = stream.read(&mut piece).map_err(Error::io("read from", server.to_string()))?;
            answer.extend_from_slice(&piece[..length]);
            if length == 0 {
                return Err(Error::Unexpected { what: server.to_string(), said: "the end".to_owned() });
            }
        }
        expect_ok(server, &answer)?;
        done += 1;
    }
    Ok(done)
}

fn expect_ok(server: SocketAddr, answer: &[u8]) -> Result<()> {
    if answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"ok") {
        return Ok(());
    }
    Err(Error::Unexpected { what: server.to_string(), said: String::from_utf8_lossy(answer).into_owned() })
}

/// One byte there and back, microseconds: the half and the hundredth slowest.
pub fn round_trip(server: SocketAddr) -> Result<[f64; 2]> {
    let mut stream = connect(server)?;
    let mut took = Vec::with_capacity(TRIPS);
    for _ in 0..TRIPS {
        let began = Instant::now();
        send(&mut stream, server, b"x")?;
        stream.read_exact(&mut [0]).map_err(Error::io("read from", server.to_string()))?;
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    took.sort_by(f64::total_cmp);
    Ok([took[TRIPS / 2], took[TRIPS - TRIPS / 100 - 1]])
}

fn connect(server: SocketAddr) -> Result<TcpStream> {
    let stream =
        TcpStream::connect_timeout(&server, PATIENCE).map_err(Error::io("connect to", server.to_string()))?;
    stream
        .set_nodelay(true)
        .and_then(|()| stream.set_read_timeout(Some(PATIENCE)))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
        .map_err(Error::io("set up", server.to_string()))?;
    Ok(stream)
}

fn send(stream: &mut TcpStream, server: SocketAddr, bytes: &[u8]) -> Result<()> {
    stream.write_all(bytes).map_err(Error::io("write to", server.to_string()))
}

/// What `redis-benchmark --csv` measured: requests a second, and the half and the hundredth slowest in microseconds.
pub fn pings(outcome: &Outcome) -> Result<[f64; 3]> {
    let text = outcome.text();
    let fields: Vec<f64> = text
        .lines()
        .filter(|line| line.starts_with("\"PING"))
        .flat_map(|line| line.split(',').skip(1))
        .filter_map(|field| field.trim_matches('"').parse().ok())
        .collect();
    // "test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
    match fields.as_slice() {
        [rate, _, _, half, _, most, ..] => Ok([*rate, half * 1e3, most * 1e3]),
        _ => Err(Error::Unexpected { what: "`redis-benchmark`".to_owned(), said: text }),
    }
}
