//! The differential suite (issue 4): every operation of the published API description, with good and with bad input, sent
//! to a dockerd directly and through the face to another one that was prepared alike. What comes back is equal: status,
//! headers, bodies, but for dates, IDs and the headers that the face adds. `derived` makes the calls from the
//! description, `plans` says what a good call of each operation is, `scene` keeps the two dockerds alike, `alike`
//! compares; `wire` has what is not about endpoints.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a fixture fails its test at the first surprise"
)]

mod alike;
mod call;
#[path = "../common/mod.rs"]
mod common;
mod derived;
mod plans;
mod scene;
mod versions;
mod wire;

use std::collections::BTreeMap;

use dhow_testkit::description::{Description, Operation};

use plans::Plan;
use scene::Pair;

/// How often a call that races within dockerd is made again before its difference counts.
const RACES: usize = 5;

/// 3.1, 3.3: every operation, with each of its parameters.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn every_endpoint_answers_as_dockerd_does() {
    let description = Description::of_the_engine().unwrap();
    let (single, swarm) = plans::all();
    let mut suite = Suite::new(Pair::start(), &description, [single.as_slice(), &swarm].concat());
    for plan in single.iter().chain(&swarm) {
        suite.run(plan);
    }
    suite.wrong_methods();
    suite.judge();
}

/// 3.7: with a second machine that runs and has nothing in it, lists are merged and references looked up in both, and
/// nothing of that shows but the framing of what is merged. A swarm is of one machine, and left out here; so is a session,
/// which waits for its build (3.5).
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn every_endpoint_answers_as_dockerd_does_beside_an_empty_machine() {
    let mut description = Description::of_the_engine().unwrap();
    let (mut single, _) = plans::all();
    single.retain(|plan| plan.operation != "POST /session");
    description.operations.retain(|operation| single.iter().any(|plan| plan.operation == operation.name()));
    let mut suite = Suite::new(Pair::beside_an_empty_machine(), &description, single.clone());
    for plan in &single {
        suite.run(plan);
    }
    suite.wrong_methods();
    suite.judge();
}

struct Suite<'a> {
    pair: Pair,
    description: &'a Description,
    plans: Vec<Plan>,
    /// Good values that dockerd did not take, and the other way round.
    misfits: Vec<String>,
}

impl<'a> Suite<'a> {
    fn new(pair: Pair, description: &'a Description, plans: Vec<Plan>) -> Self {
        Self { pair, description, plans, misfits: Vec::new() }
    }

    fn run(&mut self, plan: &Plan) {
        let Some(operation) = self.description.operations.iter().find(|it| it.name() == plan.operation)
        else {
            return self.misfits.push(format!("{}: the description has no such operation", plan.operation));
        };
        let began = std::time::Instant::now();
        let (mut fresh, mut taken) = (false, BTreeMap::<String, bool>::new());
        for case in derived::cases(operation, plan) {
            if !fresh {
                self.pair.prepare(&plan.before);
            }
            let known = self.pair.differences.len();
            let mut answers = self.pair.compare(plan.operation, &case.label, &case.call, plan.leave);
            // What two dockerds do differently by chance they do not do so each time.
            for _ in 0..RACES {
                if !plan.races || self.pair.differences.len() == known {
                    break;
                }
                self.pair.differences.truncate(known);
                self.pair.prepare(&plan.before);
                answers = self.pair.compare(plan.operation, &case.label, &case.call, plan.leave);
            }
            let refused = answers.iter().all(|answer| answer.code() >= 400);
            fresh = refused || operation.method == "GET";
            if let Some(parameter) = case.good {
                let is_taken = !refused && answers[0].code() > 0;
                *taken.entry(parameter).or_default() |= is_taken;
                if !is_taken && plan.refused.is_none() {
                    let said = answers[0].text();
                    self.misfits
                        .push(format!("{}: {}: {} {said}", plan.operation, case.label, answers[0].status));
                }
            }
        }
        for parameter in operation.of("query").chain(operation.of("header")) {
            let excepted =
                plan.refused.is_some() || plan.refused_values.iter().any(|(name, _)| *name == parameter.name);
            if !taken.contains_key(&parameter.name) && !excepted {
                self.misfits.push(format!("{}: no good value for {}", plan.operation, parameter.name));
            }
        }
        if let (Some(why), Some(true)) = (plan.refused, taken.get("")) {
            self.misfits.push(format!("{}: taken, though {why}", plan.operation));
        }
        if std::env::var_os("DHOW_TEST_TIMES").is_some() {
            eprintln!("{:6} ms  {}", began.elapsed().as_millis(), plan.operation);
        }
    }

    /// After everything else: some of them would change the scene.
    fn wrong_methods(&mut self) {
        let mut paths: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
        for operation in &self.description.operations {
            paths.entry(&operation.path).or_default().push(operation);
        }
        for operations in paths.values() {
            let name = operations[0].name();
            let Some(plan) = self.plans.iter().find(|plan| plan.operation == name).cloned() else { continue };
            for case in derived::wrong_methods(operations, &plan) {
                self.pair.compare(&name, &case.label, &case.call, plan.leave);
            }
        }
    }

    fn judge(&self) {
        let mut faults = self.misfits.clone();
        for operation in &self.description.operations {
            let name = operation.name();
            let tally = self.pair.tallies.get(&name).copied().unwrap_or_default();
            let excepted = self.plans.iter().any(|plan| plan.operation == name && plan.refused.is_some());
            if (tally.good == 0 && !excepted) || tally.bad == 0 {
                faults.push(format!("{name}: {} good and {} bad calls", tally.good, tally.bad));
            }
        }
        eprintln!(
            "{} operations of version {}, {} calls on each side, {} differences, {} faults of the suite",
            self.description.operations.len(),
            self.description.version,
            self.pair.calls,
            self.pair.differences.len(),
            faults.len()
        );
        assert!(
            faults.is_empty() && self.pair.differences.is_empty(),
            "differences:\n{}\nfaults of the suite itself:\n{}",
            self.pair.differences.join("\n"),
            faults.join("\n")
        );
    }
}
