//! Two dockerds prepared alike, one asked directly and one through the face: what one call changes on one of them, the
//! same call changes on the other.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dhow_model::Arch;
use dhow_model::placement::{ForeignMachine, Guest, Host, Placement};
use dhow_testkit::{Dockerd, Image, wait};

use crate::alike::{Alike, Leave};
use crate::call::{Answer, Call};
use crate::common::{Serving, Sockets, host};

const IMAGE: &str = "dhow-test/busybox:1";

/// What stays as it is while the suite runs; its calls are compared as all others are.
const STEADY: [&str; 16] = [
    r#"POST /volumes/create {"Name":"store","Labels":{"kind":"test"}}"#,
    r#"POST /networks/create {"Name":"net","Driver":"bridge","Labels":{"kind":"test"},"IPAM":{"Config":[{"Subnet":"10.77.0.0/24"}]}}"#,
    r#"POST /containers/create?name=web {"Image":"dhow-test/busybox:1","Cmd":["sh","-c","echo out; sleep 0.2; echo err >&2; echo new > /new; exec sleep 100000"],"Labels":{"kind":"test"},"Env":["A=b"],"ExposedPorts":{"80/tcp":{}},"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"8080"}]},"Binds":["store:/store"]}}"#,
    "POST /containers/web/start",
    r#"POST /networks/net/connect {"Container":"web","EndpointConfig":{"Aliases":["www"]}}"#,
    r#"POST /containers/create?name=done {"Image":"dhow-test/busybox:1","Cmd":["sh","-c","echo out; sleep 0.2; echo err >&2; exit 3"],"Labels":{"kind":"test"}}"#,
    "POST /containers/done/start",
    "POST /containers/done/wait",
    r#"POST /containers/create?name=idle {"Image":"dhow-test/busybox:1","Cmd":["true"],"Labels":{"kind":"test"}}"#,
    r#"POST /containers/create?name=still {"Image":"dhow-test/busybox:1","Cmd":["sleep","100000"],"Tty":true,"OpenStdin":true}"#,
    "POST /containers/still/start",
    "POST /containers/still/pause",
    r#"exec:/Id=POST /containers/web/exec {"Cmd":["sh","-c","echo hello; exit 5"],"AttachStdout":true,"AttachStderr":true}"#,
    "POST /exec/{exec}/start {}",
    "POST /images/dhow-test/busybox:1/tag?repo=dhow-test/other&tag=2",
    "web:/Id=GET /containers/web/json",
];

/// How often an operation was asked and how dockerd took it.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub good: usize,
    pub bad: usize,
}

pub struct Pair {
    serving: Serving,
    direct: Dockerd,
    behind: Dockerd,
    /// The machine of another architecture, in which nothing is.
    _foreign: Option<Dockerd>,
    /// What earlier answers were called, for each side.
    words: [HashMap<String, String>; 2],
    alike: Alike,
    pub tallies: BTreeMap<String, Tally>,
    pub differences: Vec<String>,
    pub calls: usize,
}

impl Pair {
    /// In the default placement: one machine.
    pub fn start() -> Self {
        Self::before(None)
    }

    /// With a second machine that runs and has nothing in it.
    pub fn beside_an_empty_machine() -> Self {
        Self::before(Some(Dockerd::start().unwrap()))
    }

    fn before(foreign: Option<Dockerd>) -> Self {
        let (direct, behind) = std::thread::scope(|scope| {
            let other = scope.spawn(Dockerd::start);
            (Dockerd::start().unwrap(), other.join().unwrap().unwrap())
        });
        // Imported once, so that both have it under one ID.
        Image::Busybox.ensure(direct.docker()).unwrap();
        let saved = direct.docker().run(["save", IMAGE]).ok().unwrap().stdout;
        behind.docker().run(["load", "-q"]).input(saved).ok().unwrap();
        let framed_anew = foreign.is_some();
        let serving = match &foreign {
            None => Serving::in_front_of(behind.socket()),
            Some(foreign) => {
                let architecture = match Arch::host().unwrap() {
                    Arch::Amd64 => Arch::Arm64,
                    Arch::Arm64 => Arch::Amd64,
                };
                let machine = ForeignMachine { guest: Guest::from(architecture), translator: None };
                let host = Host { foreign: Ok(machine), ..host(Placement::ForeignMachine) };
                let engines = Sockets::two(behind.socket(), foreign.socket(), host);
                Serving::before(Arc::new(engines), Duration::from_millis(200))
            }
        };
        let mut pair = Self {
            serving,
            direct,
            behind,
            _foreign: foreign,
            words: [HashMap::new(), HashMap::new()],
            alike: Alike::new(framed_anew),
            tallies: BTreeMap::new(),
            differences: Vec::new(),
            calls: 0,
        };
        pair.prepare(&STEADY);
        pair.settle();
        pair
    }

    /// The container that ends has ended on both sides, and the one that writes has written.
    fn settle(&self) {
        for dockerd in [&self.direct, &self.behind] {
            let docker = dockerd.docker();
            wait::until("the scene to be still", Duration::from_secs(20), || {
                let done = docker.ok(["inspect", "-f", "{{.State.Status}}", "done"]).ok()?;
                let said = docker.outcome(["logs", "web"]).ok()?;
                (done == "exited" && said.text() == "out" && said.complaint() == "err").then_some(())
            })
            .unwrap();
        }
    }

    pub fn sockets(&self) -> [&Path; 2] {
        [self.direct.socket(), self.serving.socket()]
    }

    /// Calls that make the scene: `name:/pointer=METHOD target body` keeps a value of the answer as `{name}`. A step
    /// that begins with `?` may fail; `METHOD target body until text` is repeated until both answers hold the text.
    pub fn prepare(&mut self, steps: &[&str]) {
        for step in steps {
            let (step, may_fail) = match step.strip_prefix('?') {
                Some(rest) => (rest, true),
                None => (*step, false),
            };
            let (step, until) =
                step.split_once(" until ").map_or((step, None), |(step, text)| (step, Some(text)));
            let (kept, line) = match step.split_once('=') {
                Some((kept, line)) if kept.contains(":/") && !kept.contains(' ') => (Some(kept), line),
                _ => (None, step),
            };
            let call = Call::parse(line);
            if let Some(text) = until {
                wait::until(&format!("{line}: {text}"), Duration::from_secs(40), || {
                    self.ask(&call).iter().all(|answer| answer.text().contains(text)).then_some(())
                })
                .unwrap();
            }
            let answers = if may_fail || until.is_some() {
                self.ask(&call)
            } else {
                self.compare(line, "scene", &call, Leave { order: true, numbers: false })
            };
            for (answer, words) in answers.iter().zip(&mut self.words) {
                assert!(may_fail || answer.code() < 400, "{line}: {} {}", answer.status, answer.text());
                if let Some((name, pointer)) = kept.and_then(|kept| kept.split_once(':')) {
                    let json = answer.json();
                    let value =
                        json.pointer(pointer).unwrap_or_else(|| panic!("{line}: no {pointer} in {json}"));
                    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    words.insert(name.to_owned(), value);
                }
            }
        }
    }

    /// Sends a call to both and notes in what they differ. Returns both answers, dockerd's first.
    pub fn compare(&mut self, operation: &str, label: &str, call: &Call, leave: Leave) -> [Answer; 2] {
        let answers = self.ask(call);
        self.calls += 1;
        let compared = match is_own_refusal(call, &answers) {
            true => Ok(()),
            false => self.alike.compare(&answers[0], &answers[1], leave),
        };
        if let Err(why) = compared {
            let body: String = String::from_utf8_lossy(&call.body).chars().take(120).collect();
            self.differences
                .push(format!("{operation}: {label}: {} {} {body:?}\n    {why}", call.method, call.target));
        }
        let tally = self.tallies.entry(operation.to_owned()).or_default();
        match answers[0].code() {
            100..400 => tally.good += 1,
            _ => tally.bad += 1,
        }
        answers
    }

    fn ask(&self, call: &Call) -> [Answer; 2] {
        let paths: [PathBuf; 2] = self.sockets().map(Path::to_owned);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| said(call, &self.words[1]).send(&paths[1]));
            [said(call, &self.words[0]).send(&paths[0]), other.join().unwrap()]
        })
    }
}

impl Drop for Pair {
    /// What is frozen cannot be killed, and its cgroup would outlive dockerd.
    fn drop(&mut self) {
        for dockerd in [&self.direct, &self.behind] {
            let _outcome = dockerd.docker().outcome(["rm", "-f", "still", "fresh"]);
        }
    }
}

/// A platform that cannot be parsed is refused by the face itself, in words of its own (1.2): dockerd's status, an error
/// of Docker's form.
fn is_own_refusal(call: &Call, [direct, face]: &[Answer; 2]) -> bool {
    let is_error = face.json()["message"].as_str().is_some_and(|message| message.contains("platform"));
    call.target.contains("platform=") && direct.status == face.status && face.code() == 400 && is_error
}

/// The call with its `{names}` filled in.
fn said(call: &Call, words: &HashMap<String, String>) -> Call {
    let filled = |text: &str| {
        words.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    };
    let mut call = call.clone();
    call.target = filled(&call.target);
    if let Ok(text) = std::str::from_utf8(&call.body) {
        call.body = filled(text).into_bytes();
    }
    call
}
