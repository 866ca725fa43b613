//! What anybody may see of the devices on this host.

use rustix::net::netdevice;

use crate::netlink::{Netlink, PROTOCOL};
use crate::protocol::{MOST_DEVICES, device_name};
use crate::{Error, Network, Result};

/// A device and the routes that the program set on it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its routes.
    pub routes: Vec<Network>,
}

/// Every device `dhowN` of this host.
///
/// # Errors
/// When the kernel does not say.
pub fn devices() -> Result<Vec<Device>> {
    let failed = |source| Error::Device { step: "list routes".to_owned(), source };
    let mut netlink = Netlink::open().map_err(failed)?;
    let routes = netlink.routes().map_err(failed)?;
    let device = |number| {
        let name = device_name(number);
        let index = netdevice::name_to_index(&netlink, &name).ok()?;
        let ours = routes.iter().filter(|route| route.index == Some(index) && route.protocol == PROTOCOL);
        Some(Device { name, routes: ours.map(|route| route.network).collect() })
    };
    Ok((0..MOST_DEVICES).filter_map(device).collect())
}
