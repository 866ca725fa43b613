//! From a container's name or short ID to its canonical ID, by asking the engine (spec 3.4).

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::buffer::Buffer;
use crate::error::Broken;
use crate::head::{self, MAX_HEAD};
use crate::pool::{Connection, Pool};
use crate::trace::{self, TraceId};

/// Longest wait for the answer; a lifecycle call is forwarded without an ID after that.
const LIMIT: Duration = Duration::from_secs(10);
/// Largest description of a container that is read.
const MAX_CONTENT: usize = 8 << 20;

/// Dockerd's answers that name a container: `inspect` and `create` both have it.
#[derive(serde::Deserialize)]
struct Named {
    #[serde(rename = "Id")]
    id: String,
}

/// The ID in dockerd's JSON.
pub(crate) fn id_in(content: &[u8]) -> Option<String> {
    serde_json::from_slice::<Named>(content).ok().map(|named| named.id).filter(|id| !id.is_empty())
}

/// Asks for the canonical ID. `None` if the engine knows no such container, or does not say: the call itself is
/// forwarded all the same, and dockerd's answer to it is what the client sees.
pub(crate) async fn canonical_id(pool: &Pool, reference: &str, trace: &TraceId) -> Option<String> {
    match timeout(LIMIT, inspect(pool, reference, trace)).await {
        Ok(Ok(content)) => id_in(&content?),
        Ok(Err(why)) => {
            tracing::debug!(%trace, reference, %why, "the container's ID was not resolved");
            None
        }
        Err(_) => {
            tracing::warn!(%trace, reference, "the engine did not say within 10 s which container this is");
            None
        }
    }
}

async fn inspect(pool: &Pool, reference: &str, trace: &TraceId) -> Result<Option<Vec<u8>>, Broken> {
    let request = format!(
        "GET /containers/{reference}/json HTTP/1.1\r\nHost: docker\r\nUser-Agent: dhow\r\n{}: {trace}\r\n\r\n",
        trace::HEADER
    );
    let connection = pool.take().await.map_err(|_| Broken::NoAnswer)?;
    let reused = connection.reused;
    match ask(pool, connection, &request, trace).await {
        Err(Broken::NoAnswer) if reused => {
            let connection = pool.dial().await.map_err(|_| Broken::NoAnswer)?;
            ask(pool, connection, &request, trace).await
        }
        other => other,
    }
}

async fn ask(
    pool: &Pool,
    mut connection: Connection,
    request: &str,
    trace: &TraceId,
) -> Result<Option<Vec<u8>>, Broken> {
    let stream = &mut connection.stream;
    stream.write_all(request.as_bytes()).await.map_err(|_| Broken::NoAnswer)?;
    stream.flush().await.map_err(|_| Broken::NoAnswer)?;
    let mut buffer = Buffer::default();
    let answer = loop {
        if let Some(answer) = head::answer(buffer.filled(), false, trace)? {
            break answer;
        }
        let read = std::future::poll_fn(|cx| buffer.poll_fill(cx, stream, MAX_HEAD)).await;
        if !matches!(read, Ok(n) if n > 0) {
            return Err(Broken::NoAnswer);
        }
    };
    buffer.consume(answer.len);
    let (mut body, mut content) = (answer.body, Vec::new());
    while !body.is_done() {
        let n = body
            .scan(buffer.filled(), |data| content.extend_from_slice(data))
            .map_err(|_| Broken::BadAnswer("bad chunk"))?;
        buffer.consume(n);
        if body.is_done() || content.len() > MAX_CONTENT {
            break;
        }
        let read = std::future::poll_fn(|cx| buffer.poll_fill(cx, stream, Buffer::STREAM)).await;
        if !matches!(read, Ok(n) if n > 0) {
            return Err(Broken::Truncated);
        }
    }
    if answer.keep_alive && body.is_done() && buffer.is_empty() {
        pool.put(connection);
    }
    Ok((answer.status == 200).then_some(content))
}
