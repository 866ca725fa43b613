//! What a long operation tells while it runs, so that a face can draw it.

/// A part of the work, in the order in which a build takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Waiting for another build.
    Wait,
    /// Reading and verifying the distribution's index.
    Index,
    /// Choosing packages.
    Resolve,
    /// Downloading packages.
    Download,
    /// Unpacking packages.
    Unpack,
    /// Writing images.
    Write,
    /// Hashing what is there.
    Verify,
    /// Copying into or out of a bundle file.
    Copy,
}

impl Step {
    /// For a person: `unpacking`.
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Wait => "waiting",
            Self::Index => "reading the index",
            Self::Resolve => "choosing packages",
            Self::Download => "downloading",
            Self::Unpack => "unpacking",
            Self::Write => "writing",
            Self::Verify => "verifying",
            Self::Copy => "copying",
        }
    }
}

/// One report of progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A step begins, on `detail`.
    Begin {
        /// Which.
        step: Step,
        /// On what, for a person.
        detail: String,
    },
    /// So much of a step is done.
    Bytes {
        /// Which.
        step: Step,
        /// On what.
        detail: String,
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Something that a person should know and that stops nothing.
    Note {
        /// The sentence.
        text: String,
    },
}

/// Where progress goes.
pub(crate) type Report<'a> = &'a mut dyn FnMut(Progress);

/// Reports the beginning of a step.
pub(crate) fn begin(report: Report<'_>, step: Step, detail: impl Into<String>) {
    report(Progress::Begin { step, detail: detail.into() });
}
