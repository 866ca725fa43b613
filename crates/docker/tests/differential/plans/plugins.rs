//! Plugins. One is made from an archive; pulling and pushing would need a registry, enabling a program that serves
//! Docker's plugin protocol.

use super::{Plan, plan, tar};

const NO_REGISTRY: &str = "it asks a registry, and this dockerd reaches none";
const NO_PROGRAM: &str = "the plugin has no program that serves Docker's plugin protocol";

/// The archive of a plugin.
pub fn archive() -> Vec<u8> {
    let config = r#"{"description":"test","interface":{"types":["docker.dummy/1.0"],"socket":"p.sock"},"entrypoint":["/none"],
        "network":{"type":"none"},"env":[{"name":"LEVEL","value":"1","settable":["value"]}]}"#;
    tar(&[("config.json", config), ("rootfs/", ""), ("rootfs/f", "content")])
}

pub fn plans() -> Vec<Plan> {
    vec![
        plan("POST /plugins/create", "POST /plugins/create?name=fresh/plugin")
            .before(&["?DELETE /plugins/fresh/plugin?force=1"])
            .races()
            .bytes("application/x-tar", archive())
            .value("name", "fresh/plugin"),
        plan("GET /plugins", "GET /plugins")
            .in_any_order()
            .value("filters", r#"{"enabled":["false"]}"#)
            .more(&[r#"GET /plugins?filters={"enabled":["perhaps"]}"#]),
        plan("GET /plugins/{name}/json", "GET /plugins/fresh/plugin/json"),
        plan("POST /plugins/{name}/set", r#"POST /plugins/fresh/plugin/set ["LEVEL=2"]"#)
            .more(&[r#"POST /plugins/fresh/plugin/set ["NONE=2"]"#]),
        plan("POST /plugins/{name}/enable", "POST /plugins/fresh/plugin/enable?timeout=1")
            .refused(NO_PROGRAM)
            .value("timeout", "1"),
        plan("POST /plugins/{name}/disable", "POST /plugins/fresh/plugin/disable").refused(NO_PROGRAM),
        plan("GET /plugins/privileges", "GET /plugins/privileges?remote=localhost:1/x")
            .value("remote", "localhost:1/y"),
        plan("POST /plugins/pull", "POST /plugins/pull?remote=localhost:1/x []")
            .value("remote", "localhost:1/y")
            .refused(NO_REGISTRY)
            .value("name", "fresh/other")
            .value("X-Registry-Auth", "e30="),
        plan("POST /plugins/{name}/upgrade", "POST /plugins/fresh/plugin/upgrade?remote=localhost:1/x []")
            .refused(NO_REGISTRY)
            .value("remote", "localhost:1/y")
            .value("X-Registry-Auth", "e30="),
        // The first layer that fails ends the others, wherever they are.
        plan("POST /plugins/{name}/push", "POST /plugins/fresh/plugin/push").in_any_order().races(),
        plan("DELETE /plugins/{name}", "DELETE /plugins/fresh/plugin").before(&[
            "?DELETE /plugins/fresh/plugin?force=1",
            "POST /plugins/create?name=fresh/plugin @plugin",
        ]),
    ]
}
