//! Promise: a data disk takes what is used in it, grows without a loss, and whatever happens to it, what is on it can be had
//! [7.6, 7.7].

mod common;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{PATIENCE, busybox};
use dhow_testkit::engine::signal;
use dhow_testkit::{Engine, Error, Image, Result, Run, wait};
use serde_json::Value;

/// Free blocks become holes when the file system's journal has said so, which it does every five seconds.
const SECONDS: Duration = Duration::from_secs(30);

fn engine_with_data() -> Result<Engine> {
    let engine = Engine::start()?;
    Image::Busybox.ensure(engine.docker())?;
    let write =
        "echo kept | dd of=/data/file conv=fsync 2>/dev/null; mkdir -p /data/a; echo deep > /data/a/b; sync";
    engine.docker().ok(["run", "--rm", "-v", "kept:/data", busybox(), "sh", "-c", write])?;
    Ok(engine)
}

fn image(engine: &Engine) -> PathBuf {
    engine.machine().join("data.img")
}

fn takes(engine: &Engine) -> Result<u64> {
    let path = image(engine);
    Ok(path.metadata().map_err(Error::io("look at", &path))?.blocks() * 512)
}

fn json(engine: &Engine, args: &[&str]) -> Result<Value> {
    let said = engine.dhow(args.iter().copied().chain(["--json"]))?.limit(PATIENCE).outcome()?.text();
    // Long work tells how far it is in lines of its own; the answer is the last.
    serde_json::from_str(said.lines().last().unwrap_or_default())
        .map_err(|_| Error::Unexpected { what: args.join(" "), said })
}

fn kept(engine: &Engine) -> Result<String> {
    engine.docker().ok(["run", "--rm", "-v", "kept:/data", busybox(), "cat", "/data/file", "/data/a/b"])
}

/// Rule 7.7: what a container's volume took is the host's again, seconds after it is gone, and nobody asked for that; what `compact`
/// adds is asked for.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn a_volume_that_is_removed_gives_its_space_back_in_seconds() -> Result<()> {
    let engine = engine_with_data()?;
    let before = takes(&engine)?;
    let fill = "dd if=/dev/urandom of=/v/file bs=1M count=300 conv=fsync 2>/dev/null";
    engine.docker().run(["run", "--rm", "-v", "big:/v", busybox(), "sh", "-c", fill]).limit(PATIENCE).ok()?;
    let full = takes(&engine)?;
    assert!(full > before + (290 << 20), "{before} {full}");
    let usage = json(&engine, &["disk", "usage"])?;
    let volumes = &usage["guest"]["docker"][2];
    assert_eq!(volumes["kind"], "volumes", "{usage}");
    assert!(volumes["reclaimable_bytes"].as_u64().unwrap_or(0) >= 300 << 20, "{usage}");
    assert!(usage["takes_bytes"].as_u64().unwrap_or(0) >= full / 2, "{usage}");

    engine.docker().ok(["volume", "rm", "big"])?;
    let began = Instant::now();
    wait::until("the volume's blocks to be holes", SECONDS, || {
        takes(&engine).ok().filter(|now| *now < before + (40 << 20)).map(drop)
    })?;
    eprintln!("300 MB were given back {} ms after the volume was removed", began.elapsed().as_millis());

    let compacted = json(&engine, &["disk", "compact"])?;
    assert!(compacted["after_bytes"].as_u64().unwrap_or(u64::MAX) <= before + (40 << 20), "{compacted}");
    assert_eq!(kept(&engine)?, "kept\ndeep");
    Ok(())
}

/// Issue 5, point 4: growth while containers run, and the configuration follows; shrinking is refused and says why; a check of a
/// disk in use is refused, and one of a machine that is off finds nothing.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn a_disk_grows_under_a_running_container_and_never_shrinks() -> Result<()> {
    let engine = engine_with_data()?;
    let size = |word: &str| engine.dhow(["disk", "grow", word]).and_then(|run| run.limit(PATIENCE).outcome());
    let inside = || -> Result<u64> {
        Ok(json(&engine, &["disk", "usage"])?["guest"]["total_bytes"].as_u64().unwrap_or_default())
    };
    let count = "i=0; while true; do i=$((i+1)); echo $i > /data/count; sync; sleep 0.1; done";
    engine.docker().ok([
        "run",
        "-d",
        "--name",
        "writer",
        "-v",
        "kept:/data",
        busybox(),
        "sh",
        "-c",
        count,
    ])?;
    let before = inside()?;
    let hypervisor = engine.status()?.hypervisor();

    let grown = json(&engine, &["disk", "grow", "80GiB"])?;
    assert!(grown["file_system_bytes"].as_u64().unwrap_or(0) > before + (12 << 30), "{before} {grown}");
    assert!(inside()? > before + (12 << 30));
    let after = engine.status()?;
    assert_eq!(after.hypervisor(), hypervisor, "without a restart");
    assert_eq!(after.machine()["disk_bytes"].as_u64(), Some(80 << 30));
    let configured = engine.dhow(["config", "get", "machine.disk"])?.ok()?.text();
    assert_eq!(configured, "80GiB");

    let refused = size("32GiB")?;
    assert_eq!(refused.code(), Some(1));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("cannot be made 32GiB") && why.contains("dhow disk compact"), "{why}");

    let in_use = engine.dhow(["disk", "check"])?.limit(PATIENCE).outcome()?;
    assert!(String::from_utf8_lossy(&in_use.stderr).contains("in use"), "{:?}", in_use.code());

    // Killed in the middle: the next start goes on where it was.
    let supervisor = engine.status()?.supervisor().unwrap_or_default();
    let growing = engine.dhow(["disk", "grow", "96GiB"])?.start()?;
    wait::nap(Duration::from_millis(300));
    signal(supervisor, "KILL")?;
    let mut growing = growing;
    growing.wait().map_err(Error::io("wait for", "dhow disk grow"))?;
    engine.up()?;
    wait::until("docker to answer again", PATIENCE, || engine.docker().answers().then_some(()))?;
    assert!(inside()? > before + (28 << 30));
    assert_eq!(kept(&engine)?, "kept\ndeep");

    engine.down()?;
    let checked = json(&engine, &["disk", "check"])?;
    assert_eq!(checked["verdict"], "sound", "{checked}");
    engine.up()?;
    assert_eq!(kept(&engine)?, "kept\ndeep");
    Ok(())
}

/// Where things stand in an ext4 file system of 4 KiB blocks.
struct Layout {
    inodes: u64,
    journal: u64,
}

impl Layout {
    /// From the first group's descriptor, and from inode 8, which is the journal's.
    fn of(path: &Path) -> Result<Self> {
        let image = File::open(path).map_err(Error::io("open", path))?;
        let word = |at: u64| -> Result<u64> {
            let mut bytes = [0; 4];
            image.read_exact_at(&mut bytes, at).map_err(Error::io("read", path))?;
            Ok(u64::from(u32::from_le_bytes(bytes)))
        };
        let inodes = word(4096 + 8)? * 4096;
        // The inode's first extent: 12 bytes of header at 40, then block, length and high half, low half.
        let journal = word(inodes + 7 * 256 + 40 + 12 + 8)? * 4096;
        Ok(Self { inodes, journal })
    }
}

fn overwrite(path: &Path, at: u64, byte: u8, length: usize) -> Result<()> {
    let image = OpenOptions::new().write(true).open(path).map_err(Error::io("open", path))?;
    image.write_all_at(&vec![byte; length], at).map_err(Error::io("write", path))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    Run::new("cp").args(["--sparse=always"]).arg(from).arg(to).limit(PATIENCE).ok().map(drop)
}

/// A digest of what the file holds, which takes no notice of holes: of its data only, as it is far smaller than its size.
fn digest(path: &Path) -> Result<String> {
    let script = r#"set -e; tar -cS --mtime=@0 --owner=0 --group=0 -C "$(dirname "$1")" "$(basename "$1")" | sha256sum"#;
    Ok(Run::new("sh").args(["-c", script, "sh"]).arg(path).limit(PATIENCE).ok()?.text())
}

/// What is wrong with a disk: a word, and how it is done to it.
type Damage = (&'static str, fn(&Path, &Layout) -> Result<()>);

/// Rule 7.6: whatever of the file system's own structures is lost, the machine either repairs it or boots into rescue, where images and
/// volumes can be saved; the disk itself is not touched by that; and a repair brings the machine back.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn a_damaged_disk_gives_out_what_is_on_it_and_can_be_repaired() -> Result<()> {
    let engine = engine_with_data()?;
    engine.down()?;
    let disk = image(&engine);
    let sound = disk.with_extension("sound");
    copy(&disk, &sound)?;
    let layout = Layout::of(&disk)?;
    let damages: [Damage; 5] = [
        ("its superblock is zeros", |disk, _| overwrite(disk, 1024, 0, 1024)),
        ("its superblock and group descriptors are zeros", |disk, _| overwrite(disk, 0, 0, 16 * 4096)),
        ("its superblock is another's", |disk, _| overwrite(disk, 1024 + 120, b'x', 8)),
        ("its journal is garbage", |disk, layout| overwrite(disk, layout.journal, 0xa5, 64 << 10)),
        ("its root directory's inode is garbage", |disk, layout| {
            overwrite(disk, layout.inodes + 256, 0xa5, 256)
        }),
    ];
    for (what, damage) in damages {
        eprintln!("── {what}");
        copy(&sound, &disk)?;
        damage(&disk, &layout)?;
        let before = digest(&disk)?;
        let up = engine.dhow(["up"])?.limit(PATIENCE).outcome()?;
        if up.code() == Some(0) {
            // It was repaired on the way, as its file system advises.
            assert_eq!(kept(&engine)?, "kept\ndeep", "{what}");
            engine.down()?;
            continue;
        }
        let said = String::from_utf8_lossy(&up.stderr).into_owned();
        assert!(said.contains("in rescue") && said.contains("dhow rescue list"), "{what}: {said}");
        rescued(&engine, what)?;
        assert_eq!(digest(&disk)?, before, "{what}: the rescue changed the disk");

        let checked = json(&engine, &["disk", "check"])?;
        assert_eq!(checked["verdict"], "damaged", "{what}: {checked}");
        let repaired = json(&engine, &["disk", "check", "--repair"])?;
        assert_eq!(repaired["verdict"], "repaired", "{what}: {repaired}");
        if what.contains("another's") {
            continue;
        }
        engine.up()?;
        if !what.contains("root directory") {
            assert_eq!(kept(&engine)?, "kept\ndeep", "{what}");
        }
        engine.down()?;
    }
    Ok(())
}

/// In rescue: the status says so, Docker is refused with what to type, and everything that was there is saved.
fn rescued(engine: &Engine, what: &str) -> Result<()> {
    let status = engine.status()?;
    assert_eq!(status.state(), "rescue", "{what}: {}", status.0);
    assert!(!status.trouble().is_empty(), "{what}");
    let refused = engine.docker().run(["ps"]).outcome()?;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("rescue"), "{what}");

    let directory = engine.home().with_file_name("saved");
    let saved = engine.dhow(["rescue", "export"])?.arg(&directory).arg("--json").limit(PATIENCE).outcome()?;
    let list: Value =
        serde_json::from_str(saved.text().lines().last().unwrap_or_default()).unwrap_or_default();
    if !what.contains("root directory") {
        let names: Vec<_> =
            list.as_array().into_iter().flatten().map(|thing| thing["name"].clone()).collect();
        assert!(names.contains(&busybox().into()) && names.contains(&"kept".into()), "{what}: {list}");
        let volume = directory.join("volume-kept.tar");
        let read = Run::new("tar").arg("-xOf").arg(&volume).args(["--wildcards", "*file"]).ok()?;
        assert_eq!(read.text(), "kept", "{what}");
        let archives = fs::read_dir(&directory).map_err(Error::io("list", &directory))?;
        let archive = archives
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.to_string_lossy().contains("image-"))
            .ok_or_else(|| Error::Unexpected {
                what: what.to_owned(),
                said: "no image was saved".to_owned(),
            })?;
        let listed = Run::new("tar").arg("-tf").arg(&archive).ok()?.text();
        assert!(listed.contains("manifest.json"), "{what}: {listed}");
    }
    let raw = directory.join("data.raw");
    engine.dhow(["disk", "export"])?.arg(&raw).limit(PATIENCE).ok()?;
    fs::remove_dir_all(&directory).map_err(Error::io("remove", &directory))
}
