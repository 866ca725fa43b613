//! Why a port cannot be published, in the words that Docker's users know.

use std::io;

use dhow_model::port::Binding;

/// Why the host does not listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The kernel refused. Docker's own proxy words it so, as a Go program.
    #[error("listen {} {}: {call}: {}{}", binding.network(), binding.host, words(source), in_addition(note))]
    Kernel {
        /// What was asked.
        binding: Binding,
        /// Which call was refused: `bind` or another.
        call: &'static str,
        /// The kernel's answer.
        source: io::Error,
        /// Who holds the address, when it is ours, or what can be done.
        note: Option<String>,
    },
    /// More than a machine may have.
    #[error("{0} ports of this machine are published, and more are not possible")]
    TooMany(usize),
    /// Port 0 is no port.
    #[error("{0} cannot be published: port 0 is no port")]
    NoPort(Binding),
    /// The machine is stopping.
    #[error("the machine is stopping")]
    Stopping,
}

impl BindError {
    /// A stable word for programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Kernel { source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => "in-use",
                io::ErrorKind::PermissionDenied => "not-permitted",
                io::ErrorKind::AddrNotAvailable => "no-such-address",
                _ if short_of(source) => "no-descriptors",
                _ => "other",
            },
            Self::TooMany(_) => "too-many",
            Self::NoPort(_) => "invalid",
            Self::Stopping => "stopping",
        }
    }
}

/// Whether the kernel has no descriptor or memory left for now.
pub(super) fn short_of(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS))
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or_default().to_lowercase()
        }
    }
}

fn in_addition(note: &Option<String>) -> String {
    note.as_ref().map(|note| format!("; {note}")).unwrap_or_default()
}
