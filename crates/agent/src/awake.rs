//! After the machine has slept: the clock is set, the random generator gets bytes that were in no saved state, and neighbours are
//! asked for anew. Whatever counts time by itself (timeouts, back-off, the services' probes) does so by the kernel's monotonic
//! clock, which stood still, and so notices nothing.

use std::fs::File;
use std::path::Path;

use dhow_proto::agent::AwakeReply;

use crate::{Error, Result, clock, neighbours, sys};

/// The fewest bytes that make a seed.
const SEED: usize = 32;

/// Makes the guest fit for now. The clock comes first; what fails is said and keeps nothing else from being done.
#[must_use]
pub fn awake(unix_nanos: u64, entropy: &[u8]) -> AwakeReply {
    let mut errors = Vec::new();
    let moved_nanos = clock::set(unix_nanos).unwrap_or_else(|error| {
        errors.push(error.to_string());
        0
    });
    let others = [seed(Path::new("/dev/urandom"), entropy), neighbours::forget()];
    errors.extend(others.into_iter().filter_map(|done| done.err()).map(|error| error.to_string()));
    AwakeReply { moved_nanos, errors }
}

/// Mixes the host's bytes in, and has the kernel use them at once.
fn seed(random: &Path, entropy: &[u8]) -> Result<()> {
    if !(SEED..=sys::SEED).contains(&entropy.len()) {
        let what = format!("{} bytes are no seed", entropy.len());
        return Err(Error::kernel("seed the random generator")(std::io::Error::other(what)));
    }
    let opened = File::options().write(true).open(random).map_err(Error::file("open", random))?;
    let seeded = sys::add_entropy(&opened, entropy).and_then(|()| sys::reseed(&opened));
    seeded.map_err(Error::kernel("seed the random generator"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 13.2: a host that sends nothing, or too little, or something that would not fit, is told.
    #[test]
    fn what_is_no_seed_is_refused() {
        for length in [0, 31, 513, 5000] {
            let error = seed(Path::new("/dev/null"), &vec![7; length]).unwrap_err().to_string();
            assert!(error.contains(&length.to_string()), "{error}");
        }
        // Nothing but the random generator takes one.
        assert!(seed(Path::new("/dev/null"), &[7; 64]).is_err());
    }
}
