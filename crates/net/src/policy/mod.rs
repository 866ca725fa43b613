//! What may leave a machine (spec 12.4).
//!
//! ```text
//!  a name is asked for ──► resolve ──► Deny: answered with REFUSED, nobody is asked
//!                             │
//!  upstream answers    ──► admit: addresses that a stranger must not name are left out (rebinding) ──► pin
//!                             │
//!  SYN, datagram, echo ──► decide ──► Allow · Deny
//!                             └──► Inspect: the host is dialled, nothing of the guest's goes out;
//!                                  first bytes ──► feed ──► NeedMore · Allow · Deny
//! ```
//!
//! A rule with a name counts for an address only while our DNS answered the name with it, and, unless the rule says
//! `check = "address"`, for a connection that says the name itself. What cannot be checked is refused and not let through:
//!
//! - **TLS**: the SNI. With Encrypted Client Hello that is the outer name, which is judged as it stands; a real one cannot be
//!   told from the random one that browsers always send.
//! - **HTTP/1**: every name in the first request's head must agree (target and Host). Later requests on the connection are
//!   not read: they reach the same server.
//! - **HTTP/2 without TLS**, TLS without SNI, HTTP without Host, other protocols: no name. No rule with a name allows them,
//!   except with `check = "address"`. Where a rule denies a name, they pass on ports that are not for the web, since they
//!   say nothing that could be denied, and are refused on [`WEB_PORTS`], where every honest program says a name.
//! - **UDP**: as TCP without a name; QUIC on a web port is refused where a rule with a name counts, and programs go on by TCP.
//! - **ICMP**: by address; rules with a name count with `check = "address"`.
//!
//! What a rule that denies a name cannot do: stop a program that knows the address by heart and says no name. Only a
//! default of `deny` can.

mod compiled;
mod denial;
mod egress;
mod gate;
mod inspect;
mod limiter;
mod own;
mod pins;
mod sniff;
mod spelling;
#[cfg(test)]
mod tests;

pub use compiled::WEB_PORTS;
pub use denial::{Attempt, Cause, Denial};
pub use egress::{Admitted, Egress, Protocol, Verdict};
pub use inspect::{Inspection, Sniffed};
pub use limiter::{Limiter, Line};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use sniff::fuzz as fuzz_sniff;
