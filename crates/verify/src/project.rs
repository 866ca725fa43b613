//! More than one program: a signal from outside, builds, and a project that mixes architectures in one machine as Compose would make it.

use std::time::Duration;

use dhow_model::Arch;

use crate::docker::{Builder, Docker, Program, Spec};
use crate::error::{Error, Result};
use crate::judge::{Expect, Text};
use crate::seen::{End, Seen};

/// For a build under software emulation twice over.
const BUILD: Duration = Duration::from_secs(900);
/// For a small program.
const SHORT: Duration = Duration::from_secs(300);
/// How often an output is looked at that something is waited for in.
const LOOK: Duration = Duration::from_millis(300);

/// The builds: name, what it proves, who builds.
pub(crate) const BUILDS: [(&str, &str, Builder); 2] = [
    ("build (classic)", "the classic builder runs foreign programs, and its image runs", Builder::Classic),
    ("build (BuildKit)", "BuildKit runs foreign programs, and its image runs", Builder::BuildKit),
];
/// The project's check.
pub(crate) const NAME: &str = "compose";
/// What it proves.
pub(crate) const ABOUT: &str =
    "services of both architectures in one project find each other by name and talk, both ways";

/// Which builders the engine offers: its preferred one is in `Builder-Version`, and an engine that prefers BuildKit has the other, too.
pub(crate) async fn builders(docker: &Docker) -> Vec<Builder> {
    match docker.version().await {
        // BuildKit without a gRPC session came with API 1.39.
        Ok(version) if minor(&version["ApiVersion"]) >= 39 => vec![Builder::Classic, Builder::BuildKit],
        _ => vec![Builder::Classic],
    }
}

fn minor(version: &serde_json::Value) -> u32 {
    let words = version.as_str().unwrap_or_default();
    words.split_once('.').and_then(|(_, minor)| minor.parse().ok()).unwrap_or(0)
}

/// Builds on an image, and runs what came of it.
pub(crate) async fn build(docker: &Docker, run: &str, builder: Builder, from: &str, arch: Arch) -> Seen {
    let image = built_image(run);
    let seen = match docker.build(builder, context(from), &image, arch, BUILD).await {
        // The engine ran what it was told to, and that ended badly.
        Err(Error::Refused { message, .. }) if failed_command(&message) => {
            Seen { end: End::Exited(1), stdout: Vec::new(), stderr: message.into_bytes() }
        }
        Err(error) => Seen::error(&error),
        Ok(_) => match docker.image_arch(&image).await {
            Err(error) => Seen::error(&error),
            Ok(found) if found.as_deref() != Some(arch.debian()) => {
                let found = found.unwrap_or_else(|| "nothing".to_owned());
                Seen::nothing(End::Refused(format!("the builder made an image for {found}, not for {arch}")))
            }
            Ok(_) => {
                let command = ["cat", "/machine"].map(str::to_owned).to_vec();
                let spec = Spec { image: image.clone(), command, ..Spec::default() };
                docker.seen(run, arch, &spec, SHORT).await
            }
        },
    };
    // What stays is removed at the end of the run.
    docker.remove_image(&image).await.ok();
    seen
}

/// What a right build's image says.
pub(crate) fn built(arch: Arch) -> Expect {
    Expect::says(format!("{}\n6", arch.kernel()))
}

/// How both builders say that a command of the Dockerfile did not end with 0.
fn failed_command(message: &str) -> bool {
    message.contains("returned a non-zero code") || message.contains("did not complete successfully")
}

fn built_image(run: &str) -> String {
    format!("dhow-verify/built:{run}")
}

/// A context with a Dockerfile and a file to copy.
fn context(from: &str) -> Vec<u8> {
    let dockerfile = format!(
        "FROM {from}\nCOPY number /number\nRUN uname -m >/machine && echo $(($(cat /number) + 1)) >>/machine\nCMD [\"cat\", \"/machine\"]\n"
    );
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in [("Dockerfile", dockerfile.as_str()), ("number", "5\n")] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        // Writing to memory does not fail.
        builder.append_data(&mut header, name, content.as_bytes()).ok();
    }
    builder.into_inner().unwrap_or_default()
}

/// Runs a program, and sends it a signal once it has said `ready`.
pub(crate) async fn signalled(
    docker: &Docker,
    run: &str,
    arch: Arch,
    spec: &Spec,
    signal: &str,
    limit: Duration,
) -> Seen {
    let work = async {
        let program = docker.started(run, arch, spec).await?;
        let sent = match says(&program, "ready", limit).await {
            Ok(true) => program.signal(signal).await,
            // It ended before, or never spoke: what it did is judged as it is.
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        let seen = match sent {
            Ok(()) => program.ended(limit).await,
            Err(error) => Seen::error(&error),
        };
        program.remove().await;
        Ok(seen)
    };
    work.await.unwrap_or_else(|error: Error| Seen::error(&error))
}

/// Waits until a program has said something; false when it ended without, or time is up.
async fn says(program: &Program<'_>, words: &str, limit: Duration) -> Result<bool> {
    let watch = async {
        loop {
            let (stdout, _) = program.output().await?;
            if String::from_utf8_lossy(&stdout).contains(words) {
                return Ok(true);
            }
            if program.state().await?["Running"] != true {
                return Ok(false);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(program.limit(limit), watch).await.unwrap_or(Ok(false))
}

/// Makes a project with a server and a client of each architecture; the clients ask the server of the other one. What is seen is what both
/// clients said, the one of the first architecture first.
pub(crate) async fn mixed(docker: &Docker, run: &str, images: [(Arch, &str); 2]) -> Seen {
    let seen = Project { docker, run }.talk(images).await.unwrap_or_else(|error| Seen::error(&error));
    crate::run::clean(docker, run).await;
    seen
}

/// What the clients of a right project say.
pub(crate) fn expected(native: Arch, foreign: Arch) -> Expect {
    let line = |client: Arch, server: Arch| format!("{} asked {}", client.kernel(), server.kernel());
    Expect {
        exit: vec![0],
        stdout: Text::Is(format!("{}\n{}", line(native, foreign), line(foreign, native))),
        stderr: Text::Is(String::new()),
    }
}

/// Removes a project's network, and what was built.
pub(crate) async fn clean(docker: &Docker, run: &str) {
    // What is left stays labelled, and the next run prunes it.
    docker.remove_network(&network(run)).await.ok();
    docker.remove_image(&built_image(run)).await.ok();
}

fn network(run: &str) -> String {
    format!("{}_default", project(run))
}

fn project(run: &str) -> String {
    format!("dhow-verify-{run}")
}

struct Project<'d> {
    docker: &'d Docker,
    run: &'d str,
}

impl Project<'_> {
    async fn talk(&self, [first, second]: [(Arch, &str); 2]) -> Result<Seen> {
        let labels = [
            ("com.docker.compose.project".to_owned(), project(self.run)),
            ("com.docker.compose.network".to_owned(), "default".to_owned()),
            (crate::docker::LABEL.to_owned(), self.run.to_owned()),
        ];
        self.docker.network(&network(self.run), &labels).await?;
        let mut servers = Vec::new();
        for (arch, image) in [first, second] {
            let serve =
                "mkdir -p /tmp/w; uname -m >/tmp/w/index.html; echo ready; exec httpd -f -p 80 -h /tmp/w";
            let spec = self.service(&format!("server-{arch}"), image, serve);
            servers.push(self.docker.started(self.run, arch, &spec).await?);
        }
        let mut all = Seen::nothing(End::Exited(0));
        for server in &servers {
            if !says(server, "ready", SHORT).await? {
                let seen = server.ended(Duration::from_secs(1)).await;
                // A server that ends is as wrong as one that says nothing.
                let end = if seen.end == End::Exited(0) { End::Exited(1) } else { seen.end.clone() };
                return Ok(Seen { end, ..seen });
            }
        }
        for ((arch, image), (other, _)) in [(first, second), (second, first)] {
            // httpd has said nothing yet of whether it listens.
            let ask = format!(
                "for try in 1 2 3 4 5 6 7 8 9 10; do
                   said=$(wget -q -O - http://server-{other}/ 2>/tmp/why) && break; sleep 1; done
                 [ \"$said\" ] || cat /tmp/why >&2; echo \"$(uname -m) asked $said\""
            );
            let spec = self.service(&format!("client-{arch}"), image, &ask);
            let seen = self.docker.seen(self.run, arch, &spec, SHORT).await;
            all.stdout.extend(&seen.stdout);
            all.stderr.extend(&seen.stderr);
            if seen.end != End::Exited(0) {
                return Ok(Seen { end: seen.end, ..all });
            }
        }
        Ok(all)
    }

    fn service(&self, name: &str, image: &str, script: &str) -> Spec {
        Spec {
            image: image.to_owned(),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            network: Some((network(self.run), name.to_owned())),
            labels: [
                ("com.docker.compose.project", project(self.run)),
                ("com.docker.compose.service", name.to_owned()),
                ("com.docker.compose.container-number", "1".to_owned()),
                ("com.docker.compose.oneoff", "False".to_owned()),
            ]
            .map(|(label, value)| (label.to_owned(), value))
            .to_vec(),
            ..Spec::default()
        }
    }
}
