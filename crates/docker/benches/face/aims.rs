//! What the figures ought to be, and whether they are.

use crate::Spread;

/// Most microseconds over the direct socket, p50, one client.
const MOST_OVER: f64 = 60.0;
/// Least share of the direct socket's throughput.
const LEAST_SHARE: f64 = 0.9;
const PROXIES: [&str; 2] = ["nginx", "haproxy"];

/// What was measured; every list has one value for each round, and the rounds of different paths belong together.
#[derive(Default)]
pub struct Figures {
    pub latency: Vec<Latency>,
    pub bulk: Vec<Bulk>,
}

/// One path with so many clients.
pub struct Latency {
    pub clients: usize,
    pub path: &'static str,
    /// Microseconds.
    pub p50: Vec<f64>,
    /// Requests a second.
    pub rate: Vec<f64>,
}

/// One path with one kind of transfer.
pub struct Bulk {
    pub what: &'static str,
    pub path: &'static str,
    /// Megabytes a second.
    pub speed: Vec<f64>,
}

impl Figures {
    /// Prints each aim with what came of it.
    pub fn judge(&self) {
        println!("the aims (ahead and behind: a sign test over the rounds, two-sided, 5 %)");
        let at = |clients: usize, path: &str| {
            self.latency.iter().find(|it| it.clients == clients && it.path == path)
        };
        if let (Some(direct), Some(face)) = (at(1, "direct"), at(1, "face")) {
            let over = median(&face.p50) - median(&direct.p50);
            let verdict = if over <= MOST_OVER { "reached" } else { "NOT REACHED" };
            line(verdict, &format!("p50 {over:+.0} µs over direct at 1 client (at most {MOST_OVER})"));
        }
        for clients in [1, 8, 64] {
            for proxy in PROXIES {
                if let (Some(face), Some(other)) = (at(clients, "face"), at(clients, proxy)) {
                    let against = format!("{clients} clients, against {proxy}");
                    compare(&format!("{against}: p50, µs"), &other.p50, &face.p50, true);
                    compare(&format!("{against}: requests/s"), &face.rate, &other.rate, false);
                }
            }
        }
        for face in self.bulk.iter().filter(|it| it.path == "face") {
            let of = |path: &str| self.bulk.iter().find(|it| it.what == face.what && it.path == path);
            if let Some(direct) = of("direct") {
                let share = median(&face.speed) / median(&direct.speed);
                let verdict = if share >= LEAST_SHARE { "reached" } else { "NOT REACHED" };
                let least = LEAST_SHARE * 100.0;
                line(
                    verdict,
                    &format!("{}: {:.0} % of direct (at least {least:.0})", face.what, share * 100.0),
                );
            }
            for (proxy, other) in PROXIES.iter().filter_map(|proxy| Some((proxy, of(proxy)?))) {
                compare(&format!("{}, against {proxy}: MB/s", face.what), &face.speed, &other.speed, false);
            }
        }
    }
}

/// Prints which of two is the larger in more rounds than chance would explain. The face is `larger`, unless `swapped`.
fn compare(what: &str, larger: &[f64], smaller: &[f64], swapped: bool) {
    let rounds = larger.len().min(smaller.len());
    let wins = larger.iter().zip(smaller).filter(|(ours, theirs)| ours > theirs).count();
    let verdict = match (is_beyond_chance(wins, rounds), is_beyond_chance(rounds - wins, rounds)) {
        (true, _) => "ahead",
        (_, true) => "BEHIND",
        _ => "level",
    };
    let (face, other) = if swapped { (smaller, larger) } else { (larger, smaller) };
    line(
        verdict,
        &format!("{what}: {:.0} against {:.0}, {wins} of {rounds} rounds", median(face), median(other)),
    );
}

/// Whether so many wins or more come about by chance in less than 2.5 % of cases, each round being a toss of a coin.
fn is_beyond_chance(wins: usize, rounds: usize) -> bool {
    let mut ways = 1.0;
    let (mut all, mut as_many) = (0.0, 0.0);
    for heads in 0..=rounds {
        all += ways;
        if heads >= wins {
            as_many += ways;
        }
        ways = ways * (rounds - heads) as f64 / (heads + 1) as f64;
    }
    as_many / all < 0.025
}

fn median(values: &[f64]) -> f64 {
    Spread::of(values.iter().copied()).median
}

fn line(verdict: &str, what: &str) {
    println!("  {verdict:<12} {what}");
}
