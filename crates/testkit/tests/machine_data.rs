//! Promise: what goes in comes out. Copies, saved images, volumes.

mod common;

use std::fs;

use common::{busybox, scene};
use dhow_testkit::{Error, Result, samples};

fn scratch() -> Result<tempfile::TempDir> {
    tempfile::tempdir_in("/var/tmp").map_err(Error::io("create directory in", "/var/tmp"))
}

/// Issue 2: `cp` both ways of a 200 MB tree; rule 3.2: with back-pressure.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_tree_of_200_mb_is_copied_in_and_out_unchanged() -> Result<()> {
    let (scene, dir) = (scene()?, scratch()?);
    let there = dir.path().join("there");
    fs::create_dir(&there).map_err(Error::io("create directory", &there))?;
    samples::tree(&there, 2000, 100_000)?;
    let digest = samples::digest(&there)?;
    let name = scene.name("cp");
    scene.run(["-d", "--name", &name, busybox(), "sleep", "600"]).ok()?;

    let into = format!("{name}:/data");
    scene.docker().run(["cp", "-q", &there.to_string_lossy(), &into]).limit(common::PATIENCE).ok()?;
    let script = format!("cd /data && {}", samples::DIGEST);
    let inside = scene.docker().run(["exec", &name, "sh", "-c", &script]).limit(common::PATIENCE).ok()?;
    assert_eq!(inside.text(), digest, "on the way in");

    let back = dir.path().join("back");
    scene.docker().run(["cp", "-q", &into, &back.to_string_lossy()]).limit(common::PATIENCE).ok()?;
    assert_eq!(samples::digest(&back)?, digest, "on the way out");
    Ok(())
}

/// Issue 2: `save` and `load`.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_saved_image_can_be_loaded_again_with_its_contents() -> Result<()> {
    let (scene, dir) = (scene()?, scratch()?);
    let (container, image) = (scene.name("saved"), format!("{}:1", scene.name("image")));
    let fill = "dd if=/dev/urandom of=/blob bs=1M count=20 2>/dev/null; sha256sum /blob";
    let digest = scene.run(["--name", &container, busybox(), "sh", "-c", fill]).ok()?.text();
    scene.docker().ok(["commit", &container, &image])?;
    let archive = dir.path().join("image.tar");
    scene.docker().ok(["save", "-o", &archive.to_string_lossy(), &image])?;
    scene.docker().ok(["rm", &container])?;
    scene.docker().ok(["rmi", &image])?;

    scene.docker().ok(["load", "-q", "-i", &archive.to_string_lossy()])?;
    let loaded = scene.run(["--rm", &image, "sha256sum", "/blob"]).ok()?.text();
    assert_eq!(loaded, digest);
    Ok(())
}

/// Rule 3.2: an export is a stream, and whole.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn an_exported_container_holds_its_files() -> Result<()> {
    let scene = scene()?;
    let name = scene.name("exported");
    scene.run(["--name", &name, busybox(), "sh", "-c", "echo kept > /kept"]).ok()?;
    let archive = scene.docker().run(["export", &name]).ok()?.stdout;
    let kept = dhow_testkit::Run::new("tar").args(["-xO", "kept"]).input(archive).ok()?;
    assert_eq!(kept.text(), "kept");
    Ok(())
}

/// Issue 2: volumes that outlive containers.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_volume_outlives_the_container_that_wrote_to_it() -> Result<()> {
    let scene = scene()?;
    let volume = scene.volume("kept")?;
    let mount = format!("{volume}:/data");
    scene.run(["--rm", "-v", &mount, busybox(), "sh", "-c", "echo kept > /data/file"]).ok()?;
    let read = scene.run(["--rm", "-v", &mount, busybox(), "cat", "/data/file"]).ok()?;
    assert_eq!(read.text(), "kept");
    Ok(())
}

/// A stopped container's own files are there when it starts again.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_container_keeps_its_files_over_stop_and_start() -> Result<()> {
    let scene = scene()?;
    let name = scene.name("again");
    scene.run(["-d", "--name", &name, busybox(), "sh", "-c", "echo x >> /count; exec sleep 300"]).ok()?;
    scene.docker().ok(["restart", "-t", "0", &name])?;
    assert_eq!(scene.docker().ok(["exec", &name, "wc", "-l", "/count"])?, "2 /count");
    Ok(())
}
