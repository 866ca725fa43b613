//! Runs a shell command in a guest without a machine (see `tests/common`), for measuring and trying by hand:
//!
//! ```text
//! cargo run --release -p dhow-net --example guest -- 'iperf3 -s -1 -D' 'iperf3 -c 203.0.113.1 -t 5'
//! ```
//!
//! The first argument runs on the host's side, the second in the guest; a third and fourth are an address to publish and a
//! target in the guest, for example `127.0.0.1:5201 172.17.0.2:5201`. What the gateway counted is printed at the end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a fixture for measuring, which lives among the tests"
)]

#[cfg(target_os = "linux")]
#[path = "../tests/common/mod.rs"]
mod common;

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() {
    use std::os::unix::process::CommandExt;

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (host, guest) = match arguments.as_slice() {
        [host, guest, ..] => (host.clone(), guest.clone()),
        _ => return eprintln!("usage: guest HOST-COMMAND GUEST-COMMAND [PUBLISHED TARGET]"),
    };
    let published = arguments.get(2).zip(arguments.get(3)).map(|(address, target)| {
        (address.clone(), target.parse().expect("TARGET is an address and a port, such as 172.17.0.2:80"))
    });
    common::run(common::Setup::default(), async |net| {
        let publisher = published.map(|(address, target)| {
            let handle = net.handle();
            tokio::spawn(async move {
                let listener = tokio::net::TcpListener::bind(address).await.unwrap();
                while let Ok((client, from)) = listener.accept().await {
                    handle.tcp(client.into_std().unwrap(), from, target).await;
                }
            })
        });
        // A published port's client is on the host: the guest's command is its server then.
        let (first, then) = match publisher {
            Some(_) => ((&net.guest, guest), (&net.host, host)),
            None => ((&net.host, host), (&net.guest, guest)),
        };
        // A group of its own, so that what the shell started ends with it.
        let mut background = first.0.command("sh").args(["-c", &first.1]).process_group(0).spawn().unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let mut child = then.0.command("sh").args(["-c", &then.1]).spawn().unwrap();
        let status = common::blocking(move || child.wait()).await.unwrap();
        let group = rustix::process::Pid::from_child(&background);
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
        background.wait().ok();
        if let Some(publisher) = publisher {
            publisher.abort();
        }
        println!("{status}; {}\n{:#?}", processor_time(), net.metrics());
    });
}

/// Seconds of processor time that the gateway's thread took, and those that stand for the hypervisor's.
#[cfg(target_os = "linux")]
fn processor_time() -> String {
    let mut times = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
        let Some((name, rest)) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')) else {
            continue;
        };
        let field = |index| {
            rest.split_whitespace().nth(index).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0)
        };
        // Fields 14 and 15 of proc(5), in hundredths of a second; the first after the name is the third.
        times.push(format!("{name} {:.2} user {:.2} system", field(11) / 100.0, field(12) / 100.0));
    }
    times.join(", ")
}
