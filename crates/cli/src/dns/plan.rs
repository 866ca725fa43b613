//! Which file tells which resolver, as a table.

use std::path::PathBuf;

use dhow_model::network::DOMAIN;

use super::host::{Resolved, Seen};
use super::{Error, Result};

/// What installing means on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Whom it tells.
    pub resolver: String,
    /// The file, below the root.
    pub path: PathBuf,
    /// What it says, without our mark.
    pub body: String,
    /// How the resolver learns of it; empty where it looks by itself.
    pub reload: Vec<&'static str>,
}

const RELOAD_RESOLVED: &[&str] = &["systemctl", "reload-or-restart", "systemd-resolved"];

/// Every place that a plan may have put a file in, whatever the host is like now.
pub const PLACES: [&str; 4] = [
    "etc/systemd/dns-delegate.d/dhow.dns-delegate",
    "etc/systemd/resolved.conf.d/dhow.conf",
    "etc/NetworkManager/dnsmasq.d/dhow.conf",
    "etc/resolver/dhow.internal",
];

/// How the resolver learns that the file in a place is gone.
pub fn reload_of(place: &str) -> &'static [&'static str] {
    match place {
        "etc/systemd/dns-delegate.d/dhow.dns-delegate" | "etc/systemd/resolved.conf.d/dhow.conf" => {
            RELOAD_RESOLVED
        }
        "etc/NetworkManager/dnsmasq.d/dhow.conf" => &["nmcli", "general", "reload", "dns-full"],
        _ => &[],
    }
}

/// The plan for a host.
///
/// # Errors
/// When its resolver cannot be told with one file, or other names would suffer from it.
pub fn plan(seen: &Seen, port: u16) -> Result<Plan> {
    if port == 0 {
        return Err(Error::Off);
    }
    let of = |resolver: &str, place: &'static str, body: String| Plan {
        resolver: resolver.to_owned(),
        path: place.into(),
        body,
        reload: reload_of(place).to_vec(),
    };
    if seen.macos {
        // resolver(5): the file's name is the domain.
        return Ok(of("macOS", PLACES[3], format!("nameserver 127.0.0.1\nport {port}\n")));
    }
    if let Some(resolved) = &seen.resolved {
        let version = usable(resolved, port)?;
        let name = format!("systemd-resolved {version}");
        // systemd.dns-delegate(5): a scope of its own, beside all others.
        return Ok(if version >= 258 {
            of(&name, PLACES[0], format!("[Delegate]\nDNS=127.0.0.1:{port}\nDomains=~{DOMAIN}\n"))
        } else {
            of(&name, PLACES[1], format!("[Resolve]\nDNS=127.0.0.1:{port}\nDomains=~{DOMAIN}\n"))
        });
    }
    if seen.networkmanager_dnsmasq {
        let body = format!("server=/{DOMAIN}/127.0.0.1#{port}\n");
        return Ok(of("NetworkManager's dnsmasq", PLACES[2], body));
    }
    Err(Error::Unsupported {
        why: match &seen.name_servers[..] {
            [] => "there is neither systemd-resolved nor NetworkManager with dnsmasq, and /etc/resolv.conf names no server".to_owned(),
            servers => format!(
                "there is neither systemd-resolved nor NetworkManager with dnsmasq; programs ask {} directly",
                servers.join(", ")
            ),
        },
        advice: format!(
            "in a resolver of your own, send {DOMAIN} to 127.0.0.1 port {port}: `server=/{DOMAIN}/127.0.0.1#{port}` in dnsmasq, \
             a `forward-zone` with `forward-addr: 127.0.0.1@{port}` in unbound; containers find each other without it"
        ),
    })
}

/// systemd's version, if one file suffices there.
///
/// Before 258 our server can only be a *global* one. resolved asks one global server at a time, so beside others of them
/// either their names or ours would fail; and naming one makes it stop reading a foreign `/etc/resolv.conf` and using its
/// fallback servers. So there have to be servers on links, and no others.
fn usable(resolved: &Resolved, port: u16) -> Result<u32> {
    let refuse = |why: String, advice: &str| Err(Error::Unsupported { why, advice: advice.to_owned() });
    let Some(version) = resolved.version else {
        return refuse(
            "systemd-resolved runs here, and its version cannot be told".to_owned(),
            "check that `systemctl --version` works",
        );
    };
    if version >= 258 {
        return Ok(version);
    }
    if version < 246 {
        return refuse(
            format!("systemd-resolved {version} cannot ask a server on a port of its own; 246 can"),
            &format!("a newer systemd, or dnsmasq with `server=/{DOMAIN}/127.0.0.1#{port}`"),
        );
    }
    let since = "systemd 258 has a way without this limit";
    if let [file, ..] = &resolved.global_servers[..] {
        return refuse(
            format!(
                "{} names DNS servers for systemd-resolved {version}, which asks one such server at a time: beside ours, other names would fail",
                file.display()
            ),
            &format!(
                "give those servers to a link (`resolvectl dns LINK SERVER`, or in its network's settings) and remove `DNS=` there; {since}"
            ),
        );
    }
    if !resolved.owns_resolv_conf {
        return refuse(
            format!(
                "systemd-resolved {version} reads its servers from /etc/resolv.conf, and would stop that for ours: other names would fail"
            ),
            &format!(
                "ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf, and give its servers to a link; {since}"
            ),
        );
    }
    if !resolved.links_have_servers {
        return refuse(
            format!(
                "systemd-resolved {version} knows no DNS server of any link, and would stop using its fallback servers for ours: other names would fail"
            ),
            &format!("give a link its servers (`resolvectl dns LINK SERVER`) and type it again; {since}"),
        );
    }
    Ok(version)
}
