use std::path::PathBuf;

use dhow_home::{Home, atomic};

use super::Error;
use super::unit::{self, Facts};
use super::verbs::Scene;

fn facts() -> Facts {
    Facts {
        program: "/opt/dhow/bin/dhow".into(),
        home: "/home/ada/.dhow".into(),
        sockets: vec!["/home/ada/.dhow/run/docker.sock".into(), "/home/ada/.dhow/run/control.sock".into()],
        environment: vec![("DHOW_ASSETS".to_owned(), "/srv/assets".to_owned())],
    }
}

/// Issue 5, point 2: socket activation.
#[test]
fn the_units_say_what_to_listen_on_and_what_to_start() {
    let facts = facts();
    let both = format!(
        "{}\n──── service\n{}",
        unit::socket(&facts).unwrap(),
        unit::service(&facts, "dhow.socket").unwrap()
    );
    insta::assert_snapshot!(both);
}

#[test]
fn what_has_a_meaning_in_a_unit_is_escaped_and_what_cannot_be_said_is_refused() {
    let odd = Facts {
        program: "/opt/a b\"c\\d%e$f/dhow".into(),
        home: "/home/100%/x y".into(),
        sockets: vec!["/home/100%/x y/run/docker.sock".into()],
        environment: vec![("DHOW_LOG".to_owned(), "a \"b\"".to_owned())],
    };
    let service = unit::service(&odd, "dhow.socket").unwrap();
    assert!(
        service.contains(r#"ExecStart="/opt/a b\"c\\d%%e$$f/dhow" --home "/home/100%%/x y" daemon"#),
        "{service}"
    );
    assert!(service.contains(r#"Environment="DHOW_LOG=a \"b\"""#), "{service}");
    assert!(unit::socket(&odd).unwrap().contains("ListenStream=/home/100%%/x y/run/docker.sock\n"));
    let broken = Facts { home: "/home/a\nExecStart=evil".into(), ..facts() };
    assert!(matches!(unit::service(&broken, "dhow.socket"), Err(Error::BadPath(_))));
    assert!(matches!(unit::socket(&broken), Err(Error::BadPath(_))));
}

fn scene() -> (tempfile::TempDir, PathBuf, Scene) {
    let temp = tempfile::tempdir().unwrap();
    let units = temp.path().join("config/systemd/user");
    let home = Home::at(temp.path().join("h")).unwrap();
    let scene = Scene::at(&home, units.clone());
    (temp, units, scene)
}

/// Spec 15.2, 16.3: written whole, twice is once, and removed without a trace.
#[test]
fn what_is_installed_is_removed_without_a_trace() {
    let (_temp, units, scene) = scene();
    assert!(scene.put().unwrap());
    assert!(!scene.put().unwrap());
    let answer = scene.answer(false).unwrap();
    assert!(answer.installed && answer.enabled);
    assert!(scene.take_away().unwrap());
    assert!(!scene.take_away().unwrap());
    assert_eq!(std::fs::read_dir(&units).unwrap().count(), 0);
    assert!(!scene.answer(false).unwrap().installed);
}

/// Spec 15.2: what dhow did not write, or somebody changed since, is neither overwritten nor removed.
#[test]
fn a_unit_of_somebody_elses_stays_as_it_is() {
    let (_temp, units, scene) = scene();
    scene.put().unwrap();
    let service = scene.wanted().unwrap()[1].0.clone();
    let changed = std::fs::read_to_string(&service).unwrap() + "Nice=19\n";
    atomic::write(&service, changed.as_bytes(), 0o644).unwrap();
    for error in [scene.put().unwrap_err(), scene.take_away().unwrap_err()] {
        assert_eq!(error.code(), "service-foreign");
        assert!(error.to_string().contains("somebody changed it"), "{error}");
    }
    assert_eq!(std::fs::read_to_string(&service).unwrap(), changed);
    assert!(scene.link().is_symlink(), "nothing else was removed either");
    std::fs::remove_file(scene.link()).unwrap();
    std::os::unix::fs::symlink("/elsewhere", scene.link()).unwrap();
    std::fs::remove_file(&service).unwrap();
    assert!(matches!(scene.put(), Err(Error::Foreign { why: "it leads elsewhere", .. })));
    assert!(units.exists());
}
