//! `dhow route` in words.

use super::{Installed, Removed, Status};
use crate::output::Style;

/// How it is.
pub(super) fn status(status: &Status, style: Style) -> String {
    let program = match (&status.program, &status.trouble, &status.version) {
        (None, ..) => style.dim("not supported on this host: it needs Linux's TUN devices"),
        (Some(_), Some(trouble), _) => format!("{} ({trouble})", style.bad("not usable")),
        (Some(path), None, Some(version)) => {
            let group = status.group.unwrap_or_default();
            format!("{} (release {version}, for root and group {group})", path.display())
        }
        (Some(_), None, None) => style.dim("not installed; `dhow route install` says what to type"),
    };
    let mut words = format!("program  {program}\n");
    for device in &status.devices {
        let routes = if device.routes.is_empty() { style.dim("no routes") } else { device.routes.join(", ") };
        words.push_str(&format!("device   {}: {routes}\n", device.name));
    }
    if status.devices.is_empty() {
        words.push_str(&format!("device   {}\n", style.dim("none")));
    }
    words
}

/// What was, or would be, installed.
pub(super) fn installed(done: &Installed) -> String {
    let (would, path, group) =
        (if done.dry_run { "Would install" } else { "Installed" }, done.program.display(), done.group);
    let then = if done.dry_run {
        ""
    } else {
        "A machine that runs gets its device and routes in 15 s; `dhow route status` shows them.\n"
    };
    format!("{would} {path} with CAP_NET_ADMIN, for root and group {group}.\n{then}")
}

/// What was, or would be, removed.
pub(super) fn removed(done: &Removed) -> String {
    if done.removed.is_empty() {
        return "Nothing was installed.\n".to_owned();
    }
    let would = if done.dry_run { "Would remove" } else { "Removed" };
    done.removed.iter().map(|path| format!("{would} {}.\n", path.display())).collect()
}
