//! Promise: `dhow up` that cannot work ends in one clear error with the next thing to type, and nothing is lost
//! [15.1, 7.4, 7.5, 16.2]. And it works for an ordinary user [16.4].
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use common::busybox;
use dhow_testkit::{Engine, Error, Image, Outcome, Result, Run, Tools, engine, place};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(180);
/// Nobody's, on any distribution.
const ORDINARY: u32 = 54321;

/// `dhow up`, which must be refused: one error, a next step, and no engine that runs afterwards. Returns what it said.
fn refused(engine: &Engine, change: impl Fn(Run) -> Run) -> Result<String> {
    let outcome = change(engine.dhow(["up", "--no-progress"])?).limit(LIMIT).outcome()?;
    assert!(!outcome.status.success(), "it was not refused\n{outcome}");
    let said = outcome.complaint();
    let begins = |word: &str| said.lines().filter(|line| line.trim_start().starts_with(word)).count();
    assert_eq!(begins("error:"), 1, "one error\n{outcome}");
    assert_eq!(begins("try:"), 1, "one next step\n{outcome}");
    let json = change(engine.dhow(["up", "--json"])?).limit(LIMIT).outcome()?;
    assert_is_a_document(&json);
    let status = engine.dhow(["status"])?.outcome()?;
    assert_ne!(status.code(), Some(0), "the engine runs all the same\n{status}");
    Ok(said)
}

/// With `--json` the error is a document with a code, a message and a hint.
fn assert_is_a_document(outcome: &Outcome) {
    let text = outcome.text();
    let last = text.lines().last().unwrap_or_default();
    let document: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("not JSON: {outcome}"));
    for part in ["code", "message", "hint"] {
        let said = document["error"][part].as_str().unwrap_or_default();
        assert!(!said.is_empty(), "no {part} in {document}");
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|dir| std::os::unix::fs::MetadataExt::uid(&dir) == 0)
}

/// A directory with one program in it, for `PATH`.
fn path_with(program: &str, script: &str) -> Result<tempfile::TempDir> {
    let dir = scratch()?;
    let path = dir.path().join(program);
    place::write(&path, script)?;
    fs::set_permissions(&path, Permissions::from_mode(0o755)).map_err(Error::io("make executable", &path))?;
    Ok(dir)
}

fn scratch() -> Result<tempfile::TempDir> {
    tempfile::tempdir_in("/var/tmp").map_err(Error::io("create directory in", "/var/tmp"))
}

fn qemu() -> String {
    format!("qemu-system-{}", std::env::consts::ARCH)
}

/// Issue 2: no QEMU.
#[test]
#[ignore = "drives dhow up: ./dev test machine"]
fn without_qemu_up_says_what_to_install() -> Result<()> {
    let (engine, nothing) = (Engine::prepare()?, scratch()?);
    let said = refused(&engine, |up| up.env("PATH", nothing.path()))?;
    assert!(said.to_lowercase().contains("qemu"), "{said}");
    Ok(())
}

/// Issue 2: an old QEMU.
#[test]
#[ignore = "drives dhow up: ./dev test machine"]
fn an_old_qemu_is_named_with_its_version_and_the_needed_one() -> Result<()> {
    let engine = Engine::prepare()?;
    let old = path_with(&qemu(), "#!/bin/sh\necho 'QEMU emulator version 7.2.9 (Debian 1:7.2+dfsg-7)'\n")?;
    let path = format!("{}:/usr/bin:/bin", old.path().display());
    let said = refused(&engine, |up| up.env("PATH", &path))?;
    assert!(said.contains("7.2.9") && said.contains("8.2"), "{said}");
    Ok(())
}

/// A `PATH` whose QEMU boots a kernel that panics, which resets the guest, while `this` is the shell's truth.
fn path_with_panics(this: &str) -> Result<(tempfile::TempDir, String)> {
    let real = format!("/usr/bin/{}", qemu());
    // Of two command lines the last one counts.
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in\n*' -netdev '*) if {this}; then set -- \"$@\" -append 'panic=-1 rdinit=/nothing'; fi ;;\nesac\n\
         exec {real} \"$@\"\n"
    );
    let dir = path_with(&qemu(), &script)?;
    let path = format!("{}:/usr/bin:/bin", dir.path().display());
    Ok((dir, path))
}

fn starts(engine: &Engine) -> Result<usize> {
    let log = engine.machine().join("hypervisor.log");
    let text = fs::read_to_string(&log).map_err(Error::io("read", &log))?;
    Ok(text.lines().filter(|line| line.contains(" start of ")).count())
}

/// Rule 6.2: a guest that resets itself before it has begun, as one in some hundred emulated ones does, is no failure of `dhow up`.
#[test]
#[ignore = "drives dhow up: ./dev test machine"]
fn a_guest_that_resets_itself_before_it_has_begun_boots_once_more() -> Result<()> {
    let engine = Engine::prepare()?;
    let flag = engine.home().with_file_name("panics");
    place::write(&flag, "")?;
    let (_dir, path) = path_with_panics(&format!("rm '{}' 2>/dev/null", flag.display()))?;
    engine.dhow(["up"])?.env("PATH", &path).limit(LIMIT).ok()?;
    assert!(!flag.exists(), "it was started without a panic");
    assert_eq!(starts(&engine)?, 2);
    let logs = engine.dhow(["logs", "supervisor"])?.ok()?.text();
    assert!(logs.contains("guest-reset") && logs.contains("boots once more"), "{logs}");
    engine.docker().ok(["version"]).map(drop)
}

/// Rule 6.2: and one that always does is not booted for ever.
#[test]
#[ignore = "drives dhow up: ./dev test machine"]
fn a_guest_that_resets_itself_again_is_a_failure_that_says_so() -> Result<()> {
    let engine = Engine::prepare()?;
    let (_dir, path) = path_with_panics("true")?;
    let said = refused(&engine, |up| up.env("PATH", &path))?;
    assert!(said.contains("went off by itself") && said.contains("guest-reset"), "{said}");
    // It was asked for twice.
    assert_eq!(starts(&engine)?, 4);
    Ok(())
}

/// Rule 15.3 and issue 2: a wrong key in the configuration.
#[test]
#[ignore = "drives dhow up: ./dev test machine"]
fn a_wrong_key_is_named_with_the_right_one_and_kept() -> Result<()> {
    let engine = Engine::prepare()?;
    fs::create_dir_all(engine.home()).map_err(Error::io("create directory", engine.home()))?;
    let (file, text) = (engine.home().join("config.toml"), "[machine]\nmemroy = \"4GiB\"\n");
    place::write(&file, text)?;
    let said = refused(&engine, |up| up)?;
    assert!(said.contains("memroy") && said.contains("memory") && said.contains("config.toml"), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    Ok(())
}

/// Issue 2: a read-only home.
#[test]
#[ignore = "drives dhow up: ./dev test machine"]
fn a_read_only_home_is_named() -> Result<()> {
    if !is_root() {
        return Err(Error::Missing {
            what: "root".into(),
            hint: "mounting a read-only home needs it".into(),
        });
    }
    let dir = scratch()?;
    let mount = Mount::tmpfs(&dir.path().join("home"), "size=1m,ro")?;
    let engine = Engine::prepare_at(&mount.0)?;
    let said = refused(&engine, |up| up)?;
    assert!(said.contains(&*engine.home().to_string_lossy()), "{said}");
    Ok(())
}

/// Issue 2: a full disk. With room again the same command works.
#[test]
#[ignore = "drives dhow up: ./dev test machine"]
fn a_full_disk_is_named_and_room_heals_it() -> Result<()> {
    if !is_root() {
        return Err(Error::Missing { what: "root".into(), hint: "mounting a small disk needs it".into() });
    }
    let dir = scratch()?;
    let mount = Mount::tmpfs(&dir.path().join("home"), "size=2000m")?;
    let engine = Engine::prepare_at(&mount.0)?;
    let ballast = engine.home().join("ballast");
    Run::new("dd").args(["if=/dev/zero", "bs=1M", &format!("of={}", ballast.display())]).outcome()?;
    let said = refused(&engine, |up| up)?;
    assert!(said.contains(&*mount.0.to_string_lossy()) && said.contains("room"), "{said}");
    fs::remove_file(&ballast).map_err(Error::io("remove", &ballast))?;
    engine.up()?;
    Image::Busybox.ensure(engine.docker())?;
    engine.docker().ok(["run", "--rm", busybox(), "true"])?;
    engine.down()
}

/// Rules 7.2 and 7.4, issue 2: a truncated root image.
#[test]
#[ignore = "drives dhow up: ./dev test machine"]
fn a_truncated_root_image_is_named_and_never_booted() -> Result<()> {
    let (engine, dir) = (Engine::prepare()?, scratch()?);
    let store = dir.path().join("assets");
    Run::new("cp").args(["-a", "--reflink=auto"]).arg(engine::assets()?).arg(&store).ok()?;
    let image = largest(&store.join("blobs/sha256"));
    let length = fs::metadata(&image).unwrap().len();
    fs::set_permissions(&image, Permissions::from_mode(0o644)).unwrap();
    File::options().write(true).open(&image).unwrap().set_len(length / 2).unwrap();
    let said = refused(&engine, |up| up.env("DHOW_ASSETS", &store))?;
    let name = image.file_name().unwrap().to_string_lossy();
    assert!(said.contains(&name[..12]), "{said}");
    assert!(!engine.machine().join("hypervisor.log").exists(), "a hypervisor was started");
    Ok(())
}

/// Rule 7.5 and issue 2: a data disk that is not blank and not ours is left as it is.
#[test]
#[ignore = "drives dhow up: ./dev test machine"]
fn a_foreign_data_disk_is_refused_and_left_untouched() -> Result<()> {
    let engine = Engine::prepare()?;
    fs::create_dir_all(engine.machine()).map_err(Error::io("create directory", engine.machine()))?;
    for dir in [engine.home(), &engine.home().join("machines"), &engine.machine()] {
        fs::set_permissions(dir, Permissions::from_mode(0o700)).unwrap();
    }
    let disk = engine.machine().join("data.img");
    let file = File::create(&disk).unwrap();
    file.set_len(2 << 30).unwrap();
    file.write_all_at(&[b"somebody's only copy ".repeat(5000), vec![7; 4096]].concat(), 4096).unwrap();
    fs::set_permissions(&disk, Permissions::from_mode(0o600)).unwrap();
    let before = sha256(&disk)?;
    let said = refused(&engine, |up| up)?;
    assert!(said.contains("data"), "{said}");
    assert!(!said.contains("rm ") && !said.contains("delete"), "nobody is told to delete their data\n{said}");
    assert_eq!(sha256(&disk)?, before);
    Ok(())
}

/// Issue 2: a second `up` at the same time.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn two_ups_at_once_make_one_engine() -> Result<()> {
    let engine = Engine::prepare()?;
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let up = || engine.dhow(["up", "--no-progress"])?.limit(LIMIT).outcome();
        let both = [scope.spawn(up), scope.spawn(up)];
        both.into_iter().map(|one| one.join().unwrap()).collect::<Result<_>>()
    })?;
    assert!(outcomes.iter().any(|outcome| outcome.status.success()), "{outcomes:?}");
    for outcome in outcomes.iter().filter(|outcome| !outcome.status.success()) {
        assert!(outcome.complaint().contains("try:"), "{outcome}");
    }
    let status = engine.status()?;
    assert_eq!(status.0["machines"].as_array().map(Vec::len), Some(1), "{:?}", status.0);
    assert!(engine.docker().answers());
    Ok(())
}

/// Rule 16.4 and issue 2 point 7: all of it as an ordinary user.
#[test]
#[ignore = "boots an engine: ./dev test machine"]
fn an_ordinary_user_has_an_engine_that_nobody_else_can_reach() -> Result<()> {
    if !is_root() {
        // Then every other test of this run has shown it.
        return Ok(());
    }
    let engine = Engine::prepare_for(ORDINARY)?;
    engine.up()?;
    Image::Busybox.ensure(engine.docker())?;
    let docker = |user: u32| {
        let id = user.to_string();
        Run::new("setpriv")
            .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"])
            .arg(&Tools::get()?.docker)
            .args(["run", "--rm", busybox(), "echo", "mine"])
            .env("DOCKER_HOST", format!("unix://{}", engine.docker().socket().display()))
            .env("DOCKER_CONFIG", &engine.docker().tools().config)
            .outcome()
    };
    assert_eq!(docker(ORDINARY)?.ok()?.text(), "mine");
    let other = docker(ORDINARY + 1)?;
    assert!(!other.status.success() && other.complaint().contains("permission denied"), "{other}");
    engine.down()
}

fn largest(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
}

fn sha256(path: &Path) -> Result<String> {
    Ok(Run::new("sha256sum").arg(path).ok()?.text())
}

/// A file system that is gone with the test.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(at: &Path, options: &str) -> Result<Self> {
        fs::create_dir_all(at).map_err(Error::io("create directory", at))?;
        fs::set_permissions(at, Permissions::from_mode(0o700)).map_err(Error::io("make private", at))?;
        let options = format!("mode=0700,{options}");
        Run::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).ok()?;
        Ok(Self(at.to_path_buf()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = Run::new("umount").arg("-l").arg(&self.0).ok() {
            eprintln!("{error}");
        }
    }
}
