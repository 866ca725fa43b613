//! Tables, texts and properties of admission, over a handful of hosts.

mod properties;
mod table;
mod texts;

use super::{Asked, Bound, ForeignMachine, Host, Placement};
use crate::translator::{Served, Unprovisioned, Why};
use crate::{Arch, Platform, Role, TranslatorName};

/// The other architecture.
fn other(arch: Arch) -> Arch {
    match arch {
        Arch::Amd64 => Arch::Arm64,
        Arch::Arm64 => Arch::Amd64,
    }
}

/// A translator whose file is missing.
fn missing(name: TranslatorName, guest: Arch) -> (TranslatorName, Result<(), Unprovisioned>) {
    let serves = other(guest);
    let file = name.translator(guest, serves).map(|row| format!("/d/runtime/bin/{}", row.file).into());
    (name, Err(Unprovisioned { translator: name, serves, file, why: Why::Missing }))
}

/// A Linux host whose machines have the architecture `native`, with these translators for the other one.
fn host(native: Arch, translators: Vec<(TranslatorName, Result<(), Unprovisioned>)>) -> Host {
    Host {
        name: format!("linux/{native}"),
        placement: Placement::NativeMachine,
        native: native.into(),
        translators: vec![Served { arch: other(native), translators }],
        foreign: Ok(ForeignMachine { guest: other(native).into(), translator: None }),
    }
}

/// An x86-64 host with QEMU's user mode.
fn amd64() -> Host {
    host(Arch::Amd64, vec![(TranslatorName::Qemu, Ok(()))])
}

/// The same, with a machine for each architecture.
fn two_machines() -> Host {
    Host { placement: Placement::ForeignMachine, ..amd64() }
}

/// A Mac with Apple silicon, whose foreign machine has Rosetta.
fn apple() -> Host {
    Host {
        name: "macos/arm64".to_owned(),
        placement: Placement::ForeignMachine,
        foreign: Ok(ForeignMachine { guest: Arch::Arm64.into(), translator: Some(TranslatorName::Rosetta) }),
        ..host(Arch::Arm64, vec![missing(TranslatorName::Fex, Arch::Arm64)])
    }
}

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

/// A request that names these platforms, divided by spaces.
fn asks(platforms: &str) -> Asked {
    Asked { platforms: platforms.split_whitespace().map(platform).collect(), ..Asked::default() }
}

/// A request that names none, for an image that is there in the native machine for these platforms.
fn has(platforms: &str) -> Asked {
    let image = platforms.split_whitespace().map(|text| (Role::Native, platform(text))).collect();
    Asked { image, ..Asked::default() }
}

/// The same request of a service whose project is bound.
fn bound(role: Role, asked: Asked) -> Asked {
    Asked { project: Some(Bound { project: "shop".to_owned(), role }), ..asked }
}
