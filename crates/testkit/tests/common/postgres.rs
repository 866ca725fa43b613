//! A PostgreSQL in a container, and as much of its protocol as a client of the simple kind needs
//! (PostgreSQL's documentation, "Frontend/Backend Protocol"): so that a connection is the test's own, and lives through whatever the test does.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use dhow_testkit::{Docker, Engine, Error, Image, Result, wait};

use super::PATIENCE;

/// The container's name.
pub const NAME: &str = "db";
const PROGRAMS: &str = "/usr/lib/postgresql/17/bin";
/// For one answer, a wake included.
const ANSWER: Duration = Duration::from_secs(120);
/// Version 3.0 of the protocol.
const PROTOCOL: i32 = 196_608;

/// Starts it with its data in a volume, and answers where it listens when it answers.
pub fn start(engine: &Engine, port: u16) -> Result<SocketAddr> {
    let docker = engine.docker();
    Image::Postgres.ensure(docker)?;
    let script = format!(
        "set -e; export LC_ALL=C HOME=/tmp; chown daemon /data; \
         as() {{ setpriv --reuid=daemon --regid=daemon --clear-groups \"$@\"; }}; \
         [ -d /data/db ] || {{ as {PROGRAMS}/initdb -D /data/db -U postgres -A trust >/dev/null; \
         echo 'host all all all trust' >> /data/db/pg_hba.conf; }}; \
         exec setpriv --reuid=daemon --regid=daemon --clear-groups {PROGRAMS}/postgres -D /data/db \
         -c listen_addresses='*' -c unix_socket_directories=/tmp -c jit=off -c shared_buffers=32MB -c max_connections=20"
    );
    let publish = format!("127.0.0.1:{port}:5432");
    let image = Image::Postgres.name();
    let run = ["run", "-d", "--name", NAME, "-p", &publish, "-v", "db:/data", image, "sh", "-c", &script];
    docker.ok(run)?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    wait::until("PostgreSQL to answer", PATIENCE, || Client::connect(address).ok())?;
    Ok(address)
}

/// One of its own programs, run in its container to the end.
pub fn run(docker: &Docker, program: &str, args: &[&str]) -> Result<String> {
    let program = format!("{PROGRAMS}/{program}");
    let head = ["exec", "--user", "daemon", NAME, &program, "-h", "/tmp", "-U", "postgres"];
    Ok(docker.run(head.iter().chain(args)).limit(PATIENCE).ok()?.text())
}

/// A connection.
pub struct Client(TcpStream);

impl Client {
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_nodelay(true)?;
        let mut client = Self(stream);
        let words = b"user\0postgres\0database\0postgres\0\0";
        let length = i32::try_from(words.len() + 8).map_err(io::Error::other)?;
        let head = [length.to_be_bytes(), PROTOCOL.to_be_bytes()].concat();
        client.0.write_all(&[&head, words.as_slice()].concat())?;
        client.answer().map(|_| client)
    }

    /// Sends one or more statements, and answers the rows of all of them.
    pub fn query(&mut self, text: &str) -> io::Result<Vec<Vec<String>>> {
        let length = i32::try_from(text.len() + 5).map_err(io::Error::other)?;
        self.0.write_all(&[b"Q", length.to_be_bytes().as_slice(), text.as_bytes(), b"\0"].concat())?;
        self.answer()
    }

    /// The first field of the first row.
    pub fn one(&mut self, text: &str) -> io::Result<String> {
        let first = self.query(text)?.into_iter().next().and_then(|row| row.into_iter().next());
        first.ok_or_else(|| io::Error::other("no row came back"))
    }

    fn answer(&mut self) -> io::Result<Vec<Vec<String>>> {
        let (mut rows, mut wrong) = (Vec::new(), None);
        loop {
            let mut head = [0; 5];
            self.0.read_exact(&mut head)?;
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            let mut body = vec![0; usize::try_from(length).unwrap_or(4).saturating_sub(4)];
            self.0.read_exact(&mut body)?;
            match head[0] {
                b'D' => rows.push(fields(&body)),
                b'E' => wrong = Some(String::from_utf8_lossy(&body).replace('\0', " ")),
                b'Z' => return wrong.map_or(Ok(rows), |wrong| Err(io::Error::other(wrong))),
                _ => {}
            }
        }
    }
}

/// The fields of a row, null as nothing.
fn fields(body: &[u8]) -> Vec<String> {
    let (mut found, mut rest) = (Vec::new(), body.get(2..).unwrap_or_default());
    while let Some((length, more)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0).min(more.len());
        let (field, after) = more.split_at(length);
        found.push(String::from_utf8_lossy(field).into_owned());
        rest = after;
    }
    found
}

/// What went wrong with it, as an error of a test.
pub fn failed(error: io::Error) -> Error {
    Error::io("speak with", Path::new("PostgreSQL"))(error)
}
