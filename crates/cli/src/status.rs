//! `dhow status`: what runs, what it costs and what is wrong. Never starts a daemon.

pub mod table;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dhow_model::MachineName;
use dhow_proto::control::{self, StatusReply};
use serde::Serialize;

use crate::client::{Daemon, Deadline};
use crate::command::Caller;
use crate::down::supervised;
use crate::error::Result;
use crate::exit;
use crate::launch;
use crate::sleep::saved;
use crate::text;

/// What `dhow status --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Whether the native machine runs, or sleeps and wakes at the next request: the exit status.
    pub running: bool,
    /// Dhow's directory.
    pub home: String,
    /// The Docker API's socket.
    pub docker_socket: String,
    /// Null when none runs.
    pub daemon: Option<DaemonStatus>,
    /// Every machine that the daemon knows.
    pub machines: Vec<Machine>,
    /// Machines that run although no daemon does.
    pub without_daemon: Vec<String>,
    /// Machines that sleep on disk, where no daemon runs.
    pub saved: Vec<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// The daemon that runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DaemonStatus {
    version: String,
    protocol: u32,
    pid: u32,
    rss_bytes: u64,
    uptime_seconds: u64,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    name: String,
    state: String,
    /// Null when nothing is wrong.
    trouble: Option<String>,
    arch: String,
    /// Whether its architecture is not this computer's.
    emulated: bool,
    accelerator: String,
    channel: String,
    cpus: u32,
    memory_bytes: u64,
    memory_available_bytes: u64,
    disk_bytes: u64,
    disk_free_bytes: u64,
    disk_allocated_bytes: u64,
    supervisor_pid: u32,
    supervisor_rss_bytes: u64,
    hypervisor_pid: u32,
    hypervisor_rss_bytes: u64,
    /// What both and the guest's memory cost this computer, each page once.
    memory_cost_bytes: u64,
    /// Null when it does not run.
    uptime_seconds: Option<u64>,
    guest_kernel: String,
    agent_version: String,
    retries: u32,
    services: Vec<Service>,
    /// What runs programs of other architectures in it, as its kernel tells.
    translators: Vec<Translator>,
    /// What a person should know of it.
    warnings: Vec<String>,
    /// How it sleeps; null until it first did.
    sleep: Option<Sleep>,
    /// What keeps it awake; null when nothing does.
    awake_because: Option<String>,
    /// When it is put to sleep if nothing happens; null when it is not.
    sleeps_in_seconds: Option<u64>,
    /// What passes through its gateway; null when it does not run.
    network: Option<Network>,
    /// The last start, step by step.
    timeline: Vec<Step>,
}

/// How a machine sleeps and wakes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sleep {
    /// Since when it sleeps; null while it is awake.
    asleep_seconds: Option<u64>,
    /// Why it went to sleep last, and what woke it last; null when that is not known.
    why: Option<String>,
    woken_by: Option<String>,
    /// What its state takes on this computer's disk now.
    state_bytes: u64,
    /// How often it slept since its supervisor started.
    slept: u32,
    /// How long the last wake took; null when there was none.
    last_wake_seconds: Option<f64>,
    /// The steps of both, last time.
    saving: Vec<Step>,
    waking: Vec<Step>,
    /// Why a saved state was not used; null when all were. It is kept.
    set_aside: Option<String>,
    set_aside_bytes: u64,
}

/// A service in a machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Service {
    name: String,
    state: String,
    restarts: u32,
    last_exit: String,
}

/// A translator in a machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Translator {
    name: String,
    /// The architecture of the programs that it runs.
    serves: String,
    version: String,
    /// Null when it serves.
    problem: Option<String>,
}

/// What passes through a machine's gateway.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Network {
    tcp_flows: u64,
    udp_flows: u64,
    icmp_flows: u64,
    half_open: u64,
    bytes_to_guest: u64,
    bytes_from_guest: u64,
    /// Packets that went nowhere, by the reason.
    drops: BTreeMap<String, u64>,
}

/// A step of a start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// daemon, host, guest.
    #[serde(rename = "where")]
    pub place: String,
    /// What was done.
    pub name: String,
    /// When it began, seconds since the start began.
    pub began_seconds: f64,
    /// How long it took.
    pub took_seconds: f64,
    /// More about it.
    pub detail: String,
}

/// Shows how the engine is.
///
/// # Errors
/// When a daemon is there and does not answer.
pub async fn status(caller: &Caller, timeline: bool) -> Result<u8> {
    let deadline = Deadline::after(caller.time_limit.unwrap_or(launch::CALL));
    let status = look(caller, deadline).await?;
    for warning in &status.warnings {
        caller.output.warn(warning);
    }
    caller.output.answer(&table::render(&status, timeline, caller.output.stdout), &status)?;
    Ok(if status.running { exit::OK } else { exit::NOT_RUNNING })
}

async fn look(caller: &Caller, deadline: Deadline) -> Result<Status> {
    match Daemon::reach(&caller.home.control_socket(), deadline).await? {
        Some(mut daemon) => {
            let reply = daemon.status(deadline).await?;
            let mut status = running(reply, daemon.version.protocol, now_nanos());
            status.warnings.extend(daemon.other_version());
            Ok(status)
        }
        None => {
            let mut status = without_daemon(caller, &supervised(&caller.home)?);
            status.saved = saved(&caller.home).iter().map(ToString::to_string).collect();
            Ok(status)
        }
    }
}

fn without_daemon(caller: &Caller, machines: &[MachineName]) -> Status {
    let without_daemon: Vec<_> = machines.iter().map(ToString::to_string).collect();
    let warnings = if without_daemon.is_empty() {
        Vec::new()
    } else {
        let names = without_daemon.join(", ");
        vec![format!(
            "{names} runs without a daemon; `dhow up` starts one that takes over, `dhow down` stops it"
        )]
    };
    Status {
        running: false,
        home: caller.home.root().display().to_string(),
        docker_socket: caller.home.docker_socket().display().to_string(),
        daemon: None,
        machines: Vec::new(),
        without_daemon,
        saved: Vec::new(),
        warnings,
    }
}

fn running(reply: StatusReply, protocol: u32, now: u64) -> Status {
    let native = MachineName::native();
    // One that sleeps answers the next request.
    let states = ["running", "idle", "suspending", "suspended"];
    let serves = |m: &control::Machine| m.name == native.as_str() && states.contains(&m.state.as_str());
    Status {
        running: reply.machines.iter().any(serves),
        home: reply.home,
        docker_socket: reply.docker_socket,
        daemon: Some(DaemonStatus {
            version: reply.version,
            protocol,
            pid: reply.pid,
            rss_bytes: reply.rss_bytes,
            uptime_seconds: since(reply.started_unix_nanos, now).unwrap_or_default(),
        }),
        machines: reply.machines.into_iter().map(|m| machine(m, now)).collect(),
        without_daemon: Vec::new(),
        saved: Vec::new(),
        warnings: Vec::new(),
    }
}

fn machine(m: control::Machine, now: u64) -> Machine {
    let runs = m.hypervisor_pid != 0;
    Machine {
        sleep: m.sleep.map(|sleep| self::sleep(&sleep, now)),
        awake_because: words(&m.awake_because),
        sleeps_in_seconds: (m.sleeps_at_unix_nanos != 0)
            .then(|| m.sleeps_at_unix_nanos.saturating_sub(now) / 1_000_000_000),
        uptime_seconds: since(m.started_unix_nanos, now).filter(|_| runs),
        trouble: Some(text::harmless(&m.trouble)).filter(|t| !t.is_empty()),
        services: m.services.into_iter().map(service).collect(),
        translators: m.translators.into_iter().map(translator).collect(),
        warnings: m.warnings.iter().map(|warning| text::one_line(warning)).collect(),
        network: m.network.map(network),
        timeline: steps(&m.timeline),
        name: m.name,
        state: m.state,
        emulated: m.emulated,
        arch: m.arch,
        accelerator: m.accelerator,
        channel: m.channel,
        cpus: m.cpus,
        memory_bytes: m.memory_bytes,
        memory_available_bytes: m.memory_available_bytes,
        disk_bytes: m.disk_bytes,
        disk_free_bytes: m.disk_free_bytes,
        disk_allocated_bytes: m.disk_allocated_bytes,
        supervisor_pid: m.supervisor_pid,
        supervisor_rss_bytes: m.supervisor_rss_bytes,
        hypervisor_pid: m.hypervisor_pid,
        hypervisor_rss_bytes: m.hypervisor_rss_bytes,
        memory_cost_bytes: m.memory_cost_bytes,
        guest_kernel: text::one_line(&m.guest_kernel),
        agent_version: text::one_line(&m.agent_version),
        retries: m.retries,
    }
}

fn sleep(s: &control::Sleep, now: u64) -> Sleep {
    let waking = steps(&s.waking);
    let end = waking.iter().map(|step| step.began_seconds + step.took_seconds).reduce(f64::max);
    Sleep {
        asleep_seconds: since(s.since_unix_nanos, now),
        why: words(&s.why),
        woken_by: words(&s.woken_by),
        state_bytes: s.bytes,
        slept: s.slept,
        last_wake_seconds: end,
        saving: steps(&s.saving),
        waking,
        set_aside: words(&s.set_aside),
        set_aside_bytes: s.set_aside_bytes,
    }
}

/// What there is to read, on one line.
fn words(told: &str) -> Option<String> {
    Some(text::one_line(told)).filter(|words| !words.is_empty())
}

fn network(n: control::Network) -> Network {
    Network {
        tcp_flows: n.tcp_flows,
        udp_flows: n.udp_flows,
        icmp_flows: n.icmp_flows,
        half_open: n.half_open,
        bytes_to_guest: n.bytes_to_guest,
        bytes_from_guest: n.bytes_from_guest,
        drops: n.drops.into_iter().collect(),
    }
}

fn translator(t: control::Translator) -> Translator {
    Translator {
        name: text::one_line(&t.name),
        serves: text::one_line(&t.serves),
        version: text::one_line(&t.version),
        problem: Some(text::one_line(&t.problem)).filter(|problem| !problem.is_empty()),
    }
}

fn service(s: control::Service) -> Service {
    Service {
        name: text::one_line(&s.name),
        state: text::one_line(&s.state),
        restarts: s.restarts,
        last_exit: text::one_line(&s.last_exit),
    }
}

/// A timeline with times in seconds.
#[must_use]
pub fn steps(timeline: &[control::TimedStep]) -> Vec<Step> {
    let seconds = |micros| Duration::from_micros(micros).as_secs_f64();
    let step = |s: &control::TimedStep| Step {
        place: text::one_line(&s.r#where),
        name: text::one_line(&s.name),
        began_seconds: seconds(s.began_us),
        took_seconds: seconds(s.took_us),
        detail: text::one_line(&s.detail),
    };
    timeline.iter().map(step).collect()
}

/// Whole seconds since a moment; `None` for one that never was or is still to come.
fn since(nanos: u64, now: u64) -> Option<u64> {
    if nanos == 0 { None } else { now.checked_sub(nanos).map(|n| n / 1_000_000_000) }
}

fn now_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
