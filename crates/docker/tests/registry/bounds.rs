//! The registry stays small and fast (spec 2.5).

use std::time::{Duration, Instant};

use dhow_docker::registry::{Change, Knowledge, Listed, Lookup, Registry};
use dhow_model::Role::{Foreign, Native};

/// Execs that are recorded at most: the living ones and the latest that ended.
const MOST_EXECS: usize = 16_384 + 256;
/// What they may take, bytes.
#[cfg(target_os = "linux")]
const MOST_MEMORY: usize = 16 << 20;

fn id(n: usize) -> String {
    format!("{n:064x}")
}

/// Resident memory of this process in bytes.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// 2.5: 100,000 execs that never end, as of an engine that died without a word, stay within a bound of number and memory, and
/// the latest are the ones that are still known.
#[test]
fn a_hundred_thousand_execs_that_never_end_stay_bounded() {
    let mut registry = Registry::new();
    #[cfg(target_os = "linux")]
    let before = resident();
    for n in 0..100_000 {
        registry.exec_create(Native, &id(n), &id(n % 1000));
        assert!(registry.execs() <= MOST_EXECS);
    }
    #[cfg(target_os = "linux")]
    assert!(resident() - before < MOST_MEMORY, "{} bytes", resident() - before);
    assert_eq!(registry.lookup_exec(&id(0)), Lookup::Missing);
    assert!(matches!(registry.lookup_exec(&id(99_999)), Lookup::Found(_)));
}

/// 2.5: execs that end leave only the latest few behind, which a client still asks for its exit status.
#[test]
fn a_hundred_thousand_execs_that_end_leave_only_the_latest() {
    let mut registry = Registry::new();
    for n in 0..100_000 {
        registry.exec_create(Native, &id(n), &id(7));
        registry.exec_end(Native, &id(n));
        assert!(registry.execs() <= 256);
    }
    assert!(matches!(registry.lookup_exec(&id(99_999)), Lookup::Found(_)));
    registry.remove(Native, &id(7));
    assert_eq!(registry.execs(), 0, "they go with their container");
}

/// 2.5: containers that come and go leave nothing behind.
#[test]
fn a_hundred_thousand_containers_that_come_and_go_leave_nothing_behind() {
    let mut registry = Registry::new();
    #[cfg(target_os = "linux")]
    let before = resident();
    for n in 0..100_000 {
        registry.create(Native, &id(n), Some(&format!("run-{n}")));
        registry.exec_create(Native, &format!("exec-{n}"), &id(n));
        registry.apply(Native, &Change::Destroyed { id: id(n) });
    }
    assert_eq!((registry.containers(), registry.execs()), (0, 0));
    #[cfg(target_os = "linux")]
    assert!(resident() - before < 2 << 20, "{} bytes", resident() - before);
}

/// 2.5: a guest that claims more containers than an engine could have is not believed, and asked each time.
#[test]
fn an_engine_that_claims_too_many_containers_is_not_wholly_known() {
    let mut registry = Registry::new();
    registry.replace(Foreign, []);
    assert_eq!(registry.knowledge(Foreign), Knowledge::Whole);
    for n in 0..40_000 {
        registry.apply(Foreign, &Change::Created { id: id(n), name: None, project: None });
    }
    assert_eq!((registry.containers(), registry.knowledge(Foreign)), (32_768, Knowledge::Partial));
}

/// 2.5: the same of names: too many or too long are not recorded, and take nothing from others.
#[test]
fn a_container_with_endless_names_takes_bounded_memory() {
    let mut registry = Registry::new();
    let long = "x".repeat(256);
    let links = (0..1000).map(|n| format!("/front/{n}"));
    let names = ["/web".to_owned(), format!("/{long}")].into_iter().chain(links).collect();
    registry.replace(Native, [Listed { id: id(1), names, project: Some(long.clone()) }]);
    assert_eq!(registry.lookup(&long), Lookup::Missing);
    let found = (0..1000).filter(|n| registry.lookup(&format!("front/{n}")) != Lookup::Missing).count();
    assert_eq!((found, registry.record(Native).containers[0].project.as_deref()), (8, None));
    registry.apply(Native, &Change::Renamed { id: id(1), name: "web".into() });
    registry.rename(Native, &id(1), &long);
    assert_eq!(registry.lookup("web"), Lookup::Missing, "it is called otherwise now");
}

/// 2.2: a lookup does not search the table: not by full ID, by name, nor by the usual twelve digits.
#[test]
fn a_lookup_among_ten_thousand_containers_takes_little_more_than_among_a_hundred() {
    // Both on the same machine in the same minute, which may be a busy one: a search would take a hundred times as long.
    let [few, many] = [100, 10_000].map(best_of_each);
    for ((what, few), (_, many)) in few.into_iter().zip(many) {
        println!("{few:?} among a hundred, {many:?} among ten thousand, by {what}");
        assert!(many < 20 * few, "{few:?}, then {many:?} by {what}");
    }
}

/// What a lookup takes among so many containers, by each kind of reference: the best of some rounds.
fn best_of_each(containers: u64) -> [(&'static str, Duration); 3] {
    let mut registry = Registry::new();
    let ids: Vec<String> =
        (0..containers).map(|n| format!("{:016x}{n:048x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    for (n, id) in ids.iter().enumerate() {
        registry.create(if n % 2 == 0 { Native } else { Foreign }, id, Some(&format!("c{n}")));
    }
    let names = (0..ids.len()).map(|n| format!("c{n}")).collect();
    let digits = ids.iter().map(|id| id[..12].to_owned()).collect();
    [("ID", ids), ("name", names), ("digits", digits)]
        .map(|(what, references)| (what, (0..5).map(|_| round(&registry, &references)).min().unwrap()))
}

fn round(registry: &Registry, references: &[String]) -> Duration {
    let since = Instant::now();
    for reference in references {
        assert!(matches!(registry.lookup(reference), Lookup::Found(_)));
    }
    since.elapsed() / u32::try_from(references.len()).unwrap()
}
