//! Long work, shown: a spinner where a person looks at a terminal, a line for each step in a pipe, a document for each
//! with `--json`.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::house::Report;
use crate::output::{Output, stderr_is_terminal, write_stderr};
use crate::text;

/// How often the spinner turns.
const TURN: Duration = Duration::from_millis(100);

/// Shows what long work does, in the way that suits whoever looks.
pub struct Progress {
    way: Way,
    output: Output,
    began: Instant,
    step: Option<(String, Instant)>,
}

enum Way {
    Silent,
    Spinner(ProgressBar),
    Lines,
    Documents,
}

impl Progress {
    /// Begins to show progress.
    #[must_use]
    pub fn new(output: &Output) -> Self {
        let way = if output.no_progress || output.quiet {
            Way::Silent
        } else if output.json {
            Way::Documents
        } else if stderr_is_terminal() {
            Way::Spinner(spinner())
        } else {
            Way::Lines
        };
        Self { way, output: *output, began: Instant::now(), step: None }
    }

    /// The running step, in words.
    #[must_use]
    pub fn current(&self) -> &str {
        self.step.as_ref().map_or("the first step", |(name, _)| name)
    }

    /// Since when there is something to show.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Ends the running step and clears the spinner.
    pub fn finish(&mut self) {
        self.end_step();
        if let Way::Spinner(bar) = &self.way {
            bar.finish_and_clear();
        }
    }

    fn end_step(&mut self) {
        let Some((name, began)) = self.step.take() else { return };
        if let Way::Spinner(bar) = &self.way {
            let took = self.output.stderr.dim(&text::seconds(began.elapsed()));
            bar.println(format!("{} {name} {took}", self.output.stderr.good("✓")));
        }
    }

    fn document(&self, event: &str, words: &str, more: Option<(&str, Value)>) {
        let seconds = (self.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
        let mut document = json!({ "event": event, "text": words, "seconds": seconds });
        if let (Some((key, value)), Some(map)) = (more, document.as_object_mut()) {
            map.insert(key.to_owned(), value);
        }
        // A reader that went away is noticed when the answer is printed.
        self.output.line(&document).ok();
    }
}

impl Report for Progress {
    fn step(&mut self, words: &str) {
        let words = text::harmless(words);
        self.end_step();
        match &self.way {
            Way::Silent => {}
            Way::Spinner(bar) => {
                bar.reset_elapsed();
                bar.set_message(words.clone());
            }
            Way::Lines => write_stderr(&format!("{words}\n")),
            Way::Documents => self.document("step", &words, None),
        }
        self.step = Some((words, Instant::now()));
    }

    fn detail(&mut self, words: &str) {
        let words = text::harmless(words);
        match &self.way {
            Way::Silent => {}
            Way::Spinner(bar) => bar.set_message(format!("{}: {words}", self.current())),
            Way::Lines if self.output.verbose => write_stderr(&format!("  {words}\n")),
            Way::Lines => {}
            Way::Documents => self.document("detail", &words, None),
        }
    }

    fn note(&mut self, words: &str) {
        let words = text::harmless(words);
        match &self.way {
            Way::Silent if self.output.quiet || self.output.json => {}
            Way::Silent | Way::Lines => write_stderr(&format!("note: {words}\n")),
            Way::Spinner(bar) => bar.println(format!("{} {words}", self.output.stderr.bold("note:"))),
            Way::Documents => self.document("note", &words, None),
        }
    }

    fn bytes(&mut self, done: u64, total: Option<u64>) {
        let words = match total {
            Some(total) => format!("{} of {}", text::bytes(done), text::bytes(total)),
            None => text::bytes(done),
        };
        match &self.way {
            Way::Spinner(bar) => bar.set_message(format!("{}: {words}", self.current())),
            Way::Documents => self.document("bytes", &words, Some(("bytes", json!([done, total])))),
            Way::Silent | Way::Lines => {}
        }
    }
}

impl Drop for Progress {
    /// Leaves no half-drawn line on the terminal.
    fn drop(&mut self) {
        if let Way::Spinner(bar) = &self.way {
            bar.finish_and_clear();
        }
    }
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TURN);
    bar
}
