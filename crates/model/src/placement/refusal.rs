//! The texts of decisions and refusals: what was asked, why it cannot be, and what to do.

use std::fmt;

use super::{Bound, ForeignMachine, Host};
use crate::translator::{State, default_list};
use crate::{Arch, Platform, TranslatorName};

/// Why a workload is not admitted, as the Docker API says it.
///
/// The status is 400 throughout. A 404 would make clients pull the image and try again, a 409 or 5xx would make some of them
/// wait and repeat: what is refused here stays refused until somebody changes the configuration or provisions a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// What happened, why, and what to type next.
    pub message: String,
}

/// Characters of a project's name that are shown.
const LONGEST_NAME: usize = 64;

impl Refusal {
    fn new(message: String) -> Self {
        Self { status: 400, message }
    }
}

/// A platform, and why it is the one that counts.
pub(super) enum Subject<'a> {
    /// The request names it.
    Asked(&'a Platform),
    /// The request names none, and the image is there only for others such as this one.
    Image(&'a Platform),
    /// The request names none, and the image is there for the native one.
    NativeImage(&'a Platform),
    /// The request names none, and the image is nowhere.
    NoImage(&'a Platform),
}

impl Subject<'_> {
    pub(super) const fn platform(&self) -> &Platform {
        match self {
            Self::Asked(platform)
            | Self::Image(platform)
            | Self::NativeImage(platform)
            | Self::NoImage(platform) => platform,
        }
    }
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asked(platform) => write!(f, "platform {platform} was asked for"),
            Self::Image(platform) => write!(f, "the image exists only for {platform}"),
            Self::NativeImage(platform) => {
                write!(f, "no platform was asked for, and the image exists for {platform}")
            }
            Self::NoImage(platform) => {
                write!(f, "no platform was asked for, which means {platform}")
            }
        }
    }
}

/// The reason of a build for several platforms.
pub(super) fn several(platforms: &[Platform]) -> String {
    let names: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    format!("platforms {} were asked for", and(&names))
}

/// No translator of the list can serve, or the list is empty.
pub(super) fn unprovisioned(serves: Arch, list: &[(TranslatorName, State)], subject: &Subject) -> Refusal {
    if list.is_empty() {
        let usual = default_list(serves).first().map_or("qemu", |name| name.as_str());
        return Refusal::new(format!(
            "{subject}, and no translator may run {serves} programs here: translators.{serves} is an empty list; \
             name one that may, such as `dhow config set translators.{serves} {usual}`"
        ));
    }
    let reasons = list.iter().filter_map(|(_, state)| state.as_ref().err().map(ToString::to_string));
    let reasons: Vec<String> = reasons.collect();
    Refusal::new(format!("{subject}, and nothing can run {serves} programs here: {}", reasons.join("; ")))
}

/// No list serves its architecture.
pub(super) fn unknown(host: &Host, subject: &Subject) -> Refusal {
    let (native, cpu) = (host.native.arch, subject.platform().cpu());
    let served = host.translators.iter().filter(|served| served.arch != native);
    let served: String =
        served.map(|served| format!(", and linux/{} through a translator", served.arch)).collect();
    Refusal::new(format!(
        "{subject}, and no translator that Dhow knows runs {cpu} programs on {native}: \
         this engine runs linux/{native}{served}; choose an image for one of these"
    ))
}

/// The placement asks for a machine that the host cannot offer.
pub(super) fn not_offered(host: &Host, why: &str, subject: &Subject) -> Refusal {
    Refusal::new(format!(
        "{subject}, which the foreign machine runs (workloads.placement is \"foreign-machine\"), and this host, {}, \
         cannot offer one: {why}; with `dhow config set workloads.placement native-machine && dhow up` a translator runs it \
         in the native machine",
        host.name,
    ))
}

/// The foreign machine's architecture is not this one either.
pub(super) fn not_hosted(host: &Host, machine: &ForeignMachine, subject: &Subject) -> Refusal {
    let hosted = Arch::ALL.into_iter().map(Platform::of).filter(|platform| machine.hosts(platform).is_some());
    let mut hosted: Vec<String> = hosted.map(|platform| platform.to_string()).collect();
    // What it runs by itself comes first.
    hosted.sort_by_key(|platform| !platform.ends_with(machine.guest.arch.debian()));
    Refusal::new(format!(
        "{subject}, and neither of this engine's machines runs {} programs: the native one runs linux/{}, and \
         the foreign one, which the host ({}) offers, runs {}; choose an image for one of these",
        subject.platform().cpu(),
        host.native.arch,
        host.name,
        and(&hosted),
    ))
}

/// A service that the project's machine cannot run.
pub(super) fn bound_elsewhere(bound: &Bound, subject: &Subject) -> Refusal {
    let project: String = bound.project.chars().take(LONGEST_NAME).collect();
    Refusal::new(format!(
        "{subject}, and the Compose project {project:?} is bound to the {} machine, which does not run {}: \
         give all services of a project platforms that one machine runs, divide it into two projects, or \
         `dhow config set workloads.placement native-machine && dhow up`, where projects mix platforms freely",
        bound.role,
        subject.platform(),
    ))
}

/// One build that needs both machines.
pub(super) fn mixed_build(native: &Platform, foreign: &Platform) -> Refusal {
    Refusal::new(format!(
        "one build cannot be for {native}, which the native machine runs, and for {foreign}, which the foreign one \
         runs (workloads.placement is \"foreign-machine\"): build for each platform by itself, or \
         `dhow config set workloads.placement native-machine && dhow up`, where one machine builds both"
    ))
}

/// "a", "a and b", "a, b and c".
fn and(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [word] => word.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
