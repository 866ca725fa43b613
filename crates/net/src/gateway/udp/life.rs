//! How long a UDP flow lives without a datagram: pure, with the time as a parameter.

use std::time::Duration;

use tokio::time::Instant;

/// After a question and its answer, or a datagram that nobody answered.
const EXCHANGE: Duration = Duration::from_secs(30);
/// After a longer conversation: no less than two minutes (RFC 4787, REQ-5).
const STREAM: Duration = Duration::from_secs(180);
/// After a question to a DNS server only.
const DNS: Duration = Duration::from_secs(10);
/// A conversation that may be given up for a new one, when there is no room for both.
const IDLE: Duration = Duration::from_secs(30);

/// What a flow has carried, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    datagrams: u32,
    last: Instant,
    dns: bool,
}

impl Life {
    /// A flow that begins now and has not carried anything.
    pub(super) fn new(now: Instant) -> Life {
        Life { datagrams: 0, last: now, dns: true }
    }

    /// A datagram went out, to a port.
    pub(super) fn sent(&mut self, port: u16, now: Instant) {
        self.dns &= port == 53;
        self.received(now);
    }

    /// A datagram came back.
    pub(super) fn received(&mut self, now: Instant) {
        self.datagrams = self.datagrams.saturating_add(1);
        self.last = now;
    }

    /// When it ends, if nothing more comes.
    pub(super) fn end(&self) -> Instant {
        let wait = match self {
            Life { dns: true, .. } => DNS,
            Life { datagrams: ..=2, .. } => EXCHANGE,
            _ => STREAM,
        };
        self.last + wait
    }

    /// Which of several flows is given up first, for one that has no room: those of one exchange before conversations, the
    /// longest silent first. `None`: a conversation that goes on is not given up.
    pub(super) fn expendable(&self, now: Instant) -> Option<(bool, Instant)> {
        let conversation = self.datagrams > 2;
        (!conversation || now >= self.last + IDLE).then_some((conversation, self.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: u64, start: Instant) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn an_exchange_lives_half_a_minute_and_a_conversation_three() {
        let start = Instant::now();
        let mut life = Life::new(start);
        life.sent(123, start);
        assert_eq!(life.end(), after(30, start));
        life.received(after(1, start));
        assert_eq!(life.end(), after(31, start));
        life.sent(123, after(2, start));
        assert_eq!(life.end(), after(182, start));
    }

    #[test]
    fn questions_to_dns_servers_live_ten_seconds_whatever_their_number() {
        let start = Instant::now();
        let mut life = Life::new(start);
        for _ in 0..9 {
            life.sent(53, start);
        }
        assert_eq!(life.end(), after(10, start));
        life.sent(443, start);
        assert_eq!(life.end(), after(180, start));
    }

    #[test]
    fn exchanges_are_given_up_before_silent_conversations_and_live_ones_never() {
        let start = Instant::now();
        let mut exchange = Life::new(start);
        exchange.sent(9, after(29, start));
        let mut conversation = Life::new(start);
        (0..3).for_each(|_| conversation.sent(9, start));
        assert_eq!(conversation.expendable(after(29, start)), None);
        let order = (exchange.expendable(after(30, start)), conversation.expendable(after(30, start)));
        assert!(order.0.is_some() && order.0 < order.1);
    }
}
