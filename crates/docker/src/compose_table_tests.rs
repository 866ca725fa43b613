use serde_json::json;

use super::*;

fn network(name: &str) -> Made {
    Made {
        kind: Kind::Network,
        name: name.to_owned(),
        target: "/networks/create".to_owned(),
        body: b"{}".to_vec(),
    }
}

/// 3.6: the binding that a first service makes holds for those that come while it is being made.
#[test]
fn a_binding_holds_while_creates_are_on_their_way() {
    let mut table = Table::default();
    assert_eq!(table.role("shop"), None);
    table.begin("shop", Role::Foreign);
    table.begin("shop", Role::Foreign);
    table.end("shop");
    assert_eq!(table.role("shop"), Some(Role::Foreign));
    assert_eq!(table.role("blog"), None);
    table.end("shop");
    assert_eq!((table.role("shop"), table.len()), (None, 0));
}

/// 3.6: what was made before the first service is kept until that is placed; made again, it is kept once.
#[test]
fn what_was_made_early_is_kept_until_the_first_service() {
    let mut table = Table::default();
    table.made("shop", network("shop_default"));
    table.made("shop", network("shop_front"));
    table.made("shop", Made { body: b"{\"new\":1}".to_vec(), ..network("shop_default") });
    assert_eq!(table.kept("shop").len(), 2);
    assert_eq!(table.kept("blog"), []);
    table.begin("shop", Role::Native);
    assert_eq!(table.kept("shop"), []);
    table.end("shop");
    assert_eq!(table.len(), 0);
}

/// 3.6: projects that were begun and never went on cannot fill the memory, and do not push out one that is being made.
#[test]
fn what_is_kept_is_bounded() {
    let mut table = Table::default();
    table.begin("busy", Role::Foreign);
    for n in 0..10 * MAX_PROJECTS {
        table.made(&format!("p{n}"), network("default"));
        for network_number in 0..3 {
            table.made("big", network(&format!("{n}-{network_number}")));
        }
        table.rename(&format!("old{n}"), "new");
    }
    assert_eq!(table.len(), MAX_PROJECTS);
    assert_eq!(table.role("busy"), Some(Role::Foreign));
    assert_eq!(table.kept("big").len(), MAX_THINGS);
    assert_eq!(table.renamed.len(), MAX_RENAMED);
    assert_eq!(
        (table.renamed("old0"), table.renamed(&format!("old{}", 10 * MAX_PROJECTS - 1))),
        (None, Some("new"))
    );
}

/// 3.6: newer Compose names networks by the ID that it was told when it made them.
#[test]
fn a_description_with_an_old_network_id_is_rewritten() {
    let mut table = Table::default();
    table.rename("aaaa", "ffff");
    let before = json!({
        "Image": "web",
        "HostConfig": { "NetworkMode": "aaaa", "Memory": 9007199254740993u64 },
        "NetworkingConfig": { "EndpointsConfig": {
            "aaaa": { "Aliases": ["web"], "NetworkID": "aaaa" },
            "other": { "NetworkID": "" },
        } },
    });
    let after = json!({
        "Image": "web",
        "HostConfig": { "NetworkMode": "ffff", "Memory": 9007199254740993u64 },
        "NetworkingConfig": { "EndpointsConfig": {
            "ffff": { "Aliases": ["web"], "NetworkID": "ffff" },
            "other": { "NetworkID": "" },
        } },
    });
    let rewritten = table.rewritten(before.to_string().as_bytes()).unwrap();
    assert_eq!(String::from_utf8(rewritten).unwrap(), after.to_string());
}

/// 3.1: every other description is left as it is, byte by byte.
#[test]
fn a_description_without_an_old_id_is_not_touched() {
    let mut table = Table::default();
    assert_eq!(table.rewritten(br#"{"HostConfig":{"NetworkMode":"aaaa"}}"#), None);
    table.rename("aaaa", "ffff");
    for text in [
        r#"{"HostConfig": {"NetworkMode": "shop_default"}}"#,
        r#"{"Hostname": "aaaa", "HostConfig": {"NetworkMode": "bridge"}}"#,
        r#"aaaa"#,
        "",
    ] {
        assert_eq!(table.rewritten(text.as_bytes()), None, "{text}");
    }
}
