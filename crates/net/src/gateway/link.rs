//! The hypervisor's end: one stream on which each Ethernet frame follows its length, 32 bits in the network's order.
//! As many frames as there are go through one read and one write.

use std::io;
use std::rc::Rc;

use tokio::net::UnixStream;

use super::outbound::{ETHERNET, FRAME, Outbound, PREFIX, Taken};
use super::station::Station;

/// Bytes that one read may bring: several frames of full size.
const READ: usize = 512 << 10;

/// Why a link ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The hypervisor closed it.
    Closed,
    /// A frame's length that cannot be.
    Framing(u32),
    /// The socket failed.
    Failed(io::ErrorKind),
}

/// Carries frames both ways until the link ends, those in `taken` first.
pub(super) async fn run(stream: UnixStream, station: &Rc<Station>, taken: &mut Taken) -> Ended {
    let outbound = station.outbound();
    outbound.set_linked(true);
    let ended = tokio::select! {
        ended = read(&stream, station) => ended,
        ended = write(&stream, outbound, taken) => ended,
    };
    outbound.set_linked(false);
    ended
}

async fn read(stream: &UnixStream, station: &Rc<Station>) -> Ended {
    let mut buffer = vec![0; READ].into_boxed_slice();
    let mut filled = 0;
    loop {
        match fill(stream, &mut buffer[filled..]).await {
            Ok(0) => return Ended::Closed,
            Ok(count) => filled += count,
            Err(error) => return Ended::Failed(error.kind()),
        }
        let rest = match frames(&buffer[..filled], |frame| station.frame(frame)) {
            Ok(rest) => rest.len(),
            Err(length) => return Ended::Framing(length),
        };
        // What is left is the beginning of one frame, so that there is always room for its end.
        buffer.copy_within(filled - rest..filled, 0);
        filled = rest;
        // The flows' turn.
        tokio::task::yield_now().await;
    }
}

/// Hands each whole frame on and answers what is left, or the length that cannot be one's.
fn frames(mut bytes: &[u8], mut take: impl FnMut(&[u8])) -> Result<&[u8], u32> {
    while let Some((prefix, after)) = bytes.split_first_chunk::<PREFIX>() {
        let length = u32::from_be_bytes(*prefix);
        if !(ETHERNET as u32..=FRAME as u32).contains(&length) {
            return Err(length);
        }
        let Some((frame, after)) = after.split_at_checked(length as usize) else { break };
        take(frame);
        bytes = after;
    }
    Ok(bytes)
}

async fn fill(stream: &UnixStream, room: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.try_read(room) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.readable().await?,
            result => return result,
        }
    }
}

async fn write(stream: &UnixStream, outbound: &Outbound, taken: &mut Taken) -> Ended {
    // Of the first frame that waits.
    let mut written = 0;
    loop {
        outbound.take(taken).await;
        match stream.try_write(&taken.rest()[written..]) {
            Ok(count) => {
                written += count;
                written -= taken.pass(written);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Err(error) = stream.writable().await {
                    return Ended::Failed(error.kind());
                }
            }
            Err(error) => return Ended::Failed(error.kind()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(frames: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend_from_slice(&u32::try_from(frame.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(frame);
        }
        bytes
    }

    #[test]
    fn whole_frames_are_taken_and_the_rest_waits() {
        let bytes = framed(&[&[1; 14], &[2; 60], &[3; 20]]);
        let mut taken = Vec::new();
        let rest = frames(&bytes[..bytes.len() - 1], |frame| taken.push(frame.to_vec())).unwrap();
        assert_eq!(taken, [vec![1; 14], vec![2; 60]]);
        assert_eq!(rest.len(), PREFIX + 19);
    }

    /// Issue 3: "sends garbage".
    #[test]
    fn impossible_lengths_are_told() {
        for length in [0, 13, u32::try_from(FRAME).unwrap() + 1, u32::MAX] {
            assert_eq!(frames(&length.to_be_bytes(), |_| panic!("no frame")), Err(length));
        }
    }

    proptest::proptest! {
        #[test]
        fn cutting_the_stream_anywhere_changes_nothing(sizes in proptest::collection::vec(14usize..200, 1..20), cut: proptest::sample::Index) {
            let all: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(index, size)| vec![index as u8; *size]).collect();
            let bytes = framed(&all.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let cut = cut.index(bytes.len());
            let mut taken = Vec::new();
            let rest = frames(&bytes[..cut], |frame| taken.push(frame.to_vec())).unwrap();
            let second = [rest, &bytes[cut..]].concat();
            let left = frames(&second, |frame| taken.push(frame.to_vec())).unwrap();
            proptest::prop_assert!(left.is_empty());
            proptest::prop_assert_eq!(taken, all);
        }
    }
}
