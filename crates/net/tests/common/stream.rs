//! Bytes that can be checked wherever they are cut, and what else tests of streams need.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use socket2::SockRef;

/// How long any single read or write of a test may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A prime, so that the pattern meets no buffer's size.
const PERIOD: usize = 65_521;

/// Bytes from the middle of an endless pattern, at an offset.
fn pattern() -> Vec<u8> {
    let mut state = 1u32;
    let mut block = Vec::with_capacity(4 * PERIOD);
    for _ in 0..PERIOD {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        block.push(state as u8);
    }
    block.repeat(4)
}

/// Writes `length` bytes of the pattern.
pub fn send(mut stream: impl Write, length: usize) -> std::io::Result<()> {
    let block = pattern();
    let mut sent = 0;
    while sent < length {
        let start = sent % PERIOD;
        let count = (length - sent).min(block.len() - start);
        stream.write_all(&block[start..start + count])?;
        sent += count;
    }
    Ok(())
}

/// Reads to the end and answers how many bytes of the pattern there were; another byte is a panic.
pub fn check(mut stream: impl Read) -> usize {
    let block = pattern();
    let mut buffer = vec![0; 2 * PERIOD];
    let mut checked = 0;
    loop {
        let count = stream.read(&mut buffer).unwrap();
        if count == 0 {
            return checked;
        }
        let start = checked % PERIOD;
        assert!(buffer[..count] == block[start..start + count], "wrong bytes at {checked}");
        checked += count;
    }
}

/// Connects with time limits for everything that follows.
pub fn connect(address: impl Into<SocketAddr>) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address.into(), PATIENCE)?;
    limit(&stream);
    Ok(stream)
}

/// Accepts one, with time limits for everything that follows.
pub fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let (stream, from) = listener.accept().unwrap();
    limit(&stream);
    (stream, from)
}

fn limit(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
}

/// Closes with a reset.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}
