//! The system, volumes, networks, the session.

use super::{Plan, plan};

const NO_SWARM: &str = "only volumes of a cluster are updated";

pub fn plans() -> Vec<Plan> {
    vec![
        plan("POST /auth", r#"POST /auth {"username":"a","password":"b","serveraddress":"localhost:1"}"#)
            .refused("it asks a registry, and this dockerd reaches none"),
        plan("GET /info", "GET /info").measured().in_any_order().more(&["GET /v1.24/info", "GET /v1.40/info"]),
        plan("GET /version", "GET /version").more(&["GET /v1.24/version", "GET /v1.44/version"]),
        plan("GET /_ping", "GET /_ping").more(&["GET /v1.1/_ping", "GET /v1.99/_ping"]),
        plan("HEAD /_ping", "HEAD /_ping").more(&["HEAD /v1.1/_ping", "HEAD /v1.99/_ping"]),
        plan("GET /events", "GET /events?since=1&until=2")
            .streams()
            .value("since", "1.5")
            .value("until", "4")
            .value("filters", r#"{"type":["container"]}"#)
            .more(&[
                "GET /events?since=yesterday",
                "GET /events?since=5&until=4",
                r#"GET /events?since=1&until=2&filters={"bogus":["x"]}"#,
            ]),
        plan("GET /system/df", "GET /system/df")
            .in_any_order()
            .value("type", "volume")
            .more(&["GET /system/df?type=container&type=image", "GET /system/df?type=build-cache", "GET /system/df?type=odd", "GET /v1.41/system/df"]),
        plan("GET /volumes", "GET /volumes").in_any_order().value("filters", r#"{"name":["store"]}"#).more(&[
            r#"GET /volumes?filters={"dangling":["perhaps"]}"#,
            r#"GET /volumes?filters={"label":["kind=test"]}"#,
        ]),
        plan("POST /volumes/create", r#"POST /volumes/create {"Name":"fresh","Labels":{"a":"b"}}"#)
            .before(&["?DELETE /volumes/fresh"])
            .more(&[
                r#"POST /volumes/create {"Name":"-bad-/"}"#,
                r#"POST /volumes/create {"Name":"fresh","DriverOpts":{"odd":"x"}}"#,
            ]),
        plan("GET /volumes/{name}", "GET /volumes/store"),
        plan("PUT /volumes/{name}", r#"PUT /volumes/store?version=1 {"Spec":{}}"#).refused(NO_SWARM).value("version", "1"),
        plan("DELETE /volumes/{name}", "DELETE /volumes/fresh")
            .before(&["?DELETE /volumes/fresh", r#"POST /volumes/create {"Name":"fresh"}"#])
            .more(&["DELETE /volumes/store", "DELETE /volumes/store?force=1"]),
        plan("POST /volumes/prune", r#"POST /volumes/prune?filters={"label":["none"]}"#)
            .before(&[r#"POST /volumes/create {"Name":"fresh"}"#])
            .value("filters", r#"{"all":["true"],"label":["none"]}"#)
            .more(&[r#"POST /volumes/prune?filters={"all":["perhaps"]}"#]),
        plan("GET /networks", "GET /networks").in_any_order().value("filters", r#"{"driver":["bridge"]}"#).more(&[
            r#"GET /networks?filters={"dangling":["perhaps"]}"#,
            r#"GET /networks?filters={"scope":["odd"]}"#,
            r#"GET /networks?filters={"type":["odd"]}"#,
        ]),
        plan("GET /networks/{id}", "GET /networks/net")
            .in_any_order()
            .value("scope", "local")
            .more(&["GET /networks/bridge?verbose=1", "GET /networks/host", "GET /networks/net?scope=swarm"]),
        plan("DELETE /networks/{id}", "DELETE /networks/fresh")
            .before(&["?DELETE /networks/fresh", r#"POST /networks/create {"Name":"fresh"}"#])
            .more(&["DELETE /networks/bridge", "DELETE /networks/net"]),
        plan("POST /networks/create", r#"POST /networks/create {"Name":"fresh","Driver":"bridge","Labels":{"a":"b"}}"#)
            .before(&["?DELETE /networks/fresh"])
            .more(&[
                r#"POST /networks/create {"Name":"net"}"#,
                r#"POST /networks/create {"Name":"bridge"}"#,
                r#"POST /networks/create {"Name":"fresh","IPAM":{"Config":[{"Subnet":"10.77.0.0/24"}]}}"#,
                r#"POST /networks/create {"Name":"fresh","IPAM":{"Config":[{"Subnet":"nonsense"}]}}"#,
                r#"POST /networks/create {"Name":"fresh","Scope":"swarm"}"#,
                r#"POST /networks/create {"Name":"fresh","Driver":"overlay"}"#,
            ]),
        plan("POST /networks/{id}/connect", r#"POST /networks/net/connect {"Container":"idle","EndpointConfig":{"Aliases":["other"]}}"#)
            .before(&[r#"?POST /networks/net/disconnect {"Container":"idle","Force":true}"#])
            .more(&[
                r#"POST /networks/net/connect {"Container":"none"}"#,
                r#"POST /networks/net/connect {"Container":"web"}"#,
                r#"POST /networks/host/connect {"Container":"web"}"#,
                r#"POST /networks/net/connect {"Container":"web","EndpointConfig":{"IPAMConfig":{"IPv4Address":"nonsense"}}}"#,
            ]),
        plan("POST /networks/{id}/disconnect", r#"POST /networks/net/disconnect {"Container":"idle"}"#)
            .before(&[r#"?POST /networks/net/connect {"Container":"idle"}"#])
            .more(&[r#"POST /networks/net/disconnect {"Container":"none"}"#, r#"POST /networks/bridge/disconnect {"Container":"none","Force":true}"#]),
        plan("POST /networks/prune", r#"POST /networks/prune?filters={"label":["none"]}"#)
            .value("filters", r#"{"until":["1h"]}"#)
            .more(&[r#"POST /networks/prune?filters={"until":["soon"]}"#]),
        plan("POST /session", "POST /session").streams().header("Upgrade", "h2c").more(&["POST /v1.38/session"]),
    ]
}
