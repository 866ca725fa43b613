//! The services of a guest that the host can dial, and their ports.

use std::fmt;

/// A port of the guest, on either kind of channel. The numbers are part of the protocol between host and agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port(pub u32);

impl Port {
    /// The agent's gRPC service.
    pub const AGENT: Self = Self(1024);
    /// dockerd's API socket, byte for byte.
    pub const DOCKER: Self = Self(1025);
    /// Answers every byte with itself; measures and tests the channel.
    pub const ECHO: Self = Self(1026);
    /// Reads and drops every byte, and answers nothing.
    pub const DISCARD: Self = Self(1027);

    /// Every port that the agent serves.
    pub const ALL: [Self; 4] = [Self::AGENT, Self::DOCKER, Self::ECHO, Self::DISCARD];
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The name of the virtio-serial port that carries the multiplexer, as the guest finds it in
/// `/sys/class/virtio-ports/*/name`.
pub const SERIAL_PORT_NAME: &str = "dhow.channel.0";
