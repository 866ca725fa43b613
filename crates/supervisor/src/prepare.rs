//! Everything that must stand before the hypervisor starts: the description, the data image, what the agent is told.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use dhow_channel::Token;
use dhow_home::{Home, MachineDir, atomic};
use dhow_hypervisor::{Access, ChannelDevice, Disk, Hardware, Network};
use dhow_model::{
    BootConfig, ChannelKind, GuestCid, GuestNetwork, GuestNetwork6, MachineSpec, Purpose, network,
};

use crate::cid::{self, Lease};
use crate::disk::{self, DataImage};
use crate::{Error, Result, shares};

/// How the guest will be reached, with what is secret about it.
#[derive(Debug)]
pub enum Reach {
    /// By vsock: its context ID and the token that each stream begins with.
    Vsock(Lease, Token),
    /// By the multiplexer on this socket.
    Serial(PathBuf),
}

/// The description that the engine wrote.
///
/// # Errors
/// When it cannot be read.
pub fn spec(dir: &MachineDir) -> Result<MachineSpec> {
    let path = dir.spec();
    let text = std::fs::read(&path).map_err(|source| Error::File { path: path.clone(), source })?;
    serde_json::from_slice(&text).map_err(|source| Error::Spec { path, source })
}

/// Decides how the guest is reached, leaving out context IDs that the kernel `refused`.
///
/// # Errors
/// When no context ID is free.
pub fn reach(home: &Home, spec: &MachineSpec, refused: &BTreeSet<GuestCid>) -> Result<Reach> {
    let dir = home.machine(&spec.name);
    match spec.channel {
        ChannelKind::Serial => Ok(Reach::Serial(dir.serial_socket())),
        ChannelKind::Vsock => {
            let token = Token::random()?;
            Ok(Reach::Vsock(cid::lease(&home.run_dir(), &dir, refused)?, token))
        }
    }
}

/// Writes what the agent is told, and describes the machine to the hypervisor.
///
/// # Errors
/// When the agent's file cannot be written.
pub fn hardware(
    dir: &MachineDir,
    spec: &MachineSpec,
    purpose: Purpose,
    image: &DataImage,
    reach: &Reach,
) -> Result<Hardware> {
    let token = match reach {
        Reach::Vsock(_, token) => Some(token.to_hex()),
        Reach::Serial(_) => None,
    };
    let boot = BootConfig {
        machine: spec.name.clone(),
        hostname: format!("dhow-{}", spec.name),
        purpose,
        disk: image.blank,
        channel: spec.channel,
        token,
        network: guest_network(spec.network.publish_address),
        shares: spec.shares.clone(),
    };
    let path = dir.boot_config();
    let file = |source| Error::File { path: path.clone(), source };
    let text = serde_json::to_vec(&boot).map_err(|e| file(e.into()))?;
    atomic::write(&path, &text, 0o600).map_err(file)?;
    let drive =
        |path: &PathBuf, serial: &str, access| Disk { path: path.clone(), serial: serial.to_owned(), access };
    Ok(Hardware {
        arch: spec.arch,
        accelerator: spec.accelerator,
        cpus: spec.cpus,
        memory: spec.memory,
        kernel: spec.kernel.path.clone(),
        initrd: spec.initrd.path.clone(),
        cmdline: spec.cmdline.clone(),
        disks: vec![
            drive(&spec.root.path, "dhow-root", Access::ReadOnly),
            drive(&dir.data_image(), disk::SERIAL, access(purpose)),
        ],
        channel: match reach {
            Reach::Vsock(lease, _) => ChannelDevice::Vsock(lease.cid),
            Reach::Serial(socket) => ChannelDevice::Serial(socket.clone()),
        },
        boot_config: path,
        network: network_device(dir),
        shares: shares::devices(dir, spec),
        qmp: dir.qmp_socket(),
        name: spec.name.clone(),
    })
}

/// Whatever a rescue does, the image stays as it is (spec 7.6).
const fn access(purpose: Purpose) -> Access {
    match purpose {
        Purpose::Serve | Purpose::Check => Access::ReadWrite,
        Purpose::Rescue => Access::Throwaway,
    }
}

/// The gateway serves the guest's network device itself where it can share memory with the hypervisor.
fn network_device(dir: &MachineDir) -> Network {
    let (socket, mac) = (dir.network_socket(), network::GUEST_MAC);
    if cfg!(target_os = "linux") {
        Network::VhostUser { socket, mac }
    } else {
        Network::Stream { socket, mac }
    }
}

/// What the guest is told of its network.
fn guest_network(publish: IpAddr) -> GuestNetwork {
    GuestNetwork {
        address: network::GUEST,
        prefix: network::PREFIX,
        gateway: network::GATEWAY,
        six: Some(GuestNetwork6 {
            address: network::GUEST6,
            prefix: network::PREFIX6,
            gateway: network::GATEWAY6,
        }),
        dns: vec![network::GATEWAY.into()],
        mtu: network::MTU,
        publish,
    }
}
