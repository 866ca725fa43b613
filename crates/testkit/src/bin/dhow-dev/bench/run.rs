//! `docker run` of a warm image: in the engine, and on the same dockerd without a machine, in turns.

use std::time::Instant;

use dhow_testkit::{Docker, Engine, Image, Result};

use super::{ROUNDS, Spread};

/// Prints both times and their ratio.
#[cfg(target_os = "linux")]
pub fn measure() -> Result<()> {
    let engine = Engine::start()?;
    let dockerd = dhow_testkit::Dockerd::start()?;
    let places = [("engine", engine.docker()), ("dockerd directly", dockerd.docker())];
    let mut times = [Spread::default(), Spread::default()];
    for (_, docker) in places {
        Image::Busybox.ensure(docker)?;
        once(docker)?;
    }
    for _ in 0..ROUNDS {
        for ((_, docker), spread) in places.iter().zip(&mut times) {
            spread.add(once(docker)?);
        }
    }
    println!("run: `docker run --rm` of a warm image, seconds: median of {ROUNDS} [least to most]");
    for ((name, _), spread) in places.iter().zip(&times) {
        println!("  {name:<28} {spread}");
    }
    println!("  {:<28} {:8.2}", "ratio", times[0].median() / times[1].median());
    Ok(())
}

/// There is no dockerd to compare with.
#[cfg(not(target_os = "linux"))]
pub fn measure() -> Result<()> {
    let engine = Engine::start()?;
    Image::Busybox.ensure(engine.docker())?;
    let mut time = Spread::default();
    for _ in 0..ROUNDS {
        time.add(once(engine.docker())?);
    }
    println!("run: `docker run --rm` of a warm image, seconds: {time}");
    Ok(())
}

fn once(docker: &Docker) -> Result<f64> {
    let began = Instant::now();
    docker.ok(["run", "--rm", Image::Busybox.name(), "true"])?;
    Ok(began.elapsed().as_secs_f64())
}
