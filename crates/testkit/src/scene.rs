//! A test's own corner in a shared engine: names that no other test uses, and an end that leaves nothing of it.

use std::ffi::OsStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::{Docker, Image, Result, Run};

/// Containers, networks, volumes and images of one test. Dropping it removes them.
pub struct Scene {
    docker: Docker,
    label: String,
}

impl Scene {
    /// A corner in the engine behind `docker`, with `images` there.
    ///
    /// # Errors
    /// When an image cannot be imported.
    pub fn new(docker: Docker, images: &[Image]) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        for image in images {
            image.ensure(&docker)?;
        }
        let label = format!("dhow-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Ok(Self { docker, label })
    }

    /// The client.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// A name that only this test uses.
    pub fn name(&self, word: &str) -> String {
        format!("{}-{word}", self.label)
    }

    /// The value of the label `dhow-test` that everything of this scene carries.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// `docker run` with this scene's label, to be completed.
    pub fn run(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run {
        self.docker.run(["run", "--label", &self.mark()]).args(args)
    }

    /// `docker create` with this scene's label; the container's ID.
    ///
    /// # Errors
    /// What docker says.
    pub fn create(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String> {
        Ok(self.docker.run(["create", "--label", &self.mark()]).args(args).ok()?.text())
    }

    /// A network with this scene's label; its name.
    ///
    /// # Errors
    /// What docker says.
    pub fn network(&self, word: &str) -> Result<String> {
        let name = self.name(word);
        self.docker.ok(["network", "create", "--label", &self.mark(), &name])?;
        Ok(name)
    }

    /// A volume with this scene's label; its name.
    ///
    /// # Errors
    /// What docker says.
    pub fn volume(&self, word: &str) -> Result<String> {
        let name = self.name(word);
        self.docker.ok(["volume", "create", "--label", &self.mark(), &name])?;
        Ok(name)
    }

    /// `dhow-test=…`, as `--label` and `--filter label=` take it.
    pub fn mark(&self) -> String {
        format!("dhow-test={}", self.label)
    }

    fn remove(&self, list: &[&str], remove: &[&str], filter: &str) -> Result<()> {
        let listed = self.docker.ok(list.iter().copied().chain(["--filter", filter]))?;
        if listed.is_empty() {
            return Ok(());
        }
        let all = self.docker.run(remove).args(listed.split_whitespace()).limit(Duration::from_secs(120));
        all.ok().map(drop)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let mark = format!("label={}", self.mark());
        let images = format!("reference={}-*", self.label);
        let gone = [
            self.remove(&["ps", "-aq"], &["rm", "-f", "-v"], &mark),
            self.remove(&["network", "ls", "-q"], &["network", "rm"], &mark),
            self.remove(&["volume", "ls", "-q"], &["volume", "rm", "-f"], &mark),
            self.remove(&["images", "-q"], &["rmi", "-f"], &images),
        ];
        for error in gone.into_iter().filter_map(Result::err) {
            eprintln!("left behind by {}: {error}", self.label);
        }
    }
}
