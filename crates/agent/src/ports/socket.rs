//! Takes a published address inside the guest, and words it as Docker's own proxy does when that fails.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use dhow_model::port::{Binding, Protocol};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

/// As many as the kernel lets wait: it cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A socket on the binding's host address; one for connections listens. The address may be one that only the host has.
///
/// # Errors
/// As Docker says it: `listen tcp4 0.0.0.0:80: bind: address already in use`.
pub fn take(binding: &Binding) -> Result<OwnedFd, String> {
    open(binding).map_err(|(call, error)| {
        format!("listen {} {}: {call}: {}", binding.network(), binding.host, words(error))
    })
}

fn open(binding: &Binding) -> Result<OwnedFd, (&'static str, Errno)> {
    let at = |call| move |error| (call, error);
    let family = match binding.host {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let kind = match binding.protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, kind, flags, None).map_err(at("socket"))?;
    if family == AddressFamily::INET6 {
        sockopt::set_ipv6_v6only(&socket, true).map_err(at("setsockopt"))?;
        sockopt::set_ipv6_freebind(&socket, true).map_err(at("setsockopt"))?;
    } else {
        sockopt::set_ip_freebind(&socket, true).map_err(at("setsockopt"))?;
    }
    if kind == SocketType::STREAM {
        // Connections that ended a moment ago do not keep the address; a listener does.
        sockopt::set_socket_reuseaddr(&socket, true).map_err(at("setsockopt"))?;
    }
    bind(&socket, &binding.host).map_err(at("bind"))?;
    if kind == SocketType::STREAM {
        listen(&socket, BACKLOG).map_err(at("listen"))?;
    }
    Ok(socket)
}

/// The kernel's answer in the words of Go's libraries, which Docker's users know.
fn words(error: Errno) -> String {
    match error {
        Errno::ADDRINUSE => "address already in use".to_owned(),
        Errno::ACCESS => "permission denied".to_owned(),
        Errno::ADDRNOTAVAIL => "cannot assign requested address".to_owned(),
        Errno::MFILE => "too many open files".to_owned(),
        other => io::Error::from(other).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(protocol: Protocol, host: SocketAddr) -> Binding {
        Binding { protocol, host, container: "172.17.0.2:80".parse().unwrap() }
    }

    /// Spec 4.1: Docker's own error text.
    #[test]
    fn a_taken_address_is_refused_in_dockers_words() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for any in ["127.0.0.1:0", "[::1]:0"] {
                let first = take(&binding(protocol, any.parse().unwrap())).unwrap();
                let address = rustix::net::getsockname(&first).unwrap();
                let address = SocketAddr::try_from(address).unwrap();
                let again = binding(protocol, address);
                let expected = format!("listen {} {address}: bind: address already in use", again.network());
                assert_eq!(take(&again).unwrap_err(), expected);
            }
        }
    }

    #[test]
    fn an_address_that_only_the_host_has_can_be_held_and_both_families_share_a_port() {
        take(&binding(Protocol::Tcp, "203.0.113.7:0".parse().unwrap())).unwrap();
        take(&binding(Protocol::Udp, "[2001:db8::7]:0".parse().unwrap())).unwrap();
        let four = take(&binding(Protocol::Tcp, "0.0.0.0:0".parse().unwrap())).unwrap();
        let port = SocketAddr::try_from(rustix::net::getsockname(&four).unwrap()).unwrap().port();
        take(&binding(Protocol::Tcp, SocketAddr::new("::".parse().unwrap(), port))).unwrap();
    }
}
