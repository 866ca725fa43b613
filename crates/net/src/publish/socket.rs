//! Takes an address of the host, exactly as asked (spec 4.1).

use std::io;
use std::net::SocketAddr;

use dhow_model::port::{Binding, Protocol};
use socket2::{Domain, SockAddr, Socket, Type};

/// As many as the kernel lets wait: it cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A socket on the binding's host address that does not block; one for connections listens.
///
/// # Errors
/// Which call was refused, and the kernel's answer.
pub(super) fn take(binding: &Binding) -> Result<Socket, (&'static str, io::Error)> {
    let at = |call| move |error| (call, error);
    let kind = match binding.protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
    };
    let socket = Socket::new(Domain::for_address(binding.host), kind, None).map_err(at("socket"))?;
    if let SocketAddr::V6(_) = binding.host {
        // `[::]` is IPv6 alone, and `0.0.0.0` the other half: dockerd asks for both.
        socket.set_only_v6(true).map_err(at("setsockopt"))?;
    }
    if binding.protocol == Protocol::Tcp {
        // As every Go program does: connections that ended a moment ago do not keep the address; a listener does.
        socket.set_reuse_address(true).map_err(at("setsockopt"))?;
    }
    socket.set_nonblocking(true).map_err(at("setnonblock"))?;
    socket.bind(&SockAddr::from(binding.host)).map_err(at("bind"))?;
    if binding.protocol == Protocol::Tcp {
        socket.listen(BACKLOG).map_err(at("listen"))?;
    }
    Ok(socket)
}
