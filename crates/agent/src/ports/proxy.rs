//! The agent's executable as `docker-proxy`: what dockerd runs for each published port (moby 26.1,
//! `libnetwork/portmapper/proxy_linux.go`). It says on descriptor 3 whether the port could be had, and lives until dockerd
//! ends it: with SIGINT when the container stops, and by the kernel's hand (SIGTERM) when dockerd dies.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use dhow_model::port::Binding;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use super::words::{self, Ask, Told};
use super::{forward, socket};

/// The name under which the agent's executable is a proxy.
pub const NAME: &str = "docker-proxy";
/// Where dockerd finds it: a link to process 1, whose own file went with the initial RAM disk.
pub const PATH: &str = "/run/dhow/docker-proxy";
/// Names the agent's socket where it is not [`words::SOCKET`]: for tests.
pub const SOCKET_VARIABLE: &str = "DHOW_PORTS_SOCKET";

/// The pipe that dockerd reads. Opened by its name, since a descriptor's number alone is no proof that it is ours.
const REPORT: &str = "/proc/self/fd/3";
/// For the host to answer, which takes milliseconds, and longer on an emulated machine under load. dockerd waits 16 s.
const BIND: Duration = Duration::from_secs(10);
/// For the host to stop listening.
const RELEASE: Duration = Duration::from_secs(3);

/// Whether this process was started as the proxy.
#[must_use]
pub fn is_wanted() -> bool {
    std::env::args_os().next().is_some_and(|name| Path::new(&name).file_name() == Some(NAME.as_ref()))
}

/// Runs until dockerd ends it.
#[must_use]
pub fn run() -> ExitCode {
    // One thread and no more: there may be thousands of these.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        let agent = std::env::var_os(SOCKET_VARIABLE).unwrap_or_else(|| words::SOCKET.into());
        runtime.block_on(publish(std::env::args_os().skip(1), Path::new(&agent)))
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // dockerd reads the reason to the pipe's end, which is our end.
            report(&format!("1\n{why}"));
            ExitCode::FAILURE
        }
    }
}

async fn publish(args: impl Iterator<Item = OsString>, agent: &Path) -> Result<(), String> {
    let binding = parse(args)?;
    // The guest's own address first: what fails here need not be undone on the host.
    let taken = socket::take(&binding)?;
    let late = || {
        format!(
            "the host did not say within {} s whether it can listen on {}/{}; `dhow logs supervisor` may tell why",
            BIND.as_secs(),
            binding.host,
            binding.protocol
        )
    };
    let link = timeout(BIND, Link::bind(agent, &binding)).await.map_err(|_| late())??;
    let signals = signal(SignalKind::interrupt()).and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
    let (interrupted, terminated) = signals.map_err(|error| format!("signals cannot be handled: {error}"))?;
    report("0\n");
    serve(taken, binding, link, interrupted, terminated).await;
    Ok(())
}

async fn serve(taken: OwnedFd, binding: Binding, link: Link, mut int: Signal, mut term: Signal) {
    tokio::select! {
        _ = int.recv() => {}
        // dockerd died: the agent knows what that means for the host's listener.
        _ = term.recv() => return,
        ended = forward::run(taken, binding) => if let Err(error) = ended {
            eprintln!("docker-proxy {binding}: {error}");
        }
    }
    // The container is stopped only when nobody listens any more.
    timeout(RELEASE, link.release()).await.ok();
}

/// Says something to dockerd. That it does not listen has nowhere to be reported.
fn report(text: &str) {
    File::options().write(true).open(REPORT).and_then(|mut pipe| pipe.write_all(text.as_bytes())).ok();
}

/// The conversation with the agent.
struct Link(BufReader<UnixStream>);

impl Link {
    async fn bind(agent: &Path, binding: &Binding) -> Result<Self, String> {
        let lost = |why: &dyn std::fmt::Display| format!("Dhow's agent cannot be asked for {binding}: {why}");
        let stream = UnixStream::connect(agent).await.map_err(|error| lost(&error))?;
        let mut link = Self(BufReader::new(stream));
        match link.ask(&Ask::Bind(*binding)).await.map_err(|error| lost(&error))? {
            Some(Told::Bound) => Ok(link),
            Some(Told::Refused(why)) => Err(why),
            Some(Told::Released) | None => Err(lost(&"it hung up")),
        }
    }

    async fn release(mut self) {
        self.ask(&Ask::Release).await.ok();
    }

    async fn ask(&mut self, ask: &Ask) -> std::io::Result<Option<Told>> {
        self.0.write_all(ask.line().as_bytes()).await?;
        Ok(words::line(&mut self.0).await?.and_then(|line| Told::parse(&line)))
    }
}

/// The binding that dockerd's arguments name: pairs of a flag and its value.
fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Binding, String> {
    let (mut protocol, mut host, mut container) = (None, [None, None], [None, None]);
    while let Some(flag) = args.next() {
        let place = match flag.to_str() {
            Some("-proto") => &mut protocol,
            Some("-host-ip") => &mut host[0],
            Some("-host-port") => &mut host[1],
            Some("-container-ip") => &mut container[0],
            Some("-container-port") => &mut container[1],
            _ => return Err(format!("{flag:?} is not understood by Dhow's {NAME}")),
        };
        *place = args.next().and_then(|value| value.into_string().ok());
    }
    let address = |[ip, port]: [Option<String>; 2], whose| {
        let parsed = ip
            .as_deref()
            .and_then(|ip| ip.parse::<IpAddr>().ok())
            .zip(port.as_deref().and_then(|port| port.parse::<u16>().ok()).filter(|port| *port != 0));
        let wrong = || format!("{ip:?} with port {port:?} is no address of the {whose}'s");
        parsed.map(SocketAddr::from).ok_or_else(wrong)
    };
    Ok(Binding {
        protocol: protocol.as_deref().unwrap_or("tcp").parse().map_err(|e| format!("{e}"))?,
        host: address(host, "host")?,
        container: address(container, "container")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<String, String> {
        parse(line.split_whitespace().map(OsString::from)).map(|binding| binding.to_string())
    }

    #[test]
    fn dockerds_arguments_are_understood() {
        let line = "-proto udp -host-ip :: -host-port 53 -container-ip 172.17.0.2 -container-port 5353";
        assert_eq!(parsed(line).unwrap(), "[::]:53/udp -> 172.17.0.2:5353");
    }

    /// Spec 4.1: SCTP is refused with a clear error, never treated as TCP.
    #[test]
    fn what_cannot_be_published_is_refused_in_words() {
        let tail = "-host-ip 0.0.0.0 -host-port 80 -container-ip 172.17.0.2 -container-port 80";
        let table = [
            (format!("-proto sctp {tail}"), "SCTP is not supported"),
            (format!("-use-listen-fd {tail}"), "not understood"),
            ("-proto tcp -host-ip 0.0.0.0".to_owned(), "no address of the host's"),
            (tail.replace("-host-port 80", "-host-port 70000"), "no address of the host's"),
            (tail.replace("-container-port 80", "-container-port 0"), "no address of the container's"),
        ];
        for (line, why) in table {
            let error = parsed(&line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
