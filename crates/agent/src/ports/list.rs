//! dockerd's list of its containers.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::reconcile::{self, List};

/// For dockerd to answer.
const LIMIT: Duration = Duration::from_secs(20);
/// The largest list that is read, bytes: some ten thousand containers.
const LARGEST: u64 = 16 << 20;

/// Which containers there are and what those that run publish, as the dockerd at `socket` tells it.
///
/// # Errors
/// When it does not answer in time, or not with a whole list.
pub async fn containers(socket: &str) -> io::Result<List> {
    let answer =
        timeout(LIMIT, ask(socket)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = answer.split_at(end.map_or(answer.len(), |end| end + 4));
    if !head.starts_with(b"HTTP/1.0 200") {
        let first = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        return Err(io::Error::other(String::from_utf8_lossy(first).into_owned()));
    }
    Ok(reconcile::parse(body)?)
}

async fn ask(socket: &str) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).await?;
    // The older protocol, so that the answer is not in chunks and ends with the connection.
    stream.write_all(b"GET /containers/json?all=1 HTTP/1.0\r\nHost: docker\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.take(LARGEST).read_to_end(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    /// Half an answer, or another one, is no list: nothing is released because of it.
    #[tokio::test]
    async fn only_a_whole_list_counts() {
        let whole = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n[]";
        let table = [
            (whole, Some(0)),
            ("HTTP/1.0 200 OK\r\n\r\n", None),
            ("HTTP/1.0 200 OK\r\n\r\n[{", None),
            ("HTTP/1.0 500 Internal Server Error\r\n\r\n[]", None),
            ("", None),
        ];
        for (answer, expected) in table {
            let directory = tempfile::tempdir().unwrap();
            let socket = directory.path().join("docker.sock");
            let listener = UnixListener::bind(&socket).unwrap();
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
            let listed = containers(socket.to_str().unwrap()).await;
            assert_eq!(listed.ok().map(|listed| listed.published.len()), expected, "{answer:?}");
            server.await.unwrap();
        }
    }
}
