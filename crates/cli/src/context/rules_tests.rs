use super::*;

fn wanted() -> Wanted {
    Wanted {
        name: "dhow".to_owned(),
        host: "unix:///home/ada/.dhow/run/docker.sock".to_owned(),
        home: "/home/ada/.dhow".to_owned(),
    }
}

fn file() -> &'static Path {
    Path::new("/home/ada/.docker/config.json")
}

/// Spec 15.2: engines of several directories do not share a context.
#[test]
fn the_default_directory_has_the_plain_name_and_others_a_tag() {
    assert_eq!(name("", true, "0123abcd").unwrap(), "dhow");
    assert_eq!(name("", false, "0123abcd").unwrap(), "dhow-0123abcd");
    assert_eq!(name("my.engine", false, "0123abcd").unwrap(), "my.engine");
    for bad in ["default", "-x", "a b", "a/b", "x", "ä1"] {
        assert!(matches!(name(bad, true, ""), Err(Error::BadName(_))), "{bad}");
    }
}

/// The digest that `docker context create foo` uses.
#[test]
fn metadata_is_where_docker_looks_for_it() {
    let path = meta_file(Path::new("/d"), "foo");
    let digest = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    assert_eq!(path, PathBuf::from(format!("/d/contexts/meta/{digest}/meta.json")));
}

/// Spec 15.2: foreign files are never overwritten.
#[test]
fn only_a_context_with_our_mark_and_our_endpoint_is_ours() {
    let wanted = wanted();
    assert_eq!(judge(None, &wanted).unwrap(), Found::Nothing);
    assert_eq!(judge(Some(&meta(&wanted)), &wanted).unwrap(), Found::Ours);
    let other_home = Wanted { home: "/srv/dhow".to_owned(), ..wanted.clone() };
    let other_host = Wanted { host: "unix:///elsewhere".to_owned(), ..wanted.clone() };
    let unmarked = r#"{"Name":"dhow","Metadata":{},"Endpoints":{"docker":{"Host":"unix:///home/ada/.dhow/run/docker.sock"}}}"#;
    let table = [
        (meta(&other_home), "/srv/dhow"),
        (meta(&other_host), "unix:///elsewhere"),
        (unmarked.to_owned(), "not made by Dhow"),
        ("{}".to_owned(), "not made by Dhow"),
        ("{".to_owned(), "no JSON"),
    ];
    for (content, words) in table {
        let error = judge(Some(&content), &wanted).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// Spec 15.2: every other key is kept, in its place.
#[test]
fn only_the_current_context_changes_in_dockers_configuration() {
    let before = "{\n\t\"zeta\": {\"b\": 1, \"a\": [1.50, null]},\n\t\"currentContext\": \"colima\",\n\t\"auths\": {}\n}";
    let after = with_current(Some(before), file(), "dhow").unwrap();
    insta::assert_snapshot!(after.replace('\t', "  "), @r#"
    {
      "zeta": {
        "b": 1,
        "a": [
          1.5,
          null
        ]
      },
      "currentContext": "dhow",
      "auths": {}
    }
    "#);
    assert_eq!(current(Some(&after), file()).unwrap(), "dhow");
    let back = with_current(Some(&after), file(), DEFAULT).unwrap();
    assert_eq!(current(Some(&back), file()).unwrap(), DEFAULT);
    assert!(!back.contains("currentContext") && back.contains("auths"));
}

#[test]
fn a_configuration_that_is_missing_or_empty_names_the_default() {
    for config in [None, Some(""), Some("{}"), Some("{\"currentContext\":\"\"}")] {
        assert_eq!(current(config, file()).unwrap(), DEFAULT, "{config:?}");
        assert!(with_current(config, file(), "dhow").unwrap().contains("\"currentContext\": \"dhow\""));
    }
}

/// Spec 15.2: what cannot be read is not rewritten.
#[test]
fn a_malformed_configuration_is_an_error_that_names_the_file() {
    for config in ["{", "[]", "\"x\"", "{\"currentContext\": 7}"] {
        let error = current(Some(config), file()).unwrap_err().to_string();
        assert!(error.contains("/home/ada/.docker/config.json"), "{error}");
    }
    assert!(with_current(Some("{"), file(), "dhow").is_err());
}

/// Spec 15.2.
#[test]
fn the_previous_context_is_the_one_before_the_first_of_several_starts() {
    let table = [
        ("default", None, "default"),
        ("colima", None, "colima"),
        ("dhow", Some("colima"), "colima"),
        // A crash came between the record and the activation, and the user chose another one since.
        ("desktop", Some("colima"), "desktop"),
        // The record is lost.
        ("dhow", None, "default"),
    ];
    for (now, remembered, expected) in table {
        assert_eq!(previous(now, "dhow", remembered), expected, "{now} {remembered:?}");
    }
}

/// Spec 15.2.
#[test]
fn the_previous_context_comes_back_only_if_ours_is_still_current() {
    let entry = |previous: Option<&str>| Entry {
        docker_config: PathBuf::from("/d"),
        context: "dhow".to_owned(),
        previous: previous.map(str::to_owned),
    };
    let exists = |name: &str| ["default", "colima"].contains(&name);
    let table = [
        ("dhow", Some("colima"), Some("colima")),
        ("dhow", Some("default"), Some("default")),
        ("dhow", Some("gone"), Some("default")),
        ("dhow", Some("dhow"), Some("default")),
        ("dhow", None, Some("default")),
        ("desktop", Some("colima"), None),
        ("default", Some("colima"), None),
    ];
    for (now, previous, expected) in table {
        assert_eq!(restored(now, &entry(previous), exists).as_deref(), expected, "{now} {previous:?}");
    }
}

#[test]
fn an_environment_that_overrides_the_context_is_told_of() {
    let wanted = wanted();
    let ours = wanted.host.clone();
    let table = [
        (None, None, None),
        (Some(""), Some(""), None),
        (Some(ours.as_str()), Some("other"), None),
        (Some("tcp://build:2375"), None, Some("DOCKER_HOST is set to tcp://build:2375")),
        (None, Some("other"), Some("DOCKER_CONTEXT is set to other")),
        (None, Some("dhow"), None),
    ];
    for (host, context, expected) in table {
        let warning = overridden(host, context, &wanted);
        assert_eq!(warning.is_some(), expected.is_some(), "{host:?} {context:?}");
        assert!(warning.unwrap_or_default().starts_with(expected.unwrap_or_default()));
    }
}
