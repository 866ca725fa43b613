//! A web server for one directory, with the faults that real mirrors have.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What the server does besides serving.
#[derive(Default)]
pub struct Faults {
    /// Connections are cut after so many bytes of a body, this often.
    pub cut: Mutex<Option<(u64, usize)>>,
    /// Bytes a second, 0 for no limit.
    pub rate: AtomicU64,
    /// Answers given.
    pub answers: AtomicUsize,
    /// Ranges asked for.
    pub ranges: Mutex<Vec<String>>,
}

pub struct Server {
    pub address: String,
    pub faults: Arc<Faults>,
}

impl Server {
    /// Serves a directory until the test's process ends.
    pub fn start(directory: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let faults = Arc::new(Faults::default());
        let shared = faults.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (directory, faults) = (directory.clone(), shared.clone());
                // A client that goes away is none of the server's business.
                std::thread::spawn(move || serve(stream, &directory, &faults).ok());
            }
        });
        Self { address, faults }
    }
}

fn serve(stream: TcpStream, directory: &std::path::Path, faults: &Faults) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut output = stream;
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut from = 0_usize;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            faults.ranges.lock().unwrap().push(range.trim().to_owned());
            from = range.trim().trim_end_matches('-').parse().unwrap();
        }
    }
    faults.answers.fetch_add(1, Ordering::SeqCst);
    let path = request.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
    let Ok(content) = std::fs::read(directory.join(path)) else {
        return output.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    let body = &content[from.min(content.len())..];
    write!(output, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    let body = match &mut *faults.cut.lock().unwrap() {
        Some((after, times)) if *times > 0 && body.len() as u64 > *after => {
            *times -= 1;
            &body[..usize::try_from(*after).unwrap()]
        }
        _ => body,
    };
    let rate = faults.rate.load(Ordering::SeqCst);
    for piece in body.chunks(4096) {
        output.write_all(piece)?;
        if let Some(micros) = (piece.len() as u64 * 1_000_000).checked_div(rate) {
            std::thread::park_timeout(std::time::Duration::from_micros(micros));
        }
    }
    output.flush()
}
