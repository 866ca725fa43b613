//! The gRPC definitions that Dhow's processes speak with each other: the CLI with the daemon (`control`), the daemon
//! with a machine's supervisor (`supervisor`), a supervisor with the guest's process 1 (`agent`). The `.proto` files are
//! the documentation.
#![forbid(unsafe_code)]

/// The version of the protocol between the host and the agent. An agent of another version is refused, since both come
/// from the same release; the number grows when either side could not understand the other.
pub const AGENT_PROTOCOL: u32 = 1;

/// The version of the protocol between the CLI, the daemon and the supervisors.
pub const HOST_PROTOCOL: u32 = 1;

/// The largest message that either side of any of our interfaces accepts, bytes (spec 8.4). Nothing we send comes near
/// it; what a guest sends above it is an error and not an allocation.
pub const MESSAGE_LIMIT: usize = 1 << 20;

/// All definitions, for server reflection: an encoded `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The guest's process 1, as its supervisor sees it.
pub mod agent {
    #![allow(missing_docs, clippy::all, reason = "generated; agent.proto is the documentation")]
    tonic::include_proto!("dhow.agent.v1");
}

/// One machine's process, as the daemon sees it.
pub mod supervisor {
    #![allow(missing_docs, clippy::all, reason = "generated; supervisor.proto is the documentation")]
    tonic::include_proto!("dhow.supervisor.v1");
}

/// The daemon, as the CLI sees it.
pub mod control {
    #![allow(missing_docs, clippy::all, reason = "generated; control.proto is the documentation")]
    tonic::include_proto!("dhow.control.v1");
}
