use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn container(name: &str, addresses: &[&str]) -> Container {
    Container {
        id: format!("{name}-id"),
        name: name.to_owned(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        ..Container::default()
    }
}

fn service(name: &str, service: &str, project: &str, address: &str) -> Container {
    Container {
        project: Some(project.to_owned()),
        service: Some(service.to_owned()),
        ..container(name, &[address])
    }
}

/// The addresses of a name that exists; `None` for one that does not.
fn addresses(table: &Table, key: &str) -> Option<Vec<String>> {
    match table.find(key, From::Guest) {
        Found::Known { addresses, .. } => Some(addresses.iter().map(ToString::to_string).collect()),
        Found::Missing { .. } => None,
        Found::Elsewhere => panic!("{key} is not ours"),
    }
}

fn pointers(table: &Table, key: &str) -> Vec<String> {
    match table.find(key, From::Guest) {
        Found::Known { pointers, .. } => pointers,
        _ => Vec::new(),
    }
}

/// Spec 5.1.
#[test]
fn containers_answer_to_their_name_and_services_to_theirs_in_their_project() {
    let table = Table::of(&[
        container("db", &["172.17.0.2", "fd00::2"]),
        service("shop-web-1", "web", "shop", "172.18.0.2"),
    ]);
    assert_eq!(addresses(&table, "db.dhow.internal").unwrap(), ["172.17.0.2", "fd00::2"]);
    assert_eq!(addresses(&table, "shop-web-1.dhow.internal").unwrap(), ["172.18.0.2"]);
    assert_eq!(addresses(&table, "web.shop.dhow.internal").unwrap(), ["172.18.0.2"]);
    assert_eq!(addresses(&table, "web.dhow.internal"), None);
    assert_eq!(pointers(&table, "2.0.17.172.in-addr.arpa"), ["db.dhow.internal"]);
    let reverse6 = format!("2.{}0.0.d.f.ip6.arpa", "0.".repeat(27));
    assert_eq!(pointers(&table, &reverse6), ["db.dhow.internal"]);
}

/// Spec 5.1: the host answers where it can be reached from.
#[test]
fn the_host_has_names_and_they_differ_by_who_asks() {
    let table = Table::of(&[container("host", &["172.17.0.9"]), container("Gateway", &["172.17.0.8"])]);
    for (key, from, expected) in [
        ("host.docker.internal", From::Guest, ["198.19.68.254", "fd64:686f:7700::fe"]),
        ("host.dhow.internal", From::Guest, ["198.19.68.254", "fd64:686f:7700::fe"]),
        ("gateway.docker.internal", From::Guest, ["198.19.68.1", "fd64:686f:7700::1"]),
        ("host.docker.internal", From::Host, ["127.0.0.1", "::1"]),
        ("host.dhow.internal", From::Host, ["127.0.0.1", "::1"]),
        ("gateway.docker.internal", From::Host, ["127.0.0.1", "::1"]),
    ] {
        let Found::Known { addresses, .. } = table.find(key, from) else { panic!("{key}") };
        assert_eq!(addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), expected, "{key}");
    }
    assert_eq!(pointers(&table, "254.68.19.198.in-addr.arpa"), ["host.docker.internal"]);
    assert_eq!(pointers(&table, "1.68.19.198.in-addr.arpa"), ["gateway.docker.internal"]);
    assert_eq!(table.find("x.docker.internal", From::Guest), Found::Elsewhere);
}

/// Spec 5.2.
#[test]
fn a_shared_name_keeps_the_addresses_of_those_that_remain_and_goes_with_the_last() {
    let web = |n: u8| service(&format!("shop-web-{n}"), "web", "shop", &format!("172.18.0.{n}"));
    let key = "web.shop.dhow.internal";
    assert_eq!(addresses(&Table::of(&[web(2), web(3)]), key).unwrap(), ["172.18.0.2", "172.18.0.3"]);
    assert_eq!(addresses(&Table::of(&[web(3)]), key).unwrap(), ["172.18.0.3"]);
    let none = Table::of(&[container("x", &["172.17.0.2"]), container("stopped", &[])]);
    assert_eq!(addresses(&none, key), None);
    assert_eq!(addresses(&none, "stopped.dhow.internal"), None);
}

/// RFC 8020: what has names below it exists.
#[test]
fn a_project_exists_without_addresses_while_it_has_services() {
    let table = Table::of(&[service("a", "web", "shop", "172.18.0.2")]);
    assert_eq!(addresses(&table, "shop.dhow.internal"), Some(Vec::new()));
    assert_eq!(addresses(&table, "dhow.internal"), Some(Vec::new()));
    assert_eq!(addresses(&table, "shop2.dhow.internal"), None);
}

#[test]
fn names_that_are_no_dns_labels_answer_where_they_can() {
    let long = "x".repeat(64);
    let table = Table::of(&[
        container("my_app", &["172.17.0.2"]),
        container("my-db", &["172.17.0.3"]),
        container("my_db", &["172.17.0.4"]),
        container("Web.Shop", &["172.17.0.5"]),
        container("a..b", &["172.17.0.6"]),
        container("end.", &["172.17.0.7"]),
        container(&long, &["172.17.0.8"]),
        service("c", "bad name", "shop", "172.17.0.9"),
        service("d", "we\0b", "", "172.17.0.10"),
    ]);
    for (name, expected) in [
        ("my_app", Some("172.17.0.2")),
        ("my-app", Some("172.17.0.2")),
        ("my-db", Some("172.17.0.3")),
        ("my_db", Some("172.17.0.4")),
        ("web.shop", Some("172.17.0.5")),
        ("a..b", None),
        ("end.", None),
        ("end", None),
        (long.as_str(), None),
        ("bad\\032name.shop", None),
        ("c", Some("172.17.0.9")),
    ] {
        let found = addresses(&table, &format!("{name}.dhow.internal")).and_then(|a| a.into_iter().next());
        assert_eq!(found.as_deref(), expected, "{name}");
    }
    assert!(pointers(&table, "8.0.17.172.in-addr.arpa").is_empty());
}

#[test]
fn only_what_is_ours_to_know_is_missing() {
    let table = Table::of(&[container("db", &["172.17.0.2"])]);
    for key in ["x.dhow.internal", "db.db.dhow.internal", "9.68.19.198.in-addr.arpa", "\\046.dhow.internal"] {
        assert!(matches!(table.find(key, From::Guest), Found::Missing { .. }), "{key}");
    }
    for key in [
        "",
        "internal",
        "xdhow.internal",
        "db",
        "example.com",
        "dhow.internal.com",
        "db.dhow.internal.example.com",
        "3.0.17.172.in-addr.arpa",
        "02.0.17.172.in-addr.arpa",
        "1.2.0.17.172.in-addr.arpa",
        "in-addr.arpa",
        ".in-addr.arpa",
        "2.0.17.172.in-addr.arpa.dhow",
        "x.ip6.arpa",
    ] {
        assert_eq!(table.find(key, From::Host), Found::Elsewhere, "{key}");
    }
}

/// A step of Docker's: a container appears, moves, is renamed or goes.
fn containers() -> impl Strategy<Value = Vec<Container>> {
    let word = prop_oneof!["[a-c]{1,2}", "[a-c_]{1,3}", "[A-C.]{1,3}", Just("host".to_owned())];
    let address = prop_oneof![
        (1u8..9).prop_map(|n| IpAddr::from([172, 17, 0, n])),
        (1u16..9).prop_map(|n| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n])),
    ];
    let labels = prop::option::of((word.clone(), word.clone()));
    let one = (word, labels, prop::collection::vec(address, 0..3)).prop_map(|(name, labels, addresses)| {
        let (service, project) = labels.unzip();
        Container { name, service, project, addresses, ..Container::default() }
    });
    prop::collection::vec(one, 0..8)
}

/// The rule in its simplest form: a list of pairs, looked through for each question.
fn model(containers: &[Container]) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let valid = |n: &String| n != "host" && n != "gateway" && n.split('.').all(|l| !l.is_empty());
    let mut pairs = Vec::new();
    for c in containers {
        let both = c.service.clone().zip(c.project.clone()).map(|(s, p)| format!("{s}.{p}"));
        for name in [Some(c.name.clone()), both].into_iter().flatten() {
            let name = name.to_lowercase();
            pairs.extend(c.addresses.iter().filter(|_| valid(&name)).map(|a| (name.clone(), *a)));
        }
    }
    let exact: BTreeSet<_> = pairs.iter().map(|(n, _)| n.clone()).collect();
    for (name, address) in pairs.clone() {
        let hyphens = name.replace('_', "-");
        if !exact.contains(&hyphens) {
            pairs.push((hyphens, address));
        }
    }
    let mut model = BTreeMap::<_, BTreeSet<_>>::new();
    for (name, address) in pairs {
        model.entry(name).or_default().insert(address);
    }
    model
}

proptest! {
    /// Spec 5.1 to 5.3 against the list.
    #[test]
    fn the_table_answers_as_a_list_of_pairs_would(containers in containers(), asked in "[a-c_.-]{1,5}") {
        let (table, model) = (Table::of(&containers), model(&containers));
        let all = model.keys().cloned().chain([asked]);
        for name in all {
            let found = table.find(&format!("{name}.dhow.internal"), From::Guest);
            let above = model.keys().any(|k| k.ends_with(&format!(".{name}")));
            match (model.get(&name), found) {
                (Some(expected), Found::Known { addresses, .. }) => {
                    prop_assert_eq!(expected, &addresses.iter().copied().collect());
                    prop_assert_eq!(expected.len(), addresses.len());
                }
                (None, Found::Known { addresses, .. }) => prop_assert!(above && addresses.is_empty()),
                (None, Found::Missing { .. }) => prop_assert!(!above),
                (expected, found) => prop_assert!(false, "{name}: {expected:?} {found:?}"),
            }
        }
    }

    #[test]
    fn any_key_is_found_or_not_and_reverse_names_read_back(key in "[a-f0-9.\\\\_-]{0,80}(\\.ip6\\.arpa|\\.in-addr\\.arpa|\\.dhow\\.internal)?", v6 in any::<u128>()) {
        let table = Table::of(&[container("db", &["172.17.0.2"])]);
        table.find(&key, From::Guest);
        let digits: Vec<_> = format!("{v6:032x}").chars().rev().map(String::from).collect();
        prop_assert_eq!(reversed(&format!("{}.ip6.arpa", digits.join("."))), Some(Ipv6Addr::from(v6).into()));
    }
}
