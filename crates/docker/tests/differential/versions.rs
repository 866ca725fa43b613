//! Versions of the API in the path: every one that the engine supports, those that it does not, and none.

use crate::alike::Leave;
use crate::call::Call;
use crate::plans;
use crate::scene::Pair;

/// 3.1: what only reads is answered alike at every version.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn every_supported_version_is_dockerds_own() {
    let mut pair = Pair::start();
    let version = Call::parse("GET /version").send(pair.sockets()[0]).json();
    let minor = |name: &str| -> u32 {
        let text = version[name].as_str().unwrap();
        text.strip_prefix("1.").unwrap().parse().unwrap()
    };
    let (oldest, newest) = (minor("MinAPIVersion"), minor("ApiVersion"));
    assert!((24..45).contains(&oldest) && newest >= 45, "{version}");
    let (single, _) = plans::all();
    let reading = single.iter().filter(|plan| plan.call.method == "GET" && plan.refused.is_none());
    let mut prefixes: Vec<String> = (oldest..=newest).map(|minor| format!("/v1.{minor}")).collect();
    prefixes.extend([format!("/v1.{}", oldest - 1), format!("/v1.{}", newest + 1)]);
    prefixes.extend(
        ["/v1", "/v1.", "/v.44", "/v0.0", "/v2.0", "/v1.44.0", "/vx", "/V1.44", "/v1.44/v1.44", ""]
            .map(str::to_owned),
    );
    for plan in reading {
        for prefix in &prefixes {
            // A measurement that takes its time each time.
            if plan.operation.ends_with("/stats") && !prefix.ends_with('0') {
                continue;
            }
            let call = Call { target: format!("{prefix}{}", plan.call.target), ..plan.call.clone() };
            let leave = Leave { order: true, ..plan.leave };
            pair.compare(plan.operation, prefix, &call, leave);
        }
    }
    eprintln!("{} calls on each side, versions 1.{oldest} to 1.{newest}", pair.calls);
    assert!(pair.differences.is_empty(), "{}", pair.differences.join("\n"));
    let taken = pair.tallies.values().map(|tally| tally.good).sum::<usize>();
    assert!(taken > 500, "{taken} of {} were taken", pair.calls);
}
