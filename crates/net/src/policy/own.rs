//! Whether an address is one of the host's own. A service that the host offers on all of its addresses is behind the host's
//! firewall for the world, and not for what the host itself connects to: a guest must not become that.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// How long an answer is taken for true: interfaces come and go.
const FRESH: Duration = Duration::from_secs(10);
/// Answers that are kept.
const LIMIT: usize = 1024;

/// What was found out lately.
#[derive(Debug)]
pub(super) struct Own {
    ask: fn(IpAddr) -> bool,
    known: HashMap<IpAddr, (bool, Instant)>,
}

impl Default for Own {
    fn default() -> Self {
        Self::new(is_own)
    }
}

impl Own {
    /// `ask`: how an answer is found.
    pub(super) fn new(ask: fn(IpAddr) -> bool) -> Self {
        Self { ask, known: HashMap::new() }
    }

    /// Whether `address` is the host's now.
    pub(super) fn is(&mut self, address: IpAddr, now: Instant) -> bool {
        let fresh = |since: &Instant| now.saturating_duration_since(*since) < FRESH;
        match self.known.get(&address) {
            Some((own, since)) if fresh(since) => return *own,
            _ => {}
        }
        if self.known.len() >= LIMIT {
            self.known.retain(|_, (_, since)| fresh(since));
        }
        if self.known.len() >= LIMIT {
            self.known.clear();
        }
        let own = (self.ask)(address);
        self.known.insert(address, (own, now));
        own
    }
}

/// Asks the kernel from where it would send: to an address of its own, from that address. Nothing is sent.
fn is_own(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Without a socket nothing can be told, and nothing can be dialled either.
    let Ok(socket) = UdpSocket::bind(SocketAddr::new(any, 0)) else { return true };
    let source = socket.connect(SocketAddr::new(address, 9)).and_then(|()| socket.local_addr());
    // No way there: not the host.
    source.is_ok_and(|source| source.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issue 3: "loopback and private ranges through every spelling"; an address of the host's interface is one more.
    #[test]
    fn the_host_s_own_addresses_are_known() {
        let (mut own, now) = (Own::default(), Instant::now());
        assert!(own.is(Ipv4Addr::LOCALHOST.into(), now));
        assert!(!own.is(Ipv4Addr::BROADCAST.into(), now));
        // No interface has a multicast address.
        assert!(!own.is(Ipv4Addr::new(224, 0, 0, 251).into(), now));
    }

    #[test]
    fn an_answer_is_believed_for_ten_seconds() {
        let (mut own, now) = (Own::new(|_| true), Instant::now());
        assert!(own.is(Ipv4Addr::BROADCAST.into(), now));
        own.ask = |_| false;
        assert!(own.is(Ipv4Addr::BROADCAST.into(), now + FRESH - Duration::from_millis(1)));
        assert!(!own.is(Ipv4Addr::BROADCAST.into(), now + FRESH));
    }

    #[test]
    fn what_is_known_is_bounded() {
        let (mut own, now) = (Own::new(|_| false), Instant::now());
        for number in 0..3000_u32 {
            own.is(Ipv4Addr::from(0xc000_0200 + number).into(), now);
            assert!(own.known.len() <= LIMIT);
        }
    }
}
