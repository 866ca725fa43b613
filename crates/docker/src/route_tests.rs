use proptest::prelude::*;

use super::*;

fn container(reference: &str, action: Action) -> Route {
    Route::Container { reference: reference.to_owned(), action }
}

fn image(reference: &str, action: ImageAction) -> Route {
    Route::Image { reference: reference.to_owned(), action }
}

fn network(reference: &str, action: NetworkAction) -> Route {
    Route::Network { reference: reference.to_owned(), action }
}

/// 2.1: every call on one container is told, with its reference as dockerd decodes it.
#[test]
fn calls_on_a_container_are_told_by_method_and_path() {
    let table = [
        ("POST", "/v1.44/containers/web/start", "web", Action::Start),
        ("POST", "/containers/a%20b/stop?t=3", "a b", Action::Stop),
        ("POST", "/v1.44/containers/web/kill?signal=9", "web", Action::Kill),
        ("POST", "/v1.44/containers/web/restart", "web", Action::Restart),
        ("POST", "/v1.44/containers/web/pause", "web", Action::Pause),
        ("POST", "/v1.44/containers/web/unpause", "web", Action::Unpause),
        ("POST", "/v1.44/containers/web/rename?name=db", "web", Action::Rename),
        ("POST", "/v1.44/containers/web/update", "web", Action::Update),
        ("DELETE", "/v1.44/containers/web?force=1", "web", Action::Remove),
        ("GET", "/v1.44/containers/web/json", "web", Action::Inspect),
        ("GET", "/v1.44/containers/web/logs?follow=1", "web", Action::Logs),
        ("GET", "/v1.44/containers/web/top", "web", Action::Top),
        ("GET", "/v1.44/containers/web/stats", "web", Action::Stats),
        ("GET", "/v1.44/containers/web/changes", "web", Action::Changes),
        ("GET", "/v1.44/containers/web/export", "web", Action::Export),
        ("POST", "/v1.44/containers/web/wait", "web", Action::Wait),
        ("POST", "/v1.44/containers/web/attach?stream=1&stdin=1", "web", Action::Attach),
        ("GET", "/v1.44/containers/web/attach/ws", "web", Action::AttachWebSocket),
        ("GET", "/v1.44/containers/web/archive?path=/", "web", Action::Archive),
        ("HEAD", "/v1.44/containers/web/archive?path=/", "web", Action::Archive),
        ("PUT", "/v1.44/containers/web/archive?path=/", "web", Action::Archive),
        ("POST", "/v1.23/containers/web/copy", "web", Action::Copy),
        ("POST", "/v1.44/containers/web/resize?h=1", "web", Action::Resize),
        ("POST", "/v1.44/containers/web/exec", "web", Action::Exec),
        ("GET", "/v1.44/containers/web/checkpoints", "web", Action::Checkpoints),
        ("POST", "/v1.44/containers/web/checkpoints", "web", Action::Checkpoints),
        ("DELETE", "/v1.44/containers/web/checkpoints/one", "web", Action::Checkpoints),
        // A name that is a word of the API, a link's name, and slashes that came escaped.
        ("POST", "/containers/create/start", "create", Action::Start),
        ("POST", "/containers/web/db/start", "web/db", Action::Start),
        ("POST", "/containers/web%2Fstart", "web", Action::Start),
        ("DELETE", "/containers/web/start", "web/start", Action::Remove),
        ("POST", "http://docker/v1.44/containers/web/start", "web", Action::Start),
        ("POST", "/v1/containers/web/start", "web", Action::Start),
        ("POST", "/v.1.2.3/containers/web/start", "web", Action::Start),
    ];
    for (method, target, reference, action) in table {
        assert_eq!(route(method, target), container(reference, action), "{method} {target}");
    }
}

/// 1.1, 2.1, 3.5, 3.7: everything else that is placed or merged.
#[test]
fn endpoints_that_are_placed_or_merged_are_told() {
    let exec = |action| Route::Exec { id: "8f2c".to_owned(), action };
    let volume = || Route::Volume { name: "data".to_owned() };
    let table = [
        ("POST", "/v1.44/containers/create?name=start", Route::Create),
        ("POST", "/v1.44/commit?container=web", Route::Commit),
        ("POST", "/v1.44/exec/8f2c/start", exec(ExecAction::Start)),
        ("POST", "/v1.44/exec/8f2c/resize?h=1", exec(ExecAction::Resize)),
        ("GET", "/v1.44/exec/8f2c/json", exec(ExecAction::Inspect)),
        ("POST", "/v1.44/build?platform=linux%2Farm64", Route::Build),
        ("POST", "/v1.44/build/cancel?id=1", Route::BuildCancel),
        ("POST", "/session", Route::Session),
        ("POST", "/v1.44/grpc", Route::Grpc),
        ("POST", "/v1.44/images/create?fromImage=a", Route::Pull),
        ("POST", "/v1.44/images/load", Route::Load),
        ("GET", "/v1.44/images/get?names=a&names=b", Route::Save),
        (
            "GET",
            "/v1.44/images/a.example:5000/b/c:1/json",
            image("a.example:5000/b/c:1", ImageAction::Inspect),
        ),
        ("GET", "/v1.44/images/b/c/history", image("b/c", ImageAction::History)),
        ("GET", "/v1.44/images/b/get", image("b", ImageAction::Save)),
        ("POST", "/v1.44/images/b/c/push", image("b/c", ImageAction::Push)),
        ("POST", "/v1.44/images/b/tag?repo=c", image("b", ImageAction::Tag)),
        ("DELETE", "/v1.44/images/b%2Fc", image("b/c", ImageAction::Remove)),
        ("POST", "/v1.44/volumes/create", Route::VolumeCreate),
        ("GET", "/v1.44/volumes/data", volume()),
        ("PUT", "/v1.44/volumes/data?version=1", volume()),
        ("DELETE", "/v1.44/volumes/data", volume()),
        ("POST", "/v1.44/networks/create", Route::NetworkCreate),
        ("GET", "/v1.44/networks/net", network("net", NetworkAction::Inspect)),
        ("DELETE", "/v1.44/networks/net", network("net", NetworkAction::Remove)),
        ("POST", "/v1.44/networks/net/connect", network("net", NetworkAction::Connect)),
        ("POST", "/v1.44/networks/net/disconnect", network("net", NetworkAction::Disconnect)),
        ("GET", "/v1.44/containers/json?all=1", Route::Whole(Whole::Containers)),
        ("GET", "/v1.44/images/json", Route::Whole(Whole::Images)),
        ("GET", "/v1.44/volumes", Route::Whole(Whole::Volumes)),
        ("GET", "/v1.44/networks", Route::Whole(Whole::Networks)),
        ("GET", "/v1.44/networks/", Route::Whole(Whole::Networks)),
        ("GET", "/v1.44/events?since=1", Route::Whole(Whole::Events)),
        ("GET", "/v1.44/system/df", Route::Whole(Whole::DiskUsage)),
        ("GET", "/v1.44/info", Route::Whole(Whole::Info)),
        ("POST", "/v1.44/containers/prune", Route::Whole(Whole::PruneContainers)),
        ("POST", "/v1.44/images/prune", Route::Whole(Whole::PruneImages)),
        ("POST", "/v1.44/volumes/prune", Route::Whole(Whole::PruneVolumes)),
        ("POST", "/v1.44/networks/prune", Route::Whole(Whole::PruneNetworks)),
        ("POST", "/v1.44/build/prune", Route::Whole(Whole::PruneBuilds)),
    ];
    for (method, target, expected) in table {
        assert_eq!(route(method, target), expected, "{method} {target}");
    }
}

/// 3.1: what dockerd answers by itself, with an error or a redirect, goes there as it is.
#[test]
fn everything_else_is_the_native_engines() {
    let table = [
        ("GET", "/_ping"),
        ("HEAD", "/_ping"),
        ("GET", "/v1.44/version"),
        ("POST", "/auth"),
        ("GET", "/v1.44/images/search?term=a"),
        ("GET", "/v1.44/distribution/a/json"),
        ("GET", "/v1.44/services"),
        ("POST", "/vx/containers/web/start"),
        ("POST", "/v/containers/web/start"),
        ("POST", "/v1.44/v1.44/containers/web/start"),
        ("POST", "/v1.44/containers/web/start/"),
        ("POST", "/v1.44/containers/web/start/x"),
        ("POST", "//containers/web/start"),
        ("POST", "/containers//start"),
        ("POST", "/containers/web/../start"),
        ("POST", "/containers/web/%2e/start"),
        ("POST", "/containers/%zz/start"),
        ("POST", "/containers/%ff/start"),
        ("POST", "/containers/create/"),
        ("DELETE", "/containers/"),
        ("HEAD", "/containers/json"),
        ("GET", "/volumes/"),
        ("POST", "/Containers/create"),
        ("OPTIONS", "*"),
        ("POST", "containers/create"),
        ("POST", ""),
    ];
    for (method, target) in table {
        assert_eq!(route(method, target), Route::Other, "{method} {target}");
    }
}

proptest! {
    /// 3.1: no target that a client sends breaks the router.
    #[test]
    fn any_target_is_routed(method in "GET|POST|PUT|HEAD|DELETE", target in "\\PC{0,80}") {
        let _route = route(&method, &target);
    }

    /// 2.1: a reference is the same after it was escaped for a question of the face's own.
    #[test]
    fn an_escaped_reference_is_read_back(reference in "[^/.]{1,20}") {
        let target = format!("/containers/{}/json", encoded(&reference));
        prop_assert_eq!(route("GET", &target), container(&reference, Action::Inspect));
    }
}

/// 1.9: dockerd reads the platform of a create from 1.41 on.
#[test]
fn the_api_version_is_compared_number_by_number() {
    for (target, before) in [
        ("/v1.24/containers/create", true),
        ("/v1.40/containers/create?platform=linux/arm64", true),
        ("/v1.9/containers/create", true),
        ("/v1.41/containers/create", false),
        ("/v1.100/containers/create", false),
        ("/v2/containers/create", false),
        ("/%761.40/containers/create", true),
        ("http://docker/v1.40/containers/create", true),
        ("/containers/create", false),
        ("/v/create", false),
        ("/v1.40", true),
        ("*", false),
    ] {
        assert_eq!(is_before(target, (1, 41)), before, "{target}");
    }
}
