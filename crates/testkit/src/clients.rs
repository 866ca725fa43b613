//! Client libraries for the Docker API that others wrote, as their registries serve them: fetched on first use with the host's
//! own `pip` and `npm`, from where those are configured to fetch.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Docker, Error, Result, Run, place};

const FETCH: Duration = Duration::from_secs(300);
/// With these versions the scenarios in `clients/` were written.
const PYTHON: [&str; 2] = ["docker==7.2.0", "testcontainers==4.15.0"];
const JAVASCRIPT: [&str; 1] = ["dockerode@5.0.1"];

/// The scenario `clients/NAME.py`, with the Python libraries, against this client's socket.
///
/// # Errors
/// When the libraries cannot be fetched.
pub fn python(docker: &Docker, name: &str) -> Result<Run> {
    let packages = fetched("python", &PYTHON, |packages, into| {
        let pip =
            ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--target"];
        Run::new("python3").args(pip).arg(into).args(packages).limit(FETCH).ok().map(drop)
    })?;
    let run = Run::new("python3").arg(scenario(&format!("{name}.py"))).env("PYTHONPATH", packages);
    Ok(run.env("DOCKER_HOST", format!("unix://{}", docker.socket().display())))
}

/// The scenario `clients/NAME.mjs`, with the JavaScript libraries, against this client's socket.
///
/// # Errors
/// When the libraries cannot be fetched.
pub fn javascript(docker: &Docker, name: &str) -> Result<Run> {
    let packages = fetched("javascript", &JAVASCRIPT, |packages, into| {
        // Without the scripts of packages: what they would build is an optional speed-up.
        let npm = [
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--no-package-lock",
            "--no-save",
        ];
        Run::new("npm").args(npm).arg("--prefix").arg(into).args(packages).limit(FETCH).ok().map(drop)
    })?;
    let run = Run::new("node").arg(scenario(&format!("{name}.mjs")));
    Ok(run.env("MODULES", packages.join("node_modules")).env("DOCKER_SOCKET", docker.socket()))
}

fn scenario(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(file)
}

/// A directory with these packages, made by one process and whole when it is there.
fn fetched(language: &str, packages: &[&str], fetch: fn(&[&str], &Path) -> Result<()>) -> Result<PathBuf> {
    let made = place::dev("clients")?.join(format!("{language}-{}", place::key(packages)));
    let _held = place::lock(&format!("clients-{language}"))?;
    if made.is_dir() {
        return Ok(made);
    }
    let part = made.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part).map_err(Error::io("remove", &part))?;
    }
    fs::create_dir_all(&part).map_err(Error::io("create directory", &part))?;
    fetch(packages, &part)?;
    fs::rename(&part, &made).map_err(Error::io("rename", &part))?;
    Ok(made)
}
