use proptest::prelude::*;
use serde_json::{Value, json};

use super::lists::{deleted, merge};
use crate::route::Whole;

fn merged(what: Whole, native: Value, foreign: Value) -> Value {
    merge(what, "/x", native, foreign)
}

/// 3.7: the newest container first, wherever it is, native's before the foreign one's of the same second.
#[test]
fn containers_are_listed_newest_first_over_both_machines() {
    let made = |id: &str, created: u64| json!({ "Id": id, "Created": created });
    let native = json!([made("n9", 9), made("n5", 5), made("n1", 1)]);
    let foreign = json!([made("f9", 9), made("f6", 6), made("f0", 0)]);
    let all = merged(Whole::Containers, native, foreign);
    let ids: Vec<_> = all.as_array().unwrap().iter().map(|one| one["Id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["n9", "f9", "f6", "n5", "n1", "f0"]);
}

/// 3.7: `limit` counts for the whole list, as for one engine's.
#[test]
fn a_limit_counts_for_the_whole_list() {
    let made = |id: &str, created: u64| json!({ "Id": id, "Created": created });
    let native = json!([made("n3", 3), made("n1", 1)]);
    let foreign = json!([made("f2", 2), made("f0", 0)]);
    let table =
        [("limit=2", 2), ("all=1&limit=3", 3), ("limit=0", 4), ("limit=-1", 4), ("limit=", 4), ("all=1", 4)];
    for (query, count) in table {
        let target = format!("/v1.44/containers/json?{query}");
        let all = merge(Whole::Containers, &target, native.clone(), foreign.clone());
        assert_eq!(all.as_array().unwrap().len(), count, "{query}");
    }
    let all = merge(Whole::Containers, "/containers/json?limit=2", native, foreign);
    assert_eq!(all[1]["Id"], "f2");
}

/// 3.7: `docker ps` shows each container once.
#[test]
fn a_container_that_both_engines_list_is_shown_once() {
    let one = json!([{ "Id": "a", "Created": 1 }]);
    assert_eq!(merged(Whole::Containers, one.clone(), one.clone()), one);
}

/// 3.7: an image is its digest: in both engines it is one image with the names of both.
#[test]
fn an_image_in_both_engines_is_listed_once_with_the_names_of_both() {
    let native = json!([
        { "Id": "sha256:a", "Created": 5, "RepoTags": ["web:1"], "RepoDigests": null, "Containers": 1, "Size": 7 },
        { "Id": "sha256:b", "Created": 4, "RepoTags": ["<none>:<none>"], "RepoDigests": [], "Containers": -1 },
    ]);
    let foreign = json!([
        { "Id": "sha256:a", "Created": 5, "RepoTags": ["web:1", "web:2"], "RepoDigests": ["web@sha256:0"], "Containers": 2, "Size": 7 },
        { "Id": "sha256:b", "Created": 4, "RepoTags": ["db:1"], "RepoDigests": [], "Containers": 3 },
        { "Id": "sha256:c", "Created": 3, "RepoTags": ["web:1"], "RepoDigests": [], "Containers": -1 },
    ]);
    let expected = json!([
        { "Id": "sha256:a", "Created": 5, "RepoTags": ["web:1", "web:2"], "RepoDigests": ["web@sha256:0"], "Containers": 3, "Size": 7 },
        { "Id": "sha256:b", "Created": 4, "RepoTags": ["db:1"], "RepoDigests": [], "Containers": -1 },
        { "Id": "sha256:c", "Created": 3, "RepoTags": ["web:1"], "RepoDigests": [], "Containers": -1 },
    ]);
    assert_eq!(merged(Whole::Images, native, foreign), expected);
}

/// 3.7: dockerd's own networks are there once; a filter that left native's out shows the other's.
#[test]
fn the_predefined_networks_are_natives() {
    let network = |name: &str, id: &str| json!({ "Name": name, "Id": id });
    let native = json!([network("bridge", "n1"), network("host", "n2"), network("shop_default", "n3")]);
    let foreign = json!([network("bridge", "f1"), network("none", "f2"), network("shop_default", "f3")]);
    let expected = json!([
        network("bridge", "n1"),
        network("host", "n2"),
        network("shop_default", "n3"),
        network("none", "f2"),
        network("shop_default", "f3"),
    ]);
    assert_eq!(merged(Whole::Networks, native, foreign.clone()), expected);
    assert_eq!(merged(Whole::Networks, json!([]), foreign.clone()), foreign);
}

/// 3.7: a volume is its name: native's is the one that calls by name reach, and the client is told of the other.
#[test]
fn volumes_of_one_name_are_shown_once_with_a_warning() {
    let native = json!({ "Volumes": [{ "Name": "data", "Mountpoint": "/n" }], "Warnings": null });
    let foreign = json!({ "Volumes": [{ "Name": "data", "Mountpoint": "/f" }, { "Name": "logs" }], "Warnings": ["slow driver"] });
    let expected = json!({
        "Volumes": [{ "Name": "data", "Mountpoint": "/n" }, { "Name": "logs" }],
        "Warnings": ["slow driver", "volume data is in both machines; the one in machine `native` is shown"],
    });
    assert_eq!(merged(Whole::Volumes, native, foreign), expected);
}

/// 3.7: `system df` sums and lists both, in the form of every version of the API.
#[test]
fn disk_usage_is_added_up() {
    let native = json!({ "LayersSize": 18446744073709551000u64, "Images": [{ "Id": "a", "Size": 1 }], "Volumes": null, "BuilderSize": 5 });
    let foreign = json!({ "LayersSize": 600, "Images": [{ "Id": "a", "Size": 1 }], "Volumes": [{ "Name": "v" }], "BuildCache": [] });
    let expected = json!({
        "LayersSize": 18446744073709551600u64,
        "Images": [{ "Id": "a", "Size": 1 }, { "Id": "a", "Size": 1 }],
        "Volumes": [{ "Name": "v" }],
        "BuilderSize": 5,
        "BuildCache": [],
    });
    assert_eq!(merged(Whole::DiskUsage, native, foreign), expected);
    let newer =
        |count: u64, name: &str| json!({ "ImageUsage": { "TotalCount": count, "Items": [{ "Id": name }] } });
    let expected = json!({ "ImageUsage": { "TotalCount": 5, "Items": [{ "Id": "a" }, { "Id": "b" }] } });
    assert_eq!(merged(Whole::DiskUsage, newer(2, "a"), newer(3, "b")), expected);
}

/// 3.7: a prune reports what went in both.
#[test]
fn prunes_are_added_up() {
    let table = [
        (
            Whole::PruneContainers,
            json!({ "ContainersDeleted": null, "SpaceReclaimed": 0 }),
            json!({ "ContainersDeleted": ["a"], "SpaceReclaimed": 7 }),
            json!({ "ContainersDeleted": ["a"], "SpaceReclaimed": 7 }),
        ),
        (
            Whole::PruneImages,
            json!({ "ImagesDeleted": [{ "Untagged": "a" }], "SpaceReclaimed": 3 }),
            json!({ "ImagesDeleted": [{ "Deleted": "b" }], "SpaceReclaimed": 4 }),
            json!({ "ImagesDeleted": [{ "Untagged": "a" }, { "Deleted": "b" }], "SpaceReclaimed": 7 }),
        ),
        (
            Whole::PruneNetworks,
            json!({ "NetworksDeleted": ["a"] }),
            json!({ "NetworksDeleted": null }),
            json!({ "NetworksDeleted": ["a"] }),
        ),
    ];
    for (what, native, foreign, expected) in table {
        assert_eq!(merged(what, native, foreign), expected);
    }
}

/// 3.7: what one engine did is told where the other failed.
#[test]
fn a_prune_is_told_in_words() {
    let table = [
        (
            json!({ "ContainersDeleted": ["a", "b"], "SpaceReclaimed": 64 }),
            "has deleted 2 objects and reclaimed 64 bytes",
        ),
        (json!({ "NetworksDeleted": ["a"] }), "has deleted 1 object"),
        (
            json!({ "VolumesDeleted": null, "SpaceReclaimed": 0 }),
            "has deleted 0 objects and reclaimed 0 bytes",
        ),
    ];
    for (report, expected) in table {
        assert_eq!(deleted(&report), expected);
    }
}

/// 3.7: `docker info` is native's with everything counted.
#[test]
fn info_is_natives_with_both_counted() {
    let native = json!({ "ID": "n", "Containers": 2, "ContainersRunning": 1, "Images": 3, "NCPU": 4 });
    let foreign = json!({ "ID": "f", "Containers": 1, "ContainersRunning": 1, "Images": 1, "NCPU": 2 });
    let expected = json!({ "ID": "n", "Containers": 3, "ContainersRunning": 2, "Images": 4, "NCPU": 4 });
    assert_eq!(merged(Whole::Info, native, foreign), expected);
}

/// An engine's list: newest first, IDs of its own, some predefined names.
fn listing(engine: &'static str) -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec((0i64..50, "[a-z]{1,3}"), 0..12).prop_map(move |mut made| {
        made.sort_by_key(|(created, _)| -created);
        let element = |(at, (created, name)): (usize, (i64, String))| {
            json!({ "Id": format!("{engine}{at}"), "Name": format!("{engine}-{name}{at}"), "Created": created, "RepoTags": [name] })
        };
        made.into_iter().enumerate().map(element).collect()
    })
}

proptest! {
    /// 3.7: an engine that has nothing changes nothing, to the byte.
    #[test]
    fn merging_with_an_empty_engine_is_identity(list in listing("n"), number in any::<u64>()) {
        let volumes = json!({ "Volumes": list, "Warnings": null });
        let report = json!({ "SpaceReclaimed": number, "ContainersDeleted": list });
        let list = Value::Array(list);
        for what in [Whole::Containers, Whole::Images, Whole::Networks] {
            for empty in [json!([]), Value::Null] {
                prop_assert_eq!(merged(what, list.clone(), empty.clone()).to_string(), list.to_string());
                prop_assert_eq!(merged(what, empty, list.clone()).to_string(), list.to_string());
            }
        }
        let empty = json!({ "Volumes": [], "Warnings": null });
        prop_assert_eq!(merged(Whole::Volumes, volumes.clone(), empty.clone()).to_string(), volumes.to_string());
        prop_assert_eq!(merged(Whole::Volumes, empty, volumes.clone()).to_string(), volumes.to_string());
        let empty = json!({ "SpaceReclaimed": 0, "ContainersDeleted": null });
        prop_assert_eq!(merged(Whole::PruneContainers, report.clone(), empty.clone()).to_string(), report.to_string());
        prop_assert_eq!(merged(Whole::PruneContainers, empty, report.clone()).to_string(), report.to_string());
    }

    /// 3.7: everything that either engine listed is there once, in an order that keeps the newest first.
    #[test]
    fn every_element_of_both_appears_exactly_once(native in listing("n"), foreign in listing("f")) {
        for what in [Whole::Containers, Whole::Images, Whole::Networks] {
            let all = merged(what, Value::Array(native.clone()), Value::Array(foreign.clone()));
            let all = all.as_array().unwrap();
            prop_assert_eq!(all.len(), native.len() + foreign.len());
            for element in native.iter().chain(&foreign) {
                prop_assert_eq!(all.iter().filter(|other| *other == element).count(), 1);
            }
            if what != Whole::Networks {
                let created: Vec<i64> = all.iter().map(|one| one["Created"].as_i64().unwrap()).collect();
                prop_assert!(created.is_sorted_by(|one, next| one >= next));
            }
        }
    }

    /// 3.3: no JSON that an engine sends makes a merge panic.
    #[test]
    fn no_json_breaks_a_merge(native in anything(), foreign in anything()) {
        for what in [Whole::Containers, Whole::Images, Whole::Volumes, Whole::Networks, Whole::DiskUsage, Whole::Info, Whole::PruneImages] {
            let _merged = merged(what, native.clone(), foreign.clone());
        }
    }
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        let key = prop::sample::select(vec![
            "Id",
            "Created",
            "Volumes",
            "Warnings",
            "Name",
            "Containers",
            "RepoTags",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..5)
                .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}
