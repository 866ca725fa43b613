//! The gates in their order: observe, judge, and where something failed, look whether it fails without translation as well.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dhow_model::Arch;
use dhow_model::translator::Translator;

use crate::checks::{self, Check, Gate};
use crate::docker::{Docker, Spec};
use crate::error::Result;
use crate::images::{Images, Source};
use crate::judge::{Expect, Judged, Text, Verdict, compared, in_time, judge};
use crate::project;
use crate::report::{
    CheckReport, Counts, FORMAT, Outcome, Report, Surroundings, TranslatorReport, day, tail,
};
use crate::seen::{End, Seen};

/// Where progress is told: one line on what is done now.
pub type Tell<'a> = dyn FnMut(&str) + 'a;

/// For an image to be pulled over a slow line.
pub const PULL: Duration = Duration::from_secs(900);

/// What to verify.
#[derive(Debug, Clone)]
pub struct Request {
    /// A name for this run: it stands on everything that the run makes.
    pub run: String,
    /// The architecture whose programs are translated.
    pub arch: Arch,
    /// The gates; the first is always passed first.
    pub gates: Vec<Gate>,
    /// Only these checks of gates B and C, by name; none: all.
    pub checks: Vec<String>,
    /// Where images come from.
    pub source: Source,
    /// Leave the images in the engine.
    pub keep: bool,
    /// No program may take longer than this; none: each has its own limit.
    pub at_most: Option<Duration>,
    /// How long a pull may take.
    pub pull: Duration,
    /// What is known of who translates.
    pub serving: Serving,
    /// What the caller knows of where it runs; the engine's own part is filled in.
    pub surroundings: Surroundings,
}

impl Request {
    /// Whether a check of gate B or C is asked for.
    fn asks(&self, check: &str) -> bool {
        self.checks.is_empty() || self.checks.iter().any(|name| name == check)
    }
}

/// The names of the checks of gates B and C for programs of `arch`, in their order.
#[must_use]
pub fn names(arch: Arch) -> Vec<&'static str> {
    let programs = checks::programs(arch, None).into_iter().map(|check| check.name);
    programs.chain(project::BUILDS.map(|(name, ..)| name)).chain([project::NAME]).collect()
}

/// Who translates, as far as the caller knows.
#[derive(Debug, Clone, Default)]
pub struct Serving {
    /// The row of Dhow's table.
    pub translator: Option<&'static Translator>,
    /// As it says itself.
    pub version: String,
    /// Digest of its file.
    pub sha256: String,
    /// Why nothing may be expected to run: no translator is provisioned, or the guest could not register it.
    pub problem: Option<String>,
}

/// Runs the gates. Whatever goes wrong is part of the report; what the run made is removed.
pub async fn verify(docker: &Docker, request: &Request, tell: &mut Tell<'_>) -> Report {
    let began = Instant::now();
    let mut surroundings = request.surroundings.clone();
    surroundings.date = day(now());
    surroundings.translator = request.serving.translator.map(|row| TranslatorReport {
        name: row.name,
        version: request.serving.version.clone(),
        sha256: request.serving.sha256.clone(),
        gaps: row.gaps.iter().map(|gap| (*gap).to_owned()).collect(),
    });
    let mut report = Report {
        format: FORMAT,
        result: Outcome::Infra,
        summary: String::new(),
        arch: request.arch,
        surroundings,
        counts: Counts::default(),
        checks: Vec::new(),
        images: Vec::new(),
        took_ms: 0,
    };
    let mut images = Images::new(docker, &request.source, request.pull);
    let blocked = Gates { docker, request, images: &mut images, report: &mut report }.pass(tell).await;
    report.images = images.reports();
    tell("cleaning up");
    if !request.keep {
        images.remove().await;
    }
    clean(docker, &request.run).await;
    report.took_ms = millis(began);
    report.conclude(blocked);
    report
}

/// Removes what a run made, as far as the engine answers; for a run that is given up in the middle.
pub async fn clean(docker: &Docker, run: &str) {
    // What is left stays labelled, and the next run prunes it.
    for id in docker.containers_of(run).await.unwrap_or_default() {
        docker.remove_container(&id).await.ok();
    }
    project::clean(docker, run).await;
}

struct Gates<'r, 'i> {
    docker: &'r Docker,
    request: &'r Request,
    images: &'i mut Images<'r>,
    report: &'i mut Report,
}

impl Gates<'_, '_> {
    /// Whether gate A was not passed.
    async fn pass(&mut self, tell: &mut Tell<'_>) -> bool {
        let arch = self.request.arch;
        let native = match self.engine().await {
            Ok(native) => native,
            Err(why) => {
                self.push(Gate::A, "engine", ENGINE, infra(&why), None);
                self.skip(true);
                return true;
            }
        };
        let passed = self.gate_a(native, tell).await;
        if !passed {
            self.skip(false);
            return true;
        }
        if self.request.gates.contains(&Gate::B) {
            let programs = checks::programs(arch, self.request.serving.translator);
            for check in programs.into_iter().filter(|check| self.request.asks(check.name)) {
                self.check(&check, arch, Some(native), tell).await;
            }
        }
        if self.request.gates.contains(&Gate::C) {
            self.gate_c(native, tell).await;
        }
        false
    }

    /// Asks the engine who it is; its architecture.
    async fn engine(&mut self) -> Result<Arch, String> {
        let words = |error: crate::Error| error.to_string();
        let version = self.docker.version().await.map_err(words)?;
        let info = self.docker.info().await.map_err(words)?;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let told = text(&info["Architecture"]);
        let surroundings = &mut self.report.surroundings;
        surroundings.engine = format!("Docker {}", text(&version["Version"]));
        surroundings.engine_kernel = text(&version["KernelVersion"]);
        surroundings.engine_arch.clone_from(&told);
        // Leftovers of runs that were killed; that they cannot be removed changes nothing.
        self.docker.prune_leftovers().await.ok();
        let native: Arch = told.parse().map_err(|error: dhow_model::arch::UnknownArch| error.to_string())?;
        if native == self.request.arch {
            return Err(format!("{native} is the engine's own architecture: nothing is translated"));
        }
        Ok(native)
    }

    async fn gate_a(&mut self, native: Arch, tell: &mut Tell<'_>) -> bool {
        let arch = self.request.arch;
        let ours = self.check(&checks::machine(NATIVE, native), native, None, tell).await;
        let took = self.report.checks.last().map_or(0, |check| check.took_ms);
        let patience = patience(Duration::from_millis(took));
        self.docker.be_patient(patience);
        self.report.surroundings.patience = patience;
        if let Some(problem) = &self.request.serving.problem {
            self.push(Gate::A, REGISTERED, REGISTERED_ABOUT, infra(problem), None);
            return false;
        }
        if self.request.serving.translator.is_some() {
            let fine = Judged { verdict: Verdict::Pass, reason: String::new() };
            self.push(Gate::A, REGISTERED, REGISTERED_ABOUT, fine, None);
        }
        let theirs = self.check(&checks::machine(FOREIGN, arch), arch, None, tell).await;
        ours == Verdict::Pass && theirs == Verdict::Pass
    }

    async fn gate_c(&mut self, native: Arch, tell: &mut Tell<'_>) {
        let arch = self.request.arch;
        let offered = project::builders(self.docker).await;
        for (name, about, builder) in project::BUILDS {
            if !self.request.asks(name) {
                continue;
            }
            if !offered.contains(&builder) {
                self.push(Gate::C, name, about, infra("the engine does not offer it"), None);
                continue;
            }
            tell(&format!("C: {name}"));
            let (docker, request) = (self.docker, self.request);
            let built = |image: Result<String, String>, arch| async move {
                match image {
                    Ok(image) => project::build(docker, &request.run, builder, &image, arch).await,
                    Err(why) => Seen::nothing(End::NoImage(why)),
                }
            };
            let image = self.images.made(crate::Image::Busybox, arch, tell).await;
            let began = Instant::now();
            let seen = built(image, arch).await;
            let took = millis(began);
            let mut judged = judge(&project::built(arch), None, &seen);
            let mut beside = None;
            if judged.verdict == Verdict::Fail {
                let image = self.images.made(crate::Image::Busybox, native, tell).await;
                let control = judge(&project::built(native), None, &built(image, native).await);
                beside = Some(control.verdict);
                judged = compared(judged, Some(&control));
            }
            self.push_seen(Gate::C, name, about, judged, &seen, took, beside);
        }
        if !self.request.asks(project::NAME) {
            return;
        }
        tell(&format!("C: {}", project::NAME));
        let both = (
            self.images.made(crate::Image::Busybox, native, tell).await,
            self.images.made(crate::Image::Busybox, arch, tell).await,
        );
        let began = Instant::now();
        let seen = match both {
            (Ok(ours), Ok(theirs)) => {
                project::mixed(
                    self.docker,
                    &self.request.run,
                    [(native, ours.as_str()), (arch, theirs.as_str())],
                )
                .await
            }
            (Err(why), _) | (_, Err(why)) => Seen::nothing(End::NoImage(why)),
        };
        let took = millis(began);
        let judged = judge(&project::expected(native, arch), None, &seen);
        self.push_seen(Gate::C, project::NAME, project::ABOUT, judged, &seen, took, None);
    }

    /// One program. `native`: the architecture to try it with, too, if it fails.
    async fn check(
        &mut self,
        check: &Check,
        arch: Arch,
        native: Option<Arch>,
        tell: &mut Tell<'_>,
    ) -> Verdict {
        tell(&format!("{}: {}", check.gate, check.name));
        // That an image is made and loaded is no part of how long its program takes.
        let ready = self.images.of(check, arch, tell).await;
        let began = Instant::now();
        let seen = self.seen(check, arch, ready).await;
        let took = millis(began);
        let mut judged = judge(&timed(&check.expect), check.gap.as_ref(), &seen);
        let mut beside = None;
        if judged.verdict == Verdict::Fail
            && let Some(native) = native
            && let Some(control) = checks::programs(native, None).into_iter().find(|c| c.name == check.name)
        {
            tell(&format!("{}: {} failed; trying it without translation", check.gate, check.name));
            let ready = self.images.of(&control, native, tell).await;
            let alone = Instant::now();
            let control = judge(&timed(&control.expect), None, &self.seen(&control, native, ready).await);
            beside = Some(control.verdict);
            judged = compared(judged, Some(&control));
            if let (End::TimedOut(limit), Verdict::Fail) = (&seen.end, judged.verdict) {
                judged = in_time(judged, *limit, alone.elapsed());
            }
        }
        let verdict = judged.verdict;
        self.push_seen(check.gate, check.name, check.about, judged, &seen, took, beside);
        verdict
    }

    /// `ready`: image and command.
    async fn seen(&self, check: &Check, arch: Arch, ready: Result<(String, Vec<String>), String>) -> Seen {
        let (image, command) = match ready {
            Ok(found) => found,
            Err(why) => return Seen::nothing(End::NoImage(why)),
        };
        let environment =
            self.request.serving.translator.map(|row| row.environment).unwrap_or_default().iter();
        let spec = Spec {
            image,
            command,
            environment: environment.map(|(name, value)| format!("{name}={value}")).collect(),
            user: check.user.to_owned(),
            ..Spec::default()
        };
        let limit = self.request.at_most.map_or(check.limit, |most| most.min(check.limit));
        match check.signal {
            None => self.docker.seen(&self.request.run, arch, &spec, limit).await,
            Some(signal) => {
                project::signalled(self.docker, &self.request.run, arch, &spec, signal, limit).await
            }
        }
    }

    /// What is not tried stands in the report, so that nobody takes it for passed.
    fn skip(&mut self, gate_a: bool) {
        let arch = self.request.arch;
        let mut rest: Vec<(Gate, &str, &str)> = Vec::new();
        if gate_a {
            rest.extend([(Gate::A, NATIVE, ""), (Gate::A, FOREIGN, "")]);
        } else if !self.report.checks.iter().any(|check| check.name == FOREIGN) {
            rest.push((Gate::A, FOREIGN, ""));
        }
        let programs = checks::programs(arch, None);
        rest.extend(programs.iter().map(|check| (check.gate, check.name, check.about)));
        rest.extend(project::BUILDS.map(|(name, about, _)| (Gate::C, name, about)));
        rest.push((Gate::C, project::NAME, project::ABOUT));
        for (gate, name, about) in rest {
            if gate == Gate::A || (self.request.gates.contains(&gate) && self.request.asks(name)) {
                self.report.checks.push(CheckReport {
                    gate,
                    name: name.to_owned(),
                    about: about.to_owned(),
                    verdict: None,
                    reason: "gate A was not passed".to_owned(),
                    took_ms: 0,
                    exit: None,
                    stdout: String::new(),
                    stderr: String::new(),
                    native: None,
                });
            }
        }
    }

    fn push(&mut self, gate: Gate, name: &str, about: &str, judged: Judged, native: Option<Verdict>) {
        let nothing = Seen::nothing(End::Refused(String::new()));
        self.push_seen(gate, name, about, judged, &nothing, 0, native);
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one record")]
    fn push_seen(
        &mut self,
        gate: Gate,
        name: &str,
        about: &str,
        judged: Judged,
        seen: &Seen,
        took_ms: u64,
        native: Option<Verdict>,
    ) {
        self.report.checks.push(CheckReport {
            gate,
            name: name.to_owned(),
            about: about.to_owned(),
            verdict: Some(judged.verdict),
            reason: judged.reason,
            took_ms,
            exit: if let End::Exited(exit) = seen.end { Some(exit) } else { None },
            stdout: tail(&seen.stdout),
            stderr: tail(&seen.stderr),
            native,
        });
    }
}

/// Names of gate A's checks.
const ENGINE: &str = "the engine answers, and has another architecture than the programs";
const NATIVE: &str = "native machine";
const FOREIGN: &str = "foreign machine";
const REGISTERED: &str = "registered";
const REGISTERED_ABOUT: &str =
    "the guest's kernel has the translator registered, and the translator ran a test program";

fn infra(why: &str) -> Judged {
    Judged { verdict: Verdict::Infra, reason: why.to_owned() }
}

/// What a container of the engine's own architecture takes under software emulation on a quiet computer, which the limits are made for.
const USUAL: Duration = Duration::from_secs(3);
/// Beyond this, waiting longer would prove nothing.
const MOST: u32 = 8;

/// How many times their time the checks are given on an engine that takes so long for a program of its own.
fn patience(native: Duration) -> u32 {
    u32::try_from(native.as_millis().div_ceil(USUAL.as_millis())).unwrap_or(MOST).clamp(1, MOST)
}

/// What is compared with the clock is compared with what it says now.
fn timed(expect: &Expect) -> Expect {
    let mut expect = expect.clone();
    if let Text::Clock { from, .. } = &mut expect.stdout {
        *from = now();
    }
    expect
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn millis(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issue 6: a limit that is missed for want of a processor is nobody's failure, so that limits are a matter of the machine's speed.
    #[test]
    fn a_slow_machine_is_given_more_time_and_not_without_end() {
        for (millis, times) in [(0, 1), (300, 1), (3000, 1), (3001, 2), (9_800, 4), (60_000, 8), (1 << 40, 8)]
        {
            assert_eq!(patience(Duration::from_millis(millis)), times, "{millis}");
        }
    }
}
