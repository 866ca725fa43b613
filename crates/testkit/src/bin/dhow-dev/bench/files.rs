//! What a share costs beside the guest's own disk, in one container and in turns; and beside QEMU's own 9p, in another guest.

mod ninep;

use dhow_testkit::{Engine, Error, Image, Result};

use super::spread::Spread;

/// Files that each step of names works on.
const FILES: u32 = 1000;
/// Bytes that are written and read, in megabytes.
const MEGABYTES: u32 = 128;
/// How often.
const ROUNDS: usize = 3;
/// What is measured: a name, and a script that works in the directory `t`.
const STEPS: [(&str, &str); 7] = [
    ("create", "i=0; while [ $i -lt $N ]; do : > f$i; i=$((i+1)); done"),
    ("stat, just listed", "ls -l >/dev/null; stat -c %s f* >/dev/null"),
    ("stat, not looked at lately", "stat -c %s f* >/dev/null"),
    ("open, read and close", "cat f* >/dev/null"),
    ("write", "dd if=/dev/zero of=big bs=1M count=$M conv=fsync 2>/dev/null"),
    ("read, nothing cached", "dd if=big of=/dev/null bs=1M 2>/dev/null"),
    ("remove", "rm -rf ../t/*"),
];

/// Prints each step's time on both, and their ratio.
pub fn measure() -> Result<()> {
    let engine = Engine::start()?;
    Image::Busybox.ensure(engine.docker())?;
    println!("files: {FILES} files, {MEGABYTES} MB; milliseconds, medians of {ROUNDS}; share, disk, ratio");
    let mut took = Took::default();
    for _ in 0..ROUNDS {
        for (place, column) in ["/share", "/disk"].iter().zip(0..) {
            took.add(column, &round(&engine, place)?);
        }
    }
    took.print();
    engine.down()?;
    let took = ninep::measure()?;
    println!("  in a guest with Debian's ordinary kernel, without containers; share, 9p, share by 9p");
    took.print();
    Ok(())
}

/// Each step's times in two places.
#[derive(Default)]
struct Took([[Spread; 2]; STEPS.len()]);

impl Took {
    fn add(&mut self, column: usize, times: &[f64]) {
        for (step, time) in self.0.iter_mut().zip(times) {
            step[column].add(*time);
        }
    }

    fn print(&self) {
        for ((name, _), [one, other]) in STEPS.iter().zip(&self.0) {
            println!("  {name:<28} {one}  {other}  {:6.2}", one.median() / other.median());
        }
    }
}

/// A script that prints each step's milliseconds in `place`. What was looked at is forgotten by the guest between steps.
fn script(place: &str) -> String {
    let mut script = format!("N={FILES}; M={MEGABYTES}; mkdir -p {place}/t; cd {place}/t; ");
    for (_, step) in STEPS {
        // Hundredths of a second since the guest's start: its clock has no finer one that a shell can read.
        script.push_str(
            "sleep 1.1; sync; echo 3 > /proc/sys/vm/drop_caches; now() { cut -d' ' -f1 /proc/uptime | tr -d .; }; a=$(now); ",
        );
        script.push_str(&format!("{step}; b=$(now); echo $(((b-a)*10)); "));
    }
    script
}

/// The times that a script printed.
fn times(said: &str) -> Result<Vec<f64>> {
    let times: Vec<f64> = said.lines().filter_map(|line| line.trim().parse().ok()).collect();
    if times.len() == STEPS.len() {
        Ok(times)
    } else {
        Err(Error::Missing { what: format!("a time for each step in {said:?}"), hint: String::new() })
    }
}

/// One turn in one place.
fn round(engine: &Engine, place: &str) -> Result<Vec<f64>> {
    let home = engine.home().with_file_name("user");
    let share = format!("{}:/share", home.display());
    let args = ["run", "--rm", "--privileged", "-v", &share, "-v", "bench:/disk", Image::Busybox.name()];
    let said = engine.docker().run(args).arg("sh").arg("-c").arg(script(place));
    times(&said.limit(std::time::Duration::from_secs(600)).ok()?.text())
}
