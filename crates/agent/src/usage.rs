//! What the data disk is used for, of which a person could free a part: dockerd's own accounts, added up as `docker system
//! df` does.

use std::time::Duration;

use dhow_proto::agent::{DiskUsageReply, DockerShare};
use serde_json::Value;

use crate::{data, docker, facts};

/// dockerd walks through every volume for this.
const LIMIT: Duration = Duration::from_secs(60);

/// The disk's usage now; nothing of dockerd's while it does not answer.
pub async fn usage() -> DiskUsageReply {
    let (total_bytes, free_bytes) = facts::disk(data::MOUNT);
    let accounts = docker::get("/system/df", LIMIT).await.unwrap_or_default();
    let docker = serde_json::from_str(&accounts).map(|accounts| shares(&accounts)).unwrap_or_default();
    DiskUsageReply { total_bytes, free_bytes, docker }
}

/// The totals of an answer to `/system/df`.
fn shares(accounts: &Value) -> Vec<DockerShare> {
    if accounts.get("LayersSize").is_none() {
        return Vec::new();
    }
    let list = |name: &str| accounts[name].as_array().map(Vec::as_slice).unwrap_or_default();
    vec![
        images(list("Images"), number(&accounts["LayersSize"])),
        containers(list("Containers")),
        volumes(list("Volumes")),
        cache(list("BuildCache")),
    ]
}

/// Layers are shared: those that only unused images have could be freed.
fn images(images: &[Value], layers: u64) -> DockerShare {
    let used = images.iter().filter(|image| number(&image["Containers"]) > 0);
    let own = |image: &Value| number(&image["Size"]).saturating_sub(number(&image["SharedSize"]));
    let kept = used.clone().map(own).fold(0, u64::saturating_add);
    share("images", images.len(), used.count(), layers, layers.saturating_sub(kept))
}

fn containers(containers: &[Value]) -> DockerShare {
    let runs =
        |container: &&Value| matches!(container["State"].as_str(), Some("running" | "paused" | "restarting"));
    let sum = |sizes: &mut dyn Iterator<Item = &Value>| {
        sizes.map(|container| number(&container["SizeRw"])).fold(0, u64::saturating_add)
    };
    let bytes = sum(&mut containers.iter());
    let reclaimable = sum(&mut containers.iter().filter(|container| !runs(container)));
    share("containers", containers.len(), containers.iter().filter(runs).count(), bytes, reclaimable)
}

fn volumes(volumes: &[Value]) -> DockerShare {
    let used = |volume: &&Value| number(&volume["UsageData"]["RefCount"]) > 0;
    let size = |volume: &Value| number(&volume["UsageData"]["Size"]);
    let bytes = volumes.iter().map(size).fold(0, u64::saturating_add);
    let reclaimable = volumes.iter().filter(|v| !used(v)).map(size).fold(0, u64::saturating_add);
    share("volumes", volumes.len(), volumes.iter().filter(used).count(), bytes, reclaimable)
}

/// What is shared with images counts there.
fn cache(records: &[Value]) -> DockerShare {
    let own = |record: &&Value| record["Shared"] != true;
    let used = |record: &&Value| record["InUse"] == true;
    let size = |record: &Value| number(&record["Size"]);
    let bytes = records.iter().filter(own).map(size).fold(0, u64::saturating_add);
    let free = records.iter().filter(own).filter(|r| !used(r)).map(size).fold(0, u64::saturating_add);
    share("build-cache", records.len(), records.iter().filter(used).count(), bytes, free)
}

fn share(kind: &str, count: usize, active: usize, bytes: u64, reclaimable_bytes: u64) -> DockerShare {
    let small = |count| u32::try_from(count).unwrap_or(u32::MAX);
    DockerShare {
        kind: kind.to_owned(),
        count: small(count),
        active: small(active),
        bytes,
        reclaimable_bytes: reclaimable_bytes.min(bytes),
    }
}

/// dockerd writes -1 for what it did not find out.
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Issue 5, point 4: what could be freed is what nothing uses, and nothing is counted twice.
    #[test]
    fn what_is_not_in_use_could_be_freed() {
        let accounts = json!({
            "LayersSize": 1000,
            "Images": [
                { "Size": 600, "SharedSize": 200, "Containers": 1 },
                { "Size": 600, "SharedSize": 200, "Containers": 0 },
                { "Size": 50, "SharedSize": -1, "Containers": -1 },
            ],
            "Containers": [
                { "State": "running", "SizeRw": 30 },
                { "State": "exited", "SizeRw": 70 },
                { "State": "created" },
            ],
            "Volumes": [
                { "UsageData": { "Size": 500, "RefCount": 1 } },
                { "UsageData": { "Size": 300, "RefCount": 0 } },
                { "UsageData": null },
            ],
            "BuildCache": [
                { "Size": 10, "InUse": true, "Shared": false },
                { "Size": 20, "InUse": false, "Shared": false },
                { "Size": 40, "InUse": false, "Shared": true },
            ],
        });
        let told: Vec<_> = shares(&accounts)
            .into_iter()
            .map(|s| (s.kind, s.count, s.active, s.bytes, s.reclaimable_bytes))
            .collect();
        let expected = [
            ("images".to_owned(), 3, 1, 1000, 600),
            ("containers".to_owned(), 3, 1, 100, 70),
            ("volumes".to_owned(), 3, 1, 800, 300),
            ("build-cache".to_owned(), 3, 1, 30, 20),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn an_answer_that_is_none_has_no_shares() {
        for answer in [json!({}), json!({ "message": "no" }), json!([])] {
            assert_eq!(shares(&answer), []);
        }
    }
}
