use std::os::unix::fs::symlink;
use std::path::Path;

use super::ask::Answer;
use super::file::State;
use super::host::{Resolved, Seen};
use super::verbs::{Status, render};
use super::*;
use crate::output::Style;

/// A directory with files like a host's.
struct Root(tempfile::TempDir);

impl Root {
    fn of(files: &[(&str, &str)]) -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir_all(root.path("etc")).unwrap();
        for (path, text) in files {
            root.put(path, text);
        }
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        dhow_home::atomic::write(&path, text.as_bytes(), 0o644).unwrap();
    }

    fn seen(&self) -> Seen {
        host::look(self.0.path(), false, None)
    }

    /// Every file and directory, with what is in it.
    fn all(&self) -> Vec<(PathBuf, String)> {
        let mut found = Vec::new();
        let mut dirs = vec![self.0.path().to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                found.push((path.clone(), std::fs::read_to_string(&path).unwrap_or_default()));
                if path.is_dir() && !path.is_symlink() {
                    dirs.push(path);
                }
            }
        }
        found.sort();
        found
    }
}

const STUB: (&str, &str) = ("etc/resolv.conf", "nameserver 127.0.0.53\noptions edns0 trust-ad\n");
const LINKS: (&str, &str) = ("run/systemd/resolve/resolv.conf", "nameserver 192.0.2.1\n");
const LIBRARY_252: (&str, &str) = ("usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-252.so", "");
const LIBRARY_258: (&str, &str) = ("usr/lib64/systemd/libsystemd-shared-258.1-2.fc43.so", "");

fn planned(root: &Root) -> Result<(String, String)> {
    plan::plan(&root.seen(), 5354).map(|plan| (plan.path.display().to_string(), plan.body))
}

/// Spec 5.1: an entry in the host's resolver, whichever it is.
#[test]
fn each_resolver_is_told_in_its_own_file() {
    let resolved = "[Resolve]\nDNS=127.0.0.1:5354\nDomains=~dhow.internal\n";
    let delegate = "[Delegate]\nDNS=127.0.0.1:5354\nDomains=~dhow.internal\n";
    let dnsmasq = "server=/dhow.internal/127.0.0.1#5354\n";
    let manager = ("etc/NetworkManager/conf.d/dns.conf", "[main]\ndns = dnsmasq\n");
    let nss = ("etc/nsswitch.conf", "passwd: files\nhosts: mymachines resolve [!UNAVAIL=return] files\n");
    for (files, place, body) in [
        (vec![STUB, LINKS, LIBRARY_252], plan::PLACES[1], resolved),
        (vec![STUB, LINKS, LIBRARY_258], plan::PLACES[0], delegate),
        (vec![STUB, LINKS, LIBRARY_258, manager], plan::PLACES[0], delegate),
        (
            vec![("etc/resolv.conf", "nameserver 192.0.2.1"), nss, LINKS, LIBRARY_258],
            plan::PLACES[0],
            delegate,
        ),
        (vec![("etc/resolv.conf", "nameserver 127.0.0.1"), manager], plan::PLACES[2], dnsmasq),
    ] {
        assert_eq!(planned(&Root::of(&files)).unwrap(), (place.to_owned(), body.to_owned()));
    }
    let macos = plan::plan(&host::look(Path::new("/nowhere"), true, None), 5354).unwrap();
    assert_eq!(macos.path, Path::new("etc/resolver/dhow.internal"));
    assert_eq!((macos.body.as_str(), macos.reload.len()), ("nameserver 127.0.0.1\nport 5354\n", 0));
}

#[test]
fn a_link_to_the_stub_counts_however_it_is_spelled() {
    for target in [
        "../run/systemd/resolve/stub-resolv.conf",
        "/run/systemd/resolve/resolv.conf",
        "/usr/lib/systemd/resolv.conf",
    ] {
        let root = Root::of(&[LINKS, LIBRARY_252]);
        symlink(target, root.path("etc/resolv.conf")).unwrap();
        assert!(planned(&root).is_ok(), "{target}");
    }
}

/// What would hurt other names is refused, with what to do.
#[test]
fn hosts_that_one_file_cannot_serve_are_told_what_to_do() {
    let nss = ("etc/nsswitch.conf", "hosts: files resolve dns\n");
    for (files, why) in [
        (vec![("etc/resolv.conf", "nameserver 192.0.2.7\n")], "programs ask 192.0.2.7 directly"),
        (vec![], "/etc/resolv.conf names no server"),
        (vec![STUB, LINKS], "its version cannot be told"),
        (
            vec![STUB, LINKS, ("lib/systemd/libsystemd-shared-245.so", "")],
            "245 cannot ask a server on a port",
        ),
        (
            vec![STUB, LINKS, LIBRARY_252, ("etc/systemd/resolved.conf", "[Resolve]\nDNS=9.9.9.9\n")],
            "beside ours, other names would fail",
        ),
        (
            vec![STUB, LINKS, LIBRARY_252, ("usr/lib/systemd/resolved.conf.d/x.conf", "DNS=9.9.9.9")],
            "x.conf names DNS servers",
        ),
        (
            vec![("etc/resolv.conf", "nameserver 192.0.2.1"), nss, LINKS, LIBRARY_252],
            "reads its servers from /etc/resolv.conf",
        ),
        (
            vec![STUB, LIBRARY_252, ("run/systemd/resolve/resolv.conf", "# none\n")],
            "no DNS server of any link",
        ),
    ] {
        match planned(&Root::of(&files)) {
            Err(error @ Error::Unsupported { .. }) => {
                assert!(error.to_string().contains(why), "{error}");
                assert!(!error.hint().is_empty());
            }
            other => panic!("{why}: {other:?}"),
        }
    }
    let fine = [
        ("etc/systemd/resolved.conf", "[Resolve]\n#DNS=9.9.9.9\nDNS=\n"),
        ("etc/systemd/resolved.conf.d/other.txt", "DNS=9.9.9.9"),
    ];
    assert!(planned(&Root::of(&[STUB, LINKS, LIBRARY_252, fine[0], fine[1]])).is_ok());
    assert!(matches!(plan::plan(&Seen { macos: true, ..Seen::default() }, 0), Err(Error::Off)));
}

#[test]
fn a_drop_in_of_an_earlier_directory_hides_its_namesake() {
    let hidden = ("usr/lib/systemd/resolved.conf.d/x.conf", "DNS=9.9.9.9");
    let root =
        Root::of(&[STUB, LINKS, LIBRARY_252, hidden, ("etc/systemd/resolved.conf.d/x.conf", "# nothing\n")]);
    assert!(planned(&root).is_ok());
}

#[test]
fn systemds_version_is_read_from_what_it_says() {
    for (said, expected) in [
        ("systemd 252 (252.38-1~deb12u1)\n+PAM\n", Some(252)),
        ("systemd 258~rc1 (x)", Some(258)),
        ("", None),
        ("Failed to connect", None),
        ("systemd x", None),
    ] {
        assert_eq!(host::version(said), expected, "{said}");
    }
    let seen = host::look(Root::of(&[STUB, LINKS, LIBRARY_252]).0.path(), false, Some(258));
    assert_eq!(seen.resolved.unwrap().version, Some(258));
}

#[test]
fn installing_is_idempotent_and_uninstalling_leaves_no_trace() {
    for dir_exists in [true, false] {
        let root = Root::of(&[STUB]);
        let path = root.path("etc/resolver/dhow.internal");
        if dir_exists {
            std::fs::create_dir(path.parent().unwrap()).unwrap();
        }
        let before = root.all();
        assert!(file::put(&path, "one\n", "sudo").unwrap());
        let once = root.all();
        assert!(!file::put(&path, "one\n", "sudo").unwrap());
        assert_eq!(root.all(), once);
        assert!(file::put(&path, "two\n", "sudo").unwrap());
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("\ntwo\n"));
        assert!(file::take_away(&path, "sudo").unwrap());
        assert_eq!(root.all(), before);
        assert!(!file::take_away(&path, "sudo").unwrap());
    }
}

#[test]
fn a_directory_that_others_use_by_now_stays() {
    let root = Root::of(&[]);
    let path = root.path("etc/resolver/dhow.internal");
    file::put(&path, "x\n", "sudo").unwrap();
    root.put("etc/resolver/theirs", "y");
    file::take_away(&path, "sudo").unwrap();
    assert_eq!(root.all().len(), 3);
}

/// Issue 3: a resolver file that someone else owns.
#[test]
fn a_file_of_somebody_else_is_never_touched() {
    let ours = |body: &str| {
        let root = Root::of(&[]);
        let path = root.path("etc/x");
        file::put(&path, body, "").unwrap();
        std::fs::read_to_string(path).unwrap()
    };
    let text = ours("nameserver 127.0.0.1\n");
    let edited = text.replace("127.0.0.1", "127.0.0.2");
    let more = format!("{text}search example.com\n");
    let cut = text.strip_suffix("1\n").unwrap().to_owned();
    for theirs in ["", "nameserver 192.0.2.1\n", &edited, &more, &cut, "\u{0}", &text[1..]] {
        let root = Root::of(&[("etc/resolver/dhow.internal", theirs)]);
        let before = root.all();
        let path = root.path("etc/resolver/dhow.internal");
        for error in [file::put(&path, "x\n", "").unwrap_err(), file::take_away(&path, "").unwrap_err()] {
            assert!(
                matches!(error, Error::Foreign { .. }) && error.to_string().contains("it is as it was"),
                "{error}"
            );
        }
        assert_eq!(root.all(), before, "{theirs:?}");
    }
    let root = Root::of(&[("etc/real", &text)]);
    symlink("real", root.path("etc/link")).unwrap();
    assert!(
        matches!(file::state(&root.path("etc/link")).unwrap(), State::Foreign(_)),
        "a link to one of ours"
    );
    assert!(matches!(file::state(&root.path("etc")).unwrap(), State::Foreign(_)), "a directory");
    assert_eq!(file::state(&root.path("etc/real/x/y")).unwrap(), State::Absent);
}

#[test]
fn what_cannot_be_written_changes_nothing() {
    let root = Root::of(&[("etc/file", "")]);
    let before = root.all();
    for path in ["etc/file/dhow.conf", "missing/dir/dhow.conf"] {
        let error = file::put(&root.path(path), "x\n", "sudo dhow").unwrap_err();
        assert!(matches!(error, Error::Io { .. } | Error::NeedsRoot { .. }), "{error}");
        assert_eq!(root.all(), before);
    }
    let denied = Error::NeedsRoot {
        path: "/etc/x".into(),
        done: "written",
        command: "sudo /usr/bin/dhow --home /home/u/.dhow dns install".into(),
        source: io::ErrorKind::PermissionDenied.into(),
    };
    assert_eq!(denied.hint(), "sudo /usr/bin/dhow --home /home/u/.dhow dns install");
    assert_eq!(
        denied.to_string(),
        "/etc/x cannot be written without root's rights\npermission denied; nothing was changed"
    );
}

#[test]
fn our_own_drop_in_does_not_keep_us_from_installing_again() {
    let root = Root::of(&[STUB, LINKS, LIBRARY_252, ("etc/systemd/resolved.conf.d/readme", "")]);
    let path = root.path(plan::PLACES[1]);
    file::put(&path, "[Resolve]\nDNS=127.0.0.1:5353\nDomains=~dhow.internal\n", "").unwrap();
    assert!(planned(&root).is_ok());
    assert_eq!(
        root.seen().resolved.unwrap(),
        Resolved {
            version: Some(252),
            global_servers: Vec::new(),
            owns_resolv_conf: true,
            links_have_servers: true,
        }
    );
}

#[test]
fn the_status_reads_well() {
    let answer = |works, found: &str| Answer { works, found: found.to_owned() };
    let mut status = Status {
        domain: "dhow.internal",
        port: 5354,
        resolver: Some("systemd-resolved 252".to_owned()),
        path: Some("/etc/systemd/resolved.conf.d/dhow.conf".into()),
        file: answer(true, "/etc/systemd/resolved.conf.d/dhow.conf is installed"),
        listener: answer(true, "127.0.0.1:5354 answers"),
        host: answer(true, "host.dhow.internal is 127.0.0.1"),
    };
    insta::assert_snapshot!(render(&status, Style::PLAIN));
    status.resolver = None;
    status.file = answer(
        false,
        "there is neither systemd-resolved nor NetworkManager with dnsmasq; programs ask 192.0.2.1 directly",
    );
    status.listener = answer(false, "127.0.0.1:5354 does not answer over UDP: nobody listens there");
    status.host = answer(
        false,
        "host.dhow.internal is not found: failed to lookup address information: Name or service not known",
    );
    insta::assert_snapshot!("a_status_where_nothing_works", render(&status, Style::PLAIN));
}

/// Field names are promised to programs (docs/cli.md).
#[test]
fn the_status_document_keeps_its_field_names() {
    let answer = Answer { works: true, found: "x".to_owned() };
    let status = Status {
        domain: "dhow.internal",
        port: 1,
        resolver: None,
        path: None,
        file: answer.clone(),
        listener: answer.clone(),
        host: answer,
    };
    insta::assert_snapshot!(serde_json::to_string(&status).unwrap(), @r#"{"domain":"dhow.internal","port":1,"resolver":null,"path":null,"file":{"works":true,"found":"x"},"listener":{"works":true,"found":"x"},"host":{"works":true,"found":"x"}}"#);
}

/// The commands as they are typed, on another directory.
#[tokio::test]
async fn commands_on_another_directory_write_and_remove_one_file() {
    use crate::args::{DnsVerb, Where};
    let root = Root::of(&[STUB, LINKS, LIBRARY_258, ("etc/systemd/resolved.conf", "")]);
    let home = tempfile::tempdir().unwrap();
    let caller = crate::command::Caller {
        home: dhow_home::Home::at(home.path().join("home")).unwrap(),
        output: crate::output::Output {
            json: true,
            quiet: true,
            no_progress: true,
            verbose: false,
            stdout: Style::PLAIN,
            stderr: Style::PLAIN,
        },
        time_limit: Some(std::time::Duration::from_millis(300)),
    };
    let place = || Where { root: Some(root.0.path().to_owned()) };
    let install = |dry_run| DnsVerb::Install { place: place(), dry_run };
    let uninstall = |dry_run| DnsVerb::Uninstall { place: place(), dry_run };
    let path = root.path(plan::PLACES[0]);
    let before = root.all();
    assert_eq!(run(&caller, &install(true)).await.unwrap(), 0);
    assert_eq!(run(&caller, &uninstall(false)).await.unwrap(), 0);
    assert_eq!(root.all(), before, "a dry run and nothing to remove");
    assert_eq!(run(&caller, &DnsVerb::Status { place: place() }).await.unwrap(), 1);
    for _ in 0..2 {
        assert_eq!(run(&caller, &install(false)).await.unwrap(), 0);
        assert!(matches!(file::state(&path).unwrap(), State::Ours(_)));
    }
    let installed = root.all();
    assert_eq!(run(&caller, &uninstall(true)).await.unwrap(), 0);
    assert_eq!(root.all(), installed);
    // systemd went back to an older version: what we wrote is found all the same.
    std::fs::rename(root.path(LIBRARY_258.0), root.path("usr/lib64/systemd/libsystemd-shared-252.so"))
        .unwrap();
    root.put(plan::PLACES[2], "server=/other/127.0.0.1\n");
    assert_eq!(run(&caller, &uninstall(false)).await.unwrap(), 0);
    assert!(!path.parent().unwrap().exists());
    let error = run(&caller, &uninstall(false)).await.unwrap_err();
    assert_eq!(error.code(), "dns-foreign");
    assert!(root.path(plan::PLACES[2]).exists());
}
