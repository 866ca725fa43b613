//! The machine's network: Dhow's gateway beside QEMU's user network and passt, between the same host and the same
//! container, in turns; and published ports beside `ssh -L`.

mod aims;
mod costs;
mod dns;
mod load;
mod passt;
mod rig;
mod ssh;
mod table;
mod ways;

use std::net::SocketAddr;

use dhow_testkit::{Result, Run};

use super::{ROUNDS, Spread};
use load::{carried, iperf};
use rig::Rig;
use table::Table;
use ways::{Service, Way};

/// One thing that is measured over each way that leads there.
enum Measure {
    /// A client on the host moves bytes: `iperf3` with these arguments.
    Inward(Service, &'static [&'static str]),
    /// A client in the container moves bytes to and from the host's loopback.
    Outward(&'static [&'static str]),
    /// Clients on the host ask the web server.
    Requests,
    /// One byte from the host and back.
    RoundTrip(Service),
    /// A client in the container asks a server on the host's loopback.
    Pings,
}

/// What is measured, and how its rows are called.
const MEASURES: [(&str, Measure); 14] = [
    (TO_CONTAINER, Measure::Inward(Service::Throughput, &[])),
    (FROM_PUBLISHED, Measure::Inward(Service::Throughput, &["-R"])),
    ("host to container, 4 streams, MB/s", Measure::Inward(Service::Throughput, &["-P", "4"])),
    (
        "container to host, published port, 4 streams, MB/s",
        Measure::Inward(Service::Throughput, &["-R", "-P", "4"]),
    ),
    ("host to container", Measure::Requests),
    (TO_CONTAINER_AND_BACK, Measure::RoundTrip(Service::Echo)),
    ("host to the guest itself, MB/s", Measure::Inward(Service::GuestThroughput, &[])),
    ("the guest itself to host, MB/s", Measure::Inward(Service::GuestThroughput, &["-R"])),
    ("host to the guest itself and back, p50, µs", Measure::RoundTrip(Service::GuestEcho)),
    (UP, Measure::Outward(&[])),
    (DOWN, Measure::Outward(&["-R"])),
    ("container to host's address, 4 streams, MB/s", Measure::Outward(&["-P", "4"])),
    (
        "container to host's address, UDP of 1,400 bytes, MB/s",
        Measure::Outward(&["-u", "-b", "0", "-l", "1400"]),
    ),
    ("container to host's address", Measure::Pings),
];

const TO_CONTAINER: &str = "host to container, MB/s";
const FROM_PUBLISHED: &str = "container to host, published port, MB/s";
const TO_CONTAINER_AND_BACK: &str = "host to container and back, p50, µs";
const UP: &str = "container to host's address, MB/s";
const DOWN: &str = "host's address to container, MB/s";
const OUT_AND_BACK: &str = "container to host's address and back, p50, µs";

/// Prints the figures, and which aims are met.
pub fn measure() -> Result<()> {
    let rig = Rig::start()?;
    let mut table = Table::new(rig.ways.iter().map(|way| way.name).collect());
    for round in 1..=ROUNDS {
        for (name, measure) in &MEASURES {
            let turns = std::iter::repeat_n(&rig.ways, measure.turns()).flatten();
            for way in turns {
                match rig.tend(way).and_then(|()| measure.take(name, &rig, way)) {
                    Ok(rows) => {
                        for (row, value) in rows {
                            eprintln!("round {round}: {row}, {}: {value:.2}", way.name);
                            table.add(&row, way.name, value);
                        }
                    }
                    Err(error) => table.fail(name, way.name, &error.to_string()),
                }
            }
        }
    }
    println!(
        "net: the same container over each network: median of {ROUNDS} rounds [least to most], and Dhow's by it"
    );
    table.print();
    if let Err(error) = dns::print(rig.dir(), rig.names) {
        println!("  names were not measured: {error}");
    }
    if rig.crashes() > 0 {
        println!("  passt crashed and was started again, times: {}", rig.crashes());
    }
    rig.absent.iter().for_each(|why| println!("  left out: {why}"));
    aims::print(&table);
    Ok(())
}

impl Measure {
    /// How often each way has its turn in a round: what takes a second is most at the mercy of what else the host does.
    const fn turns(&self) -> usize {
        match self {
            Self::RoundTrip(_) | Self::Pings => 3,
            Self::Inward(..) | Self::Outward(_) | Self::Requests => 1,
        }
    }

    /// Rows and their values; none where the way does not lead.
    fn take(&self, name: &str, rig: &Rig, way: &Way) -> Result<Vec<(String, f64)>> {
        match self {
            Self::Inward(service, extra) => {
                let Some(server) = way.to(*service) else { return Ok(Vec::new()) };
                bulk(name, rig, way, || Run::new("iperf3").args(iperf(server, extra)))
            }
            Self::Outward(extra) => {
                let Some(host) = way.outward else { return Ok(Vec::new()) };
                let args = iperf(SocketAddr::from((host, rig.throughput)), extra);
                bulk(name, rig, way, || rig.inside(&["iperf3"]).args(&args))
            }
            Self::Requests => {
                let Some(server) = way.to(Service::Web) else { return Ok(Vec::new()) };
                let each = load::requests(server, false)?;
                let kept = load::requests(server, true)?;
                let row = |what: &str, value| (format!("{name}, requests a second, {what}"), value);
                Ok(vec![row("a connection each", each), row("on 8 connections", kept)])
            }
            Self::RoundTrip(service) => {
                let Some(server) = way.to(*service) else { return Ok(Vec::new()) };
                let [half, most] = load::round_trip(server)?;
                Ok(vec![(name.to_owned(), half), (name.replace("p50", "p99"), most)])
            }
            Self::Pings => {
                let Some(host) = way.outward else { return Ok(Vec::new()) };
                let (host, port) = (host.to_string(), rig.pong.port().to_string());
                let bench = |more: &[&str]| {
                    let usual = ["redis-benchmark", "--csv", "-t", "ping_mbulk", "-h", &host, "-p", &port];
                    load::pings(&rig.inside(&usual).args(more).ok()?)
                };
                let [_, half, most] = bench(&["-c", "1", "-n", "500"])?;
                let [each, ..] = bench(&["-c", "8", "-n", "300", "-k", "0"])?;
                let [kept, ..] = bench(&["-c", "8", "-n", "2000"])?;
                let row = |what: &str, value| (format!("{name}, requests a second, {what}"), value);
                Ok(vec![
                    row("a connection each", each),
                    row("on 8 connections", kept),
                    (OUT_AND_BACK.to_owned(), half),
                    (OUT_AND_BACK.replace("p50", "p99"), most),
                ])
            }
        }
    }
}

/// A rate, and what it cost the host's processor.
fn bulk(name: &str, rig: &Rig, way: &Way, run: impl Fn() -> Run) -> Result<Vec<(String, f64)>> {
    let before = std::cell::Cell::new(0.0);
    let spent = || costs::spent(way.carrier.get(), rig.hypervisor);
    let carried = carried(|| {
        before.set(spent());
        run()
    })?;
    let cost = format!("  {}, host's processor, s/GB", name.trim_end_matches(", MB/s"));
    Ok(vec![(name.to_owned(), carried.rate()), (cost, (spent() - before.get()) / carried.bytes * 1e9)])
}
