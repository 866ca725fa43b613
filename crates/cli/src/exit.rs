//! Exit statuses, the same for every command (documented in `docs/cli.md`).

/// It worked.
pub const OK: u8 = 0;
/// It did not; standard error says why.
pub const FAILED: u8 = 1;
/// The command line or the configuration cannot be understood.
pub const USAGE: u8 = 2;
/// `status`: the engine is not running.
pub const NOT_RUNNING: u8 = 3;
/// Ctrl-C (128 + SIGINT, as shells count).
pub const INTERRUPTED: u8 = 130;
