//! A machine as its hypervisor sees it: processors, memory, and the files and sockets behind its devices.

use std::path::PathBuf;

use dhow_model::{Accelerator, Arch, GuestCid, MachineName, Size};

/// What one start of a machine is given. Every path is absolute, since the hypervisor runs in the root directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hardware {
    /// The guest's architecture.
    pub arch: Arch,
    /// What executes its instructions; the probe chose it.
    pub accelerator: Accelerator,
    /// Virtual processors, 1 or more.
    pub cpus: u32,
    /// Memory, whole mebibytes.
    pub memory: Size,
    /// Kernel: an uncompressed `vmlinux` with a PVH note on x86-64, an `Image` on Arm64.
    pub kernel: PathBuf,
    /// Initial RAM disk.
    pub initrd: PathBuf,
    /// Kernel command line, whole: [`cmdline`](crate::cmdline) and what the caller adds.
    pub cmdline: String,
    /// Disks, in the order in which the guest finds them.
    pub disks: Vec<Disk>,
    /// How the host reaches the agent.
    pub channel: ChannelDevice,
    /// File that the guest reads as `opt/dhow/boot` in the firmware's configuration.
    pub boot_config: PathBuf,
    /// The guest's network.
    pub network: Network,
    /// Directories of the host that other processes serve. Linux only.
    pub shares: Vec<Share>,
    /// Unix socket for the control protocol (QMP); made at the start, mode 0600, removed at the end.
    pub qmp: PathBuf,
    /// The machine's name.
    pub name: MachineName,
}

/// A disk image in raw format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The image. QEMU locks it as long as it has it open.
    pub path: PathBuf,
    /// How the guest knows it: `/dev/disk/by-id/virtio-SERIAL`, at most 20 bytes.
    pub serial: String,
    /// Whether the guest may write.
    pub access: Access,
}

/// A virtio file system that another process serves (vhost-user) behind a Unix socket that it listens on already. The
/// guest's memory is shared with that process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The socket.
    pub socket: PathBuf,
    /// How the guest knows it, at most 36 bytes: `mount -t virtiofs TAG /there`.
    pub tag: String,
}

/// What a guest may do with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read; many machines may have the same image open.
    ReadOnly,
    /// Read, write and discard; one machine at a time.
    ReadWrite,
    /// Read, and write to a copy that is thrown away with the guest; the image itself is opened for reading only.
    Throwaway,
}

/// The device behind the channel (spec 8.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelDevice {
    /// `AF_VSOCK` through the kernel's vhost driver, with this context ID.
    Vsock(GuestCid),
    /// A virtio-serial port on a Unix socket; made at the start, mode 0600, removed at the end.
    Serial(PathBuf),
}

impl ChannelDevice {
    /// Whether streams over it can outlive a save and a restore of the machine. Over a serial port they do, if the host's end
    /// is parked meanwhile. A vsock's connections are the host kernel's and end with the hypervisor; a guest that is loaded is
    /// told so (`VIRTIO_VSOCK_EVENT_TRANSPORT_RESET`) and resets its own: every stream must be dialled anew.
    #[must_use]
    pub const fn streams_survive_a_restore(&self) -> bool {
        matches!(self, Self::Serial(_))
    }
}

/// The guest's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// Ethernet frames, each after its length (32 bits, big-endian), on a Unix socket that somebody listens on already.
    Stream {
        /// The socket.
        socket: PathBuf,
        /// The hardware address of the guest's interface.
        mac: [u8; 6],
    },
    /// A virtio device that another process serves (vhost-user) behind a Unix socket that it listens on already. The guest's
    /// memory is shared with that process. Linux only.
    VhostUser {
        /// The socket.
        socket: PathBuf,
        /// The hardware address of the guest's interface.
        mac: [u8; 6],
    },
    /// QEMU's user-mode network: outbound only. The guest is 10.0.2.15/24, the gateway 10.0.2.2, DNS 10.0.2.3.
    User,
    /// No network device at all.
    None,
}
