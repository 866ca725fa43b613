//! What may leave a machine (spec 12.4): rules that are read in order, the first that matches decides, and a default.
//!
//! A rule is an action and up to six conditions: direction, addresses, ports, protocol, names, and what a connection must
//! show to count as one to a name. Everything here is plain data and its text form, in the configuration and in a
//! sandbox's card; `dhow_net::policy` decides.
//!
//! ```toml
//! [network]
//! egress-default = "deny"
//!
//! [[network.egress]]
//! action = "allow"
//! name = ["*.example.com", "example.com"]
//! ports = "443,8000-8010"
//! protocol = "tcp"
//! ```

mod address;
mod error;
mod name;
mod ports;
mod read;
mod rule;
#[cfg(test)]
mod tests;

pub use address::{Addresses, Group, Range};
pub use error::EgressError;
pub use name::{Name, Pattern};
pub use ports::{PortRange, Ports};
pub use rule::{Action, Check, Direction, Policy, Protocol, Rule, Rules};
