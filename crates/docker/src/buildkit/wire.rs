//! Moving one HTTP/2 message: its bytes with back-pressure, its trailers, its end, and its reset.

use std::future::poll_fn;

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};

/// A message is larger than it may be.
#[derive(Debug)]
pub(super) enum Unread {
    TooLarge,
    Broken,
}

/// Reads a body to its end.
pub(super) async fn read(body: &mut RecvStream, most: usize) -> Result<Bytes, Unread> {
    let mut all = BytesMut::new();
    while let Some(part) = body.data().await {
        let part = part.map_err(|_| Unread::Broken)?;
        if all.len() + part.len() > most {
            return Err(Unread::TooLarge);
        }
        all.extend_from_slice(&part);
        body.flow_control().release_capacity(part.len()).map_err(|_| Unread::Broken)?;
    }
    Ok(all.freeze())
}

/// Moves a body, its trailers and its end. A reset is passed on.
pub(super) async fn pass(mut from: RecvStream, to: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    loop {
        let part = tokio::select! {
            part = from.data() => part,
            reset = poll_fn(|cx| to.poll_reset(cx)) => return Err(reset?.into()),
        };
        match part {
            Some(Ok(part)) => {
                let length = part.len();
                send(to, part).await?;
                from.flow_control().release_capacity(length)?;
            }
            Some(Err(error)) => return reset(to, error),
            None => break,
        }
    }
    match from.trailers().await {
        Ok(Some(trailers)) => to.send_trailers(trailers),
        Ok(None) => to.send_data(Bytes::new(), true),
        Err(error) => reset(to, error),
    }
}

fn reset(to: &mut SendStream<Bytes>, error: h2::Error) -> Result<(), h2::Error> {
    to.send_reset(error.reason().unwrap_or(Reason::CANCEL));
    Err(error)
}

/// Sends as fast as the other side takes it.
pub(super) async fn send(to: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        to.reserve_capacity(data.len());
        let room = match poll_fn(|cx| to.poll_capacity(cx)).await {
            Some(room) => room?,
            None => return Err(Reason::CANCEL.into()),
        };
        to.send_data(data.split_to(room.min(data.len())), false)?;
    }
    Ok(())
}
