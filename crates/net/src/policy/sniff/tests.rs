//! What is read out of first bytes: of real programs (the corpus), of hostile ones, in any cut.

use proptest::prelude::*;

use super::hello::{browser, hello, message, records, server_name, sized2};
use super::*;

fn says(name: &str) -> Seen {
    Seen::Name(name.parse().unwrap())
}

macro_rules! corpus {
    ($($file:literal => $seen:expr,)*) => { [$(($file, &include_bytes!(concat!("../../../fuzz-corpus/sniff/", $file))[..], $seen),)*] };
}

/// First bytes as real programs sent them: curl 7.88, wget 1.21, OpenSSL 3.0, Node.js, Python, OpenSSH 9.2, git, dig.
fn corpus() -> Vec<(&'static str, &'static [u8], Seen)> {
    let nothing = Seen::Nothing;
    corpus! {
        "curl-tls" => says("www.example.com"),
        "curl-tls13-h1" => says("www.example.com"),
        "node-tls" => says("www.example.com"),
        "openssl-tls12" => says("www.example.com"),
        "python-tls" => says("www.example.com"),
        "wget-tls" => says("localhost"),
        "curl-http" => says("www.example.com"),
        "curl-post" => says("www.example.com"),
        "curl-http-proxy" => says("www.example.com"),
        "curl-connect-proxy" => says("www.example.com"),
        "curl-http2-upgrade" => says("www.example.com"),
        "node-http" => says("www.example.com"),
        "curl-tls-address" => nothing(Unsaid::NoServerName),
        "openssl-tls-no-name" => nothing(Unsaid::NoServerName),
        "curl-http-address" => nothing(Unsaid::NoHost),
        "curl-http2-prior" => nothing(Unsaid::Http2),
        "openssl-postgres" => nothing(Unsaid::Unknown),
        "ssh" => nothing(Unsaid::Unknown),
        "git" => nothing(Unsaid::Unknown),
        "dig-tcp" => nothing(Unsaid::Unknown),
    }
    .into()
}

#[test]
fn real_programs_are_understood() {
    for (file, bytes, seen) in corpus() {
        assert_eq!(look(bytes), seen, "{file}");
    }
}

/// Whatever a program's bytes are cut into, and whenever it is asked, the answer is the same, once there is one.
#[test]
fn no_cut_of_a_real_program_s_bytes_changes_the_answer() {
    for (file, bytes, seen) in corpus() {
        for length in 0..bytes.len() {
            let early = look(&bytes[..length]);
            assert!(early == Seen::NeedMore || early == seen, "{file} after {length} bytes: {early:?}");
        }
    }
}

/// Spec 12.4 and issue 3, "SNI mismatch": the name that TLS says, with all that browsers add.
#[test]
fn a_server_s_name_is_found_in_any_records() {
    let message = message(&[browser(), vec![server_name(b"Www.Example.com")], browser()].concat());
    for most in [1, 2, 5, 100, 1000, 1 << 14] {
        let bytes = records(&message, most);
        let seen = look(&bytes);
        // One byte in each record makes six of one: that does not fit.
        let expected = if bytes.len() > LIMIT && most < 5 {
            Seen::Nothing(Unsaid::TooLong)
        } else {
            says("www.example.com")
        };
        let short = matches!(seen, Seen::Name(_)) && most < 5;
        assert!(seen == expected || short, "{most}: {seen:?}");
    }
}

/// Encrypted Client Hello: what is judged is the outer name, the only one there is to see.
#[test]
fn an_encrypted_hello_is_judged_by_its_outer_name() {
    let outer =
        [vec![(0xfe0d, vec![0, 0, 1, 0, 1, 7, 0, 32])], vec![server_name(b"public.example")]].concat();
    assert_eq!(look(&records(&message(&outer), 1 << 14)), says("public.example"));
}

#[test]
fn a_hello_that_could_be_read_in_two_ways_says_nothing() {
    let name = |bytes: &[u8]| look(&records(&message(&[server_name(bytes)]), 1 << 14));
    let extension = |content: Vec<u8>| look(&records(&message(&[(0, content)]), 1 << 14));
    let bad = Seen::Nothing(Unsaid::BadTls);
    for odd in [
        &b"a.example\0.evil.example"[..],
        b"a b",
        b"",
        b".",
        b"b\xc3\xbccher.example",
        b"a..b",
        b"127.1",
        b"*",
    ] {
        assert_eq!(name(odd), bad, "{odd:?}");
    }
    let (one, two) = (sized2(b"a.example"), sized2(b"b.example"));
    for (what, content) in [
        ("two names", sized2(&[&[0][..], &one, &[0], &two].concat())),
        ("another kind before", sized2(&[&[1][..], &one, &[0], &two].concat())),
        ("another kind", sized2(&[&[1][..], &one].concat())),
        ("empty", vec![]),
        ("empty list", sized2(&[])),
        ("a byte behind", [sized2(&[&[0][..], &one].concat()), vec![0]].concat()),
        ("a length that lies", vec![0, 12, 0, 0, 200, b'a']),
    ] {
        assert_eq!(extension(content), bad, "{what}");
    }
    let twice = message(&[server_name(b"a.example"), server_name(b"b.example")]);
    assert_eq!(look(&records(&twice, 1 << 14)), bad);
    assert_eq!(name(b"192.0.2.1"), Seen::Nothing(Unsaid::NoServerName));
}

#[test]
fn what_begins_like_tls_and_is_none_is_refused_at_once() {
    let hello = hello("www.example.com");
    let changed = |index: usize, byte: u8| {
        let mut bytes = hello.clone();
        bytes[index] = byte;
        look(&bytes)
    };
    let bad = Seen::Nothing(Unsaid::BadTls);
    assert_eq!(changed(1, 2), bad, "SSL 2");
    assert_eq!(changed(5, 2), bad, "a ServerHello");
    assert_eq!(look(&[22, 3, 1, 0, 0]), bad, "an empty record");
    assert_eq!(look(&[22, 3, 1, 0x40, 1]), bad, "a record too long");
    assert_eq!(look(&[22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff]), Seen::Nothing(Unsaid::TooLong));
    // An alert between two parts of a ClientHello: some servers skip it, some do not.
    let message = message(&[server_name(b"a.example")]);
    let between =
        [&records(&message[..9], 9)[..], &[21, 3, 1, 0, 2, 1, 0], &records(&message[9..], 1 << 14)].concat();
    assert_eq!(look(&between), bad);
}

/// Issue 3, "Host mismatch".
#[test]
fn every_name_in_a_request_s_head_must_agree() {
    let (nothing, bad) = (Seen::Nothing, Seen::Nothing(Unsaid::BadHttp));
    for (head, seen) in [
        ("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", says("a.example")),
        ("GET / HTTP/1.1\r\nhOsT:\t A.Example.:8080 \r\n\r\n", says("a.example")),
        ("GET / HTTP/1.1\nHost: a.example\n\n", says("a.example")),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n", says("a.example")),
        ("M-SEARCH * HTTP/1.1\r\nHost: a.example\r\n\r\n", says("a.example")),
        ("GET http://a.example/b HTTP/1.1\r\nHost: a.example\r\n\r\n", says("a.example")),
        ("GET http://a.example HTTP/1.0\r\n\r\n", says("a.example")),
        ("GET http://a.example:80?x HTTP/1.1\r\nHost: A.EXAMPLE.\r\n\r\n", says("a.example")),
        ("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", says("a.example")),
        ("GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", nothing(Unsaid::Disagree)),
        ("GET http://192.0.2.1/ HTTP/1.1\r\nHost: a.example\r\n\r\n", nothing(Unsaid::Disagree)),
        ("CONNECT b.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n", nothing(Unsaid::Disagree)),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n", nothing(Unsaid::Disagree)),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\n\r\n", nothing(Unsaid::Disagree)),
        ("GET / HTTP/1.1\r\nHost: a.example, b.example\r\n\r\n", bad.clone()),
        ("GET / HTTP/1.1\r\nHost: a.example\r\n b.example\r\n\r\n", bad.clone()),
        ("GET / HTTP/1.1\r\nHost : b.example\r\nHost: a.example\r\n\r\n", bad.clone()),
        ("GET / HTTP/1.1\r\nHost: b.example@a.example\r\n\r\n", bad.clone()),
        ("GET / HTTP/1.1\r\nHost: a.example:80:90\r\n\r\n", bad.clone()),
        ("GET / HTTP/1.1\r\nHost: a.example:8x\r\n\r\n", bad.clone()),
        ("GET / HTTP/1.1\r\nHost: a%2eexample\r\n\r\n", bad.clone()),
        ("GET / HTTP/1.1\r\nHost: a\\.example\r\n\r\n", bad.clone()),
        ("GET http://a.example@b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", bad.clone()),
        ("GET http://a.example\\@b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", bad.clone()),
        ("GET a.example/b HTTP/1.1\r\nHost: a.example\r\n\r\n", bad.clone()),
        ("GET 1.2.3.4 HTTP/1.1\r\nHost: a.example\r\n\r\n", bad.clone()),
        ("GET /\r\n\r\n", bad.clone()),
        ("GET / HTTP/3.0\r\nHost: a.example\r\n\r\n", bad.clone()),
        ("EHLO a.example\r\n", bad.clone()),
        ("GET / HTTP/1.1\r\n\r\n", nothing(Unsaid::NoHost)),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", nothing(Unsaid::NoHost)),
        ("GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", nothing(Unsaid::NoHost)),
        ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", nothing(Unsaid::NoHost)),
        ("GET / HTTP/1.1\r\nHost: 127.1\r\n\r\n", bad),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04", nothing(Unsaid::Http2)),
        ("PING\r\n", nothing(Unsaid::Unknown)),
        ("HELLO-I-AM-A-PROTOCOL-WITHOUT-SPACES", nothing(Unsaid::Unknown)),
        (" GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", nothing(Unsaid::Unknown)),
        ("\r\n\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a.example\r\n\r\n", nothing(Unsaid::Unknown)),
        ("GET / HTTP/1.1\r\nHost: a.example\r\n", Seen::NeedMore),
        ("GET", Seen::NeedMore),
        ("PRI * HT", Seen::NeedMore),
        ("", Seen::NeedMore),
    ] {
        assert_eq!(look(head.as_bytes()), seen, "{head:?}");
    }
}

/// A guest cannot keep a connection in doubt, nor make the gateway keep more than this of it.
#[test]
fn there_is_an_answer_after_16_kib() {
    let long = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; LIMIT]].concat();
    assert_eq!(look(&long[..LIMIT - 1]), Seen::NeedMore);
    assert_eq!(look(&long[..LIMIT]), Seen::Nothing(Unsaid::TooLong));
    let big = records(&message(&[(51, vec![0; LIMIT - 60]), server_name(b"a.example")]), 1 << 14);
    assert_eq!(look(&big), Seen::Nothing(Unsaid::TooLong));
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let names = prop::sample::select(vec!["a.example", "b.example", "192.0.2.1", "", "a b", "[::1]", "x@y"]);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        "[ -~\r\n]{0,120}".prop_map(String::into_bytes),
        (names.clone(), names.clone()).prop_map(|(one, two)| {
            format!("GET http://{one}/ HTTP/1.1\r\nHost: {two}\r\n\r\nbody").into_bytes()
        }),
        (names.clone(), 1_usize..600).prop_map(|(name, most)| {
            records(&message(&[server_name(name.as_bytes()), (51, vec![0; 200])]), most)
        }),
        // A real one with a few bytes changed.
        (
            prop::sample::select(corpus()),
            prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)
        )
            .prop_map(|((_, bytes, _), changes)| {
                let mut bytes = bytes.to_vec();
                for (index, byte) in changes {
                    let index = index.index(bytes.len());
                    bytes[index] = byte;
                }
                bytes
            }),
        names.prop_map(hello),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The first answer holds: no byte that comes later, and no cut, changes what was said. Otherwise a guest could be let
    /// pass by one reading and be served by another.
    #[test]
    fn an_answer_once_given_is_the_answer(bytes in pieces(), more in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut first = None;
        for length in 0..=bytes.len() {
            let seen = look(&bytes[..length]);
            match &first {
                None if seen == Seen::NeedMore => {}
                None => first = Some(seen),
                Some(first) => prop_assert_eq!(&seen, first, "at {}", length),
            }
        }
        if let Some(first) = first {
            prop_assert_eq!(look(&[bytes, more].concat()), first);
        }
    }
}
