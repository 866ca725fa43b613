//! What the figures ought to be, and whether they are.

/// Most microseconds over the direct socket, p50, one client.
const MOST_OVER: f64 = 60.0;
/// Least share of the direct socket's throughput.
const LEAST_SHARE: f64 = 0.9;
const PROXIES: [&str; 2] = ["nginx", "haproxy"];

/// What was measured.
#[derive(Default)]
pub struct Figures {
    /// Clients, path, p50 in microseconds, requests per second.
    pub latency: Vec<(usize, &'static str, f64, f64)>,
    /// Transfer, path, share of direct.
    pub bulk: Vec<(&'static str, &'static str, f64)>,
}

impl Figures {
    /// Prints each aim with what came of it.
    pub fn judge(&self) {
        println!("the aims");
        let at = |clients: usize, path: &str| {
            self.latency.iter().find(|it| it.0 == clients && it.1 == path).map(|it| (it.2, it.3))
        };
        if let (Some((direct, _)), Some((face, _))) = (at(1, "direct"), at(1, "face")) {
            line(
                face - direct <= MOST_OVER,
                &format!("p50 {:+.0} µs over direct at 1 client (at most {MOST_OVER})", face - direct),
            );
        }
        for clients in [1, 8, 64] {
            for proxy in PROXIES {
                if let (Some((face, rate)), Some((other, others))) = (at(clients, "face"), at(clients, proxy))
                {
                    line(
                        face < other && rate > others,
                        &format!(
                            "{clients} clients, against {proxy}: p50 {face:.0} against {other:.0} µs, {rate:.0} against {others:.0} requests/s"
                        ),
                    );
                }
            }
        }
        for (what, _, share) in self.bulk.iter().filter(|it| it.1 == "face") {
            line(
                *share >= LEAST_SHARE,
                &format!("{what}: {:.0} % of direct (at least {:.0})", share * 100.0, LEAST_SHARE * 100.0),
            );
            for (_, proxy, other) in self.bulk.iter().filter(|it| it.0 == *what && PROXIES.contains(&it.1)) {
                line(
                    share > other,
                    &format!("{what}, against {proxy}: {:.0} against {:.0} %", share * 100.0, other * 100.0),
                );
            }
        }
    }
}

fn line(reached: bool, what: &str) {
    println!("  {:<12} {what}", if reached { "reached" } else { "NOT REACHED" });
}
