//! Images, builds, commits.

use super::{Plan, plan, tar};

const TAGGED: [&str; 2] =
    ["?DELETE /images/fresh/image:1?force=1", "POST /images/dhow-test/busybox:1/tag?repo=fresh/image&tag=1"];
const NO_REGISTRY: &str = "it asks a registry, and this dockerd reaches none";

pub fn plans() -> Vec<Plan> {
    let context = tar(&[
        ("Dockerfile", "FROM dhow-test/busybox:1 AS base\nARG who\nLABEL a=b\nCOPY f /f\n"),
        ("other", "FROM dhow-test/busybox:1\nLABEL other=1\n"),
        ("f", "content"),
    ]);
    let root = tar(&[("etc/", ""), ("etc/motd", "hello")]);
    vec![
        plan("GET /images/json", "GET /images/json")
            .in_any_order()
            .value("filters", r#"{"reference":["dhow-test/*"]}"#)
            .more(&[
                r#"GET /images/json?filters={"dangling":["perhaps"]}"#,
                r#"GET /images/json?filters={"before":["none"]}"#,
            ]),
        plan("POST /build", "POST /build?t=fresh/built&rm=1")
            .before(&["?DELETE /images/fresh/built"])
            .bytes("application/x-tar", context)
            .value("dockerfile", "other")
            .value("t", "fresh/built:2")
            .value("extrahosts", r#"["a:1.2.3.4"]"#)
            .value("cachefrom", r#"["dhow-test/busybox:1"]"#)
            .value("pull", "0")
            .value("cpusetcpus", "0")
            .value("buildargs", r#"{"who":"me"}"#)
            .value("labels", r#"{"k":"v"}"#)
            .value("networkmode", "none")
            .value("Content-type", "application/x-tar")
            .value("X-Registry-Config", "e30=")
            .value("platform", "linux/amd64")
            .value("target", "base")
            .value("outputs", "[]")
            .value("version", "1")
            .value("memswap", "-1")
            .value("shmsize", "67108864")
            .value("memory", "67108864")
            .refused_value("remote", "it would be fetched from elsewhere")
            .refused_value("squash", "only an experimental dockerd squashes")
            .more(&[
                "POST /build?remote=nonsense",
                "POST /build?dockerfile=none",
                "POST /build?target=none",
                "POST /build?t=UPPER",
                "POST /build?version=3",
                "POST /build?version=2&outputs=odd",
                "POST /build?labels=x",
                "POST /build?buildargs=x",
                "POST /build?platform=a/b/c/d",
            ]),
        plan("POST /build/prune", "POST /build/prune")
            .value("filters", r#"{"until":["1h"]}"#)
            .value("keep-storage", "1000")
            .more(&[r#"POST /build/prune?filters={"until":["soon"]}"#]),
        plan("POST /images/create", "POST /images/create?fromSrc=-&repo=fresh/made")
            .before(&["?DELETE /images/fresh/made"])
            .bytes("application/x-tar", root)
            .value("repo", "fresh/made")
            .value("tag", "7")
            .value("message", "hello")
            .value("changes", "ENV A=b")
            .value("platform", "linux/amd64")
            .value("fromSrc", "-")
            .value("X-Registry-Auth", "e30=")
            .refused_value("fromImage", NO_REGISTRY)
            .more(&[
                "POST /images/create?fromImage=localhost:1/nothing&tag=1",
                "POST /images/create?fromImage=UPPER",
                "POST /images/create?fromSrc=-&repo=UPPER",
                "POST /images/create?fromSrc=-&repo=fresh/made&changes=NONSENSE",
                "POST /images/create?fromSrc=-&repo=fresh/made&platform=odd/odd/odd/odd",
            ]),
        plan("GET /images/{name}/json", "GET /images/dhow-test/busybox:1/json").more(&[
            "GET /images/dhow-test/busybox/json",
            "GET /images/dhow-test/busybox@sha256:00/json",
            "GET /images/a/b/c/d/json",
        ]),
        plan("GET /images/{name}/history", "GET /images/dhow-test/busybox:1/history"),
        plan("POST /images/{name}/push", "POST /images/localhost:1/x/push")
            .before(&["POST /images/dhow-test/busybox:1/tag?repo=localhost:1/x"])
            .header("X-Registry-Auth", "e30=")
            .value("tag", "latest")
            .value("X-Registry-Auth", "e30="),
        plan("POST /images/{name}/tag", "POST /images/dhow-test/busybox:1/tag?repo=fresh/image&tag=1")
            .before(&["?DELETE /images/fresh/image:1"])
            .value("repo", "fresh/image")
            .value("tag", "1")
            .more(&[
                "POST /images/dhow-test/busybox:1/tag?repo=UPPER",
                "POST /images/dhow-test/busybox:1/tag?repo=a&tag=!!",
            ]),
        plan("DELETE /images/{name}", "DELETE /images/fresh/image:1")
            .before(&TAGGED)
            .more(&["DELETE /images/none", "DELETE /images/UPPER"]),
        plan("GET /images/search", "GET /images/search?term=x")
            .refused("it asks Docker's hub, and this dockerd reaches nothing")
            .value("term", "y")
            .more(&[r#"GET /images/search?term=x&filters={"stars":["many"]}"#]),
        plan("POST /images/prune", r#"POST /images/prune?filters={"label":["none"]}"#)
            .value("filters", r#"{"dangling":["1"]}"#)
            .more(&[
                r#"POST /images/prune?filters={"dangling":["perhaps"]}"#,
                r#"POST /images/prune?filters={"until":["soon"]}"#,
            ]),
        plan("POST /commit", "POST /commit?container=idle&repo=fresh/commit")
            .before(&["?DELETE /images/fresh/commit", "?DELETE /images/fresh/commit:7"])
            .value("container", "idle")
            .value("repo", "fresh/commit")
            .value("tag", "7")
            .value("comment", "words")
            .value("author", "someone")
            .value("changes", "ENV A=b")
            .more(&[
                "POST /commit?container=none",
                "POST /commit?container=idle&repo=UPPER",
                "POST /commit?container=idle&changes=NONSENSE",
                r#"POST /commit?container=idle&repo=fresh/commit {"Cmd":["x"],"Labels":{"a":"b"}}"#,
            ]),
        plan("GET /images/{name}/get", "GET /images/dhow-test/busybox:1/get"),
        plan("GET /images/get", "GET /images/get?names=dhow-test/busybox:1")
            .value("names", "dhow-test/other:2")
            .more(&[
                "GET /images/get",
                "GET /images/get?names=none",
                "GET /images/get?names=dhow-test/busybox:1&names=dhow-test/other:2",
            ]),
        plan("POST /images/load", "POST /images/load?quiet=1")
            .bytes("application/x-tar", tar(&[("manifest.json", "[]")])),
        plan("GET /distribution/{name}/json", "GET /distribution/localhost:1/x/json")
            .refused(NO_REGISTRY)
            .more(&["GET /distribution/UPPER/json"]),
    ]
}
