//! Trees of Debian 13 packages, extracted without maintainer scripts and without touching the host's own package
//! configuration: apt runs on directories of its own, with the mirror and the keyring that the host already trusts.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Error, Result, Run, place};

/// The release that the guest is made from, so that fixtures and guest run the same dockerd.
const RELEASE: &str = "trixie";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const APT: Duration = Duration::from_secs(300);
/// What programs never read: half of a tree's size.
const READ_BY_PEOPLE: [&str; 6] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/bash-completion",
];

/// The directory with `packages` and all that they depend on, made on first use. It holds a base system's names
/// (`/etc/passwd`, `/usr/sbin/iptables`) that maintainer scripts would have put there.
///
/// # Errors
/// [`Error::NoMirror`], or what apt and dpkg-deb say.
pub fn tree(name: &str, packages: &[&str]) -> Result<PathBuf> {
    made(name, None, packages, Apt::fetch)
}

/// The same without what `packages` depend on: for files that are read, not run.
///
/// # Errors
/// As [`tree`].
pub fn files(name: &str, packages: &[&str]) -> Result<PathBuf> {
    made(name, None, packages, Apt::fetch_alone)
}

/// The same of another architecture, by Debian's name for it: `arm64`.
///
/// # Errors
/// As [`tree`].
pub fn files_of(arch: &str, name: &str, packages: &[&str]) -> Result<PathBuf> {
    made(&format!("{name}-{arch}"), Some(arch), packages, Apt::fetch_alone)
}

fn made(
    name: &str,
    arch: Option<&str>,
    packages: &[&str],
    fetch: fn(&Apt, &[&str]) -> Result<Vec<PathBuf>>,
) -> Result<PathBuf> {
    let trees = place::dev("debian")?;
    let made = trees.join(format!("{name}-{}", place::key(packages)));
    if made.is_dir() {
        return Ok(made);
    }
    let _held = place::lock("debian")?;
    if made.is_dir() {
        return Ok(made);
    }
    eprintln!("fetching Debian packages for {name}: {}", packages.join(" "));
    let apt = Apt::prepare(&trees.join(format!("apt{}", arch.unwrap_or_default())), arch)?;
    let part = made.with_extension("part");
    remove(&part)?;
    fs::create_dir_all(&part).map_err(Error::io("create directory", &part))?;
    for package in fetch(&apt, packages)? {
        Run::new("dpkg-deb").arg("-x").arg(&package).arg(&part).ok()?;
    }
    finish(&part)?;
    remove(&apt.archives)?;
    fs::rename(&part, &made).map_err(Error::io("rename", &part))?;
    Ok(made)
}

/// The mirror that the host's apt configuration names for Debian's main archive, or `DHOW_MIRROR`.
///
/// # Errors
/// [`Error::NoMirror`] when there is none, as on a host that is not Debian.
pub fn mirror() -> Result<String> {
    if let Ok(named) = std::env::var("DHOW_MIRROR") {
        // A second address, after a comma, would be that of security updates.
        return Ok(named.split(',').next().unwrap_or_default().to_owned());
    }
    let targets = Run::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"])
        .ok()?;
    archive_of(&targets.text()).ok_or(Error::NoMirror)
}

/// The first of apt's index targets that is the main archive of a Debian release.
fn archive_of(targets: &str) -> Option<String> {
    const RELEASES: [&str; 9] =
        ["bullseye", "bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable"];
    targets.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (uri, release, component) = (words.next()?, words.next()?, words.next()?);
        let usable = RELEASES.contains(&release) && component == "main" && !uri.starts_with("cdrom");
        usable.then(|| uri.trim_end_matches('/').to_owned())
    })
}

/// apt on directories of its own.
struct Apt {
    config: PathBuf,
    archives: PathBuf,
}

impl Apt {
    fn prepare(dir: &Path, arch: Option<&str>) -> Result<Self> {
        // Only what one tree needs lies in the archives: they are its contents.
        remove(&dir.join("archives"))?;
        for place in ["lists/partial", "archives/partial", "etc"] {
            let path = dir.join(place);
            fs::create_dir_all(&path).map_err(Error::io("create directory", path))?;
        }
        if !Path::new(KEYRING).is_file() {
            return Err(Error::Missing {
                what: KEYRING.to_owned(),
                hint: "install the package debian-archive-keyring".to_owned(),
            });
        }
        let apt = Self { config: dir.join("apt.conf"), archives: dir.join("archives") };
        place::write(&dir.join("status"), "")?;
        let source = format!("deb [signed-by={KEYRING}] {} {RELEASE} main\n", mirror()?);
        place::write(&dir.join("etc/sources.list"), source)?;
        place::write(&apt.config, configuration(dir, arch))?;
        apt.get().arg("update").ok()?;
        Ok(apt)
    }

    /// The package files of `packages` and their dependencies, base-files first: its links (`/bin -> usr/bin`) must be
    /// there before anything lands in them.
    fn fetch(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        self.get().args(["install", "--download-only"]).args(packages).ok()?;
        self.fetched()
    }

    /// The package files of `packages` alone; checked against the signed index, as the others are.
    fn fetch_alone(&self, packages: &[&str]) -> Result<Vec<PathBuf>> {
        self.get().dir(&self.archives).arg("download").args(packages).ok()?;
        self.fetched()
    }

    fn fetched(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.archives).map_err(Error::io("list", &self.archives))?;
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .collect();
        files.sort_by_key(|path| (!path.to_string_lossy().contains("/base-files_"), path.clone()));
        Ok(files)
    }

    fn get(&self) -> Run {
        // With -c this file is read after the host's own configuration, whose proxy settings stay in force.
        Run::new("apt-get").arg("-c").arg(&self.config).args(["-qq", "-y"]).limit(APT)
    }
}

fn configuration(dir: &Path, arch: Option<&str>) -> String {
    let dir = dir.display();
    let arch = arch.map(|arch| format!("APT::Architecture \"{arch}\";\n")).unwrap_or_default();
    format!(
        "Dir::Etc::sourcelist \"{dir}/etc/sources.list\";\n\
         Dir::Etc::sourceparts \"/dev/null\";\n\
         Dir::Etc::preferencesparts \"/dev/null\";\n\
         Dir::State \"{dir}\";\n\
         Dir::State::lists \"{dir}/lists\";\n\
         Dir::State::status \"{dir}/status\";\n\
         Dir::Cache \"{dir}\";\n\
         Dir::Cache::archives \"{dir}/archives\";\n\
         APT::Install-Recommends \"false\";\n\
         APT::Sandbox::User \"root\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::Retries \"3\";\n\
         #clear APT::Architectures;\n\
         #clear APT::Update::Post-Invoke;\n\
         #clear APT::Update::Post-Invoke-Success;\n\
         #clear DPkg::Pre-Install-Pkgs;\n\
         {arch}"
    )
}

/// What maintainer scripts would have done, as far as programs here need it.
fn finish(tree: &Path) -> Result<()> {
    for dir in READ_BY_PEOPLE {
        remove(&tree.join(dir))?;
    }
    for (master, name) in [("passwd.master", "etc/passwd"), ("group.master", "etc/group")] {
        let master = tree.join("usr/share/base-passwd").join(master);
        if master.is_file() {
            fs::copy(&master, tree.join(name)).map_err(Error::io("copy", &master))?;
        }
    }
    for (link, target) in [
        ("usr/sbin/iptables", "xtables-nft-multi"),
        ("usr/sbin/ip6tables", "xtables-nft-multi"),
        ("var/run", "/run"),
        ("var/lock", "/run/lock"),
    ] {
        let link = tree.join(link);
        let beside = link.with_file_name(target);
        if fs::symlink_metadata(&link).is_err() && (target.starts_with('/') || beside.exists()) {
            let parent = link.parent().unwrap_or(tree);
            fs::create_dir_all(parent).map_err(Error::io("create directory", parent))?;
            symlink(target, &link).map_err(Error::io("link", &link))?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_main_archive_and_neither_security_nor_a_vendor() {
        let targets = "https://vendor.example/apt nodistro main\n\
                       http://mirror.example/debian-security/ bookworm-security main\n\
                       http://mirror.example/debian/ bookworm-updates main\n\
                       http://mirror.example/debian/ bookworm main\n";
        assert_eq!(archive_of(targets).as_deref(), Some("http://mirror.example/debian"));
    }

    #[test]
    fn a_host_without_a_debian_archive_has_no_mirror() {
        assert_eq!(archive_of("http://mirror.example/ubuntu/ noble main\n"), None);
    }
}
