use dhow_model::Role;

use crate::common::pair::{IMAGE, Pair, headers, http, next_second};

/// 3.7: containers of both machines are listed, each once, the newest first; a limit and filters count for all.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn containers_of_both_machines_are_listed_once() {
    let pair = Pair::new();
    for (role, name) in
        [(Role::Native, "one"), (Role::Foreign, "two"), (Role::Native, "three"), (Role::Foreign, "four")]
    {
        pair.at(role, ["create", "--name", name, IMAGE, "true"]);
        // dockerd tells the time of creation in whole seconds.
        next_second();
    }
    let names = |args: &str| {
        let said =
            pair.docker.ok(["ps", "--format", "{{.Names}}"].into_iter().chain(args.split(' '))).unwrap();
        said.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names("-a"), ["four", "three", "two", "one"]);
    assert_eq!(names("-n 3"), ["four", "three", "two"]);
    assert_eq!(names("-a --filter name=two"), ["two"]);
    assert_eq!(names("-a --filter before=three"), ["two", "one"]);
    assert_eq!(names("-a --filter since=two"), ["four", "three"]);
    assert_eq!(names("--filter status=running"), [""; 0]);
    let said = http(pair.serving.socket(), "GET /v1.44/containers/json?filters=nonsense", "");
    assert!(said.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{said}");
}

/// 3.7, 3.1: the merged answer has the headers of dockerd's own, in their order.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_merged_answer_has_dockerds_headers() {
    let pair = Pair::new();
    for target in ["/v1.44/containers/json?all=1", "/images/json", "/volumes", "/networks", "/system/df"] {
        let request = format!("GET {target}");
        let direct = http(pair.native.socket(), &request, "");
        let merged = http(pair.serving.socket(), &request, "");
        let (mut expected, mut found) = (headers(&direct), headers(&merged));
        expected.retain(|name| !["Content-Length", "Transfer-Encoding", "Connection"].contains(name));
        found.retain(|name| !["Content-Length", "Connection", "X-Trace-Id"].contains(name));
        assert_eq!(found, expected, "{target}");
        assert!(merged.ends_with("\n") && merged.contains("\r\nContent-Length: "), "{merged}");
    }
}

/// 3.7: what else is listed: images, volumes, networks, the disk's usage, and the counts of `docker info`.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn images_volumes_networks_and_counts_are_of_both_machines() {
    let pair = Pair::new();
    for (role, name) in [(Role::Native, "near"), (Role::Foreign, "far")] {
        pair.at(role, ["volume", "create", name]);
        pair.at(role, ["network", "create", name]);
        pair.at(role, ["tag", IMAGE, &format!("dhow-test/{name}")]);
        pair.at(role, ["create", "--name", name, IMAGE, "true"]);
        pair.at(role, ["volume", "create", "twin"]);
    }
    let sorted = |said: String| {
        let mut lines: Vec<String> = said.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(pair.ok(["volume", "ls", "-q"])), ["far", "near", "twin"]);
    assert_eq!(
        sorted(pair.ok(["network", "ls", "--format", "{{.Name}}"])),
        ["bridge", "far", "host", "near", "none"]
    );
    let images = sorted(pair.ok(["images", "--format", "{{.Repository}}"]));
    // The busybox is imported twice: two images, which have the same name.
    let expected =
        ["dhow-test/abroad", "dhow-test/busybox", "dhow-test/busybox", "dhow-test/far", "dhow-test/near"];
    assert_eq!(images, expected);
    let counts = pair.ok(["info", "--format", "{{.Containers}} {{.ContainersRunning}} {{.Images}}"]);
    assert_eq!(counts, "2 0 3");
    let usage = pair.ok(["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]);
    assert_eq!(sorted(usage), ["Build Cache 0", "Containers 2", "Images 3", "Local Volumes 4"]);
}

/// 3.7: a prune empties both machines and says so.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_prune_empties_both_machines() {
    let pair = Pair::new();
    for role in Role::ALL {
        pair.at(role, ["create", "--name", role.as_str(), IMAGE, "true"]);
        pair.at(role, ["network", "create", role.as_str()]);
        pair.at(role, ["volume", "create", role.as_str()]);
    }
    let said = pair.ok(["container", "prune", "-f"]);
    assert!(
        said.starts_with("Deleted Containers:\n")
            && said.lines().filter(|line| line.len() == 64).count() == 2,
        "{said}"
    );
    let said = pair.ok(["network", "prune", "-f"]);
    assert_eq!(said, "Deleted Networks:\nnative\nforeign");
    let said = pair.ok(["volume", "prune", "-af"]);
    assert!(said.contains("native\nforeign"), "{said}");
    for role in Role::ALL {
        assert_eq!(pair.at(role, ["ps", "-aq"]), "");
        assert_eq!(pair.at(role, ["volume", "ls", "-q"]), "");
    }
}
