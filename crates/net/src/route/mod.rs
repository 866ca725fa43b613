//! Containers' own addresses, reached from the host through a TUN device (issue 3, point 5; Linux only, opt-in).
//!
//! ```text
//!  the host's kernel ── dhow0 ──[ filter ]── gateway ── guest ── container
//!                         ▲
//!     keeper ── dhow-route-helper (CAP_NET_ADMIN): makes the device, sets its routes
//! ```
//!
//! The way is one-way: the host opens connections to containers, never the reverse. `filter` is the pure rule for it,
//! `device` moves packets, `keeper` keeps a device for as long as the machine's supervisor wants one. The egress policy has
//! no say here: it is the host that asks, and what the guest sends are its answers.

#[cfg(target_os = "linux")]
mod device;
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "no device, no packets"))]
mod filter;
#[cfg(target_os = "linux")]
mod keeper;
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "no device, no packets"))]
mod metrics;
#[cfg(not(target_os = "linux"))]
mod unsupported;

pub use dhow_route_helper::Network;
pub use filter::Reason;
pub use metrics::{Metrics, Status};

#[cfg(target_os = "linux")]
pub use device::Device;
#[cfg(target_os = "linux")]
pub use dhow_route_helper::install::Place;
#[cfg(target_os = "linux")]
pub use keeper::{Carrier, Route};
#[cfg(not(target_os = "linux"))]
pub use unsupported::{Carrier, Device, Place, Route};
