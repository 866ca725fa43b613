//! From `dhow up` to the first Docker answer.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use dhow_testkit::{Engine, Error, Result};

use super::{ROUNDS, Spread};

/// A new home first, whose disk is formatted; then as many cold boots of it as there are rounds.
pub fn measure() -> Result<()> {
    let engine = Engine::prepare()?;
    let first = up(&engine)?;
    println!("boot: `dhow up` to the first Docker answer, seconds: median of {ROUNDS} [least to most]");
    println!("  {:<28} {first:8.2}", "first start (new disk)");
    let mut total = Spread::default();
    let mut steps: Vec<(String, Spread)> = Vec::new();
    for _ in 0..ROUNDS {
        engine.down()?;
        total.add(up(&engine)?);
        let mut names = Vec::new();
        for (place, step, took) in engine.status()?.timeline() {
            // Steps that run beside each other end in any order, and some have the same name.
            let name = format!("{place}: {step}");
            let nth = names.iter().filter(|known| **known == name).count();
            names.push(name.clone());
            match steps.iter_mut().filter(|(known, _)| *known == name).nth(nth) {
                Some((_, spread)) => spread.add(took),
                None => {
                    let mut spread = Spread::default();
                    spread.add(took);
                    steps.push((name, spread));
                }
            }
        }
    }
    println!("  {:<28} {total}", "cold boot");
    for (name, took) in steps {
        println!("    {name:<26} {took}");
    }
    Ok(())
}

/// `dhow up`, to the first Docker answer; seconds.
pub(super) fn up(engine: &Engine) -> Result<f64> {
    let began = Instant::now();
    engine.up()?;
    ping(engine.docker().socket())?;
    Ok(began.elapsed().as_secs_f64())
}

/// `GET /_ping`, answered with 200.
pub(super) fn ping(socket: &Path) -> Result<()> {
    let mut stream = UnixStream::connect(socket).map_err(Error::io("connect to", socket))?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(Error::io("set up", socket))?;
    stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n").map_err(Error::io("write to", socket))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(Error::io("read from", socket))?;
    if answer.contains(" 200 ") {
        return Ok(());
    }
    Err(Error::Unexpected { what: socket.display().to_string(), said: answer })
}
