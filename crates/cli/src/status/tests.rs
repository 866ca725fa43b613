use super::*;
use crate::output::Style;

fn reply() -> StatusReply {
    let step = |place: &str, name: &str, began_us, took_us, detail: &str| control::TimedStep {
        r#where: place.to_owned(),
        name: name.to_owned(),
        began_us,
        took_us,
        detail: detail.to_owned(),
    };
    let service = |name: &str, state: &str, restarts, last_exit: &str| control::Service {
        name: name.to_owned(),
        state: state.to_owned(),
        restarts,
        last_exit: last_exit.to_owned(),
    };
    StatusReply {
        version: "0.1.0".to_owned(),
        pid: 4711,
        home: "/home/ada/.dhow".to_owned(),
        docker_socket: "/home/ada/.dhow/run/docker.sock".to_owned(),
        rss_bytes: 11 << 20,
        started_unix_nanos: 1_000_000_000,
        machines: vec![control::Machine {
            name: "native".to_owned(),
            state: "running".to_owned(),
            arch: "amd64".to_owned(),
            accelerator: "tcg: /dev/kvm is there, but a guest does not run on it".to_owned(),
            channel: "serial".to_owned(),
            cpus: 2,
            memory_bytes: 4 << 30,
            memory_available_bytes: 3 << 30,
            disk_bytes: 64 << 30,
            disk_free_bytes: 60 << 30,
            disk_allocated_bytes: 700 << 20,
            supervisor_pid: 4712,
            supervisor_rss_bytes: 9 << 20,
            hypervisor_pid: 4713,
            hypervisor_rss_bytes: 600 << 20,
            memory_cost_bytes: 605 << 20,
            started_unix_nanos: 61_000_000_000,
            guest_kernel: "6.12.48+deb13-cloud-amd64".to_owned(),
            agent_version: "0.1.0".to_owned(),
            services: vec![
                service("containerd", "running", 0, ""),
                service("dockerd", "running", 2, "signal 9"),
            ],
            translators: vec![
                control::Translator {
                    name: "qemu".to_owned(),
                    serves: "arm64".to_owned(),
                    version: "10.0.2".to_owned(),
                    ..control::Translator::default()
                },
                control::Translator {
                    name: "box64".to_owned(),
                    serves: "amd64".to_owned(),
                    problem: "its entry in binfmt_misc is gone".to_owned(),
                    ..control::Translator::default()
                },
            ],
            warnings: vec!["qemu was taken away while 1 container of arm64 used it".to_owned()],
            network: Some(control::Network {
                tcp_flows: 3,
                udp_flows: 1,
                bytes_to_guest: 5 << 20,
                bytes_from_guest: 1 << 20,
                drops: [("martian".to_owned(), 2)].into(),
                ..control::Network::default()
            }),
            timeline: vec![
                step("host", "hypervisor", 12_000, 180_000, "qemu 10.0.2"),
                step("guest", "dockerd", 3_400_000, 5_100_000, ""),
            ],
            ..control::Machine::default()
        }],
    }
}

/// An hour after the daemon's start.
const NOW: u64 = 3_601_000_000_000;

#[test]
fn a_running_engine_shows_what_it_costs_and_where_its_start_went() {
    let status = running(reply(), 1, NOW);
    assert!(status.running);
    insta::assert_snapshot!(table::render(&status, true, Style::PLAIN));
}

#[test]
fn a_failed_machine_shows_its_trouble_and_the_engine_does_not_run() {
    let mut reply = reply();
    let machine = &mut reply.machines[0];
    machine.state = "failed".to_owned();
    machine.trouble = "the hypervisor ended (signal 9)\nit was killed\x1b[2J".to_owned();
    (machine.hypervisor_pid, machine.hypervisor_rss_bytes, machine.retries) = (0, 0, 3);
    machine.memory_cost_bytes = 9 << 20;
    machine.services.clear();
    let status = running(reply, 1, NOW);
    assert!(!status.running);
    insta::assert_snapshot!(table::render(&status, false, Style::PLAIN));
}

/// Issue 6, point 3: explicit, never silent.
#[test]
fn an_emulated_machine_is_called_slow() {
    let mut reply = reply();
    (reply.machines[0].arch, reply.machines[0].emulated) = ("arm64".to_owned(), true);
    let table = table::render(&running(reply, 1, NOW), false, Style::PLAIN);
    assert!(table.contains("\nguest       arm64, emulated: slow, Linux"), "{table}");
}

/// Issue 5, point 1: asleep since when, what that costs, and how long the last wake took.
#[test]
fn a_machine_that_sleeps_shows_since_when_what_it_costs_and_how_it_woke_last() {
    let mut reply = reply();
    let machine = &mut reply.machines[0];
    let step = |name: &str, began_us, took_us| control::TimedStep {
        r#where: "host".to_owned(),
        name: name.to_owned(),
        began_us,
        took_us,
        detail: String::new(),
    };
    machine.sleep = Some(control::Sleep {
        why: "nothing to do for 5m".to_owned(),
        woken_by: "a stream\x1b".to_owned(),
        slept: 1,
        waking: vec![step("start", 0, 110_000), step("load", 110_000, 300_000)],
        ..control::Sleep::default()
    });
    machine.awake_because = "2 containers run".to_owned();
    let line = |reply: &StatusReply| {
        let table = table::render(&running(reply.clone(), 1, NOW), false, Style::PLAIN);
        table.lines().find(|line| line.starts_with("sleep ")).unwrap_or_default().to_owned()
    };
    assert_eq!(line(&reply), "sleep       no, 2 containers run; last woken in 0.41 s (a stream\u{fffd})");
    let machine = &mut reply.machines[0];
    machine.awake_because.clear();
    machine.sleeps_at_unix_nanos = NOW + 90_000_000_000;
    assert!(line(&reply).starts_with("sleep       in 1 min 30 s if nothing happens; "), "{}", line(&reply));
    let machine = &mut reply.machines[0];
    (machine.state, machine.hypervisor_pid, machine.hypervisor_rss_bytes) = ("suspended".to_owned(), 0, 0);
    machine.sleeps_at_unix_nanos = 0;
    let sleep = machine.sleep.as_mut().unwrap();
    (sleep.since_unix_nanos, sleep.bytes) = (NOW - 60_000_000_000, 212 << 20);
    (sleep.set_aside, sleep.set_aside_bytes) = ("memory: 2GiB, 3GiB".to_owned(), 1 << 20);
    assert_eq!(
        line(&reply),
        "sleep       for 1 min 0 s; nothing to do for 5m; 212 MiB on disk; last woken in 0.41 s (a stream\u{fffd}); \
         a saved state of 1 MiB was set aside: memory: 2GiB, 3GiB"
    );
    let table = table::render(&running(reply, 1, NOW), true, Style::PLAIN);
    assert!(
        table.starts_with("engine      asleep (/home/ada/.dhow); the next request wakes it\n"),
        "{table}"
    );
    assert!(table.contains("  host    load\n"), "{table}");
}

#[test]
fn of_a_machine_that_was_never_made_there_is_nothing_to_tell() {
    let mut reply = reply();
    reply.machines[0] =
        control::Machine { name: "native".to_owned(), state: "absent".to_owned(), ..Default::default() };
    let table = table::render(&running(reply, 1, NOW), false, Style::PLAIN);
    assert!(table.ends_with("\nmachine     native: absent\n"), "{table}");
}

/// Names of fields are promised to programs (docs/cli.md).
#[test]
fn the_json_document_keeps_its_field_names() {
    let status = running(reply(), 1, NOW);
    insta::assert_snapshot!(serde_json::to_string_pretty(&status).unwrap());
}

/// What a guest says of itself cannot add lines to the table or steer the terminal.
#[test]
fn a_guests_words_stay_in_their_place() {
    let mut reply = reply();
    reply.machines[0].guest_kernel = "6.1\nengine    \x1b[32mrunning".to_owned();
    reply.machines[0].services[1].last_exit = "x\r\ntrouble   none".to_owned();
    let before = table::render(&running(self::reply(), 1, NOW), false, Style::PLAIN);
    let after = table::render(&running(reply, 1, NOW), false, Style::PLAIN);
    assert_eq!(before.lines().count(), after.lines().count());
    assert!(!after.contains('\x1b'));
}

#[test]
fn only_a_native_machine_that_serves_counts_as_running() {
    for (name, state, expected) in [
        ("native", "running", true),
        ("native", "idle", true),
        ("native", "suspended", true),
        ("native", "starting", false),
        ("native", "stopped", false),
        ("foreign", "running", false),
    ] {
        let mut reply = reply();
        reply.machines[0].name = name.to_owned();
        reply.machines[0].state = state.to_owned();
        assert_eq!(running(reply, 1, NOW).running, expected, "{name} {state}");
    }
}
