//! QEMU's command line, as a pure function of the hardware (spec 9.1, 9.4).
//!
//! Nothing is there that is not asked for: no default devices, no user configuration, no display, no monitor but the control
//! socket, no network but the one named. Listening sockets are descriptors that were made here, so nobody can take
//! their place.

use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use dhow_model::channel::SERIAL_PORT_NAME;
use dhow_model::network::{MTU, QUEUES};

use super::{QemuVersion, clock};
use crate::board::board;
use crate::{Access, ChannelDevice, Disk, Hardware, Network, Share};

/// What only one start decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Given {
    /// Listening socket for the control protocol, which QEMU inherits.
    pub qmp: RawFd,
    /// Listening socket for the channel's virtio-serial port, if it has one.
    pub channel: Option<RawFd>,
    /// Rate of the emulated processor's time stamp counter in kilohertz, where the host knows it.
    pub tsc_khz: Option<u32>,
    /// The guest's memory, where it is ours.
    pub memory: Option<RawFd>,
    /// Whether the guest's state comes from elsewhere, so that nothing boots.
    pub incoming: bool,
}

/// QEMU's own seccomp filter: no system call that gives more rights, starts a program or changes scheduling (spec 9.4).
/// Only Linux has it.
pub(super) const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

/// The arguments for this hardware. The version is there for what changes between versions that Dhow supports.
#[must_use]
pub fn arguments(hardware: &Hardware, _version: &QemuVersion, given: &Given) -> Vec<OsString> {
    let mut line = Line::default();
    machine(&mut line, hardware, given);
    kernel(&mut line, hardware, given);
    control(&mut line, given);
    console_and_channel(&mut line, hardware, given);
    for (number, disk) in hardware.disks.iter().enumerate() {
        block(&mut line, number, disk);
    }
    network(&mut line, &hardware.network, hardware.cpus);
    for (number, share) in hardware.shares.iter().enumerate() {
        file_system(&mut line, number, share);
    }
    line.add("-object", "rng-builtin,id=entropy");
    line.add("-device", "virtio-rng-pci,rng=entropy");
    line.add("-device", "virtio-balloon-pci,free-page-reporting=on");
    if given.incoming {
        line.flag("-S");
        line.add("-incoming", "defer");
    }
    line.0
}

fn machine(line: &mut Line, hardware: &Hardware, given: &Given) {
    let board = board(hardware.arch, hardware.accelerator);
    line.add("-name", &format!("{},debug-threads=on", hardware.name));
    line.flag("-nodefaults");
    line.flag("-no-user-config");
    line.flag("-no-reboot");
    line.add("-display", "none");
    if cfg!(target_os = "linux") {
        line.add("-sandbox", SANDBOX);
    }
    let backend = memory(hardware, given);
    let of_memory = if backend.is_some() { ",memory-backend=memory" } else { "" };
    line.add("-machine", &format!("{}{of_memory}", board.machine));
    if let Some(backend) = backend {
        line.add("-object", &backend);
    }
    line.add("-accel", board.accel);
    line.add("-cpu", board.cpu);
    line.add("-smp", &hardware.cpus.to_string());
    line.add("-m", &format!("{}M", hardware.memory.as_mib()));
}

/// Memory that other processes see too. Ours is opened by its descriptor's name: QEMU leaves out of a machine's saved state
/// only memory that is shared *and* a file with a name (`migrate_ram_is_ignored`).
fn memory(hardware: &Hardware, given: &Given) -> Option<String> {
    let size = hardware.memory.as_mib();
    match given.memory {
        Some(fd) => {
            Some(format!("memory-backend-file,id=memory,size={size}M,share=on,mem-path=/proc/self/fd/{fd}"))
        }
        // Sealed, which is the default: whoever maps it need not fear that it shrinks.
        None if shares_memory(hardware) => {
            Some(format!("memory-backend-memfd,id=memory,size={size}M,share=on,seal=on"))
        }
        None => None,
    }
}

/// Whether another process than QEMU reads and writes the guest's memory.
fn shares_memory(hardware: &Hardware) -> bool {
    matches!(hardware.network, Network::VhostUser { .. }) || !hardware.shares.is_empty()
}

fn kernel(line: &mut Line, hardware: &Hardware, given: &Given) {
    line.path("-kernel", &hardware.kernel);
    line.path("-initrd", &hardware.initrd);
    line.add("-append", &format!("{}{}", hardware.cmdline, clock::parameters(given.tsc_khz)));
    line.with_path("-fw_cfg", "name=opt/dhow/boot,file=", &hardware.boot_config, "");
}

fn control(line: &mut Line, given: &Given) {
    line.add("-chardev", &format!("socket,id=qmp,fd={},server=on,wait=off", given.qmp));
    line.add("-mon", "chardev=qmp,mode=control");
}

/// The console goes to standard output: when nobody reads it in time, QEMU drops text and the guest goes on.
fn console_and_channel(line: &mut Line, hardware: &Hardware, given: &Given) {
    line.add("-chardev", "stdio,id=console,signal=off");
    line.add("-device", "virtio-serial-pci,id=serial,max_ports=2");
    line.add("-device", "virtconsole,bus=serial.0,nr=0,chardev=console");
    match (&hardware.channel, given.channel) {
        (ChannelDevice::Serial(_), Some(fd)) => {
            line.add("-chardev", &format!("socket,id=channel,fd={fd},server=on,wait=off"));
            line.add(
                "-device",
                &format!("virtserialport,bus=serial.0,nr=1,chardev=channel,name={SERIAL_PORT_NAME}"),
            );
        }
        (ChannelDevice::Serial(_), None) => {}
        (ChannelDevice::Vsock(cid), _) => line.add("-device", &format!("vhost-vsock-pci,guest-cid={cid}")),
    }
}

/// The name of a disk's node in QEMU's graph of block devices.
pub(super) fn disk_node(number: usize) -> String {
    format!("disk{number}")
}

/// A guest's flush reaches the host's disk (`cache.no-flush=off`: fdatasync); what it discards, and zeroes that it writes,
/// become holes (spec 7.7, 16.1). `aio=threads`, because io_uring is often forbidden where Dhow runs.
fn block(line: &mut Line, number: usize, disk: &Disk) {
    let (read_only, discard) = match disk.access {
        Access::ReadOnly => ("on", "ignore"),
        Access::ReadWrite => ("off", "unmap"),
        Access::Throwaway => return throwaway(line, number, disk),
    };
    let node = disk_node(number);
    let zeroes = if disk.access == Access::ReadWrite { ",detect-zeroes=unmap" } else { "" };
    line.with_path(
        "-blockdev",
        "driver=file,filename=",
        &disk.path,
        &format!(
            ",node-name=file{number},read-only={read_only},discard={discard},locking=on,aio=threads,cache.direct=off,\
             cache.no-flush=off"
        ),
    );
    line.add(
        "-blockdev",
        &format!(
            "driver=raw,node-name={node},file=file{number},read-only={read_only},discard={discard}{zeroes}"
        ),
    );
    line.add("-device", &format!("virtio-blk-pci,drive={node},serial={}", escape(&disk.serial)));
}

/// QEMU makes a temporary file for what the guest writes, and removes its name at once (`snapshot=on`).
fn throwaway(line: &mut Line, number: usize, disk: &Disk) {
    let node = disk_node(number);
    line.with_path(
        "-drive",
        &format!("if=none,id={node},format=raw,snapshot=on,aio=threads,discard=unmap,file="),
        &disk.path,
        "",
    );
    line.add("-device", &format!("virtio-blk-pci,drive={node},serial={}", escape(&disk.serial)));
}

/// No option ROM: nothing boots from the network.
fn network(line: &mut Line, network: &Network, cpus: u32) {
    match network {
        Network::Stream { socket, mac } => {
            line.with_path("-netdev", "stream,id=net,server=off,addr.type=unix,addr.path=", socket, "");
            line.add("-device", &format!("virtio-net-pci,netdev=net,mac={},romfile=", address(*mac)));
        }
        Network::VhostUser { socket, mac } => {
            line.with_path("-chardev", "socket,id=net,path=", socket, "");
            // The guest's driver makes its buffers as large as the MTU that it is told.
            let device = format!("virtio-net-pci,netdev=net,mac={},romfile=,host_mtu={MTU}", address(*mac));
            match cpus.min(QUEUES) {
                0 | 1 => {
                    line.add("-netdev", "vhost-user,id=net,chardev=net");
                    line.add("-device", &device);
                }
                pairs => {
                    line.add("-netdev", &format!("vhost-user,id=net,chardev=net,queues={pairs}"));
                    // An interrupt for each queue, one for the queue of control, one for the configuration.
                    line.add("-device", &format!("{device},mq=on,vectors={}", 2 * pairs + 2));
                }
            }
        }
        Network::User => {
            line.add("-netdev", "user,id=net");
            line.add("-device", "virtio-net-pci,netdev=net,romfile=");
        }
        Network::None => line.add("-nic", "none"),
    }
}

/// A queue as long as the device's default would make each burst of a file system's requests wait.
fn file_system(line: &mut Line, number: usize, share: &Share) {
    line.with_path("-chardev", &format!("socket,id=share{number},path="), &share.socket, "");
    let tag = escape(&share.tag);
    line.add("-device", &format!("vhost-user-fs-pci,chardev=share{number},tag={tag},queue-size=1024"));
}

fn address(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Words so far.
#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.into());
    }

    fn add(&mut self, flag: &str, value: &str) {
        self.flag(flag);
        self.0.push(value.into());
    }

    /// An option whose whole value is a path.
    fn path(&mut self, flag: &str, path: &Path) {
        self.flag(flag);
        self.0.push(path.into());
    }

    /// An option with a path among its keys.
    fn with_path(&mut self, flag: &str, before: &str, path: &Path, after: &str) {
        self.flag(flag);
        let mut value = OsString::from(before);
        value.push(escape_os(path.as_os_str()));
        value.push(after);
        self.0.push(value);
    }
}

/// A comma ends a value unless it is doubled.
fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

fn escape_os(value: &OsStr) -> OsString {
    let mut escaped = Vec::with_capacity(value.len());
    for byte in value.as_bytes() {
        escaped.push(*byte);
        if *byte == b',' {
            escaped.push(b',');
        }
    }
    OsString::from_vec(escaped)
}
