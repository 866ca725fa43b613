//! How far long work is, told to whoever asked for it.

use tokio::sync::mpsc;

/// Something to show while work goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A step began.
    Step(String),
    /// More about the running step; replaces the last one.
    Detail(String),
    /// Something a person should know.
    Note(String),
}

/// Where progress is told. Nobody need listen.
#[derive(Debug, Clone)]
pub struct Reporter(Option<mpsc::UnboundedSender<Progress>>);

impl Reporter {
    /// Tells `listener`. It is unbounded since the work must not wait for a slow terminal; a step has few messages.
    #[must_use]
    pub const fn to(listener: mpsc::UnboundedSender<Progress>) -> Self {
        Self(Some(listener))
    }

    /// Tells nobody.
    #[must_use]
    pub const fn nobody() -> Self {
        Self(None)
    }

    /// A step began.
    pub fn step(&self, text: impl Into<String>) {
        self.tell(Progress::Step(text.into()));
    }

    /// More about the running step.
    pub fn detail(&self, text: impl Into<String>) {
        self.tell(Progress::Detail(text.into()));
    }

    /// Something a person should know.
    pub fn note(&self, text: impl Into<String>) {
        self.tell(Progress::Note(text.into()));
    }

    fn tell(&self, progress: Progress) {
        if let Some(listener) = &self.0
            && listener.send(progress).is_err()
        {
            tracing::trace!("nobody listens to the progress any more");
        }
    }
}
