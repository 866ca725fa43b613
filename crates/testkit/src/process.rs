//! What a process holds of the host, as Linux tells it in `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Resident memory, bytes; 0 for a process that has gone.
pub fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

/// What its descriptors lead to: `socket:[123]`, `/dev/null`.
pub fn descriptors(pid: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
        .collect()
}

/// The processes that it has started and that have not been waited for.
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    texts
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// How many threads it has.
pub fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map(Iterator::count).unwrap_or_default()
}

/// The addresses on which it accepts connections (`tcp`) or takes datagrams from anyone (`udp`).
pub fn listeners(pid: u32) -> BTreeSet<(&'static str, SocketAddr)> {
    let own: BTreeSet<String> = descriptors(pid)
        .iter()
        .filter_map(|name| Some(name.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let mut found = BTreeSet::new();
    for (protocol, table) in [("tcp", "tcp"), ("tcp", "tcp6"), ("udp", "udp"), ("udp", "udp6")] {
        let text = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        for socket in sockets(&text) {
            // 0A is LISTEN; 07 is a UDP socket that is connected to nobody.
            let listens = socket.state == if protocol == "tcp" { "0A" } else { "07" };
            if listens && own.contains(&socket.inode) {
                found.insert((protocol, socket.local));
            }
        }
    }
    found
}

struct Socket {
    local: SocketAddr,
    state: String,
    inode: String,
}

fn sockets(table: &str) -> Vec<Socket> {
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        Some(Socket {
            local: address(fields.get(1)?)?,
            state: (*fields.get(3)?).to_owned(),
            inode: (*fields.get(9)?).to_owned(),
        })
    };
    table.lines().skip(1).filter_map(parse).collect()
}

/// `0100007F:1F90`: words of four bytes in the host's order, then the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (at, piece) in bytes.chunks_exact_mut(4).enumerate() {
                piece.copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// How often each kind of thing is held: `socket` 12 times, `/dev/null` 3 times.
pub fn tally(descriptors: &[String]) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for name in descriptors {
        let kind = name.split(":[").next().unwrap_or(name);
        *tally.entry(kind.to_owned()).or_default() += 1;
    }
    tally
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_sees_its_own_listeners_and_no_others() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let six = std::net::TcpListener::bind("[::1]:0").unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let found = listeners(std::process::id());
        assert!(found.contains(&("tcp", tcp.local_addr().unwrap())), "{found:?}");
        assert!(found.contains(&("tcp", six.local_addr().unwrap())), "{found:?}");
        assert!(found.contains(&("udp", udp.local_addr().unwrap())), "{found:?}");
        assert!(listeners(1).is_empty() || !listeners(1).contains(&("tcp", tcp.local_addr().unwrap())));
    }

    #[test]
    fn a_process_has_memory_threads_and_descriptors() {
        let me = std::process::id();
        assert!(resident(me) > 1 << 20 && threads(me) >= 1 && descriptors(me).len() >= 3);
        assert!(tally(&descriptors(me)).values().sum::<usize>() >= 3);
    }
}
