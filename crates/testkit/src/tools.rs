//! The client programs of Debian 13: `docker`, and Compose and Buildx as its plugins.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::{Error, Result, Run, debian, place};

const PLUGINS: &str = "usr/libexec/docker/cli-plugins";

/// Where the client programs are, and the client configuration that knows the plugins.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The `docker` client.
    pub docker: PathBuf,
    /// A directory for `DOCKER_CONFIG`.
    pub config: PathBuf,
}

impl Tools {
    /// The clients, fetched on first use.
    ///
    /// # Errors
    /// What [`debian::tree`] says, or that the programs do not run here.
    pub fn get() -> Result<Self> {
        let tree = debian::tree("tools", &["docker-cli", "docker-compose", "docker-buildx"])?;
        let dir = place::dev("tools")?;
        let _held = place::lock("tools")?;
        let native = Run::new(tree.join("usr/bin/docker")).arg("--version").ok().is_ok();
        let (docker, plugins) =
            if native { (tree.join("usr/bin/docker"), tree.join(PLUGINS)) } else { wrapped(&tree, &dir)? };
        let config = dir.join("config");
        fs::create_dir_all(&config).map_err(Error::io("create directory", &config))?;
        let settings = serde_json::json!({ "cliPluginsExtraDirs": [plugins] });
        let file = config.join("config.json");
        if fs::read_to_string(&file).ok().as_deref() != Some(&settings.to_string()) {
            place::write(&file, settings.to_string())?;
        }
        Ok(Self { docker, config })
    }
}

/// The same programs behind scripts that start them with the tree's own C library, for a host whose is older.
fn wrapped(tree: &Path, dir: &Path) -> Result<(PathBuf, PathBuf)> {
    let plugins = dir.join("plugins");
    fs::create_dir_all(&plugins).map_err(Error::io("create directory", &plugins))?;
    let docker = dir.join("docker");
    wrap(tree, "usr/bin/docker", &docker)?;
    for name in ["docker-compose", "docker-buildx"] {
        wrap(tree, &format!("{PLUGINS}/{name}"), &plugins.join(name))?;
    }
    Run::new(&docker).arg("--version").ok()?;
    Ok((docker, plugins))
}

/// Writes a script that starts a program of a tree with the tree's own C library.
///
/// # Errors
/// When the tree has no loader, or the script cannot be written.
pub fn wrap(tree: &Path, program: &str, script: &Path) -> Result<()> {
    let loader = ["lib64/ld-linux-x86-64.so.2", "usr/lib/ld-linux-aarch64.so.1"]
        .iter()
        .map(|name| tree.join(name))
        .find(|path| path.exists())
        .ok_or_else(|| Error::Missing {
            what: "the loader in the tree".into(),
            hint: "rm -r .dev/debian".into(),
        })?;
    let libraries = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
        .map(|triple| tree.join("usr/lib").join(triple).display().to_string())
        .join(":");
    let program = tree.join(program);
    let line = format!(
        "#!/bin/sh\nexec '{}' --library-path '{libraries}' '{}' \"$@\"\n",
        loader.display(),
        program.display()
    );
    place::write(script, line)?;
    fs::set_permissions(script, fs::Permissions::from_mode(0o755))
        .map_err(Error::io("make executable", script))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Issue 2: the machine tests use the real client, with Compose and Buildx.
    #[test]
    #[ignore = "fetches packages: ./dev test face"]
    fn the_client_and_both_plugins_run_on_this_host() {
        let tools = Tools::get().unwrap();
        for args in [&["--version"][..], &["compose", "version"], &["buildx", "version"]] {
            Run::new(&tools.docker).env("DOCKER_CONFIG", &tools.config).args(args).ok().unwrap();
        }
    }
}
