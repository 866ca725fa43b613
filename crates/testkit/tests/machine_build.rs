//! Promise: images are built as under Docker, by the classic builder and by BuildKit.

mod common;

use std::fs;
use std::path::Path;

use common::gateway::nightly;
use common::{busybox, scene};
use dhow_testkit::{Error, Result, place, samples};

fn context(dockerfile: &str, files: usize) -> Result<tempfile::TempDir> {
    let dir = tempfile::tempdir_in("/var/tmp").map_err(Error::io("create directory in", "/var/tmp"))?;
    let sub = dir.path().join("files");
    fs::create_dir(&sub).map_err(Error::io("create directory", &sub))?;
    samples::tree(&sub, files, 300)?;
    place::write(&dir.path().join("Dockerfile"), dockerfile)?;
    Ok(dir)
}

fn dockerfile() -> String {
    format!("FROM {}\nCOPY files /files\nRUN cd /files && {} > /digest\n", busybox(), samples::DIGEST)
}

/// Builds a context of 2,000 files, by night of 10,000, and compares the digest that the build computed with ours.
fn built_whole(buildkit: &str, command: &[&str]) -> Result<()> {
    let (scene, dir) = (scene()?, context(&dockerfile(), if nightly() { 10_000 } else { 2_000 })?);
    let image = format!("{}:1", scene.name("built"));
    let build =
        scene.docker().run(command).args(["-t", &image]).arg(dir.path()).env("DOCKER_BUILDKIT", buildkit);
    build.limit(common::PATIENCE).ok()?;
    let inside = scene.run(["--rm", &image, "cat", "/digest"]).ok()?;
    assert_eq!(inside.text(), samples::digest(&dir.path().join("files"))?);
    Ok(())
}

/// Issue 2: `build` with a context of 10,000 files; classic builder.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn the_classic_builder_takes_a_context_of_thousands_of_files() -> Result<()> {
    built_whole("0", &["build", "-q"])
}

/// Issue 2: `build` with a context of 10,000 files; Buildx, over `/session` and `/grpc` [3.2].
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn buildx_takes_a_context_of_thousands_of_files() -> Result<()> {
    built_whole("1", &["buildx", "build", "--load", "--progress", "plain"])
}

/// Rule 3.3: a build that fails says why, and fails.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_step_that_fails_fails_the_build_with_its_output() -> Result<()> {
    for buildkit in ["0", "1"] {
        let (scene, dir) =
            (scene()?, context(&format!("FROM {}\nRUN echo because; exit 7\n", busybox()), 1)?);
        let build = scene.docker().run(["build"]).arg(dir.path()).env("DOCKER_BUILDKIT", buildkit);
        let outcome = build.limit(common::PATIENCE).outcome()?;
        let said = format!("{}{}", outcome.text(), outcome.complaint());
        assert!(!outcome.status.success() && said.contains("because") && said.contains('7'), "{outcome}");
    }
    Ok(())
}

/// A build argument and a secret reach the step that asks for them, through the session.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_secret_reaches_its_step_and_no_layer() -> Result<()> {
    let steps = format!(
        "FROM {}\nARG WORD\nRUN --mount=type=secret,id=s test \"$(cat /run/secrets/s)\" = \"$WORD\" && echo same > /out\n\
         RUN test ! -e /run/secrets/s\n",
        busybox()
    );
    let (scene, dir) = (scene()?, context(&steps, 1)?);
    let secret = dir.path().join("secret");
    place::write(&secret, "hush")?;
    let image = format!("{}:1", scene.name("secret"));
    let build = scene.docker().run([
        "buildx",
        "build",
        "--load",
        "-t",
        &image,
        "--build-arg",
        "WORD=hush",
        "--secret",
    ]);
    build.arg(id_of(&secret)).arg(dir.path()).limit(common::PATIENCE).ok()?;
    assert_eq!(scene.run(["--rm", &image, "cat", "/out"]).ok()?.text(), "same");
    Ok(())
}

fn id_of(secret: &Path) -> String {
    format!("id=s,src={}", secret.display())
}
