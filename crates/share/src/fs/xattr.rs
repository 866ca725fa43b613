//! Extended attributes. `user.*` are the host's own; `trusted.*` and `security.*`, which only root may set there, are kept under
//! a name of ours; our own are not the guest's to see.

use std::os::fd::AsFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::abi::{Answer, Body};
use super::owner::OURS;
use super::reach::as_owner;
use super::seen::place;
use super::server::Server;

/// Before the name of an attribute that the host would not let us set.
const KEPT: &[u8] = b"user.dhow.x.";
/// A file's capabilities, as they are kept.
const CAPABILITY: &str = "user.dhow.x.security.capability";
/// The most that Linux takes as one value, or as the names of one file.
const MOST: usize = 64 << 10;

/// What an attribute of the guest's is called on the host.
fn host_name(name: &[u8]) -> Result<Vec<u8>, Errno> {
    if name.is_empty() || name.len() > 255 {
        return Err(Errno::RANGE);
    }
    if name.starts_with(OURS) {
        return Err(Errno::PERM);
    }
    if name.starts_with(b"user.") {
        return Ok(name.to_vec());
    }
    if name.starts_with(b"trusted.") || name.starts_with(b"security.") {
        let kept = [KEPT, name].concat();
        return if kept.len() > 255 { Err(Errno::RANGE) } else { Ok(kept) };
    }
    Err(Errno::OPNOTSUPP)
}

/// What an attribute of the host's is called in the guest, if it is seen there.
fn guest_name(name: &[u8]) -> Option<&[u8]> {
    if let Some(kept) = name.strip_prefix(KEPT) {
        return Some(kept);
    }
    (name.starts_with(b"user.") && !name.starts_with(OURS)).then_some(name)
}

impl Server {
    pub(super) fn get_xattr(
        &mut self,
        node: u64,
        mut body: Body<'_>,
        answer: &mut Answer,
    ) -> Result<(), Errno> {
        self.share_of(node)?;
        let size = body.u32()? as usize;
        body.skip(4)?;
        let name = match host_name(body.text()?) {
            Err(Errno::PERM) => return Err(Errno::NODATA),
            other => other?,
        };
        let kept = name.starts_with(KEPT);
        let fd = self.nodes.fd(node)?;
        let path = place(&*fd);
        let got = as_owner(&*fd, 0o400, || {
            if size == 0 {
                return rustix::fs::getxattr_query(&path, &*name);
            }
            rustix::fs::getxattr(&path, &*name, answer.room(size.min(MOST)))
        });
        let length = match got {
            // Of a link or a FIFO: it has none.
            Err(Errno::PERM | Errno::OPNOTSUPP) if kept => return Err(Errno::NODATA),
            other => other?,
        };
        if size == 0 {
            answer.u32(u32::try_from(length).unwrap_or(u32::MAX)).u32(0);
        } else {
            answer.fill(length);
        }
        Ok(())
    }

    pub(super) fn set_xattr(&mut self, node: u64, mut body: Body<'_>) -> Result<(), Errno> {
        self.writable(node)?;
        let (size, flags) = (body.u32()? as usize, body.u32()?);
        let name = host_name(body.text()?)?;
        let value = body.bytes(size)?;
        let flags = XattrFlags::from_bits_retain(flags & 3);
        let fd = self.nodes.fd(node)?;
        let path = place(&*fd);
        let set = as_owner(&*fd, 0o200, || rustix::fs::setxattr(&path, &*name, value, flags));
        match set {
            Err(Errno::PERM) if name.starts_with(KEPT) => Err(Errno::OPNOTSUPP),
            other => other,
        }
    }

    pub(super) fn remove_xattr(&mut self, node: u64, mut body: Body<'_>) -> Result<(), Errno> {
        self.writable(node)?;
        let name = host_name(body.text()?)?;
        let fd = self.nodes.fd(node)?;
        let path = place(&*fd);
        as_owner(&*fd, 0o200, || rustix::fs::removexattr(&path, &*name))
    }

    pub(super) fn list_xattrs(
        &mut self,
        node: u64,
        mut body: Body<'_>,
        answer: &mut Answer,
    ) -> Result<(), Errno> {
        self.share_of(node)?;
        let size = body.u32()? as usize;
        let fd = self.nodes.fd(node)?;
        let mut names = vec![0; MOST];
        let length = match rustix::fs::listxattr(place(&*fd), &mut names) {
            Err(Errno::OPNOTSUPP | Errno::PERM) => 0,
            other => other?,
        };
        let mut seen = Vec::new();
        for name in names[..length].split(|byte| *byte == 0).filter_map(guest_name) {
            seen.extend_from_slice(name);
            seen.push(0);
        }
        if size == 0 {
            answer.u32(u32::try_from(seen.len()).unwrap_or(u32::MAX)).u32(0);
        } else if seen.len() > size {
            return Err(Errno::RANGE);
        } else {
            answer.bytes(&seen);
        }
        Ok(())
    }
}

/// A file that changes loses its capabilities.
pub(super) fn drop_capability(fd: impl AsFd) -> Result<(), Errno> {
    match rustix::fs::removexattr(place(&fd), CAPABILITY) {
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 14.3.
    #[test]
    fn our_own_attributes_are_out_of_the_guests_reach() {
        assert_eq!(host_name(b"user.dhow.owner"), Err(Errno::PERM));
        assert_eq!(host_name(b"user.dhow.x.trusted.a"), Err(Errno::PERM));
        assert_eq!(guest_name(b"user.dhow.owner"), None);
        assert_eq!(host_name(b"system.posix_acl_access"), Err(Errno::OPNOTSUPP));
        assert_eq!(guest_name(b"security.selinux"), None);
    }

    #[test]
    fn what_only_root_may_set_on_the_host_comes_back_under_its_own_name() {
        let kept = host_name(b"security.capability").unwrap();
        assert_eq!(kept, CAPABILITY.as_bytes());
        assert_eq!(guest_name(&kept), Some(&b"security.capability"[..]));
        assert_eq!(host_name(&[b"trusted.", &[b'a'; 240][..]].concat()), Err(Errno::RANGE));
    }
}
