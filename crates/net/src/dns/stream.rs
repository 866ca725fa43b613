//! DNS over any stream (RFC 7766): messages follow their length, several questions may be under way at once, and each answer
//! goes as soon as it is there.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::server::{Dns, From, Over};

/// How long a stream may be without a question, or a question or an answer be under way on it.
const IDLE: Duration = Duration::from_secs(10);
/// The most questions of one stream under way; further ones wait in it.
const UNDER_WAY: usize = 16;

impl Dns {
    /// Answers the questions of one stream until its end, 10 s without one, or an error. A side that only closed its sending
    /// half still gets its answers. Dropping the future is fine.
    pub async fn serve_stream(self: Arc<Self>, io: impl AsyncRead + AsyncWrite + Unpin, from: From) {
        let (mut reader, mut writer) = tokio::io::split(io);
        let mut answers = FuturesUnordered::new();
        let mut reading = Box::pin(question(&mut reader));
        let mut open = true;
        while open || !answers.is_empty() {
            tokio::select! {
                query = &mut reading, if open && answers.len() < UNDER_WAY => match query {
                    Some((query, reader)) => {
                        let dns = Arc::clone(&self);
                        answers.push(async move { dns.answer(&query, from, Over::Tcp).await });
                        reading = Box::pin(question(reader));
                    }
                    None => open = false,
                },
                Some(answer) = answers.next() => {
                    if let Some(answer) = answer
                        && !matches!(timeout(IDLE, send(&mut writer, &answer)).await, Ok(Ok(())))
                    {
                        return;
                    }
                }
            }
        }
        // The other side may be gone already, which is as good.
        timeout(IDLE, writer.shutdown()).await.ok();
    }
}

/// The next question; `None` at the stream's end, when it is broken, or when none comes.
async fn question<R: AsyncRead + Unpin>(reader: &mut R) -> Option<(Vec<u8>, &mut R)> {
    let read = async {
        let length = reader.read_u16().await.ok()?;
        let mut query = vec![0; usize::from(length)];
        reader.read_exact(&mut query).await.ok()?;
        Some(query)
    };
    let query = timeout(IDLE, read).await.ok().flatten()?;
    Some((query, reader))
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), answer: &[u8]) -> std::io::Result<()> {
    let mut framed = u16::try_from(answer.len()).unwrap_or(0).to_be_bytes().to_vec();
    framed.extend(answer);
    writer.write_all(&framed).await?;
    writer.flush().await
}
