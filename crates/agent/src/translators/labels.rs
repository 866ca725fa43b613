//! What `docker info` tells of translators: which one really serves each architecture, and none that does not (spec 1.9).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dhow_proto::agent as proto;
use rustix::process::Signal;

use super::Translators;
use crate::console;
use crate::engine::{self, Mode};
use crate::guest::Guest;

/// How a label begins; an architecture follows.
pub(super) const PREFIX: &str = "dhow.translator.";
/// A dockerd that is not ready for that long has other troubles.
const READY: Duration = Duration::from_secs(120);

impl Translators {
    /// Has dockerd tell what is true now, if it tells something else. It reads its configuration again while it runs; labels are
    /// among what it takes over then.
    pub fn tell(&self, guest: &Guest, now: Option<&proto::Translators>) {
        let Some(now) = now else { return };
        self.tell_labels(guest, of(now));
        // Only now, so that a dockerd that waits for this begins with the labels.
        self.0.told.send_replace(true);
    }

    fn tell_labels(&self, guest: &Guest, labels: Vec<String>) {
        {
            let mut state = self.0.state();
            if guest.down.get().is_some() || state.labels == labels {
                return;
            }
            if let Err(error) = engine::write_dockerd(&guest.config.network, Mode::Serving, &labels) {
                console::line(format!("dhow: {error}"));
                return;
            }
            state.labels = labels;
        }
        let Some(dockerd) = guest.engine.get().map(|engine| Arc::clone(&engine.dockerd)) else { return };
        // A signal that comes before dockerd expects it would end it.
        tokio::spawn(async move {
            if dockerd.ready(READY).await.is_ok() {
                dockerd.signal(Signal::HUP);
            }
        });
    }
}

/// `dhow.translator.ARCH=NAME VERSION` for each architecture that is served.
pub(super) fn of(translators: &proto::Translators) -> Vec<String> {
    let serving = translators.given.iter().filter(|one| one.problem.is_empty());
    let labels: BTreeMap<String, String> = serving
        .filter_map(|one| {
            let file = one.file.as_ref()?;
            let words = format!("{} {}", file.name, one.version);
            Some((format!("{PREFIX}{}", file.serves), words.trim_end().to_owned()))
        })
        .collect();
    labels.into_iter().map(|(label, words)| format!("{label}={words}")).collect()
}
