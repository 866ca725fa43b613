//! On Linux: what is installed, and installing it.

use std::path::{Path, PathBuf};

use dhow_model::Failure;
use dhow_route_helper::install::Place;
use dhow_route_helper::{Error, PROGRAM, host};

use super::{Device, Installed, Removed, Status, failure};
use crate::VERSION;
use crate::args::Where;

type Result<T> = std::result::Result<T, Failure>;

pub(super) fn status(at: &Where) -> Result<Status> {
    let place = at.place();
    let checked = place.check();
    let devices = host::devices().map_err(|error| failure(error, ""))?.into_iter().map(|device| Device {
        name: device.name,
        routes: device.routes.iter().map(ToString::to_string).collect(),
    });
    Ok(Status {
        supported: true,
        program: Some(place.program()),
        installed: place.program().symlink_metadata().is_ok(),
        usable: checked.is_ok(),
        trouble: match &checked {
            Ok(_) | Err(Error::NotInstalled(_)) => None,
            Err(Error::Foreign { path, why }) => Some(format!("{}: {why}", path.display())),
            Err(error) => Some(error.to_string()),
        },
        version: checked.as_ref().ok().map(|installed| installed.version.clone()),
        group: checked.ok().map(|installed| installed.group),
        devices: devices.collect(),
        warnings: Vec::new(),
    })
}

pub(super) fn install(at: &Where, group: Option<u32>, dry_run: bool) -> Result<Installed> {
    let place = at.place();
    let group = group.unwrap_or_else(|| default_group(std::env::var("SUDO_GID").ok().as_deref()));
    let as_root = format!("{} --group {group}", again("install", at));
    let source =
        beside(&std::env::current_exe().map_err(|e| failure(io(Path::new("/proc/self/exe"), e), ""))?)?;
    let answer = |version: String| Installed { program: place.program(), version, group, dry_run };
    if dry_run {
        return place
            .may_install(&source)
            .map(|()| answer(VERSION.to_owned()))
            .map_err(|e| failure(e, &as_root));
    }
    place.install(&source, group, VERSION).map(|done| answer(done.version)).map_err(|e| failure(e, &as_root))
}

pub(super) fn uninstall(at: &Where, dry_run: bool) -> Result<Removed> {
    let place = at.place();
    let removed = if dry_run { place.may_uninstall() } else { place.uninstall() };
    removed.map(|removed| Removed { removed, dry_run }).map_err(|e| failure(e, &again("uninstall", at)))
}

impl Where {
    fn place(&self) -> Place {
        self.root.as_deref().map_or_else(Place::default, Place::below)
    }
}

/// The group of whoever calls, or of whoever called `sudo`.
pub(super) fn default_group(sudo: Option<&str>) -> u32 {
    let own = std::fs::metadata("/proc/self").map_or(0, |about| std::os::unix::fs::MetadataExt::gid(&about));
    sudo.and_then(|gid| gid.parse().ok()).unwrap_or(own)
}

/// What lies beside `dhow` to be installed.
pub(super) fn beside(dhow: &Path) -> Result<PathBuf> {
    let source = dhow.with_file_name(PROGRAM);
    if source.is_file() {
        return Ok(source);
    }
    Err(Failure::new(
        "route-no-program",
        format!("{PROGRAM} does not lie beside dhow\n{} is missing", source.display()),
        "install dhow again; in a checkout: ./dev build",
    ))
}

/// The line to type as root.
fn again(verb: &str, at: &Where) -> String {
    let dhow = std::env::current_exe().unwrap_or_else(|_| "dhow".into());
    let root = at.root.as_ref().map(|root| format!(" --root {}", quoted(root))).unwrap_or_default();
    format!("sudo {} route {verb}{root}", quoted(&dhow))
}

/// A path as a shell reads it.
pub(super) fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@,".contains(c);
    if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io { path: path.to_owned(), done: "found", source }
}
