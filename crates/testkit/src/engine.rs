//! A running Dhow engine in a home of its own, driven by the `dhow` command as a person would.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::{Docker, Error, Result, Run, Tools, place, wait};

/// A cold boot under software emulation on a busy machine, boot assets at hand.
const UP_WITHIN: Duration = Duration::from_secs(180);
const DOWN_WITHIN: Duration = Duration::from_secs(90);

/// The home of an engine that `./dev test machine` has booted for all tests.
pub const SHARED_HOME: &str = "DHOW_TEST_HOME";
/// A Docker socket to test instead of an engine's: how the tests themselves are tried without a machine.
pub const SHARED_SOCKET: &str = "DHOW_TEST_SOCKET";

/// Where homes are made. `./dev test` names a directory of its own and stops what a killed test has left there.
pub const HOMES: &str = "DHOW_TEST_HOMES";

/// A home for one engine: `DHOW_HOME`, the client's configuration that `dhow up` writes its context into, and the store
/// of boot assets that all homes share.
pub struct Engine {
    home: PathBuf,
    docker: Docker,
    runner: Vec<OsString>,
    stops: bool,
    ours: Option<TempDir>,
}

impl Engine {
    /// A home in which nothing runs yet, removed on drop. What is started in it is stopped first.
    ///
    /// # Errors
    /// When the client programs or a directory cannot be had.
    pub fn prepare() -> Result<Self> {
        // Real disk on every distribution, and short enough for a socket's path.
        let parent = std::env::var_os(HOMES).map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let ours = tempfile::Builder::new()
            .prefix("dhow-test-")
            .tempdir_in(&parent)
            .map_err(Error::io("create directory in", &parent))?;
        let mut engine = Self::prepare_at(&ours.path().join("home"))?;
        engine.ours = Some(ours);
        Ok(engine)
    }

    /// The same in a directory of the caller's, which stays.
    ///
    /// # Errors
    /// When the client programs cannot be had.
    pub fn prepare_at(home: &Path) -> Result<Self> {
        let mut engine = Self::at(home)?;
        // What an engine shares by default.
        let user = home.with_file_name("user");
        fs::create_dir_all(&user).map_err(Error::io("create directory", &user))?;
        engine.stops = true;
        Ok(engine)
    }

    /// The same for another user, who owns the home and runs everything in it. Needs root.
    ///
    /// # Errors
    /// When the home cannot be given away.
    pub fn prepare_for(user: u32) -> Result<Self> {
        let mut engine = Self::prepare()?;
        let top = engine.home.parent().unwrap_or(&engine.home).to_path_buf();
        for place in [top, engine.home.with_file_name("user")] {
            std::os::unix::fs::chown(&place, Some(user), Some(user))
                .map_err(Error::io("give away", &place))?;
        }
        let user = user.to_string();
        let runner =
            ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups", "--inh-caps=-all", "--"];
        engine.runner = runner.iter().map(OsString::from).collect();
        Ok(engine)
    }

    /// Runs `dhow` through another program, as `nsenter` is one: whatever it launches comes out where that leads.
    #[must_use]
    pub fn through(mut self, runner: &[&str]) -> Self {
        self.runner = runner.iter().map(OsString::from).collect();
        self
    }

    /// The engine whose `DHOW_HOME` is `home`. It is left as it is on drop.
    ///
    /// # Errors
    /// When the client programs or a directory cannot be had.
    pub fn at(home: &Path) -> Result<Self> {
        let docker = Docker::new(Tools::get()?, home.join("run/docker.sock"));
        Ok(Self { home: home.to_path_buf(), docker, runner: Vec::new(), stops: false, ours: None })
    }

    /// An engine of one's own, up.
    ///
    /// # Errors
    /// What `dhow up` says.
    pub fn start() -> Result<Self> {
        let engine = Self::prepare()?;
        engine.up()?;
        Ok(engine)
    }

    /// The engine that [`SHARED_HOME`] names.
    ///
    /// # Errors
    /// [`Error::Missing`] with what to type when none does.
    pub fn shared() -> Result<Self> {
        match std::env::var_os(SHARED_HOME) {
            Some(home) => Self::at(Path::new(&home)),
            None => Err(Error::Missing {
                what: format!("a booted engine ({SHARED_HOME})"),
                hint: "run these tests with: ./dev test machine".to_owned(),
            }),
        }
    }

    /// One that runs and may be broken, as long as the test waits until it has recovered: that of [`SHARED_HOME`], whatever the
    /// test before has left of it, or else one of its own.
    ///
    /// # Errors
    /// What `dhow up` says.
    pub fn sturdy() -> Result<Self> {
        let engine = match std::env::var_os(SHARED_HOME) {
            Some(home) => Self::at(Path::new(&home))?,
            None => Self::prepare()?,
        };
        engine.up()?;
        Ok(engine)
    }

    /// `DHOW_HOME`.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The native machine's directory.
    pub fn machine(&self) -> PathBuf {
        self.home.join("machines/native")
    }

    /// A client for it.
    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    /// `dhow` with this home, to be completed.
    ///
    /// # Errors
    /// [`Error::Missing`] when Dhow is not built.
    pub fn command(&self) -> Result<Command> {
        let client = self.home.with_file_name("docker-config");
        let mut command = self.as_its_user(place::dhow()?.as_os_str());
        command
            .env("HOME", self.home.with_file_name("user"))
            .env("DHOW_HOME", &self.home)
            .env("DHOW_ASSETS", assets()?)
            .env("DOCKER_CONFIG", client)
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONTEXT");
        Ok(command)
    }

    /// A program run as whoever owns this engine.
    pub fn as_its_user(&self, program: &OsStr) -> Command {
        match self.runner.split_first() {
            Some((runner, args)) => {
                let mut command = Command::new(runner);
                command.args(args).arg(program);
                command
            }
            None => Command::new(program),
        }
    }

    /// `dhow args…`, to be completed.
    ///
    /// # Errors
    /// [`Error::Missing`] when Dhow is not built.
    pub fn dhow(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Run> {
        Ok(Run::from(self.command()?).args(args))
    }

    /// `dhow up`.
    ///
    /// # Errors
    /// What it says.
    pub fn up(&self) -> Result<()> {
        self.dhow(["up"])?.limit(UP_WITHIN).ok().map(drop)
    }

    /// `dhow down`.
    ///
    /// # Errors
    /// What it says.
    pub fn down(&self) -> Result<()> {
        self.dhow(["down"])?.limit(DOWN_WITHIN).ok().map(drop)
    }

    /// `dhow status --json`.
    ///
    /// # Errors
    /// What it says, or that it is no JSON.
    pub fn status(&self) -> Result<Status> {
        // 3 says that the engine does not run; the document is the same.
        let outcome = self.dhow(["status", "--json"])?.limit(Duration::from_secs(20)).outcome()?;
        let outcome = if outcome.code() == Some(3) { outcome } else { outcome.ok()? };
        let said = outcome.text();
        serde_json::from_str(&said)
            .map(Status)
            .map_err(|_| Error::Unexpected { what: "`dhow status --json`".to_owned(), said })
    }

    /// Waits until the status is as `wanted`.
    ///
    /// # Errors
    /// [`Error::NeverCame`] with the last status.
    pub fn wait_status(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        let mut last = String::new();
        let found = wait::until(what, limit, || match self.status() {
            Ok(status) if wanted(&status) => Some(status),
            Ok(status) => {
                last = status.0.to_string();
                None
            }
            Err(error) => {
                last = error.to_string();
                None
            }
        });
        found.map_err(|error| Error::Unexpected { what: error.to_string(), said: last })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.stops || !self.home.exists() {
            return;
        }
        let forced = || self.dhow(["down", "--force"])?.limit(DOWN_WITHIN).ok();
        if let Err(error) = self.down().or_else(|_| forced().map(drop)) {
            eprintln!("cannot stop the engine in {}: {error}", self.home.display());
        }
    }
}

/// Whether a machine in this state runs.
pub fn is_up(state: &Value) -> bool {
    matches!(state.as_str(), Some("running" | "idle"))
}

/// What `dhow status --json` said.
#[derive(Clone, Debug)]
pub struct Status(pub Value);

impl Status {
    /// The daemon's process ID, if one runs.
    pub fn daemon(&self) -> Option<u32> {
        pid(&self.0["daemon"]["pid"])
    }

    /// The native machine's supervisor.
    pub fn supervisor(&self) -> Option<u32> {
        pid(&self.machine()["supervisor_pid"])
    }

    /// The native machine's hypervisor.
    pub fn hypervisor(&self) -> Option<u32> {
        pid(&self.machine()["hypervisor_pid"])
    }

    /// The native machine's state: "running".
    pub fn state(&self) -> &str {
        self.machine()["state"].as_str().unwrap_or_default()
    }

    /// Whether it runs, be it with nothing to do: a machine without containers is "idle" within seconds.
    pub fn runs(&self) -> bool {
        is_up(&self.machine()["state"])
    }

    /// What the status says is wrong with it.
    pub fn trouble(&self) -> &str {
        self.machine()["trouble"].as_str().unwrap_or_default()
    }

    /// How often a service in the guest was started again.
    pub fn restarts(&self, service: &str) -> u64 {
        let services = self.machine()["services"].as_array().cloned().unwrap_or_default();
        let found = services.iter().find(|known| known["name"] == service);
        found.and_then(|known| known["restarts"].as_u64()).unwrap_or_default()
    }

    /// How often the machine was started again after a failure.
    pub fn retries(&self) -> u64 {
        self.machine()["retries"].as_u64().unwrap_or_default()
    }

    /// The steps of the last start: (where, name, seconds).
    pub fn timeline(&self) -> Vec<(String, String, f64)> {
        let steps = self.machine()["timeline"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let took = |step: &Value| step["took_seconds"].as_f64().unwrap_or_default();
        steps.iter().map(|step| (text(&step["where"]), text(&step["name"]), took(step))).collect()
    }

    /// The native machine.
    pub fn machine(&self) -> &Value {
        &self.0["machines"][0]
    }

    /// A machine by its name; null if there is none.
    pub fn named(&self, name: &str) -> &Value {
        static NULL: Value = Value::Null;
        let machines = self.0["machines"].as_array();
        machines.and_then(|all| all.iter().find(|machine| machine["name"] == name)).unwrap_or(&NULL)
    }

    /// The supervisor and the hypervisor of a machine, if it runs.
    pub fn processes(&self, name: &str) -> Option<(u32, u32)> {
        let machine = self.named(name);
        pid(&machine["supervisor_pid"]).zip(pid(&machine["hypervisor_pid"]))
    }
}

fn pid(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0)
}

/// A client for what the tests of the Docker API run against: the socket that [`SHARED_SOCKET`] names, else the shared
/// engine's.
///
/// # Errors
/// As [`Engine::shared`].
pub fn shared_docker() -> Result<Docker> {
    match std::env::var_os(SHARED_SOCKET) {
        Some(socket) => Ok(Docker::new(Tools::get()?, socket)),
        None => Ok(Engine::shared()?.docker().clone()),
    }
}

/// The store of boot assets that all test homes share: `DHOW_ASSETS`, else `.dev/assets`.
///
/// # Errors
/// When it cannot be made.
pub fn assets() -> Result<PathBuf> {
    std::env::var_os("DHOW_ASSETS").map_or_else(|| place::dev("assets"), |dir| Ok(PathBuf::from(dir)))
}

/// Sends a signal to a process that is named by its ID, as `kill` does.
///
/// # Errors
/// What `kill` says.
pub fn signal(pid: u32, name: &str) -> Result<()> {
    Run::new("kill").args([format!("-{name}"), pid.to_string()]).ok().map(drop)
}

/// Whether a process exists and is not a zombie.
pub fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
