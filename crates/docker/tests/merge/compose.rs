use dhow_model::Role;
use dhow_testkit::{Outcome, place};
use tempfile::TempDir;

use crate::common::pair::{ABROAD, IMAGE, Pair, other};

/// A project of a name and these services, each with an image and a platform (none: unspecified), a network and a volume.
fn project(name: &str, services: &[(&str, &str, Option<String>)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut text = format!("name: {name}\nservices:\n");
    let mut before = None;
    for (service, image, platform) in services {
        text.push_str(&format!(
            "  {service}:\n    image: {image}\n    volumes: [data:/data]\n    networks: [front, default]\n"
        ));
        text.extend(platform.as_ref().map(|platform| format!("    platform: {platform}\n")));
        text.extend(before.map(|before| format!("    depends_on: [{before}]\n")));
        before = Some(service);
    }
    text.push_str("volumes: {data: {}}\nnetworks: {front: {}}\n");
    place::write(&dir.path().join("compose.yaml"), text).unwrap();
    dir
}

fn compose<const N: usize>(pair: &Pair, dir: &TempDir, args: [&str; N]) -> Outcome {
    pair.docker.run(["compose"].into_iter().chain(args)).dir(dir.path()).outcome().unwrap()
}

/// What an engine has of a project: containers, volumes, networks, by name and in order.
fn has(pair: &Pair, role: Role, project: &str) -> Vec<String> {
    let label = format!("label=com.docker.compose.project={project}");
    let lists = [
        vec!["ps", "-a", "--filter", &label, "--format", "{{.Names}}"],
        vec!["volume", "ls", "--filter", &label, "--format", "{{.Name}}"],
        vec!["network", "ls", "--filter", &label, "--format", "{{.Name}}"],
    ];
    let mut all: Vec<String> = lists
        .into_iter()
        .flat_map(|args| pair.engine(role).ok(args).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    all.sort();
    all
}

const NOTHING: [&str; 0] = [];

/// 3.6: a project of foreign services is in the foreign machine whole, with the networks and volumes that Compose made before
/// its first service; `down` takes all of it away.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_project_goes_with_its_first_service() {
    let pair = Pair::new();
    let platform = Some(format!("linux/{}", other()));
    let dir = project("shop", &[("web", ABROAD, platform.clone()), ("db", ABROAD, platform)]);
    let whole = ["shop-db-1", "shop-web-1", "shop_data", "shop_default", "shop_front"];
    for _again in 0..2 {
        let created = compose(&pair, &dir, ["create"]);
        assert!(created.status.success(), "{created}");
        assert_eq!(has(&pair, Role::Foreign, "shop"), whole);
        assert_eq!(has(&pair, Role::Native, "shop"), NOTHING);
    }
    let networks = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";
    assert_eq!(pair.ok(["inspect", "--format", networks, "shop-web-1"]), "shop_default shop_front");
    let listed = compose(&pair, &dir, ["ps", "-a", "--format", "{{.Name}}"]);
    assert_eq!(listed.text(), "shop-db-1\nshop-web-1");
    let down = compose(&pair, &dir, ["down"]);
    assert!(down.status.success(), "{down}");
    assert_eq!(has(&pair, Role::Foreign, "shop"), ["shop_data"]);
    // The volume binds the project across `down`.
    let created = compose(&pair, &dir, ["create"]);
    assert!(created.status.success(), "{created}");
    assert_eq!(has(&pair, Role::Foreign, "shop"), whole);
    let down = compose(&pair, &dir, ["down", "-v"]);
    assert!(down.status.success(), "{down}");
    for role in Role::ALL {
        assert_eq!(has(&pair, role, "shop"), NOTHING);
    }
    // Nothing binds it any more.
    let dir = project("shop", &[("web", IMAGE, None)]);
    let created = compose(&pair, &dir, ["create"]);
    assert!(created.status.success(), "{created}");
    assert_eq!(has(&pair, Role::Native, "shop"), ["shop-web-1", "shop_data", "shop_default", "shop_front"]);
    assert_eq!(has(&pair, Role::Foreign, "shop"), NOTHING);
}

/// 3.6: a later service that the project's role cannot host is refused, whichever came first; other projects are not bound
/// by it.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_project_of_both_architectures_is_refused() {
    let pair = Pair::new();
    let foreign = Some(format!("linux/{}", other()));
    let native = Some(format!("linux/{}", dhow_model::Arch::host().unwrap()));
    for (name, first, second) in [
        ("out", ("web", ABROAD, foreign.clone()), ("db", IMAGE, native.clone())),
        ("home", ("web", IMAGE, native.clone()), ("db", ABROAD, foreign.clone())),
    ] {
        let role = if name == "out" { Role::Foreign } else { Role::Native };
        let dir = project(name, &[first, second]);
        let refused = compose(&pair, &dir, ["create"]);
        assert!(!refused.status.success(), "{refused}");
        assert!(refused.complaint().contains("roject"), "{refused}");
        let whole = [
            format!("{name}-web-1"),
            format!("{name}_data"),
            format!("{name}_default"),
            format!("{name}_front"),
        ];
        assert_eq!(has(&pair, role, name), whole, "{refused}");
    }
}
