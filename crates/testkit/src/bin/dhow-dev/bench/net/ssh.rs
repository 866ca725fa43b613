//! `ssh -L` through an sshd in the guest.

use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dhow_testkit::{Engine, Error, Result, Run, debian, place, run, wait};

use super::rig::installed;
use super::ways::{Service, Way};

const PACKAGES: [&str; 6] = ["base-files", "base-passwd", "bash", "coreutils", "dash", "openssh-server"];
const IMAGE: &str = "dhow-bench/sshd:1";

/// Starts the sshd in a container on the guest's own network, and the client that forwards to `target`.
pub fn start(dir: &Path, engine: &Engine, shell: u16, target: &str, way: &Way) -> Result<Child> {
    let (ssh, keygen) = (installed("ssh")?, installed("ssh-keygen")?);
    let key = dir.join("key");
    Run::new(keygen).args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).ok()?;
    let read = |path: &Path| std::fs::read_to_string(path).map_err(Error::io("read", path));
    let (secret, public) = (read(&key)?, read(&key.with_extension("pub"))?);

    let tree = debian::tree("sshd", &PACKAGES)?;
    let archive = dir.join("sshd.tar");
    Run::new("tar").args(["--create", "--file"]).arg(&archive).arg("--directory").arg(tree).arg(".").ok()?;
    engine.docker().run(["import"]).arg(&archive).arg(IMAGE).ok()?;
    let serve = format!(
        "mkdir -p /run/sshd /root/.ssh && echo 'sshd:x:100:65534::/run/sshd:/bin/false' >> /etc/passwd && \
         printenv SECRET > /etc/ssh/key && chmod 600 /etc/ssh/key && printenv PUBLIC > /etc/ssh/authorized && \
         exec /usr/sbin/sshd -D -e -p {} -f /dev/null -h /etc/ssh/key -o AuthorizedKeysFile=/etc/ssh/authorized \
         -o StrictModes=no -o UsePAM=no -o PermitRootLogin=yes -o PidFile=none",
        Service::Shell.port()
    );
    let place = ["run", "-d", "--name", "sshd", "--network", "host"];
    let container = engine.docker().run(place).args(["-e", &format!("SECRET={secret}")]);
    container.args(["-e", &format!("PUBLIC={public}"), IMAGE, "sh", "-c", &serve]).ok()?;
    // Before it listens, QEMU accepts for it and hangs up.
    wait::until("sshd to greet", Duration::from_secs(30), || greets(shell).then_some(()))?;

    let mut command = Command::new(ssh);
    command.args(["-F", "none", "-N", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-i"]);
    command.arg(&key).args(["-o", "UserKnownHostsFile=/dev/null", "-o", "ExitOnForwardFailure=yes"]);
    command.args(["-p", &shell.to_string()]);
    for (host, inner) in way.forwards() {
        command.args(["-L", &format!("127.0.0.1:{host}:{target}:{inner}")]);
    }
    command.arg("root@127.0.0.1").stdin(Stdio::null());
    let log = dir.join("ssh.log");
    place::write(&log, "")?;
    let file = std::fs::File::create(&log).map_err(Error::io("create", &log))?;
    command.stdout(Stdio::null()).stderr(file);
    run::spawn(&mut command)
}

fn greets(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut word = [0; 4];
    stream.set_read_timeout(Some(Duration::from_secs(5))).is_ok()
        && stream.read_exact(&mut word).is_ok()
        && &word == b"SSH-"
}
