//! The program itself, in network namespaces of its own. They need root and /dev/net/tun. Without them they say so and do
//! nothing, unless DHOW_TEST_REQUIRE=1.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use dhow_route_helper::client::{Client, Routed};
use dhow_route_helper::install::Place;
use dhow_route_helper::protocol::{LIMIT, Request, encode};
use dhow_route_helper::rules::Refusal;
use dhow_route_helper::{Error, Network, host};

const HELPER: &str = env!("CARGO_BIN_EXE_dhow-route-helper");
/// Says what a test process is in its second life.
const ROLE: &str = "DHOW_TEST_ROLE";
const PROGRAM: &str = "DHOW_TEST_PROGRAM";
const NOBODY: u32 = 65_534;
const SOMEBODY: u32 = 65_533;

/// Runs the calling test again in a network namespace of its own; false for the caller, which is then done.
fn alone(test: &str) -> bool {
    if role().is_some() {
        return true;
    }
    if !available() {
        return false;
    }
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount"]).arg(exe).args(["--exact", test, "--nocapture"]);
    let status = command.env(ROLE, "alone").status().unwrap();
    assert!(status.success(), "{test} in its namespace: {status}");
    false
}

/// Whether this process may make namespaces and devices.
fn available() -> bool {
    let is = rustix::process::geteuid().is_root() && Path::new("/dev/net/tun").exists();
    let required = std::env::var_os("DHOW_TEST_REQUIRE").is_some_and(|value| value == "1");
    assert!(
        is || !required,
        "this test needs root and /dev/net/tun, and DHOW_TEST_REQUIRE=1 forbids to skip it"
    );
    if !is {
        eprintln!("skipped: this test needs root and /dev/net/tun");
    }
    is
}

fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

fn ip(words: &str) -> String {
    let said = Command::new("ip").args(words.split_whitespace()).output().unwrap();
    assert!(said.status.success(), "ip {words}: {}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8(said.stdout).unwrap()
}

/// Everything of the host's network that the program could touch.
fn trace() -> String {
    ["addr", "route show table all", "-6 route show table all", "rule", "-6 rule"].map(ip).join("----\n")
}

fn network(text: &str) -> Network {
    text.parse().unwrap()
}

fn networks(texts: &[&str]) -> Vec<Network> {
    texts.iter().map(|text| network(text)).collect()
}

/// Waits for a fact, for 10 s.
fn until(what: &str, fact: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !fact() {
        assert!(Instant::now() < end, "not in 10 s: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Issue 3, point 5: a TUN device and its routes, removable without trace.
#[test]
fn a_device_and_its_routes_come_and_go_without_trace() {
    if !alone("a_device_and_its_routes_come_and_go_without_trace") {
        return;
    }
    ip("link set lo up");
    let before = trace();
    let mut client = Client::start(Path::new(HELPER)).unwrap();
    let device = client.open().unwrap();
    assert_eq!(device.name, "dhow0");
    let said = ip("addr show dhow0");
    for expected in [
        "mtu 65520",
        "198.19.68.253 peer 198.19.68.2/32",
        "fd64:686f:7700::fd peer fd64:686f:7700::2/128",
        "UP",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(!said.contains("fe80"), "{said}");

    let wanted = networks(&["172.17.0.0/16", "10.3.0.0/16", "fd00:9::/64"]);
    let routed = client.routes(&wanted).unwrap();
    assert_eq!((routed.set.len(), routed.refused.len()), (3, 0), "{routed:?}");
    let routes = ip("route") + &ip("-6 route");
    assert!(
        routes.contains("172.17.0.0/16 dev dhow0 proto 100 scope link src 198.19.68.253 metric 10000"),
        "{routes}"
    );
    assert!(
        routes.contains("fd00:9::/64 dev dhow0 proto 100 src fd64:686f:7700::fd metric 10000"),
        "{routes}"
    );
    assert_eq!(host::devices().unwrap()[0].routes.len(), 3);

    // Exactly the list: what is no longer in it goes, what stays is left alone.
    client.routes(&networks(&["10.3.0.0/16", "10.4.0.0/16"])).unwrap();
    assert_eq!(host::devices().unwrap()[0].routes, networks(&["10.3.0.0/16", "10.4.0.0/16"]));
    // The device goes although its descriptor is still open.
    drop(client);
    assert_eq!(trace(), before);
    drop(device);
}

/// Issue 3, point 5; hosts with Docker have 172.17.0.0/16, and the host's network wins.
#[test]
fn a_route_that_the_host_has_elsewhere_is_refused_by_name() {
    if !alone("a_route_that_the_host_has_elsewhere_is_refused_by_name") {
        return;
    }
    ip("link set lo up");
    ip("link add docker0 type bridge");
    ip("addr add 172.17.0.1/16 dev docker0");
    ip("link set docker0 up");
    // In another table, as VPNs do it.
    ip("route add 10.0.0.0/9 dev docker0 table 52");
    ip("route add blackhole 10.200.0.0/16");
    ip("route add default via 172.17.0.9");
    let mut client = Client::start(Path::new(HELPER)).unwrap();
    let _device = client.open().unwrap();
    let wanted = [
        "172.17.0.0/16",
        "172.18.0.0/16",
        "10.1.0.0/16",
        "10.200.0.0/24",
        "10.0.0.0/8",
        "8.8.8.0/24",
        "0.0.0.0/0",
        "127.0.0.0/8",
    ];
    let Routed { set, refused } = client.routes(&networks(&wanted)).unwrap();
    assert_eq!(set, networks(&["172.18.0.0/16"]));
    let refused: Vec<String> = refused.iter().map(|(network, why)| format!("{network}: {why}")).collect();
    let private = "not a private network (10/8, 172.16/12, 192.168/16, fc00::/7)";
    assert_eq!(
        refused,
        [
            "172.17.0.0/16: conflict with docker0 172.17.0.0/16".to_owned(),
            "10.1.0.0/16: conflict with docker0 10.0.0.0/9".to_owned(),
            "10.200.0.0/24: conflict with a route without one interface 10.200.0.0/16".to_owned(),
            "10.0.0.0/8: conflict with docker0 10.0.0.0/9".to_owned(),
            format!("8.8.8.0/24: {private}"),
            format!("0.0.0.0/0: {private}"),
            format!("127.0.0.0/8: {private}"),
        ]
    );
    // A conflict that comes later takes the route away.
    ip("addr add 172.18.0.1/16 dev docker0");
    let later = client.routes(&networks(&["172.18.0.0/16"])).unwrap();
    let conflict = Refusal::Conflict { interface: "docker0".to_owned(), network: network("172.18.0.0/16") };
    assert_eq!((later.set.len(), later.refused), (0, vec![(network("172.18.0.0/16"), conflict)]));
    assert!(host::devices().unwrap()[0].routes.is_empty());
    assert!(ip("route").contains("default via 172.17.0.9"));
    // As Docker on the host does it, when it starts; ours is set again.
    let [all, ours] = ["all", "dhow0"].map(|name| format!("/proc/sys/net/ipv4/conf/{name}/forwarding"));
    std::fs::OpenOptions::new().write(true).open(&all).unwrap().write_all(b"1").unwrap();
    assert_eq!(std::fs::read_to_string(&ours).unwrap(), "1\n");
    client.routes(&[]).unwrap();
    assert_eq!(std::fs::read_to_string(&ours).unwrap(), "0\n");
}

/// The machine's own network must be nobody else's; a second machine has the second device.
#[test]
fn each_machine_has_its_device_unless_the_host_uses_the_machines_network() {
    if !alone("each_machine_has_its_device_unless_the_host_uses_the_machines_network") {
        return;
    }
    ip("link set lo up");
    let mut first = Client::start(Path::new(HELPER)).unwrap();
    let _one = first.open().unwrap();
    let mut second = Client::start(Path::new(HELPER)).unwrap();
    let other = second.open().unwrap();
    assert_eq!(other.name, "dhow1");
    first.routes(&networks(&["172.17.0.0/16"])).unwrap();
    let refused = second.routes(&networks(&["172.17.0.0/16", "172.18.0.0/16"])).unwrap();
    assert_eq!(refused.refused[0].1.to_string(), "conflict with dhow0 172.17.0.0/16");
    assert_eq!(refused.set, networks(&["172.18.0.0/16"]));
    drop(second);

    ip("link add bench type bridge");
    ip("addr add 198.18.0.1/15 dev bench");
    ip("link set bench up");
    let mut third = Client::start(Path::new(HELPER)).unwrap();
    let error = third.open().unwrap_err().to_string();
    assert!(error.contains("conflict with bench 198.18.0.0/15"), "{error}");
    assert_eq!(host::devices().unwrap().len(), 1);
}

/// A conversation with the program, by hand.
fn by_hand() -> (UnixStream, std::process::Child) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let stdin = Stdio::from(OwnedFd::from(theirs));
    (ours, Command::new(HELPER).stdin(stdin).stderr(Stdio::piped()).spawn().unwrap())
}

/// Issue 3, point 5: a fixed list of operations. Whatever else is said ends the conversation.
#[test]
fn rubbish_ends_it_and_leaves_nothing() {
    if !alone("rubbish_ends_it_and_leaves_nothing") {
        return;
    }
    ip("link set lo up");
    let before = trace();
    let framed =
        |text: &str| [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat();
    let open = || encode(&Request::Open { number: 0 }).unwrap();
    let many = vec![network("10.0.0.0/24"); 257];
    let table = [
        ("bytes", vec![0xff; 64]),
        ("a long message", u32::try_from(LIMIT + 1).unwrap().to_be_bytes().to_vec()),
        ("another operation", framed(r#"{"exec":{"program":"/bin/sh"}}"#)),
        ("no such device", encode(&Request::Open { number: 10 }).unwrap()),
        ("routes without a device", encode(&Request::Routes { networks: Vec::new() }).unwrap()),
        ("a second device", [open(), open()].concat()),
        ("too many routes", [open(), encode(&Request::Routes { networks: many }).unwrap()].concat()),
        ("rubbish after a device", [open(), vec![0xff; 8]].concat()),
    ];
    for (what, bytes) in table {
        let (mut stream, child) = by_hand();
        stream.write_all(&bytes).unwrap();
        // The program's end of the socket closes with it.
        std::io::copy(&mut stream, &mut std::io::sink())
            .or_else(|e| if e.kind() == std::io::ErrorKind::ConnectionReset { Ok(0) } else { Err(e) })
            .unwrap();
        let end = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&end.stderr).into_owned();
        assert!(end.status.code() == Some(1) && said.contains("the conversation broke"), "{what}: {end:?}");
        assert_eq!(trace(), before, "{what}");
    }
}

/// A request that begins and does not end is given up after 5 s.
#[test]
fn half_a_request_is_not_waited_for() {
    if !alone("half_a_request_is_not_waited_for") {
        return;
    }
    let (mut stream, child) = by_hand();
    stream.write_all(&[0, 0]).unwrap();
    let began = Instant::now();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).ok();
    assert!(!child.wait_with_output().unwrap().status.success());
    assert!((4..9).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

/// Spec 16.3: nothing is left behind by a crash. The same process in another role is the supervisor.
#[test]
fn killing_its_parent_leaves_nothing() {
    if !alone("killing_its_parent_leaves_nothing") {
        return;
    }
    if role().as_deref() == Some("hold") {
        return hold();
    }
    ip("link set lo up");
    let before = trace();
    let mut parent = as_user("killing_its_parent_leaves_nothing", "hold", Path::new(HELPER), 0, &[]);
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "held"));
    assert!(ip("route").contains("10.7.0.0/16 dev dhow0"));
    parent.kill().unwrap();
    parent.wait().unwrap();
    until("the device is gone", || trace() == before);
}

/// Issue 3, point 5: a helper with `CAP_NET_ADMIN`. The user has nothing but the file's capability.
#[test]
fn a_user_of_its_group_can_and_another_cannot() {
    const TEST: &str = "a_user_of_its_group_can_and_another_cannot";
    if !alone(TEST) {
        return;
    }
    if role().as_deref() == Some("hold") {
        return hold();
    }
    ip("link set lo up");
    // As udev has it, which not every host for tests runs; in this mount namespace only.
    for line in ["mount -t tmpfs tmpfs /dev/net", "mknod -m 666 /dev/net/tun c 10 200"] {
        let words: Vec<&str> = line.split(' ').collect();
        assert!(Command::new(words[0]).args(&words[1..]).status().unwrap().success(), "{line}");
    }
    let before = trace();
    let (dir, place) = installed(NOBODY);
    let mut user = as_user(TEST, "hold", &place.program(), NOBODY, &[]);
    let mut lines = BufReader::new(user.stdout.take().unwrap()).lines().map(Result::unwrap);
    let pid = lines.find_map(|line| line.strip_prefix("program ").map(str::to_owned));
    let Some(pid) = pid else { panic!("{}", text(&finish(user))) };
    assert!(lines.any(|line| line == "held"));
    assert!(ip("route").contains("10.7.0.0/16 dev dhow0"));

    // One capability, no way to another, no other system calls.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for expected in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t0000000000001000",
        "CapEff:\t0000000000001000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(expected), "{expected}: {status}");
    }
    assert!(status.contains(&format!("Uid:\t{NOBODY}\t{NOBODY}")), "{status}");
    assert!(std::fs::read(format!("/proc/{pid}/environ")).unwrap().is_empty());
    // What the device's owner could make the host do with it.
    for (setting, value) in [
        ("ipv4/conf/dhow0/forwarding", "0"),
        ("ipv4/conf/dhow0/rp_filter", "1"),
        ("ipv6/conf/dhow0/accept_ra", "0"),
    ] {
        assert_eq!(
            std::fs::read_to_string(format!("/proc/sys/net/{setting}")).unwrap().trim(),
            value,
            "{setting}"
        );
    }
    user.kill().unwrap();
    user.wait().unwrap();
    until("the device is gone", || trace() == before);

    // Not in the group.
    let other = finish(as_user(TEST, "hold", &place.program(), SOMEBODY, &[]));
    assert!(!other.status.success() && text(&other).contains("Permission denied"), "{}", text(&other));
    // In the group, but what runs it gave privileges up for good.
    let tight = finish(as_user(TEST, "hold", &place.program(), NOBODY, &["--no-new-privs"]));
    assert!(!tight.status.success() && text(&tight).contains("no CAP_NET_ADMIN"), "{}", text(&tight));
    assert_eq!(trace(), before);
    drop(dir);
}

/// Spec 16.5 in its spirit: a socket that somebody else made is refused, and so is anything that is no socket.
#[test]
fn only_its_own_caller_can_speak_to_it() {
    if !alone("only_its_own_caller_can_speak_to_it") {
        return;
    }
    let (dir, place) = installed(NOBODY);
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let table = [
        (Stdio::from(OwnedFd::from(theirs)), "another user's"),
        (Stdio::null(), "no Unix stream socket"),
        (Stdio::piped(), "no Unix stream socket"),
        (
            Stdio::from(OwnedFd::from(std::os::unix::net::UnixDatagram::pair().unwrap().0)),
            "no Unix stream socket",
        ),
    ];
    for (stdin, expected) in table {
        let said = Command::new(place.program())
            .uid(NOBODY)
            .gid(NOBODY)
            .stdin(stdin)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        assert!(!said.status.success() && text(&said).contains(expected), "{}", text(&said));
    }
    drop(dir);
}

/// A device that is there already is nobody's to take over, whoever made it.
#[test]
fn somebody_elses_device_is_left_alone() {
    if !alone("somebody_elses_device_is_left_alone") {
        return;
    }
    ip("link set lo up");
    ip("tuntap add dhow0 mode tun");
    ip("link add dhow1 type bridge");
    let before = trace();
    let mut client = Client::start(Path::new(HELPER)).unwrap();
    assert_eq!(client.open().unwrap().name, "dhow2");
    drop(client);
    assert_eq!(trace(), before);
}

/// Issue 3, point 5: removable without trace; a file that is not ours is never overwritten, started or removed.
#[test]
fn installing_and_uninstalling_leave_the_host_as_it_was() {
    if !available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let place = Place::below(dir.path());
    assert!(matches!(place.check(), Err(Error::NotInstalled(_))));
    assert_eq!(place.uninstall().unwrap(), Vec::<PathBuf>::new());
    let installed = place.install(Path::new(HELPER), NOBODY, "1.0").unwrap();
    assert_eq!((installed.version.as_str(), installed.group), ("1.0", NOBODY));
    // Again, and another release.
    let release = dir.path().join("release");
    std::fs::copy("/bin/true", &release).unwrap();
    assert_eq!(place.install(&release, NOBODY, "2.0").unwrap().version, "2.0");
    assert_eq!(place.install(Path::new(HELPER), 0, "3.0").unwrap().group, 0);
    std::fs::remove_file(&release).unwrap();

    // Whatever is changed about it is noticed, and it is not started; what has other content is not ours any more.
    let program = place.program();
    for (change, why) in [
        ("chmod o+w", "others than root may write"),
        ("chown 65534", "not root's"),
        ("setfattr -x security.capability", "does not have the capability"),
    ] {
        let words: Vec<&str> = change.split(' ').collect();
        if !Command::new(words[0])
            .args(&words[1..])
            .arg(&program)
            .status()
            .is_ok_and(|status| status.success())
        {
            eprintln!("skipped: {change}");
            continue;
        }
        let error = place.check().unwrap_err().to_string();
        assert!(error.contains(why), "{change}: {error}");
        place.install(Path::new(HELPER), 0, "3.0").unwrap();
    }
    std::fs::OpenOptions::new().append(true).open(&program).unwrap().write_all(b"x").unwrap();
    for result in
        [place.check().err(), place.install(Path::new(HELPER), 0, "4").err(), place.uninstall().err()]
    {
        let error = result.unwrap().to_string();
        assert!(error.contains("its content is another one"), "{error}");
    }
    std::fs::copy(HELPER, &program).unwrap();
    assert_eq!(place.uninstall().unwrap().len(), 6);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

fn installed(group: u32) -> (tempfile::TempDir, Place) {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let place = Place::below(dir.path());
    place.install(Path::new(HELPER), group, "1.0").unwrap();
    (dir, place)
}

/// This test again, as a user and in a role.
fn as_user(test: &str, role: &str, program: &Path, id: u32, flags: &[&str]) -> std::process::Child {
    use std::os::unix::fs::PermissionsExt as _;
    // A copy that every user can reach.
    let exe = std::env::temp_dir().join(format!("dhow-route-test-{}", std::process::id()));
    std::fs::copy(std::env::current_exe().unwrap(), &exe).unwrap();
    std::fs::set_permissions(&exe, std::fs::Permissions::from_mode(0o755)).unwrap();
    let child = Command::new("setpriv")
        .args([format!("--reuid={id}"), format!("--regid={id}"), "--clear-groups".to_owned()])
        .args(flags)
        .arg(&exe)
        .args(["--exact", test, "--nocapture"])
        .env(ROLE, role)
        .env(PROGRAM, program)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    until("the copy runs", || {
        std::fs::read_link(format!("/proc/{}/exe", child.id())).map_or(true, |path| path == exe)
    });
    std::fs::remove_file(&exe).unwrap();
    child
}

fn finish(child: std::process::Child) -> Output {
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Holds a device and a route until standard input ends, or the process is killed.
fn hold() {
    let program = std::env::var(PROGRAM).unwrap();
    let mut client = Client::start(Path::new(&program)).unwrap();
    let _device = client.open().unwrap();
    println!("\nprogram {}", client.pid());
    client.routes(&networks(&["10.7.0.0/16"])).unwrap();
    println!("held");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
}
