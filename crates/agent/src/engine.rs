//! How containerd and dockerd are run: their configuration, which is made at every boot, and their command lines.

use std::path::Path;

use dhow_model::GuestNetwork;
use serde_json::json;

use crate::ports::proxy;
use crate::services::{Definition, Probe};
use crate::{Error, Result, docker, settings};

const CONTAINERD_CONFIG: &str = "/run/dhow/containerd.toml";
const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";
const DOCKERD_CONFIG: &str = "/run/dhow/dockerd.json";
/// The programs that the first containers need, read ahead while there is nothing else to do.
pub const PROGRAMS: [&str; 5] = [
    "/usr/sbin/dockerd",
    "/usr/bin/containerd",
    "/usr/sbin/xtables-nft-multi",
    "/usr/sbin/runc",
    "/usr/bin/containerd-shim-runc-v2",
];

/// containerd's plugins that dockerd's use of it never reaches.
const UNUSED_PLUGINS: [&str; 13] = [
    "io.containerd.grpc.v1.cri",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.nri.v1.nri",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.native",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.grpc.v1.sandbox-controllers",
];

/// What of dockerd's configuration changes while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A dockerd that dies or is restarted leaves its containers running.
    Serving,
    /// The machine stops: a dockerd that is told to end stops its containers first, within these seconds.
    Stopping(u64),
}

/// Writes both configurations.
pub fn configure(network: &GuestNetwork) -> Result<()> {
    settings::write(Path::new(CONTAINERD_CONFIG), &containerd_config(log_level()))?;
    write_dockerd(network, Mode::Serving, &[])
}

/// What the services say about themselves. A maintainer who wants all of it puts `dhow.debug` on the kernel command line.
fn log_level() -> &'static str {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    if line.split_whitespace().any(|word| word == "dhow.debug") { "debug" } else { "warn" }
}

/// Writes dockerd's configuration; it reads it again on `SIGHUP`. The labels are what `docker info` tells of the engine.
pub fn write_dockerd(network: &GuestNetwork, mode: Mode, labels: &[String]) -> Result<()> {
    let text = serde_json::to_string_pretty(&dockerd_config(network, mode, log_level(), labels))
        .map_err(|error| Error::file("write", DOCKERD_CONFIG)(std::io::Error::other(error)))?;
    settings::write(Path::new(DOCKERD_CONFIG), &text)
}

/// containerd, which holds the containers.
#[must_use]
pub fn containerd() -> Definition {
    Definition {
        name: "containerd",
        program: "/usr/bin/containerd",
        arguments: vec!["--config", CONTAINERD_CONFIG],
        environment: ENVIRONMENT.to_vec(),
        cgroup: Some(settings::ENGINE_CGROUP),
        probe: Probe::Listens(CONTAINERD_SOCKET),
    }
}

/// dockerd, which holds the API. It is started beside containerd and finds it by its socket.
#[must_use]
pub fn dockerd() -> Definition {
    Definition {
        name: "dockerd",
        program: "/usr/sbin/dockerd",
        arguments: vec!["--config-file", DOCKERD_CONFIG],
        environment: ENVIRONMENT.to_vec(),
        cgroup: Some(settings::ENGINE_CGROUP),
        probe: Probe::Docker,
    }
}

/// Collecting garbage less often saves half a second of a boot under software emulation; what the services then hold
/// beyond their need is some tens of megabytes.
const ENVIRONMENT: [(&str, &str); 3] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("GOGC", "400"),
];

fn containerd_config(log_level: &str) -> String {
    let plugins: Vec<String> = UNUSED_PLUGINS.iter().map(|name| format!("{name:?}")).collect();
    format!(
        "version = 2\nroot = \"/var/lib/containerd\"\nstate = \"/run/containerd\"\noom_score = -999\n\
         disabled_plugins = [{}]\n[grpc]\naddress = {CONTAINERD_SOCKET:?}\n[debug]\nlevel = {log_level:?}\n",
        plugins.join(", ")
    )
}

fn dockerd_config(
    network: &GuestNetwork,
    mode: Mode,
    log_level: &str,
    labels: &[String],
) -> serde_json::Value {
    let mtu = network.mtu;
    let (live_restore, shutdown_timeout) = match mode {
        Mode::Serving => (true, 15),
        Mode::Stopping(seconds) => (false, seconds),
    };
    json!({
        "hosts": [format!("unix://{}", docker::SOCKET)],
        "containerd": CONTAINERD_SOCKET,
        "data-root": "/var/lib/docker",
        "exec-root": "/run/docker",
        "pidfile": "/run/docker.pid",
        "storage-driver": "overlay2",
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "log-driver": "json-file",
        "log-opts": { "max-size": "20m", "max-file": "3" },
        "log-level": log_level,
        "labels": labels,
        "default-ulimits": { "nofile": { "Name": "nofile", "Soft": 1_048_576, "Hard": 1_048_576 } },
        "live-restore": live_restore,
        "shutdown-timeout": shutdown_timeout,
        // Ours: a published port is one that the host listens on (spec 4.1).
        "userland-proxy": true,
        "userland-proxy-path": proxy::PATH,
        "ip": network.publish,
        "ip6tables": false,
        "mtu": mtu,
        // The option above is for the default bridge alone; this one is for the networks that users make.
        "default-network-opts": { "bridge": { "com.docker.network.driver.mtu": mtu.to_string() } },
        "init-path": "/usr/bin/docker-init",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(publish: &str) -> GuestNetwork {
        let text = r#"{"address":"10.0.2.15","prefix":24,"gateway":"10.0.2.2","dns":[],"mtu":1500}"#;
        GuestNetwork { publish: publish.parse().unwrap(), ..serde_json::from_str(text).unwrap() }
    }

    /// Spec 4.1 and 4.2: dockerd asks the host for each port, and listens where the user says when a request does not.
    #[test]
    fn ports_are_asked_of_the_host_at_the_address_that_the_user_chose() {
        let config = dockerd_config(&network("127.0.0.1"), Mode::Serving, "warn", &[]);
        assert_eq!(config["userland-proxy"], true);
        assert_eq!(config["userland-proxy-path"], proxy::PATH);
        assert_eq!(config["ip"], "127.0.0.1");
        assert_eq!(dockerd_config(&network("0.0.0.0"), Mode::Serving, "warn", &[])["ip"], "0.0.0.0");
    }

    #[test]
    fn a_machine_that_stops_takes_its_containers_along_and_one_that_serves_does_not() {
        let serving = dockerd_config(&network("0.0.0.0"), Mode::Serving, "warn", &[]);
        let stopping = dockerd_config(&network("0.0.0.0"), Mode::Stopping(7), "warn", &[]);
        assert_eq!(serving["live-restore"], true);
        assert_eq!(stopping["live-restore"], false);
        assert_eq!(stopping["shutdown-timeout"], 7);
    }

    /// Spec 16.5: no engine of ours listens on a network address.
    #[test]
    fn the_engine_listens_on_unix_sockets_only() {
        assert_eq!(
            dockerd_config(&network("0.0.0.0"), Mode::Serving, "warn", &[])["hosts"],
            json!(["unix:///run/docker.sock"])
        );
        assert!(!containerd_config("warn").contains("tcp"));
    }
}
