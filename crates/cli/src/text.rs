//! Words for numbers and times, and words of a guest made safe to print.

use std::time::Duration;

const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];

/// A size to read, not to parse back: `1.4 GiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    match UNITS.iter().find(|(unit, _)| count >= *unit) {
        None => format!("{count} B"),
        Some((unit, name)) => {
            let tenths = u128::from(count) * 10 / u128::from(*unit);
            let (whole, tenth) = (tenths / 10, tenths % 10);
            if tenth == 0 || whole >= 100 {
                format!("{whole} {name}")
            } else {
                format!("{whole}.{tenth} {name}")
            }
        }
    }
}

/// A short time: `0.21 s`, `12.3 s`, `3 min 20 s`.
#[must_use]
pub fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 10.0 {
        format!("{seconds:.2} s")
    } else if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {} s", time.as_secs() / 60, time.as_secs() % 60)
    }
}

/// A long time, in its two largest units: `3 d 4 h`.
#[must_use]
pub fn uptime(time: Duration) -> String {
    let all = time.as_secs();
    let (days, hours, minutes, seconds) = (all / 86_400, all / 3600 % 24, all / 60 % 60, all % 60);
    if days > 0 {
        format!("{days} d {hours} h")
    } else if hours > 0 {
        format!("{hours} h {minutes} min")
    } else if minutes > 0 {
        format!("{minutes} min {seconds} s")
    } else {
        format!("{seconds} s")
    }
}

/// `text` without characters that steer a terminal: what a guest or another program wrote is shown, not obeyed. Line breaks
/// and tabs stay.
#[must_use]
pub fn harmless(text: &str) -> String {
    let steers = |c: char| c.is_control() && c != '\n' && c != '\t';
    text.chars()
        .filter(|c| *c != '\r')
        .map(|c| if steers(c) { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

/// [`harmless`], and on one line.
#[must_use]
pub fn one_line(text: &str) -> String {
    harmless(text).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_well() {
        let sizes = [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (64 << 30, "64 GiB")];
        for (count, words) in sizes {
            assert_eq!(bytes(count), words);
        }
        let times = [(5, "5 s"), (65, "1 min 5 s"), (3 * 3600 + 60, "3 h 1 min"), (90_000, "1 d 1 h")];
        for (count, words) in times {
            assert_eq!(uptime(Duration::from_secs(count)), words);
        }
        for (millis, words) in [(207, "0.21 s"), (12_340, "12.3 s"), (200_000, "3 min 20 s")] {
            assert_eq!(seconds(Duration::from_millis(millis)), words);
        }
    }

    #[test]
    fn what_a_guest_wrote_cannot_steer_the_terminal() {
        assert_eq!(
            harmless("\x1b]0;owned\x07ok\r\nnext\tcolumn"),
            "\u{fffd}]0;owned\u{fffd}ok\nnext\tcolumn"
        );
    }
}
