//! A client of few words: it measures the way, not itself.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// What Go's client, hence `docker`, writes as one chunk.
const CHUNK: usize = 32 * 1024;

pub struct Client(UnixStream, Instant);

impl Client {
    pub fn connect(socket: &Path) -> Self {
        let began = Instant::now();
        Self(UnixStream::connect(socket).unwrap(), began)
    }

    /// Times of so many pings; the first includes the connection.
    pub fn pings(mut self, n: usize) -> Vec<Duration> {
        let mut times = Vec::with_capacity(n);
        let mut answer = [0; 4096];
        for turn in 0..n {
            let began = if turn == 0 { self.1 } else { Instant::now() };
            self.0.write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nUser-Agent: bench\r\n\r\n").unwrap();
            let mut got = 0;
            while !answer[..got].ends_with(b"\r\n\r\nOK") {
                let n = self.0.read(&mut answer[got..]).unwrap();
                assert!(n > 0, "{}", String::from_utf8_lossy(&answer[..got]));
                got += n;
            }
            times.push(began.elapsed());
        }
        times
    }
}

/// Sends a body in chunks, as `docker` does, and waits for the end of the answer.
pub fn upload(socket: &Path, call: &str, body: &[u8]) -> Duration {
    let mut stream = UnixStream::connect(socket).unwrap();
    let mut writer = std::io::BufWriter::with_capacity(CHUNK + 64, stream.try_clone().unwrap());
    let began = Instant::now();
    write!(
        writer,
        "{call} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    for chunk in body.chunks(CHUNK) {
        write!(writer, "{:x}\r\n", chunk.len()).unwrap();
        writer.write_all(chunk).unwrap();
        writer.write_all(b"\r\n").unwrap();
    }
    writer.write_all(b"0\r\n\r\n").unwrap();
    writer.flush().unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    began.elapsed()
}

/// Receives an answer to its end and drops it.
pub fn download(socket: &Path, call: &str) -> Duration {
    let began = Instant::now();
    let mut count = Counting { bytes: 0, first: Vec::new() };
    download_into(socket, call, &mut count);
    assert!(count.first.starts_with(b"HTTP/1.1 200") && count.bytes > 1 << 20, "{} bytes", count.bytes);
    began.elapsed()
}

pub fn download_into(socket: &Path, call: &str, sink: &mut impl Write) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let head = format!("{call} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut piece = vec![0; 256 * 1024];
    loop {
        match stream.read(&mut piece).unwrap() {
            0 => return,
            n => sink.write_all(&piece[..n]).unwrap(),
        }
    }
}

/// The content of a chunked answer.
pub fn without_chunks(answer: &[u8]) -> Vec<u8> {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let mut rest = &answer[head + 4..];
    let mut content = Vec::with_capacity(rest.len());
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        if size == 0 {
            return content;
        }
        content.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 2 + size + 2..];
    }
}

struct Counting {
    bytes: usize,
    first: Vec<u8>,
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.first.is_empty() {
            self.first.extend_from_slice(&bytes[..bytes.len().min(16)]);
        }
        self.bytes += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
