//! What a good call of each operation is; everything else is derived from the API's description.

mod containers;
mod images;
mod plugins;
mod rest;
mod swarm;

use crate::alike::Leave;
use crate::call::Call;

/// A good call of one operation, and what its parameters may be.
#[derive(Debug, Clone)]
pub struct Plan {
    pub operation: &'static str,
    pub call: Call,
    /// Calls that make the scene for it; made again after every call that dockerd has taken.
    pub before: Vec<&'static str>,
    /// A good value for each parameter that has no obvious one.
    pub values: Vec<(&'static str, &'static str)>,
    /// More calls, good or bad.
    pub more: Vec<Call>,
    pub leave: Leave,
    /// dockerd's own answer depends on which of its own tasks is first: asked again, both agree.
    pub races: bool,
    /// Why dockerd takes no call of this operation here.
    pub refused: Option<&'static str>,
    /// Parameters of which no value is taken here, and why.
    pub refused_values: Vec<(&'static str, &'static str)>,
}

/// `operation` as the description has it, `line` as [`Call::parse`] takes it.
fn plan(operation: &'static str, line: &str) -> Plan {
    Plan {
        operation,
        call: Call::parse(line),
        before: Vec::new(),
        values: Vec::new(),
        more: Vec::new(),
        leave: Leave::default(),
        races: false,
        refused: None,
        refused_values: Vec::new(),
    }
}

impl Plan {
    fn before(mut self, steps: &[&'static str]) -> Self {
        self.before.extend(steps);
        self
    }

    fn value(mut self, name: &'static str, value: &'static str) -> Self {
        self.values.push((name, value));
        self
    }

    fn more(mut self, lines: &[&str]) -> Self {
        let own = self.call.clone();
        let is_json = own.headers.iter().any(|(_, value)| value == "application/json");
        self.more.extend(lines.iter().map(|line| {
            let mut call = Call::parse(line);
            call.streams = own.streams;
            if call.body.is_empty() && !is_json {
                call.headers.clone_from(&own.headers);
                call.body.clone_from(&own.body);
            }
            call
        }));
        self
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.call = self.call.with_header(name, value);
        self
    }

    fn bytes(mut self, content_type: &str, body: Vec<u8>) -> Self {
        self.call = self.call.with_header("Content-Type", content_type);
        self.call.body = body;
        self
    }

    /// Its answer may go on for ever.
    fn streams(mut self) -> Self {
        self.call.streams = true;
        self
    }

    fn in_any_order(mut self) -> Self {
        self.leave.order = true;
        self
    }

    fn races(mut self) -> Self {
        self.races = true;
        self
    }

    fn measured(mut self) -> Self {
        self.leave.numbers = true;
        self
    }

    fn refused(mut self, why: &'static str) -> Self {
        self.refused = Some(why);
        self
    }

    fn refused_value(mut self, name: &'static str, why: &'static str) -> Self {
        self.refused_values.push((name, why));
        self
    }
}

pub use plugins::archive as plugin;

/// All of one dockerd, then those of a swarm, which changes what the others answer.
pub fn all() -> (Vec<Plan>, Vec<Plan>) {
    let single = [containers::plans(), images::plans(), rest::plans(), plugins::plans()].concat();
    (single, swarm::plans())
}

/// An archive of small files.
pub fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_ustar();
        let is_dir = path.ends_with('/');
        header.set_entry_type(if is_dir { tar::EntryType::Directory } else { tar::EntryType::Regular });
        header.set_size(text.len() as u64);
        header.set_mode(if is_dir { 0o755 } else { 0o644 });
        header.set_mtime(1_000_000_000);
        builder.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}
