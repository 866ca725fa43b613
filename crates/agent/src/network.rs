//! The guest's network: loopback, the one interface that the host gave it, and its name servers.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use dhow_model::{BootConfig, GuestNetwork};

use crate::netlink::{self, Request};
use crate::{Error, Result};

const INTERFACES: &str = "/sys/class/net";
/// A driver that was just loaded shows its interface at once; a slow bus takes longer.
const APPEARS_WITHIN: Duration = Duration::from_secs(30);

/// Brings everything up; answers what a reader may want to know.
pub fn up(config: &BootConfig) -> Result<String> {
    rustix::system::sethostname(config.hostname.as_bytes()).map_err(Error::kernel("set the host name"))?;
    write("/etc/hostname", &format!("{}\n", config.hostname))?;
    write("/etc/hosts", &hosts(&config.hostname))?;
    name_servers(&resolv_conf(&config.network))?;
    ask("switch loopback on", &Request::link_up(index("lo")?, None))?;
    let name = interface()?;
    let (index, network) = (index(&name)?, &config.network);
    ask(
        &format!("switch {name} on with an MTU of {}", network.mtu),
        &Request::link_up(index, Some(network.mtu)),
    )?;
    let mut places = vec![(IpAddr::V4(network.address), network.prefix, IpAddr::V4(network.gateway))];
    places.extend(network.six.iter().map(|six| (six.address.into(), six.prefix, six.gateway.into())));
    for (address, prefix, gateway) in &places {
        ask(
            &format!("give {name} the address {address}/{prefix}"),
            &Request::address(index, *address, *prefix),
        )?;
        ask(&format!("route through {gateway} on {name}"), &Request::default_route(index, *gateway))?;
    }
    let places: Vec<_> = places
        .iter()
        .map(|(address, prefix, gateway)| format!("{address}/{prefix} through {gateway}"))
        .collect();
    Ok(format!("{name}, {}, MTU {}", places.join(", "), network.mtu))
}

/// Containers are given what /etc/resolv.conf shows, which is a link to the file that this boot decides.
fn name_servers(text: &str) -> Result<()> {
    const LINK: &str = "/etc/resolv.conf";
    const FILE: &str = "/run/dhow/resolv.conf";
    write(FILE, text)?;
    if fs::canonicalize(LINK).is_ok_and(|target| target == Path::new(FILE)) {
        return Ok(());
    }
    match fs::remove_file(LINK) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::file("replace", LINK)(error));
        }
        _ => {}
    }
    std::os::unix::fs::symlink(FILE, LINK).map_err(Error::file("make", LINK))
}

fn ask(action: &str, request: &Request) -> Result<()> {
    netlink::ask(request).map_err(|source| Error::Network { action: action.to_owned(), source })
}

fn write(path: &str, text: &str) -> Result<()> {
    crate::settings::write(Path::new(path), text)
}

/// The first interface with a device behind it; loopback and what modules bring along have none.
fn interface() -> Result<String> {
    let began = Instant::now();
    loop {
        let mut names: Vec<String> = Vec::new();
        for entry in fs::read_dir(INTERFACES).map_err(Error::file("list", INTERFACES))?.flatten() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        // The kernel makes the link to the device before the interface's own files.
        let has = |name: &str, what: &str| Path::new(INTERFACES).join(name).join(what).exists();
        if let Some(name) = names.iter().find(|name| has(name, "device") && has(name, "ifindex")) {
            return Ok(name.clone());
        }
        if began.elapsed() >= APPEARS_WITHIN {
            return Err(Error::NoInterface {
                waited_ms: began.elapsed().as_millis(),
                seen: names.join(", "),
            });
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn index(name: &str) -> Result<u32> {
    let path = Path::new(INTERFACES).join(name).join("ifindex");
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    text.trim().parse().map_err(|error| Error::file("read", &path)(std::io::Error::other(error)))
}

fn hosts(hostname: &str) -> String {
    format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 {hostname}\n")
}

fn resolv_conf(network: &GuestNetwork) -> String {
    network.dns.iter().map(|server| format!("nameserver {server}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_keep_their_order() {
        let network = GuestNetwork {
            address: [10, 0, 2, 15].into(),
            prefix: 24,
            gateway: [10, 0, 2, 2].into(),
            six: None,
            dns: vec!["10.0.2.3".parse().unwrap(), "fd00::3".parse().unwrap()],
            mtu: 1500,
            publish: IpAddr::V4([0; 4].into()),
        };
        assert_eq!(resolv_conf(&network), "nameserver 10.0.2.3\nnameserver fd00::3\n");
        assert!(hosts("dhow").ends_with("127.0.1.1 dhow\n"));
    }
}
