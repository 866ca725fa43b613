//! What goes over the socket: a length (32 bits, big-endian), then a JSON document. Each request has one reply. Whatever
//! is longer than [`LIMIT`], is no request, or comes at the wrong time ends the conversation without one.

use std::io::{self, Read};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Network;
use crate::rules::Refusal;

/// The longest document, bytes: room for [`crate::rules::MOST_ROUTES`] refusals.
pub const LIMIT: usize = 64 << 10;
/// There are devices `dhow0` to `dhow9`.
pub const MOST_DEVICES: u8 = 10;

/// What can be asked. There is nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Make the device `dhowN`; once. The reply carries its descriptor.
    Open {
        /// N, below [`MOST_DEVICES`].
        number: u8,
    },
    /// Set exactly these routes on the device.
    Routes {
        /// The networks, at most [`crate::rules::MOST_ROUTES`].
        networks: Vec<Network>,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Reply {
    /// The device is there and up.
    Opened {
        /// Its name.
        device: String,
        /// Whether it has an IPv6 address; a host may have IPv6 switched off.
        ipv6: bool,
    },
    /// The device of that number is somebody else's.
    Busy,
    /// The device's routes are these now.
    Routed {
        /// Set.
        set: Vec<Network>,
        /// Not set, and why.
        refused: Vec<(Network, Refusal)>,
    },
    /// It did not work.
    Failed {
        /// What, on what, and why.
        message: String,
    },
}

/// A device's name.
#[must_use]
pub fn device_name(number: u8) -> String {
    format!("dhow{number}")
}

/// A message as it goes over the socket.
///
/// # Errors
/// When it would be longer than [`LIMIT`].
pub fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - 4;
    if length > LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("a message of {length} bytes")));
    }
    bytes[..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    Ok(bytes)
}

/// Reads what follows a message's length.
///
/// # Errors
/// When it is too long, too short, or no message.
pub fn read_body<T: DeserializeOwned>(from: &mut impl Read, length: [u8; 4]) -> io::Result<T> {
    let length = u32::from_be_bytes(length) as usize;
    if length > LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes")));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    serde_json::from_slice(&body).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8]) -> io::Result<Request> {
        let length = bytes.first_chunk().copied().ok_or(io::ErrorKind::UnexpectedEof)?;
        read_body(&mut &bytes[4..], length)
    }

    #[test]
    fn requests_go_over_the_socket_unchanged() {
        let networks = vec!["10.1.0.0/16".parse().unwrap(), "fd00:1::/64".parse().unwrap()];
        for request in [Request::Open { number: 9 }, Request::Routes { networks }] {
            assert_eq!(decode(&encode(&request).unwrap()).unwrap(), request);
        }
    }

    #[test]
    fn what_is_no_request_is_an_error() {
        let framed =
            |text: &str| [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
        for text in [
            "",
            "{}",
            "null",
            r#""open""#,
            r#"{"open":{}}"#,
            r#"{"open":{"number":256}}"#,
            r#"{"open":{"number":0,"mtu":9}}"#,
            r#"{"routes":{"networks":["10.0.0.1/8"]}}"#,
            r#"{"exec":{"program":"/bin/sh"}}"#,
        ] {
            assert!(decode(&framed(text)).is_err(), "{text}");
        }
        assert!(decode(&[0xff; 8]).is_err() && decode(&[0, 0, 0, 9, b'{']).is_err() && decode(&[0]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            decode(&bytes).ok();
        }
    }
}
