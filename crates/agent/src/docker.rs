//! dockerd's socket as the agent uses it: is it answering, and the copy of a host's stream to it.

use std::time::Duration;

use dhow_channel::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout_at};

/// Where dockerd listens.
pub const SOCKET: &str = "/run/docker.sock";
/// How long a request of the host's waits for a dockerd that starts.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Between two looks for a socket that is not there yet.
const LOOK: Duration = Duration::from_millis(10);

/// Asks dockerd's `/_ping`. A dockerd that is starting accepts and answers late, so the limit is the caller's.
pub async fn answers(limit: Duration) -> bool {
    ping(SOCKET, Instant::now() + limit).await.unwrap_or(false)
}

async fn ping(socket: &str, deadline: Instant) -> std::io::Result<bool> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n").await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        Ok(&head == b"HTTP/1.1 200")
    };
    timeout_at(deadline, exchange).await.unwrap_or(Ok(false))
}

/// Sends a small request and answers the body's text; for the agent's own questions at shutdown.
pub async fn get(path: &str, limit: Duration) -> std::io::Result<String> {
    /// Far above what the agent asks for.
    const ANSWER: u64 = 16 << 20;
    let exchange = async {
        let mut stream = UnixStream::connect(SOCKET).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.take(ANSWER).read_to_string(&mut answer).await?;
        Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    };
    tokio::time::timeout(limit, exchange).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

/// Carries a stream of the host's to dockerd and back; the end of one direction is passed on and leaves the other open.
pub async fn carry(stream: Stream) -> std::io::Result<()> {
    let docker = connect(SOCKET, START_LIMIT).await?;
    dhow_channel::splice(docker, stream).await
}

/// Connects as soon as somebody listens: a request that comes before dockerd waits instead of failing.
async fn connect(socket: &str, limit: Duration) -> std::io::Result<UnixStream> {
    let deadline = Instant::now() + limit;
    loop {
        match UnixStream::connect(socket).await {
            Err(error) if starting(&error) && Instant::now() < deadline => sleep(LOOK).await,
            outcome => return outcome,
        }
    }
}

/// No socket yet, or one that a dead dockerd left, or more requests at once than fit its queue.
fn starting(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound, WouldBlock};
    matches!(error.kind(), NotFound | ConnectionRefused | WouldBlock)
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    /// Spec 3.9: a client sees latency, never an error.
    #[tokio::test]
    async fn a_stream_that_comes_before_the_socket_waits_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let path = socket.to_str().unwrap().to_owned();
        let waiting = tokio::spawn(async move { connect(&path, Duration::from_secs(20)).await.is_ok() });
        sleep(Duration::from_millis(30)).await;
        let listener = UnixListener::bind(&socket).unwrap();
        assert!(listener.accept().await.is_ok());
        assert!(waiting.await.unwrap());
    }

    /// Spec 16.2.
    #[tokio::test]
    async fn the_wait_for_a_socket_has_a_limit() {
        let outcome = connect("/no/such/socket", Duration::from_millis(30)).await;
        assert_eq!(outcome.unwrap_err().kind(), std::io::ErrorKind::NotFound);
        assert!(!ping("/no/such/socket", Instant::now() + Duration::from_millis(30)).await.unwrap_or(false));
    }

    #[tokio::test]
    async fn only_an_ok_counts_as_an_answer() {
        for (answer, expected) in
            [("HTTP/1.1 200 OK\r\n\r\nOK", true), ("HTTP/1.1 503 No\r\n\r\n", false), ("", false)]
        {
            let directory = tempfile::tempdir().unwrap();
            let socket = directory.path().join("docker.sock");
            let listener = UnixListener::bind(&socket).unwrap();
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let count = stream.read(&mut request).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
                count
            });
            let deadline = Instant::now() + Duration::from_secs(20);
            let seen = ping(socket.to_str().unwrap(), deadline).await.unwrap_or(false);
            assert_eq!(seen, expected, "{answer:?}");
            assert!(server.await.unwrap() > 0);
        }
    }
}
