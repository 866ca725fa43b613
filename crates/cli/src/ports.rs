//! `dhow ports`: every binding that the host listens for, whose it is, and since when. Never starts a daemon.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dhow_proto::control::{self, PortsReply};
use serde::Serialize;

use crate::client::{Daemon, Deadline};
use crate::command::Caller;
use crate::down::supervised;
use crate::error::Result;
use crate::exit;
use crate::launch;
use crate::output::Style;
use crate::text;

/// What `dhow ports --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ports {
    /// By machine, protocol, port and address.
    ports: Vec<Port>,
    /// What a person should know.
    warnings: Vec<String>,
}

/// A binding.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Port {
    machine: String,
    protocol: String,
    host_address: String,
    host_port: u32,
    container_address: String,
    container_port: u32,
    /// Null while it is not known.
    container_id: Option<String>,
    /// The same.
    container_name: Option<String>,
    /// Since when the host listens.
    since_unix_seconds: u64,
    /// How long that is.
    age_seconds: u64,
    /// Connections taken so far; 0 for UDP.
    accepted: u64,
}

/// Shows what is published.
///
/// # Errors
/// When a daemon is there and does not answer.
pub async fn ports(caller: &Caller) -> Result<u8> {
    let deadline = Deadline::after(caller.time_limit.unwrap_or(launch::CALL));
    let ports = match Daemon::reach(&caller.home.control_socket(), deadline).await? {
        Some(mut daemon) => told(daemon.ports(deadline).await?, SystemTime::now()),
        None => without_daemon(&supervised(&caller.home)?),
    };
    for warning in &ports.warnings {
        caller.output.warn(warning);
    }
    caller.output.answer(&render(&ports, caller.output.stdout), &ports)?;
    Ok(exit::OK)
}

fn without_daemon(machines: &[dhow_model::MachineName]) -> Ports {
    let names: Vec<String> = machines.iter().map(ToString::to_string).collect();
    let running = format!("{} runs without a daemon; `dhow up` starts one that can tell", names.join(", "));
    Ports { ports: Vec::new(), warnings: if names.is_empty() { Vec::new() } else { vec![running] } }
}

fn told(reply: PortsReply, now: SystemTime) -> Ports {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut ports: Vec<Port> = reply.ports.into_iter().map(|port| one(port, now)).collect();
    ports.sort_by(|a, b| {
        let key = |p: &Port| (p.machine.clone(), p.protocol.clone(), p.host_port, p.host_address.clone());
        key(a).cmp(&key(b))
    });
    Ports { ports, warnings: reply.warnings }
}

fn one(port: control::PublishedPort, now: Duration) -> Port {
    let known = |word: String| (!word.is_empty()).then_some(word);
    let since = Duration::from_nanos(port.since_unix_nanos);
    Port {
        machine: port.machine,
        protocol: port.protocol,
        host_address: port.host_address,
        host_port: port.host_port,
        container_address: port.container_address,
        container_port: port.container_port,
        container_id: known(port.container_id),
        container_name: known(port.container_name),
        since_unix_seconds: since.as_secs(),
        age_seconds: now.saturating_sub(since).as_secs(),
        accepted: port.accepted,
    }
}

fn render(ports: &Ports, style: Style) -> String {
    if ports.ports.is_empty() {
        return "no ports are published\n".to_owned();
    }
    let rows: Vec<[String; 4]> = ports.ports.iter().map(row).collect();
    let heads = ["host", "container", "since", "connections"].map(str::to_owned);
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heads[column].len()]).max().unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2)];
    let line = |[host, container, since, taken]: &[String; 4]| {
        let [w0, w1, w2] = widths;
        format!("{host:w0$}  {container:w1$}  {since:w2$}  {taken}").trim_end().to_owned()
    };
    let mut out = format!("{}\n", style.dim(&line(&heads)));
    for row in &rows {
        out.push_str(&line(row));
        out.push('\n');
    }
    out
}

fn row(port: &Port) -> [String; 4] {
    let target = end(&port.container_address, port.container_port);
    let container = match &port.container_name {
        Some(name) => format!("{} ({target})", text::harmless(name)),
        None => target,
    };
    [
        format!("{}/{}", end(&port.host_address, port.host_port), port.protocol),
        container,
        format!("{} ago", text::uptime(Duration::from_secs(port.age_seconds))),
        if port.protocol == "tcp" { port.accepted.to_string() } else { String::new() },
    ]
}

/// An address with its port as people write it: `[::1]:80`.
fn end(address: &str, port: u32) -> String {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{address}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply() -> PortsReply {
        let port = |protocol: &str, host: &str, host_port, name: &str, age: u64| control::PublishedPort {
            machine: "native".to_owned(),
            protocol: protocol.to_owned(),
            host_address: host.to_owned(),
            host_port,
            container_address: "172.17.0.2".to_owned(),
            container_port: 80,
            container_id: if name.is_empty() { String::new() } else { "5d3f".to_owned() },
            container_name: name.to_owned(),
            since_unix_nanos: (1_000_000 - age) * 1_000_000_000,
            accepted: if protocol == "tcp" { 12 } else { 0 },
        };
        PortsReply {
            ports: vec![
                port("udp", "127.0.0.1", 53, "resolver", 7_300),
                port("tcp", "::", 8080, "web", 62),
                port("tcp", "0.0.0.0", 8080, "web", 62),
                port("tcp", "0.0.0.0", 443, "", 0),
            ],
            warnings: vec!["native: no answer to ports within 5 s".to_owned()],
        }
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    /// Issue 3, point 3: every binding, its container, and since when.
    #[test]
    fn every_binding_shows_its_container_and_since_when() {
        insta::assert_snapshot!(render(&told(reply(), now()), Style::PLAIN), @r"
        host              container                 since          connections
        0.0.0.0:443/tcp   172.17.0.2:80             0 s ago        12
        0.0.0.0:8080/tcp  web (172.17.0.2:80)       1 min 2 s ago  12
        [::]:8080/tcp     web (172.17.0.2:80)       1 min 2 s ago  12
        127.0.0.1:53/udp  resolver (172.17.0.2:80)  2 h 1 min ago
        ");
    }

    #[test]
    fn the_json_document_keeps_its_field_names() {
        let ports = told(PortsReply { ports: reply().ports[..1].to_vec(), ..reply() }, now());
        insta::assert_snapshot!(serde_json::to_string_pretty(&ports).unwrap(), @r#"
        {
          "ports": [
            {
              "machine": "native",
              "protocol": "udp",
              "host_address": "127.0.0.1",
              "host_port": 53,
              "container_address": "172.17.0.2",
              "container_port": 80,
              "container_id": "5d3f",
              "container_name": "resolver",
              "since_unix_seconds": 992700,
              "age_seconds": 7300,
              "accepted": 0
            }
          ],
          "warnings": [
            "native: no answer to ports within 5 s"
          ]
        }
        "#);
    }

    #[test]
    fn nothing_published_is_said_in_words() {
        assert_eq!(render(&without_daemon(&[]), Style::PLAIN), "no ports are published\n");
        let native = [dhow_model::MachineName::native()];
        assert!(without_daemon(&native).warnings[0].contains("native runs without a daemon"));
    }
}
