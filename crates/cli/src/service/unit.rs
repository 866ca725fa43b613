//! What the units say (systemd.socket(5), systemd.service(5), systemd.syntax(7)).

use std::path::{Path, PathBuf};

use super::{Error, Result};

/// What units are made of.
#[derive(Debug, Clone)]
pub struct Facts {
    /// This program.
    pub program: PathBuf,
    /// Dhow's directory.
    pub home: PathBuf,
    /// The sockets that the service manager listens on, in its place.
    pub sockets: Vec<PathBuf>,
    /// Variables that the daemon needs as the caller has them.
    pub environment: Vec<(String, String)>,
}

/// The socket unit.
///
/// # Errors
/// When a path cannot be named.
pub fn socket(facts: &Facts) -> Result<String> {
    let mut listen = String::new();
    for socket in &facts.sockets {
        listen.push_str(&format!("ListenStream={}\n", escaped(socket)?));
    }
    Ok(format!(
        "[Unit]\n\
         Description=Sockets of the container engine in {home}\n\
         \n\
         [Socket]\n\
         {listen}\
         SocketMode=0600\n\
         DirectoryMode=0700\n\
         RemoveOnStop=yes\n\
         \n\
         [Install]\n\
         WantedBy=sockets.target\n",
        home = escaped(&facts.home)?
    ))
}

/// The service unit. Machines are not the daemon's: when it is killed they go on (`KillMode=process`), and when it is told to end,
/// as at logout, it saves them to disk first.
///
/// # Errors
/// When a path or a variable cannot be named.
pub fn service(facts: &Facts, socket_unit: &str) -> Result<String> {
    let mut environment = String::new();
    for (name, value) in &facts.environment {
        environment.push_str(&format!("Environment={}\n", quoted(&format!("{name}={value}"))?));
    }
    let text = |path: &Path| path.to_str().map(str::to_owned).ok_or_else(|| Error::BadPath(path.to_owned()));
    let program = quoted(&text(&facts.program)?)?.replace('$', "$$");
    let home = quoted(&text(&facts.home)?)?.replace('$', "$$");
    Ok(format!(
        "[Unit]\n\
         Description=Container engine in {dir}\n\
         Requires={socket_unit}\n\
         After={socket_unit}\n\
         \n\
         [Service]\n\
         Type=notify\n\
         ExecStart={program} --home {home} daemon --service\n\
         {environment}\
         KillMode=process\n\
         TimeoutStartSec=60\n\
         TimeoutStopSec=180\n\
         Restart=on-failure\n\
         RestartSec=1\n",
        dir = escaped(&facts.home)?
    ))
}

/// A path as a whole value: a percent sign stands for itself.
fn escaped(path: &Path) -> Result<String> {
    match path.to_str() {
        Some(text) if !text.contains(['\n', '\r']) => Ok(text.replace('%', "%%")),
        _ => Err(Error::BadPath(path.to_owned())),
    }
}

/// A word among words.
fn quoted(word: &str) -> Result<String> {
    if word.contains(['\n', '\r']) {
        return Err(Error::BadPath(word.into()));
    }
    Ok(format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%")))
}
