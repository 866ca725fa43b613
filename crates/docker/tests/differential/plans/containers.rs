//! Containers and execs.

use super::{Plan, plan, tar};

const CREATE: &str = r#"POST /containers/create?name=fresh {"Image":"dhow-test/busybox:1","Cmd":["sleep","100000"],"StopSignal":"SIGKILL"}"#;
const GONE: &str = "?DELETE /containers/fresh?force=1&v=1";
const CREATED: [&str; 2] = [GONE, CREATE];
const RUNNING: [&str; 3] = [GONE, CREATE, "POST /containers/fresh/start"];
const PAUSED: [&str; 4] = [GONE, CREATE, "POST /containers/fresh/start", "POST /containers/fresh/pause"];

pub fn plans() -> Vec<Plan> {
    let lives = |operation, line| plan(operation, line).before(&RUNNING);
    vec![
        plan("GET /containers/json", "GET /containers/json?all=1")
            .value("limit", "2")
            .value("filters", r#"{"label":["kind=test"]}"#)
            .more(&[
                "GET /containers/json",
                r#"GET /containers/json?filters={"status":["exited"]}"#,
                r#"GET /containers/json?all=1&filters={"name":{"we":true}}"#,
                r#"GET /containers/json?filters={"status":["odd"]}"#,
                r#"GET /containers/json?filters={"before":["none"]}"#,
                "GET /containers/json?limit=many",
            ]),
        plan("POST /containers/create", CREATE)
            .before(&[GONE])
            .value("name", "fresh")
            .value("platform", "linux/amd64")
            .more(&[
                r#"POST /containers/create?name=web {"Image":"dhow-test/busybox:1"}"#,
                r#"POST /containers/create?name=-bad- {"Image":"dhow-test/busybox:1"}"#,
                r#"POST /containers/create?name=fresh {"Image":"no-such-image"}"#,
                r#"POST /containers/create?name=fresh {"Image":"UPPER:case"}"#,
                r#"POST /containers/create?name=fresh {"Image":""}"#,
                r#"POST /containers/create?name=fresh {"Image":"dhow-test/busybox:1","HostConfig":{"Binds":["relative:path:mode"]}}"#,
                r#"POST /containers/create?name=fresh {"Image":"dhow-test/busybox:1","HostConfig":{"NetworkMode":"none","PortBindings":{"x":[]}}}"#,
                r#"POST /containers/create?name=fresh {"Image":"dhow-test/busybox:1","ExposedPorts":{"99999/tcp":{}}}"#,
                r#"POST /containers/create?name=fresh {"Image":"dhow-test/busybox:1","HostConfig":{"Memory":1}}"#,
                r#"POST /containers/create?name=fresh {"Image":"dhow-test/busybox:1","HostConfig":{"RestartPolicy":{"Name":"sometimes"}}}"#,
                r#"POST /containers/create?name=fresh {"Image":"dhow-test/busybox:1","NetworkingConfig":{"EndpointsConfig":{"nowhere":{}}}}"#,
                r#"POST /containers/create?name=fresh {"Image":"dhow-test/busybox:1","Unknown":{"x":1}}"#,
                r#"POST /containers/create?name=fresh {"image":"dhow-test/busybox:1","cmd":["sh"]}"#,
                r#"POST /v1.30/containers/create?name=fresh {"Image":"dhow-test/busybox:1"}"#,
            ]),
        plan("GET /containers/{id}/json", "GET /containers/web/json").more(&[
            "GET /containers/{web}/json",
            "GET /containers/done/json",
            "GET /containers/still/json",
            "GET /v1.24/containers/web/json",
            "GET /containers/w%65b/json",
            "GET /containers//json",
        ]),
        plan("GET /containers/{id}/top", "GET /containers/web/top")
            .measured()
            .value("ps_args", "-o pid,cmd")
            .more(&["GET /containers/done/top", "GET /containers/web/top?ps_args=bad%20args"]),
        plan("GET /containers/{id}/logs", "GET /containers/done/logs?stdout=1&stderr=1")
            .value("since", "1")
            .value("until", "4000000000")
            .value("tail", "1")
            .in_any_order()
            .more(&[
                "GET /containers/done/logs",
                "GET /containers/web/logs?stdout=1&since=2030-01-01T00:00:00Z",
                "GET /containers/done/logs?stdout=1&since=now",
                "GET /containers/done/logs?stdout=1&tail=some",
                "GET /containers/done/logs?stderr=1&details=1&timestamps=1",
            ]),
        plan("GET /containers/{id}/changes", "GET /containers/web/changes").in_any_order().more(&["GET /containers/idle/changes"]),
        plan("GET /containers/{id}/export", "GET /containers/idle/export"),
        plan("GET /containers/{id}/stats", "GET /containers/done/stats?stream=0")
            .measured()
            .streams()
            .more(&["GET /containers/web/stats?stream=0&one-shot=1", "GET /containers/web/stats?stream=1&one-shot=1"]),
        lives("POST /containers/{id}/resize", "POST /containers/fresh/resize?h=40&w=120")
            .value("h", "40")
            .value("w", "120"),
        plan("POST /containers/{id}/start", "POST /containers/fresh/start")
            .before(&CREATED)
            .value("detachKeys", "ctrl-a,b")
            .more(&["POST /containers/web/start", "POST /containers/still/start", r#"POST /containers/fresh/start {"Binds":[]}"#]),
        lives("POST /containers/{id}/stop", "POST /containers/fresh/stop")
            .value("signal", "SIGKILL")
            .value("t", "1")
            .more(&["POST /containers/done/stop", "POST /containers/fresh/stop?signal=SIGNONE"]),
        lives("POST /containers/{id}/restart", "POST /containers/fresh/restart?t=0")
            .value("signal", "SIGKILL")
            .value("t", "1"),
        lives("POST /containers/{id}/kill", "POST /containers/fresh/kill").value("signal", "KILL").more(&[
            "POST /containers/done/kill",
            "POST /containers/fresh/kill?signal=SIGNONE",
            "POST /containers/fresh/kill?signal=99",
            "POST /containers/fresh/kill?signal=0",
        ]),
        plan("POST /containers/{id}/update", r#"POST /containers/fresh/update {"CpuShares":512,"RestartPolicy":{"Name":"no"}}"#)
            .before(&CREATED)
            .more(&[
                r#"POST /containers/fresh/update {"Memory":1}"#,
                r#"POST /containers/fresh/update {"RestartPolicy":{"Name":"odd"}}"#,
                r#"POST /containers/fresh/update {"CpusetCpus":"900"}"#,
            ]),
        plan("POST /containers/{id}/rename", "POST /containers/fresh/rename?name=fresher")
            .before(&["?DELETE /containers/fresher?force=1", GONE, CREATE])
            .value("name", "fresher")
            .more(&["POST /containers/fresh/rename?name=web", "POST /containers/fresh/rename?name=/", "POST /containers/fresh/rename?name=fresh"]),
        lives("POST /containers/{id}/pause", "POST /containers/fresh/pause")
            .more(&["POST /containers/done/pause", "POST /containers/still/pause"]),
        plan("POST /containers/{id}/unpause", "POST /containers/fresh/unpause")
            .before(&PAUSED)
            .more(&["POST /containers/web/unpause", "POST /containers/done/unpause"]),
        plan("POST /containers/{id}/attach", "POST /containers/web/attach?stream=0&logs=1&stdout=1&stderr=1")
            .streams()
            .value("detachKeys", "ctrl-x")
            .more(&[
                "POST /containers/done/attach?stream=1&stdout=1",
                "POST /containers/still/attach?stream=1&stdout=1",
                "POST /containers/web/attach?stream=1&stdin=1&stdout=1",
            ]),
        plan("GET /containers/{id}/attach/ws", "GET /containers/web/attach/ws?stream=1&stdout=1")
            .streams()
            .value("detachKeys", "ctrl-x")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("Origin", "http://localhost"),
        plan("POST /containers/{id}/wait", "POST /containers/done/wait")
            .streams()
            .value("condition", "next-exit")
            .more(&["POST /containers/done/wait?condition=odd", "POST /containers/idle/wait?condition=removed"]),
        plan("DELETE /containers/{id}", "DELETE /containers/fresh")
            .before(&CREATED)
            .refused_value("link", "this container is linked from nowhere")
            .more(&["DELETE /containers/web", "DELETE /containers/still"]),
        plan("HEAD /containers/{id}/archive", "HEAD /containers/web/archive?path=/new")
            .value("path", "/etc/passwd")
            .more(&["HEAD /containers/web/archive?path=/none", "HEAD /containers/web/archive?path=relative"]),
        plan("GET /containers/{id}/archive", "GET /containers/web/archive?path=/new")
            .value("path", "/etc")
            .more(&["GET /containers/web/archive?path=/none", "GET /containers/done/archive?path=/bin/sh", "GET /containers/web/archive?path=/proc/../etc/./passwd"]),
        plan("PUT /containers/{id}/archive", "PUT /containers/fresh/archive?path=/tmp")
            .before(&CREATED)
            .bytes("application/x-tar", tar(&[("a", "one"), ("d/", ""), ("d/b", "two")]))
            .value("path", "/root")
            .value("noOverwriteDirNonDir", "1")
            .value("copyUIDGID", "1")
            .more(&["PUT /containers/fresh/archive?path=/none", "PUT /containers/fresh/archive?path=/etc/passwd"]),
        plan("POST /containers/prune", r#"POST /containers/prune?filters={"label":["none"]}"#)
            .before(&CREATED)
            .value("filters", r#"{"until":["2h"]}"#)
            .more(&[
                r#"POST /containers/prune?filters={"label!":["kind"],"until":["0s"]}"#,
                r#"POST /containers/prune?filters={"until":["soon"]}"#,
            ])
            // A prune without filters would end the scene.
            .refused_value("filters", "its good values are in the list of more calls"),
        plan("POST /containers/{id}/exec", r#"POST /containers/web/exec {"Cmd":["true"],"AttachStdout":true}"#).more(&[
            r#"POST /containers/web/exec {"Cmd":[]}"#,
            r#"POST /containers/done/exec {"Cmd":["true"]}"#,
            r#"POST /containers/still/exec {"Cmd":["true"]}"#,
            r#"POST /containers/web/exec {"Cmd":["true"],"DetachKeys":"bad-keys"}"#,
        ]),
        plan("POST /exec/{id}/start", r#"POST /exec/{run}/start {"Detach":false}"#)
            .before(&[r#"run:/Id=POST /containers/web/exec {"Cmd":["sh","-c","echo hello"],"AttachStdout":true}"#])
            .more(&[
                r#"POST /exec/{run}/start {"Detach":true}"#,
                r#"POST /exec/{exec}/start {"Detach":false}"#,
                r#"POST /exec/{run}/start {"Tty":true}"#,
                r#"POST /exec/{run}/start {"ConsoleSize":[10]}"#,
            ]),
        plan("POST /exec/{id}/resize", "POST /exec/{long}/resize?h=40&w=120")
            .before(&[
                r#"long:/Id=POST /containers/web/exec {"Cmd":["sleep","5"],"Tty":true,"AttachStdout":true}"#,
                r#"POST /exec/{long}/start {"Detach":true,"Tty":true}"#,
                r#"GET /exec/{long}/json until "Running":true"#,
            ])
            .value("h", "30")
            .value("w", "100")
            .more(&["POST /exec/{exec}/resize?h=1&w=1"]),
        plan("GET /exec/{id}/json", "GET /exec/{exec}/json"),
    ]
}
