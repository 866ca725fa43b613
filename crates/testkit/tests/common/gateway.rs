//! What the tests of the machine's network share: its metrics, and data that both ends can tell apart.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use dhow_testkit::{Engine, Error, Result, process, wait};
use sha2::{Digest, Sha256};

/// The address that stands for the host's loopback, by IPv4.
pub const HOST: &str = "198.19.68.254";
/// The same by IPv6.
pub const HOST6: &str = "fd64:686f:7700::fe";
/// The gateway itself.
pub const GATEWAY: &str = "198.19.68.1";
/// The same by IPv6.
pub const GATEWAY6: &str = "fd64:686f:7700::1";

/// Whether the long form of tests is asked for, as in a nightly run.
pub fn nightly() -> bool {
    std::env::var_os("DHOW_TEST_NIGHTLY").is_some()
}

/// The supervisor's process ID.
pub fn supervisor(engine: &Engine) -> Result<u32> {
    let found = engine.status()?.supervisor();
    found.ok_or_else(|| Error::Missing {
        what: "the supervisor's process ID".into(),
        hint: "dhow status".into(),
    })
}

/// TCP flows that are open now, or half open.
pub fn tcp_flows(engine: &Engine) -> Result<u64> {
    let status = engine.status()?;
    let network = &status.machine()["network"];
    match (network["tcp_flows"].as_u64(), network["half_open"].as_u64()) {
        (Some(flows), Some(half_open)) => Ok(flows + half_open),
        _ => Err(Error::Unexpected {
            what: "the network in `dhow status --json`".into(),
            said: network.to_string(),
        }),
    }
}

/// Waits until there are no more TCP flows than `before`.
pub fn wait_flows(engine: &Engine, before: u64, limit: Duration) -> Result<()> {
    let mut last = String::new();
    let settled = wait::until("the flows to end", limit, || {
        let flows = tcp_flows(engine);
        last = format!("{flows:?}, {before} before");
        flows.ok().filter(|flows| *flows <= before).map(drop)
    });
    settled.map_err(|error| Error::Unexpected { what: error.to_string(), said: last })
}

/// What the supervisor holds: resident bytes, descriptors.
pub fn held(pid: u32) -> (u64, usize) {
    (process::resident(pid), process::descriptors(pid).len())
}

/// Sends `length` bytes that no compression shortens, then ends the stream; their digest.
pub fn send_noise(stream: &mut TcpStream, length: usize) -> io::Result<String> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut piece = vec![0; 64 * 1024];
    let mut digest = Sha256::new();
    let mut left = length;
    while left > 0 {
        for word in piece.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        let now = left.min(piece.len());
        digest.update(&piece[..now]);
        stream.write_all(&piece[..now])?;
        left -= now;
    }
    stream.shutdown(Shutdown::Write)?;
    Ok(hex(&digest.finalize()))
}

/// Reads to the end: how much it was, and its digest.
pub fn take_noise(stream: &mut TcpStream) -> io::Result<(usize, String)> {
    let mut piece = vec![0; 256 * 1024];
    let mut digest = Sha256::new();
    let mut total = 0;
    loop {
        match stream.read(&mut piece)? {
            0 => return Ok((total, hex(&digest.finalize()))),
            length => {
                total += length;
                digest.update(&piece[..length]);
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
