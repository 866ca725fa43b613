use super::*;

fn put(path: &Path, text: &str) {
    std::fs::File::create(path).and_then(|mut f| std::io::Write::write_all(&mut f, text.as_bytes())).unwrap();
}

fn servers(upstreams: &Upstreams, now: Instant) -> Vec<String> {
    upstreams.current(now).settings.servers.iter().map(ToString::to_string).collect()
}

/// Spec 5.4: followed as they change, however the file is changed.
#[test]
fn a_file_is_followed_through_writing_renaming_links_and_absence() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    let upstreams = Upstreams::file(&path);
    let mut now = Instant::now();
    let mut check = |expected: &[&str]| {
        now += FRESH;
        assert_eq!(servers(&upstreams, now), expected);
        upstreams.current(now).generation
    };
    assert_eq!(check(&[]), 0);
    put(&path, "nameserver 192.0.2.1\n");
    assert_eq!(check(&["192.0.2.1:53"]), 1);
    put(&path, "# another comment\nnameserver 192.0.2.1\n");
    assert_eq!(check(&["192.0.2.1:53"]), 1);
    // As resolvconf and NetworkManager do.
    let new = dir.path().join("new");
    put(&new, "nameserver 192.0.2.2\n");
    std::fs::rename(&new, &path).unwrap();
    assert_eq!(check(&["192.0.2.2:53"]), 2);
    // As systemd-resolved does; what the link leads to changes too.
    let stub = dir.path().join("stub");
    put(&stub, "nameserver 127.0.0.53\n");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("stub", &path).unwrap();
    assert_eq!(check(&["127.0.0.53:53"]), 3);
    put(&stub, "nameserver 192.0.2.3\n");
    assert_eq!(check(&["192.0.2.3:53"]), 4);
    std::fs::remove_file(&stub).unwrap();
    assert_eq!(check(&[]), 5);
    std::fs::create_dir(&stub).unwrap();
    assert_eq!(check(&[]), 5);
}

#[test]
fn the_file_is_read_once_a_second_and_sooner_while_it_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    put(&path, "");
    let upstreams = Upstreams::file(&path);
    let now = Instant::now();
    assert!(servers(&upstreams, now).is_empty());
    put(&path, "nameserver 192.0.2.1\n");
    assert_eq!(servers(&upstreams, now + FRESH_WHEN_EMPTY), ["192.0.2.1:53"]);
    put(&path, "nameserver 192.0.2.2\n");
    assert_eq!(servers(&upstreams, now + FRESH_WHEN_EMPTY + FRESH / 2), ["192.0.2.1:53"]);
    assert_eq!(servers(&upstreams, now + FRESH_WHEN_EMPTY + FRESH), ["192.0.2.2:53"]);
}

#[test]
fn a_resolver_that_is_ourselves_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("resolv.conf");
    put(
        &path,
        "nameserver 127.0.0.1\nnameserver 0.0.0.0\nnameserver 127.0.0.53\nnameserver ::ffff:127.0.0.1\n",
    );
    let upstreams = Upstreams::file(&path);
    let now = Instant::now();
    upstreams.avoid("127.0.0.1:5354".parse().unwrap());
    assert_eq!(servers(&upstreams, now).len(), 4);
    upstreams.avoid("127.0.0.1:53".parse().unwrap());
    assert_eq!(servers(&upstreams, now), ["127.0.0.53:53"]);
}

#[test]
fn who_did_not_answer_lately_is_asked_last() {
    let [a, b] = ["192.0.2.1:53", "192.0.2.2:53"].map(|s| s.parse().unwrap());
    let upstreams = Upstreams::fixed(vec![a, b]);
    let now = Instant::now();
    let settings = upstreams.current(now).settings;
    assert_eq!(upstreams.order(&settings, now), [a, b]);
    upstreams.was_silent(a, now);
    assert_eq!(upstreams.order(&settings, now), [b, a]);
    assert_eq!(upstreams.order(&settings, now + PENALTY), [a, b]);
    upstreams.was_silent(a, now);
    upstreams.answered(a);
    assert_eq!(upstreams.order(&settings, now), [a, b]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_link_has_a_number() {
    assert_eq!(scope("lo"), Some(1));
    for link in ["no-such-link", "../lo", ".."] {
        assert_eq!(scope(link), None, "{link}");
    }
}
