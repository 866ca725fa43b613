//! Promise: whatever happens to a data disk, what is on it can be had [7.6]. Minutes long: `./dev test campaign`.

mod common;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use common::data::{engine_with_data, image, json, kept};
use common::{PATIENCE, busybox};
use dhow_testkit::{Engine, Error, Result, Run};
use serde_json::Value;

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
#[ignore = "boots an engine: ./dev test campaign"]
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
        let damaged = digest(&disk)?;
        let up = engine.dhow(["up"])?.limit(PATIENCE).outcome()?;
        if up.code() == Some(0) {
            // It was repaired on the way, as its file system advises.
            assert_eq!(kept(&engine)?, "kept\ndeep", "{what}");
            engine.down()?;
            continue;
        }
        let said = String::from_utf8_lossy(&up.stderr).into_owned();
        assert!(said.contains("in rescue") && said.contains("dhow rescue list"), "{what}: {said}");
        // A start's own check may have mended what is safe to mend before it gave up.
        let before = if what.contains("root directory") { digest(&disk)? } else { damaged };
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
