//! A swarm of one, thrown away at the end; it can be joined by nobody, so that joining is only refused.

use super::{Plan, plan};

const INIT: &str = r#"POST /swarm/init {"ListenAddr":"127.0.0.1:2377","AdvertiseAddr":"127.0.0.1"}"#;
const SPEC: &str = r#"{"Name":"fresh","TaskTemplate":{"ContainerSpec":{"Image":"dhow-test/busybox:1","Command":["sleep","100000"]}},"Mode":{"Replicated":{"Replicas":0}}}"#;

pub fn plans() -> Vec<Plan> {
    let service: [&'static str; 3] = [
        "?DELETE /services/fresh",
        r#"POST /services/create {"Name":"fresh","TaskTemplate":{"ContainerSpec":{"Image":"dhow-test/busybox:1","Command":["sleep","100000"]}},"Mode":{"Replicated":{"Replicas":0}}}"#,
        "version:/Version/Index=GET /services/fresh",
    ];
    let secret: [&'static str; 4] = [
        "?DELETE /secrets/fresh",
        r#"secret:/ID=POST /secrets/create {"Name":"fresh","Data":"aGVsbG8="}"#,
        "version:/Version/Index=GET /secrets/fresh",
        "GET /secrets/fresh",
    ];
    let config: [&'static str; 3] = [
        "?DELETE /configs/fresh",
        r#"config:/ID=POST /configs/create {"Name":"fresh","Data":"aGVsbG8="}"#,
        "version:/Version/Index=GET /configs/fresh",
    ];
    let join = r#"POST /swarm/join {"ListenAddr":"127.0.0.1:2377","AdvertiseAddr":"127.0.0.1","RemoteAddrs":["127.0.0.1:1"],"JoinToken":"SWMTKN-1-bad"}"#;
    let update = format!("POST /services/fresh/update?version={{version}} {SPEC}");
    let create = format!("POST /services/create {SPEC}");
    let list = |operation, line: &str| plan(operation, line).in_any_order();
    vec![
        plan("POST /swarm/join", join).refused("there is no other swarm to join"),
        plan("GET /swarm", "GET /swarm").before(&["?POST /swarm/leave?force=1", INIT]),
        plan("POST /swarm/init", INIT).before(&["?POST /swarm/leave?force=1"]).more(&[
            r#"POST /swarm/init {"ListenAddr":"nonsense"}"#,
            r#"POST /swarm/init {"ListenAddr":"127.0.0.1:2377","AdvertiseAddr":"nowhere"}"#,
        ]),
        plan("POST /swarm/leave", "POST /swarm/leave?force=1")
            .before(&["?POST /swarm/leave?force=1", INIT])
            .refused_value("force", "the only manager leaves by force or not at all")
            .more(&["POST /swarm/leave"]),
        plan("GET /swarm/unlockkey", "GET /swarm/unlockkey").before(&["?POST /swarm/leave?force=1", INIT]),
        plan("POST /swarm/unlock", r#"POST /swarm/unlock {"UnlockKey":"SWMKEY-1-bad"}"#).refused("the swarm is not locked"),
        plan("POST /swarm/update", r#"POST /swarm/update?version={version} {"Name":"default","Labels":{"a":"b"}}"#)
            .before(&["version:/Version/Index=GET /swarm"])
            .value("version", "{version}"),
        list("GET /nodes", "GET /nodes").value("filters", r#"{"role":["manager"]}"#).more(&[r#"GET /nodes?filters={"role":["odd"]}"#]),
        plan("GET /nodes/{id}", "GET /nodes/{node}").before(&["node:/0/ID=GET /nodes"]),
        plan("POST /nodes/{id}/update", r#"POST /nodes/{node}/update?version={version} {"Role":"manager","Availability":"active","Labels":{"a":"b"}}"#)
            .before(&["node:/0/ID=GET /nodes", "version:/0/Version/Index=GET /nodes"])
            .value("version", "{version}"),
        plan("DELETE /nodes/{id}", "DELETE /nodes/{node}").refused("the only manager stays"),
        list("POST /services/create", &create)
            .before(&["?DELETE /services/fresh"])
            .value("X-Registry-Auth", "e30=")
            .more(&[r#"POST /services/create {"Name":"fresh"}"#, r#"POST /services/create {"Name":"-bad-","TaskTemplate":{"ContainerSpec":{"Image":"x"}}}"#]),
        list("GET /services", "GET /services").value("filters", r#"{"name":["fresh"]}"#),
        plan("GET /services/{id}", "GET /services/fresh").before(&service),
        plan("POST /services/{id}/update", &update)
            .before(&service)
            .value("version", "{version}")
            .value("registryAuthFrom", "spec")
            .value("rollback", "previous")
            .refused_value("rollback", "the service has no previous specification")
            .value("X-Registry-Auth", "e30="),
        plan("DELETE /services/{id}", "DELETE /services/fresh").before(&service),
        plan("GET /services/{id}/logs", "GET /services/busy/logs?stdout=1&stderr=1")
            .before(&[
                "?DELETE /services/busy",
                r#"POST /services/create {"Name":"busy","TaskTemplate":{"ContainerSpec":{"Image":"dhow-test/busybox:1","Command":["sh","-c","echo out; exec sleep 100000"]}}}"#,
                r#"task:/0/ID=GET /tasks?filters={"service":["busy"]} until "State":"running","#,
                "GET /services/busy/logs?stdout=1&stderr=1 until out",
            ])
            .streams()
            .value("tail", "1")
            .value("since", "1")
            .more(&["GET /services/busy/logs"]),
        list("GET /tasks", r#"GET /tasks?filters={"service":["busy"]}"#).value("filters", r#"{"service":["busy"]}"#).more(&[r#"GET /tasks?filters={"desired-state":["odd"]}"#]),
        plan("GET /tasks/{id}", "GET /tasks/{task}"),
        plan("GET /tasks/{id}/logs", "GET /tasks/{task}/logs?stdout=1&stderr=1").streams().value("tail", "1").value("since", "1"),
        list("GET /secrets", "GET /secrets").value("filters", r#"{"name":["fresh"]}"#),
        plan("POST /secrets/create", r#"POST /secrets/create {"Name":"fresh","Data":"aGVsbG8="}"#).before(&["?DELETE /secrets/fresh"]),
        plan("GET /secrets/{id}", "GET /secrets/fresh").before(&secret),
        plan("POST /secrets/{id}/update", r#"POST /secrets/{secret}/update?version={version} {"Name":"fresh","Labels":{"a":"b"}}"#)
            .before(&secret)
            .value("version", "{version}"),
        plan("DELETE /secrets/{id}", "DELETE /secrets/fresh").before(&secret),
        list("GET /configs", "GET /configs").value("filters", r#"{"name":["fresh"]}"#),
        plan("POST /configs/create", r#"POST /configs/create {"Name":"fresh","Data":"aGVsbG8="}"#).before(&["?DELETE /configs/fresh"]),
        plan("GET /configs/{id}", "GET /configs/fresh").before(&config),
        plan("POST /configs/{id}/update", r#"POST /configs/{config}/update?version={version} {"Name":"fresh","Labels":{"a":"b"}}"#)
            .before(&config)
            .value("version", "{version}"),
        plan("DELETE /configs/{id}", "DELETE /configs/fresh").before(&config),
    ]
}
