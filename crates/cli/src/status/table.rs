//! The status as a person reads it.

use std::time::Duration;

use dhow_model::MachineName;

use super::{DaemonStatus, Machine, Network, Status, Step, Translator};
use crate::output::Style;
use crate::text;

/// How wide the names are.
const WIDTH: usize = 12;

/// The whole status.
#[must_use]
pub fn render(status: &Status, timeline: bool, style: Style) -> String {
    let mut out = String::new();
    row(&mut out, "engine", &headline(status, style));
    row(&mut out, "docker", &format!("unix://{}", status.docker_socket));
    row(&mut out, "daemon", &daemon(status.daemon.as_ref(), style));
    for machine in &status.machines {
        out.push('\n');
        rows(&mut out, machine, style);
        if timeline {
            steps(&mut out, &machine.timeline, style);
            if let Some(sleep) = machine.sleep.as_ref().filter(|sleep| !sleep.waking.is_empty()) {
                steps(&mut out, &sleep.waking, style);
            }
        }
    }
    out
}

fn headline(status: &Status, style: Style) -> String {
    let home = style.dim(&format!("({})", status.home));
    if !status.without_daemon.is_empty() {
        let names = status.without_daemon.join(", ");
        let asleep = status.without_daemon.iter().all(|name| status.saved.contains(name));
        let does = if asleep { "sleeps" } else { "runs" };
        return format!("{} {home}", style.warning(&format!("{names} {does} without a daemon")));
    }
    let native = status.machines.iter().find(|m| m.name == MachineName::native().as_str());
    match native.map(|m| m.state.as_str()) {
        Some("running" | "idle") => format!("{} {home}", style.good("running")),
        Some("suspended") => format!("{} {home}; the next request wakes it", style.good("asleep")),
        Some(state @ ("starting" | "stopping" | "suspending")) => format!("{} {home}", style.warning(state)),
        Some("rescue") => {
            format!("{} {home}; `dhow rescue list` shows what can be saved", style.bad("in rescue"))
        }
        Some("failed") => format!("{} {home}; `dhow up` starts it again", style.bad("failed")),
        _ if !status.saved.is_empty() => {
            format!("{} {home}; `dhow up` goes on where it was", style.warning("saved to disk"))
        }
        _ => format!("{} {home}; `dhow up` starts it", style.warning("not running")),
    }
}

fn daemon(daemon: Option<&DaemonStatus>, style: Style) -> String {
    match daemon {
        None => style.dim("not running"),
        Some(d) => format!(
            "version {}, process {}, up {}, {}",
            d.version,
            d.pid,
            text::uptime(Duration::from_secs(d.uptime_seconds)),
            text::bytes(d.rss_bytes)
        ),
    }
}

fn rows(out: &mut String, m: &Machine, style: Style) {
    let up = m.uptime_seconds.map(|s| format!(", up {}", text::uptime(Duration::from_secs(s))));
    let state = match m.state.as_str() {
        "running" | "idle" | "suspended" => style.good(&m.state),
        "failed" | "rescue" => style.bad(&m.state),
        other => style.warning(other),
    };
    row(out, "machine", &format!("{}: {state}{}", style.bold(&m.name), up.unwrap_or_default()));
    if let Some(trouble) = &m.trouble {
        row(out, "trouble", &style.bad(&trouble.replace('\n', &format!("\n{:WIDTH$}", ""))));
    }
    if m.cpus == 0 {
        // It was never made, so there is nothing to tell of it.
        return;
    }
    row(out, "guest", &guest(m));
    row(out, "cpus", &format!("{} ({})", m.cpus, given(&m.accelerator)));
    row(out, "memory", &memory(m));
    row(out, "disk", &disk(m));
    if let Some(sleep) = sleep(m) {
        row(out, "sleep", &sleep);
    }
    row(out, "channel", given(&m.channel));
    if let Some(network) = &m.network {
        row(out, "network", &self::network(network));
    }
    for service in &m.services {
        let mut words = service.state.clone();
        if service.restarts > 0 {
            words.push_str(&format!(", restarted {}×, last end: {}", service.restarts, service.last_exit));
        }
        row(out, &service.name, &words);
    }
    for translator in &m.translators {
        row(out, &format!("runs {}", translator.serves), &self::translator(translator, style));
    }
    for warning in &m.warnings {
        row(out, "warning", &style.warning(warning));
    }
    if m.retries > 0 {
        row(out, "retries", &m.retries.to_string());
    }
}

fn guest(m: &Machine) -> String {
    let mut words = m.arch.clone();
    if m.emulated {
        words.push_str(", emulated: slow");
    }
    if !m.guest_kernel.is_empty() {
        words.push_str(&format!(", Linux {}", m.guest_kernel));
    }
    if !m.agent_version.is_empty() {
        words.push_str(&format!(", agent {}", m.agent_version));
    }
    words
}

/// What the guest sees and what it really costs: the guest's memory is given as it is used.
fn memory(m: &Machine) -> String {
    let mut words = text::bytes(m.memory_bytes);
    if m.memory_available_bytes > 0 {
        words.push_str(&format!(", {} free in the guest", text::bytes(m.memory_available_bytes)));
    }
    // A host that does not tell more has resident memory, in which what is shared counts twice.
    let resident = m.hypervisor_rss_bytes + m.supervisor_rss_bytes;
    let cost = if m.memory_cost_bytes > 0 { m.memory_cost_bytes } else { resident };
    if cost > 0 {
        words.push_str(&format!("; costs this computer {}", text::bytes(cost)));
    }
    words
}

/// How it sleeps, or when it will; nothing where there is nothing to tell.
fn sleep(m: &Machine) -> Option<String> {
    let mut words = Vec::new();
    let sleep = m.sleep.as_ref();
    if let Some(seconds) = sleep.and_then(|sleep| sleep.asleep_seconds) {
        words.push(format!("for {}", text::uptime(Duration::from_secs(seconds))));
        words.extend(sleep.and_then(|sleep| sleep.why.clone()));
        words.push(format!("{} on disk", text::bytes(sleep.map_or(0, |sleep| sleep.state_bytes))));
    } else if let Some(because) = &m.awake_because {
        words.push(format!("no, {because}"));
    } else if let Some(seconds) = m.sleeps_in_seconds {
        words.push(format!("in {} if nothing happens", text::uptime(Duration::from_secs(seconds))));
    }
    if let Some((sleep, seconds)) = sleep.and_then(|sleep| Some((sleep, sleep.last_wake_seconds?))) {
        let by = sleep.woken_by.as_ref().map(|by| format!(" ({by})")).unwrap_or_default();
        words.push(format!("last woken in {}{by}", text::seconds(Duration::from_secs_f64(seconds))));
    }
    if let Some((sleep, why)) = sleep.and_then(|sleep| Some((sleep, sleep.set_aside.as_ref()?))) {
        words.push(format!("a saved state of {} was set aside: {why}", text::bytes(sleep.set_aside_bytes)));
    }
    (!words.is_empty()).then(|| words.join("; "))
}

fn network(n: &Network) -> String {
    let mut words = format!(
        "{} connections, {} in, {} out",
        n.tcp_flows + n.udp_flows + n.icmp_flows,
        text::bytes(n.bytes_to_guest),
        text::bytes(n.bytes_from_guest)
    );
    let dropped: u64 = n.drops.values().sum();
    if dropped > 0 {
        words.push_str(&format!(", {dropped} packets dropped"));
    }
    words
}

fn translator(t: &Translator, style: Style) -> String {
    match &t.problem {
        None => format!("{} {}", t.name, t.version).trim_end().to_owned(),
        Some(problem) => style.bad(&format!("{} does not serve: {problem}", t.name)),
    }
}

fn disk(m: &Machine) -> String {
    let mut words = text::bytes(m.disk_bytes);
    if m.disk_free_bytes > 0 {
        words.push_str(&format!(", {} used", text::bytes(m.disk_bytes.saturating_sub(m.disk_free_bytes))));
    }
    format!("{words}; takes {} here", text::bytes(m.disk_allocated_bytes))
}

/// The steps of a start, below a heading.
pub fn steps(out: &mut String, timeline: &[Step], style: Style) {
    out.push_str(&format!("\n{}\n", style.bold("   began     took  where   step")));
    for step in timeline {
        let detail =
            if step.detail.is_empty() { String::new() } else { style.dim(&format!("  {}", step.detail)) };
        out.push_str(&format!(
            "{:>6.2} s {:>6.2} s  {:<7} {}{detail}\n",
            step.began_seconds, step.took_seconds, step.place, step.name
        ));
    }
}

fn row(out: &mut String, name: &str, words: &str) {
    out.push_str(&format!("{name:<WIDTH$}{words}\n"));
}

fn given(word: &str) -> &str {
    if word.is_empty() { "not known yet" } else { word }
}
