//! What is known, as the control API tells it.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use dhow_engine::{Event, Snapshot, Timed};
use dhow_home::{Home, MachineDir, process};
use dhow_model::sleep::Decision;
use dhow_model::{Arch, MachineName, State};
use dhow_proto::{control, supervisor};

/// A machine with its figures.
pub fn machine(home: &Home, name: &MachineName, snapshot: Snapshot) -> control::Machine {
    let Snapshot { state, trouble, spec, status, retries, timeline, rest } = snapshot;
    let dir = home.machine(name);
    let rss = |pid: u32| if pid == 0 { 0 } else { process::resident_bytes(pid) };
    let unreached = status.network.iter().flat_map(|network| &network.unreached);
    let warnings = status.translators.iter().flat_map(|t| &t.warnings).chain(unreached).cloned().collect();
    let (awake_because, sleeps_at) = resting(rest, Instant::now(), SystemTime::now());
    control::Machine {
        sleep: sleep(&dir, state == Some(State::Suspended), status.sleep),
        awake_because,
        sleeps_at_unix_nanos: sleeps_at.map_or(0, unix_nanos),
        name: name.to_string(),
        state: state.unwrap_or(State::Absent).to_string(),
        trouble,
        arch: spec.as_ref().map(|s| s.arch.to_string()).unwrap_or_default(),
        emulated: spec.as_ref().is_some_and(|s| Some(s.arch) != Arch::host()),
        accelerator: spec.as_ref().map(|s| s.accelerator.to_string()).unwrap_or_default(),
        channel: status.channel,
        cpus: spec.as_ref().map_or(0, |s| s.cpus),
        memory_bytes: spec.as_ref().map_or(0, |s| s.memory.as_bytes()),
        disk_bytes: spec.as_ref().map_or(0, |s| s.disk.as_bytes()),
        disk_allocated_bytes: process::allocated_bytes(&dir.data_image()),
        supervisor_pid: status.supervisor_pid,
        hypervisor_pid: status.hypervisor_pid,
        hypervisor_rss_bytes: rss(status.hypervisor_pid),
        supervisor_rss_bytes: rss(status.supervisor_pid),
        memory_cost_bytes: process::cost_bytes(&[status.supervisor_pid, status.hypervisor_pid]),
        started_unix_nanos: status.started_unix_nanos,
        guest_kernel: status.guest_kernel,
        agent_version: status.agent_version,
        services: status
            .services
            .into_iter()
            .map(|s| control::Service {
                name: s.name,
                state: s.state,
                restarts: s.restarts,
                last_exit: s.last_exit,
            })
            .collect(),
        memory_available_bytes: status.memory_available_bytes,
        disk_free_bytes: status.disk_free_bytes,
        retries,
        timeline: timeline.into_iter().map(timed).collect(),
        network: status.network.map(network),
        translators_known: status.translators.is_some(),
        warnings,
        translators: status
            .translators
            .map(|t| t.given)
            .unwrap_or_default()
            .into_iter()
            .map(translator)
            .collect(),
    }
}

/// What keeps a machine awake, or when it is put to sleep if nothing happens.
fn resting(rest: Option<Decision>, now: Instant, clock: SystemTime) -> (String, Option<SystemTime>) {
    match rest {
        Some(Decision::Stay(busy)) => (busy.to_string(), None),
        Some(Decision::Rest { until: Some(until) }) => {
            (String::new(), Some(clock + until.saturating_duration_since(now)))
        }
        Some(Decision::Rest { until: None } | Decision::Suspend) | None => (String::new(), None),
    }
}

/// How it sleeps: as its supervisor tells, or the files where none runs.
fn sleep(dir: &MachineDir, sleeps: bool, told: Option<supervisor::Sleep>) -> Option<control::Sleep> {
    let bad = dir.sleep_bad();
    let why = std::fs::read_to_string(bad.join("why")).unwrap_or_default();
    if told.is_none() && !sleeps && why.is_empty() {
        return None;
    }
    let told = told.unwrap_or_default();
    let state = dir.sleep().join("state.json");
    let since = if sleeps { state.metadata().and_then(|m| m.modified()).map_or(0, unix_nanos) } else { 0 };
    Some(control::Sleep {
        since_unix_nanos: if told.since_unix_nanos == 0 { since } else { told.since_unix_nanos },
        bytes: allocated(&dir.sleep()),
        why: told.why,
        woken_by: told.woken_by,
        slept: told.slept,
        saving: told.saving.into_iter().map(step).collect(),
        waking: told.waking.into_iter().map(step).collect(),
        set_aside: if told.set_aside.is_empty() { why.trim().to_owned() } else { told.set_aside },
        set_aside_bytes: allocated(&bad),
    })
}

/// What the files of a directory take on the host's disk.
fn allocated(dir: &std::path::Path) -> u64 {
    let Ok(files) = std::fs::read_dir(dir) else { return 0 };
    files.flatten().map(|file| process::allocated_bytes(&file.path())).sum()
}

fn step(step: supervisor::Step) -> control::TimedStep {
    control::TimedStep {
        r#where: step.r#where,
        name: step.name,
        began_us: step.began_us,
        took_us: step.took_us,
        detail: if step.error.is_empty() { step.detail } else { step.error },
    }
}

fn unix_nanos(at: SystemTime) -> u64 {
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

fn translator(t: supervisor::Translator) -> control::Translator {
    control::Translator {
        name: t.name,
        serves: t.serves,
        sha256: t.sha256,
        problem: t.problem,
        interpreter: t.interpreter,
        flags: t.flags,
        version: t.version,
    }
}

fn network(n: supervisor::Network) -> control::Network {
    control::Network {
        tcp_flows: n.tcp_flows,
        udp_flows: n.udp_flows,
        icmp_flows: n.icmp_flows,
        half_open: n.half_open,
        bytes_to_guest: n.bytes_to_guest,
        bytes_from_guest: n.bytes_from_guest,
        drops: n.drops,
        unreached: n.unreached,
    }
}

/// A published port of a machine's.
pub fn port(machine: &MachineName, port: supervisor::PublishedPort) -> control::PublishedPort {
    control::PublishedPort {
        machine: machine.to_string(),
        protocol: port.protocol,
        host_address: port.host_address,
        host_port: port.host_port,
        container_address: port.container_address,
        container_port: port.container_port,
        container_id: port.container_id,
        container_name: port.container_name,
        since_unix_nanos: port.since_unix_nanos,
        accepted: port.accepted,
    }
}

/// A step of a start.
pub fn timed(step: Timed) -> control::TimedStep {
    let micros = |d: std::time::Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
    control::TimedStep {
        r#where: step.part,
        name: step.name,
        began_us: micros(step.began),
        took_us: micros(step.took),
        detail: step.detail,
    }
}

/// A transition.
pub fn event(event: &Event) -> control::Event {
    control::Event {
        unix_nanos: unix_nanos(event.at),
        machine: event.machine.to_string(),
        from: event.from.to_string(),
        to: event.to.to_string(),
        reason: event.reason.clone(),
    }
}
