//! What the kernel believes of its neighbours' hardware addresses, and how it is made to forget it: an entry that failed just before
//! the machine slept would keep connections from being made just after.

use crate::netlink::{self, Neighbour, Request};
use crate::{Error, Result};

/// `NUD_PERMANENT` and `NUD_NOARP` of `linux/neighbour.h`: entries that nobody learned.
const FIXED: u16 = 0x80 | 0x40;

/// Forgets every learned neighbour.
pub fn forget() -> Result<()> {
    let failed = Error::kernel("forget neighbours");
    let forgotten = netlink::neighbours().and_then(|known| {
        for neighbour in known.into_iter().filter(is_learned) {
            match netlink::ask(&Request::forget(&neighbour)) {
                // It may have gone by itself.
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    });
    forgotten.map_err(failed)
}

fn is_learned(neighbour: &Neighbour) -> bool {
    neighbour.state & FIXED == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_learned_is_forgotten() {
        let entry = |state| Neighbour { address: std::net::Ipv4Addr::LOCALHOST.into(), interface: 2, state };
        for (state, learned) in [(0x02, true), (0x04, true), (0x20, true), (0x80, false), (0x40, false)] {
            assert_eq!(is_learned(&entry(state)), learned, "{state:#x}");
        }
    }
}
