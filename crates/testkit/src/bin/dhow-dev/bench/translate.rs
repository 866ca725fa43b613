//! What translation costs: programs of another architecture against the machine's own, in the same machine and the same run.
//!
//! Both sides run the same release of one static busybox, so that what differs is who executes it. Without KVM the machine itself
//! is emulated, and translated programs are translated twice.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dhow_testkit::{Docker, Engine, Error, Image, Result, images};

use serde_json::Value;

use super::{ROUNDS, Spread};

/// A directory with files of translators that have no package, by the names that the runtime directory gives them.
const FILES: &str = "DHOW_TRANSLATORS";
/// Packages on their first use, boot assets included.
const BUILD: Duration = Duration::from_secs(900);
/// For one piece of work, translated twice over.
const WORK: Duration = Duration::from_secs(600);

/// What is done in a container that runs already, timed by the guest's own clock.
const WORKS: [(&str, &str); 5] = [
    ("start of a program", "n=0; while [ $n -lt 20 ]; do busybox true; n=$((n + 1)); done"),
    ("shell arithmetic", "n=0; while [ $n -lt 50000 ]; do n=$((n + 1)); done"),
    ("awk, floating point", "awk 'BEGIN { for (i = 1; i < 80000; i++) x += 1 / i; print x }' >/dev/null"),
    ("SHA-256", "head -c 4000000 /dev/zero | sha256sum >/dev/null"),
    ("gzip", "seq 80000 | gzip >/dev/null"),
];

/// Prints the ratios for each machine and each translator that can be had.
pub fn measure() -> Result<()> {
    for (guest, served) in [(images::native(), images::foreign()), (images::foreign(), images::native())] {
        machine(guest, served)?;
    }
    Ok(())
}

fn machine(guest: &str, served: &str) -> Result<()> {
    let engine = Engine::prepare()?;
    engine.dhow(["config", "set", "machine.arch", guest])?.ok()?;
    let said = engine.dhow(["translator", "list", "--json"])?.ok()?.text();
    let listed: Value = serde_json::from_str(&said)
        .map_err(|_| Error::Unexpected { what: "`dhow translator list --json`".to_owned(), said })?;
    let there: Vec<(String, Option<PathBuf>)> =
        listed["translators"].as_array().into_iter().flatten().filter_map(origin).collect();
    engine.dhow(["up"])?.limit(BUILD).ok()?;
    let docker = engine.docker();
    for image in [Image::Busybox, Image::ForeignBusybox] {
        image.ensure(docker)?;
    }
    let accelerator = engine.status()?.machine()["accelerator"].as_str().unwrap_or_default().to_owned();
    for (name, file) in there {
        let version = provisioned(&engine, &name, served, file)?;
        println!("translate: {served} programs in the {guest} machine ({accelerator}) by {name} {version},");
        println!(
            "  seconds: median of {ROUNDS} [least to most], and the ratio to the machine's own programs"
        );
        compare(docker, guest, served)?;
    }
    Ok(())
}

/// A translator and where its file comes from; nothing for one that cannot be had here.
fn origin(row: &Value) -> Option<(String, Option<PathBuf>)> {
    let name = row["name"].as_str()?.to_owned();
    let at =
        |dir: std::ffi::OsString| Some(Path::new(&dir).join(Path::new(row["file"].as_str()?).file_name()?));
    match std::env::var_os(FILES).and_then(at).filter(|file: &PathBuf| file.is_file()) {
        Some(file) => Some((name, Some(file))),
        None if name == "qemu" => Some((name, None)),
        None => None,
    }
}

/// Makes it the one translator of its architecture; its version, once the guest says that it serves.
fn provisioned(engine: &Engine, name: &str, served: &str, file: Option<PathBuf>) -> Result<String> {
    engine.dhow(["config", "set", &format!("translators.{served}"), name])?.ok()?;
    let provision = engine.dhow(["translator", "provision", name])?.limit(BUILD);
    match file {
        Some(file) => provision.arg("--from").arg(file).ok()?,
        None => provision.ok()?,
    };
    let serves = |status: &dhow_testkit::engine::Status| {
        let one = &status.machine()["translators"][0];
        one["name"] == name && one["problem"].is_null()
    };
    let status = engine.wait_status("the translator to serve", Duration::from_secs(60), serves)?;
    Ok(status.machine()["translators"][0]["version"].as_str().unwrap_or_default().to_owned())
}

fn compare(docker: &Docker, guest: &str, served: &str) -> Result<()> {
    let sides = [guest, served].map(Side::of);
    for side in &sides {
        side.start(docker)?;
    }
    let names = ["docker run"].into_iter().chain(WORKS.map(|(name, _)| name));
    let mut all: Vec<_> = names.map(|name| (name, [Spread::default(), Spread::default()])).collect();
    for _ in 0..ROUNDS {
        for (at, side) in sides.iter().enumerate() {
            let took = [side.run(docker)?].into_iter().chain(side.works(docker)?);
            for ((_, spreads), took) in all.iter_mut().zip(took) {
                spreads[at].add(took);
            }
        }
    }
    for side in &sides {
        docker.ok(["rm", "-f", &side.name])?;
    }
    for (name, [own, translated]) in all {
        let ratio = translated.median() / own.median();
        println!("  {name:<22} own {own}   translated {translated}   ratio {ratio:6.1}");
    }
    Ok(())
}

/// The programs of one architecture.
struct Side {
    name: String,
    platform: String,
    image: &'static str,
}

impl Side {
    fn of(arch: &str) -> Self {
        let image = if arch == images::native() { Image::Busybox } else { Image::ForeignBusybox };
        Self { name: format!("side-{arch}"), platform: format!("linux/{arch}"), image: image.name() }
    }

    fn start(&self, docker: &Docker) -> Result<()> {
        let args =
            ["run", "-d", "--name", &self.name, "--platform", &self.platform, self.image, "sleep", "86400"];
        docker.ok(args)?;
        // Its first programs read the image from the disk.
        self.works(docker).map(drop)
    }

    /// A container from its creation to its end, as a person waits for it.
    fn run(&self, docker: &Docker) -> Result<f64> {
        let began = Instant::now();
        docker.run(["run", "--rm", "--platform", &self.platform, self.image, "true"]).limit(WORK).ok()?;
        Ok(began.elapsed().as_secs_f64())
    }

    /// Seconds that each piece of work takes in the running container: one exec, so that nothing of it is the client's.
    fn works(&self, docker: &Docker) -> Result<Vec<f64>> {
        let timed = |(_, script): (&str, &str)| {
            format!("read a b </proc/uptime; {script}; read c d </proc/uptime; echo $a $c; ")
        };
        let script: String = WORKS.map(timed).concat();
        let said = docker.run(["exec", &self.name, "sh", "-c", &script]).limit(WORK).ok()?.text();
        let took = |line: &str| {
            let (from, to) = line.split_once(' ')?;
            Some(to.parse::<f64>().ok()? - from.parse::<f64>().ok()?)
        };
        let times: Vec<f64> = said.lines().filter_map(took).collect();
        if times.len() == WORKS.len() {
            return Ok(times);
        }
        Err(Error::Unexpected { what: "the guest's clock".to_owned(), said })
    }
}
