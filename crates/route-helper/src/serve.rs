//! The conversation: one device, its routes, and nothing of either once the socket is closed.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use dhow_model::network;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, netdevice};

use crate::netlink::{Message, Netlink, PROTOCOL, Route};
use crate::protocol::{MOST_DEVICES, Reply, Request, device_name, encode, read_body};
use crate::rules::{self, MOST_ROUTES, Refusal, Taken};
use crate::{Error, Network, Result, sys};

/// How long a request or a reply may take once it has begun.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a packet that leaves the device may make the host do: nothing but take it, if a reply would go back the same way.
/// The device's owner could otherwise have the host pass packets on, or take a default route from a router that it plays.
const SETTINGS: &[(&str, &str, &str)] = &[
    ("ipv4", "forwarding", "0"),
    ("ipv4", "rp_filter", "1"),
    ("ipv4", "accept_redirects", "0"),
    ("ipv6", "accept_ra", "0"),
    ("ipv6", "accept_redirects", "0"),
    ("ipv6", "addr_gen_mode", "1"),
];

/// Answers requests until the other end closes the socket.
///
/// # Errors
/// When the other end does not keep to the protocol. The device is gone in any case.
pub fn serve(mut stream: UnixStream) -> Result<()> {
    let mut host = Host { netlink: Netlink::open().map_err(Error::Conversation)?, device: None };
    stream.set_read_timeout(Some(PATIENCE)).map_err(Error::Conversation)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(Error::Conversation)?;
    while let Some(request) = next(&mut stream).map_err(Error::Conversation)? {
        let (reply, tun) = host.answer(request)?;
        answer(&mut stream, &reply, tun).map_err(Error::Conversation)?;
    }
    Ok(())
}

/// The next request; `None` when the other end is done. Only the wait for its first byte has no limit: the socket's other end
/// is the program's owner.
fn next(stream: &mut UnixStream) -> io::Result<Option<Request>> {
    let mut fds = [PollFd::new(&*stream, PollFlags::IN)];
    while let Err(error) = rustix::event::poll(&mut fds, None) {
        if error != rustix::io::Errno::INTR {
            return Err(error.into());
        }
    }
    let mut length = [0; 4];
    match stream.read(&mut length[..1])? {
        0 => return Ok(None),
        _ => stream.read_exact(&mut length[1..])?,
    }
    read_body(stream, length).map(Some)
}

fn answer(stream: &mut UnixStream, reply: &Reply, tun: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let bytes = encode(reply)?;
    let Some(tun) = tun else { return stream.write_all(&bytes) };
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [tun];
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = rustix::net::sendmsg(&*stream, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    stream.write_all(&bytes[sent..])
}

struct Host {
    netlink: Netlink,
    device: Option<Device>,
}

/// Our device: its index is ours for as long as the descriptor is open.
struct Device {
    tun: OwnedFd,
    name: String,
    index: u32,
    ipv6: bool,
}

impl Drop for Host {
    /// The device goes with its last descriptor; the other end may still have one.
    fn drop(&mut self) {
        if let Some(device) = self.device.take() {
            self.netlink.ask(Message::delete(device.index)).ok();
        }
    }
}

impl Host {
    fn answer(&mut self, request: Request) -> Result<(Reply, Option<BorrowedFd<'_>>)> {
        let nonsense =
            |what: &'static str| Error::Conversation(io::Error::new(io::ErrorKind::InvalidData, what));
        match request {
            Request::Open { number } if number >= MOST_DEVICES => Err(nonsense("no such device")),
            Request::Open { .. } if self.device.is_some() => Err(nonsense("a second device")),
            Request::Open { number } => match self.open(number) {
                Ok(reply) => Ok((reply, self.device.as_ref().map(|device| device.tun.as_fd()))),
                Err(error) => Ok((Reply::Failed { message: error.to_string() }, None)),
            },
            Request::Routes { networks } if networks.len() > MOST_ROUTES => Err(nonsense("too many routes")),
            Request::Routes { networks } => {
                let Some(device) = &self.device else { return Err(nonsense("routes without a device")) };
                let reply = set_routes(&mut self.netlink, device, &networks)
                    .unwrap_or_else(|error| Reply::Failed { message: error.to_string() });
                Ok((reply, None))
            }
        }
    }

    fn open(&mut self, number: u8) -> Result<Reply> {
        let name = device_name(number);
        let step = |what: &str| {
            let step = format!("{what} {name}");
            move |source: io::Error| Error::Device { step, source }
        };
        self.network_is_free()?;
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let tun = rustix::fs::openat(rustix::fs::CWD, "/dev/net/tun", flags, Mode::empty())
            .map_err(|e| step("open /dev/net/tun (where there is udev, its mode is 0666) for")(e.into()))?;
        match sys::make_device(&tun, &name) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => return Ok(Reply::Busy),
            made => made.map_err(step("make"))?,
        }
        let index = netdevice::name_to_index(&self.netlink, &name).map_err(|e| step("find")(e.into()))?;
        settle(&name)?;
        self.netlink.ask(Message::up(index, network::MTU)).map_err(step("switch on"))?;
        let ipv4 = Message::address(index, network::HOST_INTERFACE.into(), network::GUEST.into());
        self.netlink.ask(ipv4).map_err(step("give an address to"))?;
        let ipv6 = Message::address(index, network::HOST_INTERFACE6.into(), network::GUEST6.into());
        let ipv6 = self.netlink.ask(ipv6).is_ok();
        // Whatever failed before this took the device with its only descriptor.
        self.device = Some(Device { tun, name: name.clone(), index, ipv6 });
        Ok(Reply::Opened { device: name, ipv6 })
    }

    /// The machine's own network must not be anywhere else on the host; on another machine's device it is the same.
    fn network_is_free(&mut self) -> Result<()> {
        let routes = self
            .netlink
            .routes()
            .map_err(|source| Error::Device { step: "list routes".to_owned(), source })?;
        let taken = taken(&self.netlink, &routes, None);
        let own = [(network::GATEWAY.into(), network::PREFIX), (network::GATEWAY6.into(), network::PREFIX6)];
        for network in
            own.iter().filter_map(|(address, prefix): &(IpAddr, u8)| Network::around(*address, *prefix))
        {
            let conflict = taken.iter().find(|taken| {
                taken.network.overlaps(&network)
                    && !rules::is_default(&taken.network)
                    && !(0..MOST_DEVICES).any(|number| taken.interface == device_name(number))
            });
            if let Some(Taken { network: theirs, interface }) = conflict {
                return Err(Error::NetworkTaken { network, interface: interface.clone(), theirs: *theirs });
            }
        }
        Ok(())
    }
}

/// Makes the device's routes the wanted ones, as far as they are allowed.
fn set_routes(netlink: &mut Netlink, device: &Device, wanted: &[Network]) -> Result<Reply> {
    settle(&device.name)?;
    let failed = |source| Error::Device { step: "list routes".to_owned(), source };
    let routes = netlink.routes().map_err(failed)?;
    let taken = taken(netlink, &routes, Some(device.index));
    let ours: Vec<Network> = routes
        .iter()
        .filter(|route| route.index == Some(device.index) && route.protocol == PROTOCOL)
        .map(|route| route.network)
        .collect();
    let (mut set, mut refused) = (Vec::new(), Vec::new());
    for network in wanted {
        match rules::allowed(network, &taken) {
            Ok(()) => set.push(*network),
            Err(refusal) => refused.push((*network, refusal)),
        }
    }
    set.sort_unstable();
    set.dedup();
    for network in ours.iter().filter(|network| !set.contains(network)) {
        let source = source(network);
        netlink
            .ask(Message::route(false, device.index, network, source))
            .map_err(|source| Error::Device { step: format!("remove the route to {network}"), source })?;
    }
    set.retain(|network| {
        if ours.contains(network) {
            return true;
        }
        let added = if device.ipv6 || network.address().is_ipv4() {
            netlink.ask(Message::route(true, device.index, network, source(network)))
        } else {
            Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
        };
        let kernel = |error: io::Error| (*network, Refusal::Kernel { error: error.to_string() });
        added.map_err(|error| refused.push(kernel(error))).is_ok()
    });
    Ok(Reply::Routed { set, refused })
}

/// What the host reaches by itself: everything that does not go through the device `ours`.
fn taken(netlink: &Netlink, routes: &[Route], ours: Option<u32>) -> Vec<Taken> {
    let name = |index: Option<u32>| match index {
        Some(index) => {
            netdevice::index_to_name(netlink, index).unwrap_or_else(|_| format!("interface {index}"))
        }
        None => "a route without one interface".to_owned(),
    };
    routes
        .iter()
        .filter(|route| route.index.is_none() || route.index != ours)
        .map(|route| Taken { network: route.network, interface: name(route.index) })
        .collect()
}

fn source(network: &Network) -> IpAddr {
    if network.address().is_ipv4() { network::HOST_INTERFACE.into() } else { network::HOST_INTERFACE6.into() }
}

/// Makes a device's settings ours, and again with each request: udev's rule for new devices writes the host's own after us,
/// and Docker on the host sets every device's when it starts.
fn settle(device: &str) -> Result<()> {
    SETTINGS.iter().try_for_each(|(family, setting, value)| set(family, device, setting, value))
}

/// Sets one of a device's settings. Where the host has no IPv6 there is nothing to set.
fn set(family: &str, device: &str, setting: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{family}/conf/{device}/{setting}");
    match std::fs::File::options()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(value.as_bytes()))
    {
        Err(error) if error.kind() == io::ErrorKind::NotFound && family == "ipv6" => Ok(()),
        done => done.map_err(|source| Error::Device { step: format!("write {value} to {path}"), source }),
    }
}
