//! Moments and choices that look random, and are the same for the same seed.

/// A number from the environment.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|word| word.parse().ok()).unwrap_or(default)
}

/// The seed of this run: `DHOW_TEST_SEED`, or the same as ever.
pub fn seed() -> u64 {
    number("DHOW_TEST_SEED", 0x5eed).max(1)
}

/// Marsaglia's xorshift.
pub struct Draw(pub u64);

impl Draw {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// One of them.
    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap_or(0)]
    }
}
