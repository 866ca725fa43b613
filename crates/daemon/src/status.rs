//! What is known, as the control API tells it.

use std::time::UNIX_EPOCH;

use dhow_engine::{Event, Snapshot, Timed};
use dhow_home::{Home, process};
use dhow_model::{MachineName, State};
use dhow_proto::{control, supervisor};

/// A machine with its figures.
pub fn machine(home: &Home, name: &MachineName, snapshot: Snapshot) -> control::Machine {
    let Snapshot { state, trouble, spec, status, retries, timeline } = snapshot;
    let dir = home.machine(name);
    let rss = |pid: u32| if pid == 0 { 0 } else { process::resident_bytes(pid) };
    control::Machine {
        name: name.to_string(),
        state: state.unwrap_or(State::Absent).to_string(),
        trouble,
        arch: spec.as_ref().map(|s| s.arch.to_string()).unwrap_or_default(),
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
        warnings: status.translators.as_ref().map(|t| t.warnings.clone()).unwrap_or_default(),
        translators: status
            .translators
            .map(|t| t.given)
            .unwrap_or_default()
            .into_iter()
            .map(translator)
            .collect(),
    }
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
    let since_1970 = event.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    control::Event {
        unix_nanos: u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX),
        machine: event.machine.to_string(),
        from: event.from.to_string(),
        to: event.to.to_string(),
        reason: event.reason.clone(),
    }
}
