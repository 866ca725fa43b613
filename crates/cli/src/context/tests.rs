//! With the real Docker client and a directory of its own (skipped where there is no client).

use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use super::*;

struct Scene {
    temp: tempfile::TempDir,
    home: Home,
    config: Config,
}

impl Scene {
    fn new(activate: Activate) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::at(temp.path().join("home")).unwrap();
        home.create().unwrap();
        let mut config = Config::default();
        config.docker.activate = activate;
        Self { temp, home, config }
    }

    fn dir(&self) -> PathBuf {
        self.temp.path().join("docker")
    }

    fn context(&self) -> Context {
        Context::at(&self.home, &self.config, Docker::at(self.dir())).unwrap()
    }

    fn config_file(&self) -> PathBuf {
        self.dir().join("config.json")
    }

    fn write_config(&self, text: &str) {
        std::fs::create_dir_all(self.dir()).unwrap();
        atomic(&self.config_file(), text);
    }

    fn read_config(&self) -> String {
        std::fs::read_to_string(self.config_file()).unwrap_or_default()
    }

    /// The real client, or `None` where there is none.
    fn docker(&self, words: &str) -> Option<Output> {
        let mut command = Command::new("docker");
        command.args(words.split_whitespace()).env("DOCKER_CONFIG", self.dir());
        command.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        match command.output() {
            Ok(output) => Some(output),
            Err(error) => {
                eprintln!("skipped the real client: {error}");
                None
            }
        }
    }

    fn docker_says(&self, words: &str) -> Option<String> {
        let output = self.docker(words)?;
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }
}

fn atomic(path: &Path, text: &str) {
    dhow_home::atomic::write(path, text.as_bytes(), 0o600).unwrap();
}

/// Spec 15.2.
#[test]
fn the_real_client_uses_the_context_after_up_and_the_previous_one_after_down() {
    let scene = Scene::new(Activate::Always);
    if scene.docker_says("context create colima --docker host=unix:///tmp/colima.sock").is_none() {
        return;
    }
    scene.docker_says("context use colima");
    let context = scene.context();
    let state = context.set_up().unwrap();
    assert!(state.exists && state.current);
    assert_eq!(state.previous.as_deref(), Some("colima"));
    assert_eq!(scene.docker_says("context show").unwrap(), context.name());
    let format = "context inspect --format {{.Endpoints.docker.Host}}";
    assert_eq!(scene.docker_says(format).unwrap(), context.host());
    assert!(scene.docker_says("context ls").unwrap().contains(context.name()));
    assert_eq!(context.restore().unwrap().as_deref(), Some("colima"));
    assert_eq!(scene.docker_says("context show").unwrap(), "colima");
    assert_eq!(context.remove().unwrap(), [context.name()]);
    assert!(!scene.docker_says("context ls").unwrap().contains(context.name()));
    assert!(!scene.home.root().join("context.json").exists());
}

/// Our mark survives what the client writes.
#[test]
fn a_context_that_the_real_client_described_anew_is_still_ours() {
    let scene = Scene::new(Activate::Never);
    let context = scene.context();
    assert!(!context.set_up().unwrap().current);
    if scene.docker(&format!("context update {} --description mine", context.name())).is_none() {
        return;
    }
    assert!(context.set_up().unwrap().exists);
    let listed = scene.docker_says("context ls --format {{.Name}}={{.Description}}").unwrap();
    assert!(listed.contains(&format!("{}=mine", context.name())), "{listed}");
    assert_eq!(context.remove().unwrap(), [context.name()]);
}

/// Spec 15.2: foreign files are never overwritten.
#[test]
fn a_context_of_the_same_name_that_the_user_made_is_left_alone() {
    let mut scene = Scene::new(Activate::Always);
    scene.config.docker.context = "mine".to_owned();
    if scene.docker_says("context create mine --docker host=tcp://build:2375").is_none() {
        return;
    }
    let before = std::fs::read(rules::meta_file(&scene.dir(), "mine")).unwrap();
    let error = scene.context().set_up().unwrap_err();
    assert!(matches!(error, Error::Foreign { .. }), "{error:?}");
    assert!(error.hint().contains("docker context rm mine"));
    assert!(scene.context().remove().unwrap().is_empty());
    assert_eq!(std::fs::read(rules::meta_file(&scene.dir(), "mine")).unwrap(), before);
    assert_eq!(scene.docker_says("context show").unwrap(), DEFAULT);
}

/// Spec 15.2.
#[test]
fn other_keys_and_the_files_mode_and_link_survive_up_and_down() {
    let scene = Scene::new(Activate::Always);
    let real = scene.temp.path().join("dotfiles.json");
    let text = "{\n\t\"auths\": {\n\t\t\"example.org\": {}\n\t},\n\t\"psFormat\": \"x\"\n}";
    dhow_home::atomic::write(&real, text.as_bytes(), 0o640).unwrap();
    std::fs::create_dir_all(scene.dir()).unwrap();
    symlink(&real, scene.config_file()).unwrap();
    scene.context().set_up().unwrap();
    assert!(scene.read_config().contains("currentContext") && scene.read_config().contains("psFormat"));
    assert_eq!(scene.context().restore().unwrap().as_deref(), Some(DEFAULT));
    assert_eq!(scene.read_config(), text);
    assert!(scene.config_file().is_symlink());
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&real.metadata().unwrap()) & 0o777, 0o640);
}

/// Spec 15.2.
#[test]
fn a_malformed_configuration_of_docker_is_untouched() {
    let scene = Scene::new(Activate::Always);
    scene.write_config("{ \"auths\": ");
    let error = scene.context().set_up().unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
    assert_eq!(scene.read_config(), "{ \"auths\": ");
}

/// Spec 15.2.
#[test]
fn a_choice_that_the_user_made_since_is_kept() {
    let scene = Scene::new(Activate::Always);
    scene.context().set_up().unwrap();
    scene.write_config("{\"currentContext\":\"desktop\"}");
    assert_eq!(scene.context().restore().unwrap(), None);
    assert!(scene.read_config().contains("desktop"));
    assert!(scene.context().state().unwrap().exists, "the context itself stays");
}

/// Spec 15.2: whatever step a crash cut off, `up` completes it and `down` undoes it.
#[test]
fn a_crash_after_any_step_is_repaired_by_the_next_up_and_down() {
    for crash in ["context", "record", "configuration", "restored"] {
        let scene = Scene::new(Activate::Always);
        scene.write_config("{\"currentContext\":\"colima\"}");
        let docker = Docker::at(scene.dir());
        docker.write_meta("colima", "{}").unwrap();
        scene.context().set_up().unwrap();
        match crash {
            "context" => {
                std::fs::remove_file(scene.home.root().join("context.json")).unwrap();
                docker.set_current("colima").unwrap();
            }
            "record" => docker.set_current("colima").unwrap(),
            "configuration" => {}
            _ => {
                // `down` restored and died before it wrote the record.
                docker.set_current("colima").unwrap();
            }
        }
        let state = scene.context().set_up().unwrap();
        assert!(state.current && state.exists, "{crash}");
        assert_eq!(scene.context().restore().unwrap().as_deref(), Some("colima"), "{crash}");
        assert_eq!(scene.context().restore().unwrap(), None, "{crash}");
        assert_eq!(docker.current().unwrap(), "colima", "{crash}");
    }
}

#[test]
fn a_renamed_context_replaces_the_one_of_the_old_name() {
    let mut scene = Scene::new(Activate::Always);
    scene.write_config("{\"currentContext\":\"colima\"}");
    let docker = Docker::at(scene.dir());
    docker.write_meta("colima", "{}").unwrap();
    let old = scene.context().set_up().unwrap().name;
    scene.config.docker.context = "other".to_owned();
    let state = scene.context().set_up().unwrap();
    assert!(state.current && state.name == "other");
    assert!(!docker.exists(&old));
    assert_eq!(state.previous.as_deref(), Some("colima"));
}

/// `down` undoes what `up` did, wherever `DOCKER_CONFIG` leads by now.
#[test]
fn down_restores_the_directory_that_up_changed() {
    let scene = Scene::new(Activate::Always);
    scene.context().set_up().unwrap();
    let elsewhere = Docker::at(scene.temp.path().join("elsewhere"));
    let context = Context::at(&scene.home, &scene.config, elsewhere).unwrap();
    assert_eq!(context.restore().unwrap().as_deref(), Some(DEFAULT));
    assert!(!scene.read_config().contains("currentContext"));
}

#[test]
fn the_default_is_active_only_in_the_default_directory() {
    assert!(!Scene::new(Activate::Auto).context().activate);
    assert!(Scene::new(Activate::Always).context().activate);
}
