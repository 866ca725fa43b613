//! `AF_VSOCK` on the host: whether it can be used, and how to dial over it (spec 8.1).

use std::io;

use dhow_model::{GuestCid, Port};

use crate::{Error, Result, Stream, Token};

/// The kernel's device that gives a guest its vsock.
const DEVICE: &str = "/dev/vhost-vsock";

/// What was found about vsock on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What is at `/dev/vhost-vsock`.
    pub device: Device,
    /// The kernel's release, from `/proc/sys/kernel/osrelease`; empty when unknown.
    pub osrelease: String,
}

/// What is at the path of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// Nothing.
    Missing,
    /// Something that is no character device.
    Other,
    /// A character device that does not open for reading and writing.
    Closed(io::ErrorKind),
    /// A character device that does.
    Opens,
}

/// Why a guest gets a serial channel instead of vsock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoVsock {
    /// The platform has no vhost.
    #[error("vhost-vsock is Linux's")]
    NotLinux,
    /// The device is not there.
    #[error(
        "/dev/vhost-vsock is not there: the kernel has no vhost_vsock, or `modprobe vhost_vsock` was not run"
    )]
    Missing,
    /// A file that only looks like the device.
    #[error("/dev/vhost-vsock is not a character device")]
    NotADevice,
    /// The user may not open it.
    #[error(
        "/dev/vhost-vsock may not be opened by this user: add the user to the group that owns it (often kvm)"
    )]
    NotAllowed,
    /// It does not open for another reason.
    #[error("/dev/vhost-vsock does not open: {0}")]
    Broken(io::ErrorKind),
    /// The host is WSL2, whose own vsock takes the place of the guests'.
    #[error("this host is WSL2, whose vsock belongs to Windows")]
    Wsl2,
}

/// Whether a guest can be reached over `AF_VSOCK` (spec 8.1): `/dev/vhost-vsock` is a character device that opens for
/// reading and writing, and the host is not WSL2.
///
/// # Errors
/// The reason why not.
pub fn assess(facts: &Facts) -> std::result::Result<(), NoVsock> {
    // Windows' kernels for WSL2 name it in their release, custom-built ones at least Microsoft's.
    if facts.osrelease.to_ascii_lowercase().contains("microsoft") {
        return Err(NoVsock::Wsl2);
    }
    match facts.device {
        Device::Missing => Err(NoVsock::Missing),
        Device::Other => Err(NoVsock::NotADevice),
        Device::Closed(io::ErrorKind::PermissionDenied) => Err(NoVsock::NotAllowed),
        Device::Closed(kind) => Err(NoVsock::Broken(kind)),
        Device::Opens => Ok(()),
    }
}

/// Looks at this host, and says whether its guests can be reached over `AF_VSOCK` (spec 8.1).
///
/// # Errors
/// The reason why not.
pub fn vsock_usable() -> std::result::Result<(), NoVsock> {
    if cfg!(target_os = "linux") { assess(&probe()) } else { Err(NoVsock::NotLinux) }
}

fn probe() -> Facts {
    use std::os::unix::fs::FileTypeExt as _;
    let device = match std::fs::metadata(DEVICE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Device::Missing,
        Err(error) => Device::Closed(error.kind()),
        Ok(found) if !found.file_type().is_char_device() => Device::Other,
        Ok(_) => match std::fs::File::options().read(true).write(true).open(DEVICE) {
            Ok(_) => Device::Opens,
            Err(error) => Device::Closed(error.kind()),
        },
    };
    let osrelease = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Facts { device, osrelease }
}

/// Dials the guest. The caller sets the time limit; giving up the future closes the socket.
#[cfg(target_os = "linux")]
pub(crate) async fn dial(cid: GuestCid, token: &Token, port: Port) -> Result<Stream> {
    use tokio_vsock::{VsockAddr, VsockStream};
    let mut stream = loop {
        match VsockStream::connect(VsockAddr::new(cid.get(), port.0)).await {
            Ok(stream) => break stream,
            // The kernel gives up after two seconds (SO_VM_SOCKETS_CONNECT_TIMEOUT); the caller's limit counts.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
            // The guest's kernel answers so when nobody listens.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(Error::NotServed { port });
            }
            Err(source) => return Err(Error::Vsock { cid: cid.get(), port, source }),
        }
    };
    let request = crate::header::Request { port, token: Some(token.clone()) };
    request.ask(&mut stream).await?;
    Ok(Stream::Vsock(stream))
}

/// There is no vhost elsewhere.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unused_async, reason = "the same signature as on Linux")]
pub(crate) async fn dial(_: GuestCid, _: &Token, _: Port) -> Result<Stream> {
    Err(Error::Unsupported("dialling a guest over vsock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 8.1.
    #[test]
    fn vsock_is_usable_only_as_a_character_device_that_opens_and_not_on_wsl2() {
        use io::ErrorKind::{NotConnected, PermissionDenied};
        let debian = "6.12.48+deb13-cloud-amd64";
        let table = [
            (Device::Opens, debian, Ok(())),
            (Device::Missing, debian, Err(NoVsock::Missing)),
            (Device::Other, debian, Err(NoVsock::NotADevice)),
            (Device::Closed(PermissionDenied), debian, Err(NoVsock::NotAllowed)),
            (Device::Closed(NotConnected), debian, Err(NoVsock::Broken(NotConnected))),
            (Device::Opens, "5.15.167.4-microsoft-standard-WSL2", Err(NoVsock::Wsl2)),
            (Device::Opens, "4.19.128-Microsoft-custom", Err(NoVsock::Wsl2)),
            (Device::Opens, "", Ok(())),
        ];
        for (device, osrelease, expected) in table {
            let facts = Facts { device, osrelease: osrelease.to_owned() };
            assert_eq!(assess(&facts), expected, "{facts:?}");
        }
    }

    /// Spec 8.1: the fallback is reported in words that say what to do.
    #[test]
    fn each_reason_names_the_device_or_the_host() {
        for reason in [NoVsock::Missing, NoVsock::NotADevice, NoVsock::NotAllowed, NoVsock::Wsl2] {
            let text = reason.to_string();
            assert!(text.contains("/dev/vhost-vsock") || text.contains("WSL2"), "{text}");
        }
    }
}
