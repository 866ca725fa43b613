use super::*;

const FILE: &str = "\
# Ada's engine
[machine]
cpus = 2 # the laptop has four
memory = \"2GiB\"

[log]
level = \"debug\"
";

fn path() -> &'static Path {
    Path::new("/home/ada/.dhow/config.toml")
}

/// Spec 15.3: what a person wrote stays.
#[test]
fn a_value_is_changed_in_place_and_comments_stay() {
    let text = set(FILE, path(), "machine.cpus", "3").unwrap();
    let text = set(&text, path(), "limits.stop", "60").unwrap();
    let text = set(&text, path(), "machine.memory", "4GiB").unwrap();
    insta::assert_snapshot!(text, @r#"
    # Ada's engine
    [machine]
    cpus = 3 # the laptop has four
    memory = "4GiB"

    [log]
    level = "debug"

    [limits]
    stop = 60
    "#);
}

#[test]
fn text_needs_no_quotes_and_a_number_can_be_text() {
    for (key, value, line) in [
        ("machine.accelerator", "tcg", "accelerator = \"tcg\""),
        ("machine.accelerator", "\"tcg\"", "accelerator = \"tcg\""),
        ("docker.context", "42", "context = \"42\""),
        ("docker.context", "true", "context = \"true\""),
        ("machine.cpus", "auto", "cpus = \"auto\""),
    ] {
        let text = set("", path(), key, value).unwrap();
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn what_was_set_can_be_unset_and_the_rest_stays() {
    let text = unset(FILE, path(), "log.level").unwrap();
    assert_eq!(unset(&text, path(), "log.level").unwrap(), text);
    assert!(!text.contains("log") && text.contains("the laptop has four"));
    assert!(parse(&text, path()).is_ok());
}

/// Spec 15.3: a value that is not possible never reaches the file.
#[test]
fn a_value_that_is_not_possible_is_refused_with_its_range() {
    for (key, value, words) in [
        ("machine.cpus", "0", "1 to 256"),
        ("machine.cpus", "many", "1 to 256"),
        ("machine.memory", "12", "is not a size"),
        ("machine.disk", "1GiB", "4GiB to 16TiB"),
        ("machine.accelerator", "warp", "unknown variant"),
        ("limits.start", "-5", "integer"),
    ] {
        let error = set("", path(), key, value).unwrap_err();
        assert!(matches!(error, Error::BadValue { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{key} {value}: {error}");
        assert!(error.hint().starts_with(key), "{}", error.hint());
    }
}

/// Spec 15.3: unknown keys are errors, and the nearest one is suggested.
#[test]
fn an_unknown_key_is_refused_with_the_nearest_one() {
    for (typed, meant) in [
        ("machine.cpu", Some("machine.cpus")),
        ("memory", Some("machine.memory")),
        ("machine.accelerater", Some("machine.accelerator")),
        ("log.levle", Some("log.level")),
        ("zebra", None),
    ] {
        assert_eq!(nearest(typed), meant, "{typed}");
        assert!(matches!(set("", path(), typed, "1"), Err(Error::UnknownKey { .. })));
        assert!(matches!(unset("", path(), typed), Err(Error::UnknownKey { .. })));
    }
    for (text, key) in [("[machine]\ncpu = 2\n", "machine.cpu"), ("typo = 1\n", "typo")] {
        assert_eq!(unset(text, path(), key).unwrap(), "", "an unknown key in the file can be removed");
    }
    let error = parse("[machine]\ncpu = 2\n", path()).unwrap_err();
    assert!(error.hint().contains("`machine.cpus`"), "{}", error.hint());
}

#[test]
fn a_file_that_was_wrong_before_is_blamed_and_not_the_value() {
    for text in ["[machine\n", "[machine]\nmemory = \"1MiB\"\n"] {
        assert!(matches!(set(text, path(), "machine.cpus", "2"), Err(Error::Invalid { .. })), "{text}");
    }
}

/// Spec 15.3.
#[test]
fn the_effective_values_say_where_they_come_from() {
    let settings = settings(FILE, path()).unwrap();
    assert_eq!(settings.len(), Config::KEYS.len());
    let of = |key: &str| settings.iter().find(|s| s.key == key).unwrap();
    assert_eq!((of("machine.cpus").value.as_str(), of("machine.cpus").source), ("2", Source::File));
    assert_eq!((of("limits.stop").value.as_str(), of("limits.stop").source), ("45", Source::Default));
    assert_eq!(of("machine.memory").default, "\"4GiB\"");
}
