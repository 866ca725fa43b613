//! Containers' names, asked on the host as fast as answers come.

use std::path::Path;
use std::time::Duration;

use dhow_testkit::{Error, Result, Run, place};

use super::{ROUNDS, Spread};

/// Prints how many questions a second are answered.
pub fn print(dir: &Path, port: u16) -> Result<()> {
    let questions = dir.join("questions");
    place::write(&questions, "inner.dhow.internal A\ninner.dhow.internal AAAA\nnobody.dhow.internal A\n")?;
    let (mut rate, mut lost) = (Spread::default(), Spread::default());
    for _ in 0..ROUNDS {
        let run = Run::new("dnsperf").args(["-s", "127.0.0.1", "-p", &port.to_string(), "-l", "3", "-d"]);
        let said = run.arg(&questions).limit(Duration::from_secs(30)).ok()?.text();
        let number = |name: &str| {
            let line = said.lines().find_map(|line| line.trim().strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        };
        match (number("Queries per second:"), number("Queries lost:")) {
            (Some(per_second), Some(number)) => {
                rate.add(per_second);
                lost.add(number);
            }
            _ => return Err(Error::Unexpected { what: "`dnsperf`".to_owned(), said }),
        }
    }
    println!("  names asked on the host, answers a second\n    dhow     {rate}\n    lost     {lost}");
    Ok(())
}
