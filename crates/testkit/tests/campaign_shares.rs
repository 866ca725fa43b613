//! Promise: directories of the host are in the machine at the same paths, at full fidelity, and nothing else is [14.1, 14.2, 14.3, 13.2].
//! One engine with three shares; its tests work in directories of their own.

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{PATIENCE, busybox};
use dhow_testkit::engine::{alive, signal};
use dhow_testkit::{Engine, Error, Image, Result, wait};

/// An engine that shares a home, and within it a directory that is only to be read.
struct Shared {
    engine: Engine,
    home: PathBuf,
}

impl Shared {
    fn start() -> Result<Shared> {
        let engine = Engine::prepare()?;
        let home = engine.home().with_file_name("user");
        let kept = home.join("kept");
        fs::create_dir_all(&kept).map_err(Error::io("create directory", &kept))?;
        write(&kept.join("file"), "kept")?;
        let shares = format!(
            "[{{ path = \"~\", access = \"read-write\" }}, {{ path = \"{}\", access = \"read-only\" }}]",
            kept.display()
        );
        engine.dhow(["config", "set", "files.shares", &shares])?.ok()?;
        engine.up()?;
        Image::Busybox.ensure(engine.docker())?;
        Ok(Shared { engine, home })
    }

    /// Runs a script with the home mounted at its own path and as the working directory; what it prints.
    fn run(&self, options: &[&str], script: &str) -> Result<String> {
        let home = self.home.display();
        let (mount, place) = (format!("{home}:{home}"), home.to_string());
        let mut args = vec!["run", "--rm", "-v", &mount, "-w", &place];
        args.extend(options);
        args.extend([busybox(), "sh", "-ec", script]);
        let run = self.engine.docker().run(args).limit(PATIENCE).ok()?;
        Ok(run.text())
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    dhow_testkit::place::write(path, text)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::io("read", path))
}

/// Rules 14.1, 14.2, 14.3 and issue 5, point 5: one boot, since each costs seconds.
#[test]
#[ignore = "boots an engine: ./dev test campaign"]
fn a_home_is_in_the_machine_and_nothing_but_it() -> Result<()> {
    let shared = Shared::start()?;
    files_go_both_ways(&shared)?;
    owners_are_the_containers_and_the_users(&shared)?;
    a_read_only_share_stays_as_it_is(&shared)?;
    what_is_not_shared_is_refused_with_the_command_that_shares_it(&shared.engine)?;
    changes_of_the_host_are_seen_within_a_second(&shared)?;
    every_kind_of_file_is_what_it_was(&shared)?;
    programs_are_told_of_what_the_host_changes(&shared)?;
    locks_hold_between_containers(&shared)?;
    thousands_of_files_are_listed(&shared)
}

fn files_go_both_ways(shared: &Shared) -> Result<()> {
    write(&shared.home.join("from-host"), "host")?;
    let said = shared.run(&[], "cat from-host; echo guest > from-guest; mkdir -p a/b; echo deep > a/b/c")?;
    assert_eq!(said, "host");
    assert_eq!(read(&shared.home.join("from-guest"))?, "guest\n");
    assert_eq!(read(&shared.home.join("a/b/c"))?, "deep\n");
    Ok(())
}

fn owners_are_the_containers_and_the_users(shared: &Shared) -> Result<()> {
    let script = "umask 022; mkdir -m 777 own; echo x > own/root; chown 33:44 own/root; chmod 4750 own/root; stat -c %u:%g:%a own/root";
    assert_eq!(shared.run(&[], script)?, "33:44:4750");
    let script = "echo x > own/user; stat -c %u:%g own/user";
    assert_eq!(shared.run(&["--user", "1234:5678"], script)?, "1234:5678");
    assert_eq!(shared.run(&[], "stat -c %u:%g:%a own/root own/user")?, "33:44:4750\n1234:5678:644");
    for (name, mode) in [("root", 0o750), ("user", 0o644)] {
        let path = shared.home.join("own").join(name);
        let found = fs::metadata(&path).map_err(Error::io("look at", &path))?;
        let mine = fs::metadata(&shared.home).map_err(Error::io("look at", &shared.home))?;
        assert_eq!((found.uid(), found.mode() & 0o7777), (mine.uid(), mode), "{name}");
    }
    Ok(())
}

fn a_read_only_share_stays_as_it_is(shared: &Shared) -> Result<()> {
    let script = "cat kept/file; for change in 'echo x > kept/file' 'echo x > kept/new' 'rm kept/file' 'mv kept away' \
                  'rmdir kept' 'chmod 777 kept/file' 'ln kept/file linked' 'mv kept/file away'; do \
                  if sh -c \"$change\" 2>/dev/null; then echo \"$change worked\"; fi; done; cat kept/file";
    assert_eq!(shared.run(&["--privileged"], script)?, "keptkept");
    // Not even by mounting it anew: it is the host that refuses.
    let script = "mount -o remount,rw,bind kept 2>/dev/null; mkdir -p /again; mount -t virtiofs dhow-shares /again; \
                  for n in 0 1; do echo x > /again/$n/kept/file || echo x > /again/$n/file || true; done 2>/dev/null; \
                  cat kept/file";
    shared.run(&["--privileged"], script)?;
    assert_eq!(read(&shared.home.join("kept/file"))?, "kept");
    Ok(())
}

fn what_is_not_shared_is_refused_with_the_command_that_shares_it(engine: &Engine) -> Result<()> {
    for mount in ["/srv/nothing:/x", "/opt:/x:ro"] {
        let refused = engine.docker().outcome(["run", "--rm", "-v", mount, busybox(), "true"])?;
        assert!(!refused.status.success(), "{mount}");
        let words = refused.complaint();
        assert!(words.contains("is not shared") && words.contains("dhow config set files.shares"), "{words}");
    }
    let socket = "/var/run/docker.sock:/var/run/docker.sock";
    engine.docker().ok([
        "run",
        "--rm",
        "-v",
        socket,
        "-v",
        "named:/v",
        busybox(),
        "test",
        "-S",
        "/var/run/docker.sock",
    ])?;
    Ok(())
}

/// Issue 5: "without a stale window longer than a second". The container says what it sees in files of its own, which are on the
/// host at once.
fn changes_of_the_host_are_seen_within_a_second(shared: &Shared) -> Result<()> {
    let docker = shared.engine.docker();
    let home = shared.home.display().to_string();
    let mount = format!("{home}:{home}");
    let at = |name: &str| shared.home.join(name);
    write(&at("file"), "one")?;
    fs::create_dir(at("dir")).map_err(Error::io("create directory", at("dir")))?;
    let steps = [
        ("content", "[ \"$(cat file)\" = two ]"),
        ("creation", "[ -e missing ]"),
        ("renaming", "[ -d moved ] && ! [ -d dir ]"),
        ("removal", "! [ -e file ]"),
    ];
    let mut watch = ": > seen-start; ".to_owned();
    for (name, test) in steps {
        watch.push_str(&format!("until {test}; do sleep 0.05; done 2>/dev/null; : > seen-{name}; "));
    }
    docker.ok([
        "run",
        "-d",
        "--rm",
        "--name",
        "watcher",
        "-v",
        &mount,
        "-w",
        &home,
        busybox(),
        "sh",
        "-c",
        &watch,
    ])?;
    let appears = |name: &str| {
        let path = at(&format!("seen-{name}"));
        wait::until(&format!("the container to see the {name}"), PATIENCE, || path.exists().then_some(()))
    };
    appears("start")?;
    for (name, _) in steps {
        // What it believes is as fresh as it can be.
        wait::nap(Duration::from_millis(300));
        let began = Instant::now();
        match name {
            "content" => write(&at("file"), "two")?,
            "creation" => write(&at("missing"), "there")?,
            "renaming" => fs::rename(at("dir"), at("moved")).map_err(Error::io("rename", at("dir")))?,
            _ => fs::remove_file(at("file")).map_err(Error::io("remove", at("file")))?,
        }
        appears(name)?;
        // A second, and what an emulated guest on a busy host takes to look.
        assert!(began.elapsed() < Duration::from_secs(4), "{name}: {:?}", began.elapsed());
    }
    Ok(())
}

/// Says what `inotify` tells of a directory and of those that are made in it.
const WATCHER: &str = r#"
    my ($init, $add) = `uname -m` =~ /aarch64/ ? (26, 27) : (294, 254);
    my $fd = syscall($init, 0);
    open(my $in, "<&=", $fd) or die;
    $| = 1;
    my %at;
    sub watch { my $wd = syscall($add, $fd, $_[0], 0xfff); $at{$wd} = $_[0]; print "watches $_[0]\n"; }
    watch($ARGV[0]);
    my %names = (2, "MODIFY", 4, "ATTRIB", 8, "CLOSE_WRITE", 0x40, "MOVED_FROM", 0x80, "MOVED_TO", 0x100, "CREATE", 0x200, "DELETE");
    while (sysread($in, my $buffer, 65536)) {
        while (length $buffer) {
            my ($wd, $mask, $cookie, $length) = unpack("iIII", $buffer);
            my $name = unpack("Z*", substr($buffer, 16, $length));
            $buffer = substr($buffer, 16 + $length);
            for my $bit (sort { $a <=> $b } keys %names) { print "$names{$bit} $name\n" if $mask & $bit; }
            watch("$at{$wd}/$name") if $mask & 0x100 and $mask & 0x40000000;
        }
    }
"#;

/// Starts a container, `told`, that says what it is told of a directory below `/src`, which is the home.
fn watch(shared: &Shared, dir: &str) -> Result<()> {
    let docker = shared.engine.docker();
    let image = Image::Postgres.ensure(docker)?;
    let mount = format!("{}:/src", shared.home.display());
    docker.ok(["run", "-d", "--name", "told", "-v", &mount, image, "perl", "-e", WATCHER, dir])?;
    is_told(shared, &format!("watches {dir}"))
}

fn is_told(shared: &Shared, line: &str) -> Result<()> {
    wait::until(&format!("the container to be told {line:?}"), PATIENCE, || {
        let logs = shared.engine.docker().ok(["logs", "told"]);
        logs.is_ok_and(|logs| logs.lines().any(|said| said == line)).then_some(())
    })
}

/// Issue 5, point 5: "inotify in containers for changes made on the host (create, modify, rename, delete, nested)"; what a container
/// does itself it is told once.
fn programs_are_told_of_what_the_host_changes(shared: &Shared) -> Result<()> {
    let docker = shared.engine.docker();
    let dir = shared.home.join("watched");
    let at = |name: &str| dir.join(name);
    fs::create_dir(&dir).map_err(Error::io("create directory", &dir))?;
    for name in ["old", "touched"] {
        write(&at(name), "before")?;
    }
    write(&shared.home.join("outside"), "")?;
    watch(shared, "/src/watched")?;
    let logs = || docker.ok(["logs", "told"]);
    let says = |line: &str| is_told(shared, line);
    let rename = |from: &Path, to: &Path| fs::rename(from, to).map_err(Error::io("rename", from));
    write(&at("new"), "text")?;
    for line in ["CREATE new", "MODIFY new", "CLOSE_WRITE new"] {
        says(line)?;
    }
    write(&at("old"), "after")?;
    says("MODIFY old")?;
    rename(&at("old"), &at("renamed"))?;
    says("MOVED_FROM old")?;
    says("MOVED_TO renamed")?;
    rename(&shared.home.join("outside"), &at("inside"))?;
    says("MOVED_TO inside")?;
    fs::remove_file(at("new")).map_err(Error::io("remove", at("new")))?;
    says("DELETE new")?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    fs::set_permissions(at("touched"), mode).map_err(Error::io("chmod", at("touched")))?;
    says("ATTRIB touched")?;
    fs::create_dir(at("nested")).map_err(Error::io("create directory", at("nested")))?;
    says("watches /src/watched/nested")?;
    write(&at("nested/deep"), "deep")?;
    says("CREATE deep")?;
    says("CLOSE_WRITE deep")?;
    assert_eq!(
        docker.ok(["exec", "told", "cat", "/src/watched/nested/deep", "/src/watched/renamed"])?,
        "deepafter"
    );
    fs::remove_dir_all(at("nested")).map_err(Error::io("remove", at("nested")))?;
    says("DELETE deep")?;
    says("DELETE nested")?;
    docker.ok(["exec", "told", "sh", "-c", "echo x > /src/watched/own"])?;
    says("CLOSE_WRITE own")?;
    write(&at("last"), "")?;
    says("CLOSE_WRITE last")?;
    let said = logs()?;
    let count = |line: &str| said.lines().filter(|said| *said == line).count();
    assert_eq!([count("CREATE own"), count("CLOSE_WRITE own"), count("DELETE new")], [1; 3], "{said}");
    assert_eq!(read(&at("renamed"))?, "after");
    docker.ok(["rm", "-f", "told"])?;
    Ok(())
}

/// Issue 5, point 5: "locks".
fn locks_hold_between_containers(shared: &Shared) -> Result<()> {
    let docker = shared.engine.docker();
    let image = Image::Postgres.ensure(docker)?;
    let mount = format!("{}:/src", shared.home.display());
    let script =
        "flock /src/lock sh -c 'echo held > /src/lock-held; while ! [ -e /src/lock-go ]; do sleep 0.1; done'";
    docker.ok(["run", "-d", "--name", "holder", "-v", &mount, image, "sh", "-c", script])?;
    let held = shared.home.join("lock-held");
    wait::until("the lock to be held", PATIENCE, || held.exists().then_some(()))?;
    let take = ["run", "--rm", "-v", &mount, image, "flock", "-n", "/src/lock", "echo", "taken"];
    assert!(!docker.outcome(take)?.status.success(), "it is held");
    write(&shared.home.join("lock-go"), "")?;
    docker.ok(["wait", "holder"])?;
    assert_eq!(docker.ok(take)?, "taken");
    docker.ok(["rm", "holder"])?;
    Ok(())
}

fn every_kind_of_file_is_what_it_was(shared: &Shared) -> Result<()> {
    let long = "n".repeat(255);
    let script = format!(
        "mkdir kinds; cd kinds; echo one > file; ln file hard; ln -s file soft; mkfifo fifo; mknod null c 1 3; touch {long}; \
         dd if=/dev/zero of=sparse bs=1 count=1 seek=1G 2>/dev/null; \
         stat -c %F:%h file soft fifo null; cat soft; [ $(du -k sparse | cut -f1) -lt 64 ] && echo sparse; \
         exec 3<>file; rm file; echo two >&3; cat hard; \
         (echo ping > fifo &); cat fifo; mv hard other; echo x > target; mv other target; cat target; ls {long} | wc -c"
    );
    let expected =
        "regular file:2\nsymbolic link:1\nfifo:1\ncharacter special file:1\none\nsparse\ntwo\nping\ntwo\n256";
    assert_eq!(shared.run(&[], &script)?, expected);
    let null = shared.home.join("kinds/null");
    assert!(fs::symlink_metadata(&null).map_err(Error::io("look at", &null))?.is_file());
    Ok(())
}

/// Issue 5: "millions of files": more than the file server has descriptors.
fn thousands_of_files_are_listed(shared: &Shared) -> Result<()> {
    let many = shared.home.join("many");
    for dir in 0..100 {
        let dir = many.join(dir.to_string());
        fs::create_dir_all(&dir).map_err(Error::io("create directory", &dir))?;
        for file in 0..1000 {
            write(&dir.join(file.to_string()), "")?;
        }
    }
    assert_eq!(shared.run(&[], "find many -type f | wc -l; ls many/7 | wc -l")?, "100000\n1000");
    Ok(())
}

/// Rule 13.2: after a wake, shares see the host's changes, and what was open is open. A file that was removed while it was open
/// lives on.
#[test]
#[ignore = "boots an engine: ./dev test campaign"]
fn what_was_open_before_a_sleep_is_open_after_it() -> Result<()> {
    let shared = Shared::start()?;
    let docker = shared.engine.docker();
    let home = shared.home.display();
    let mount = format!("{home}:{home}");
    write(&shared.home.join("gone"), "still here")?;
    let script = format!(
        "cd {home}; exec 3<gone 4>log; rm gone; i=0; while true; do i=$((i+1)); echo $i >&4; sleep 0.1; done"
    );
    docker.ok(["run", "-d", "--name", "writer", "-v", &mount, busybox(), "sh", "-c", &script])?;
    let lines = || read(&shared.home.join("log")).map_or(0, |log| log.lines().count());
    wait::until("the log to grow", PATIENCE, || (lines() > 3).then_some(()))?;
    shared.engine.dhow(["suspend"])?.limit(PATIENCE).ok()?;
    let asleep = lines();
    write(&shared.home.join("new"), "while it slept")?;
    wait::nap(Duration::from_secs(2));
    assert_eq!(lines(), asleep, "it sleeps");
    shared.engine.dhow(["resume"])?.limit(PATIENCE).ok()?;
    wait::until("the log to grow again", PATIENCE, || (lines() > asleep + 3).then_some(()))?;
    let said = docker.ok(["exec", "writer", "sh", "-c", &format!("cat /proc/1/fd/3 {home}/new")])?;
    assert_eq!(said, "still herewhile it slept");
    let log = read(&shared.home.join("log"))?;
    assert!(
        log.lines().enumerate().all(|(n, line)| line == (n + 1).to_string()),
        "every line once, in order"
    );
    Ok(())
}

/// Rule 13.2: nobody of the processes that knew what was open need be there after a sleep: the saved state says it. Programs are told of
/// the host's changes then as before.
#[test]
#[ignore = "boots an engine: ./dev test campaign"]
fn what_was_open_is_open_after_a_sleep_without_any_process_of_before() -> Result<()> {
    let shared = Shared::start()?;
    let docker = shared.engine.docker();
    let home = shared.home.display();
    let mount = format!("{home}:{home}");
    write(&shared.home.join("read"), "still here")?;
    let script =
        format!("cd {home}; exec 3<read 4>log; i=0; while true; do i=$((i+1)); echo $i >&4; sleep 0.1; done");
    docker.ok(["run", "-d", "--name", "writer", "-v", &mount, busybox(), "sh", "-c", &script])?;
    let lines = || read(&shared.home.join("log")).map_or(0, |log| log.lines().count());
    let grows = |than: usize| wait::until("the log to grow", PATIENCE, || (lines() > than + 3).then_some(()));
    grows(0)?;
    watch(&shared, "/src")?;
    let tells_of = |name: &str| {
        write(&shared.home.join(name), "")?;
        is_told(&shared, &format!("CREATE {name}"))
    };
    tells_of("before-any-sleep")?;
    shared.engine.dhow(["down", "--suspend"])?.limit(PATIENCE).ok()?;
    let asleep = lines();
    shared.engine.up()?;
    grows(asleep)?;
    tells_of("after-down")?;
    assert_eq!(docker.ok(["exec", "writer", "cat", "/proc/1/fd/3"])?, "still here", "after down --suspend");
    for victim in ["file server", "supervisor"] {
        shared.engine.dhow(["suspend"])?.limit(PATIENCE).ok()?;
        let status = shared.engine.status()?;
        let supervisor = status.supervisor().ok_or_else(|| missing("the supervisor"))?;
        let server = child(supervisor)?.ok_or_else(|| missing("the file server"))?;
        signal(if victim == "supervisor" { supervisor } else { server }, "KILL")?;
        wait::until("the file server to be gone", PATIENCE, || (!alive(server)).then_some(()))?;
        let asleep = lines();
        shared.engine.up()?;
        grows(asleep)?;
        assert_eq!(docker.ok(["exec", "writer", "cat", "/proc/1/fd/3"])?, "still here", "{victim}");
        tells_of(&format!("after-the-{}", victim.replace(' ', "-")))?;
    }
    let log = read(&shared.home.join("log"))?;
    assert!(
        log.lines().enumerate().all(|(n, line)| line == (n + 1).to_string()),
        "every line once, in order"
    );
    Ok(())
}

/// Rule 16.3: nothing is left behind by a supervisor that is killed.
#[test]
#[ignore = "boots an engine: ./dev test campaign"]
fn the_file_server_goes_with_its_supervisor() -> Result<()> {
    let shared = Shared::start()?;
    let status = shared.engine.status()?;
    let supervisor = status.supervisor().ok_or_else(|| missing("the supervisor"))?;
    let server = child(supervisor)?.ok_or_else(|| missing("the file server"))?;
    // The image was imported a moment ago, and dockerd leaves its files to the kernel.
    shared.run(&[], "sync")?;
    signal(supervisor, "KILL")?;
    wait::until("the file server to be gone", PATIENCE, || (!alive(server)).then_some(()))?;
    shared.engine.wait_status("the machine to run again", PATIENCE, |status| {
        status.runs() && status.supervisor().is_some_and(|pid| pid != supervisor)
    })?;
    wait::until("docker to answer again", PATIENCE, || shared.engine.docker().answers().then_some(()))?;
    assert_eq!(shared.run(&[], "cat kept/file")?, "kept");
    Ok(())
}

fn missing(what: &str) -> Error {
    Error::Missing { what: what.to_owned(), hint: "dhow status".to_owned() }
}

/// The file server among a supervisor's children.
fn child(supervisor: u32) -> Result<Option<u32>> {
    let all = fs::read_dir("/proc").map_err(Error::io("list", "/proc"))?;
    let found =
        all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find(|pid| {
            let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let parent =
                read("stat").rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
            parent == Some(supervisor) && read("cmdline").contains("serve-shares")
        });
    Ok(found)
}
