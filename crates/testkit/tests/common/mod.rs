//! What the machine tests share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod data;
pub mod draw;
pub mod gateway;
pub mod load;
pub mod ports;
pub mod postgres;
pub mod sleep;
pub mod verify;
pub mod victims;

use std::time::Duration;

use dhow_testkit::{Image, Result, Scene, engine};

/// Longer than anything should take under software emulation on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(400);

/// A corner in the engine under test, with busybox there.
pub fn scene() -> Result<Scene> {
    Scene::new(engine::shared_docker()?, &[Image::Busybox])
}

/// A corner with the Debian image there, too.
pub fn debian_scene() -> Result<Scene> {
    Scene::new(engine::shared_docker()?, &Image::ALL)
}

/// The small image's name.
pub fn busybox() -> &'static str {
    Image::Busybox.name()
}

/// The big image's name.
pub fn debian() -> &'static str {
    Image::Debian.name()
}
