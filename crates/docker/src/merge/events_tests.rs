use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::*;
use crate::merge::fake::{Fake, request};

/// What a client is told, to the end of its connection; and whether that could be kept.
async fn told(fake: &Fake, target: &str) -> (bool, String) {
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut client = Client::new(near);
    let asked = request("GET", target);
    let reading = async {
        let mut said = String::new();
        far.read_to_string(&mut said).await.unwrap();
        said
    };
    let answering = async {
        let kept = events(&mut client, &asked, fake.machines()).await;
        drop(client);
        kept
    };
    tokio::join!(answering, reading)
}

/// 3.7: with `until` both engines' answers end, and so does the one made of them; each line is there once.
#[tokio::test]
async fn past_events_of_both_end_in_one_answer() {
    let fake = Fake::new(|role, _, _| (200, format!("{{\"from\":\"{role}\"}}\n{{\"more\":\"{role}\"}}\n")));
    let (kept, said) = told(&fake, "/v1.45/events?until=5").await;
    assert!(kept && said.starts_with("HTTP/1.1 200 OK\r\nApi-Version: 1.45\r\n"), "{said}");
    assert!(said.contains("Transfer-Encoding: chunked\r\n") && !said.contains("Content-Length"), "{said}");
    assert!(said.ends_with("\r\n0\r\n\r\n"), "{said}");
    for line in
        ["{\"from\":\"native\"}", "{\"more\":\"native\"}", "{\"from\":\"foreign\"}", "{\"more\":\"foreign\"}"]
    {
        assert_eq!(said.matches(line).count(), 1, "{said}");
    }
}

/// 3.7: when no engine is left the connection ends without the answer's end, as dockerd's would.
#[tokio::test]
async fn a_stream_without_an_engine_is_cut_off() {
    let fake = Fake::new(|_, _, _| (200, "{}\n".to_owned()));
    let (kept, said) = told(&fake, "/events").await;
    assert!(!kept && said.ends_with("{}\n\r\n"), "{said}");
}

/// 3.3: a refusal, or an engine that cannot be reached, is the whole answer.
#[tokio::test]
async fn a_refusal_is_the_whole_answer() {
    let fake = Fake::new(|_, _, _| (400, "{\"message\":\"invalid filter\"}\n".to_owned()));
    let (kept, said) = told(&fake, "/events?filters=x").await;
    assert!(kept && said.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{said}");
    assert!(said.ends_with("{\"message\":\"invalid filter\"}\n"), "{said}");
    let fake = Fake::new(|_, _, _| (200, String::new()));
    fake.break_down(Role::Foreign);
    let (_, said) = told(&fake, "/events").await;
    assert!(said.starts_with("HTTP/1.1 503 ") && said.contains("machine `foreign`"), "{said}");
}

/// 2.6, 6.7: a machine that is off is not asked; until a time that is over it is not waited for either.
#[tokio::test]
async fn a_machine_that_is_off_is_left_alone() {
    let fake = Fake::new(|_, _, _| (200, "{}\n".to_owned()));
    fake.turn_off(Role::Foreign, None);
    let (kept, said) = told(&fake, "/events?until=5").await;
    assert!(kept && said.ends_with("3\r\n{}\n\r\n0\r\n\r\n"), "{said}");
    assert_eq!(fake.asked(), ["native GET /events?until=5"]);
}

/// 3.7: events pass as whole lines, however they are cut on their way.
#[test]
fn lines_are_passed_on_whole() {
    let text = b"{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n{\"d\"";
    for step in 1..text.len() {
        let mut lines = Lines::default();
        let mut passed = Vec::new();
        for piece in text.chunks(step) {
            if let Some(whole) = lines.take(piece) {
                assert!(whole.ends_with(b"\n"));
                passed.extend_from_slice(&whole);
            }
        }
        assert_eq!(passed, b"{\"a\":1}\n{\"b\":2}\n{\"c\":3}\n", "{step}");
    }
}

/// 3.2: a line without an end takes no more memory than the limit, and the next one is passed on.
#[test]
fn an_endless_line_is_left_out() {
    let mut lines = Lines::default();
    let piece = vec![b'x'; MAX_LINE / 4];
    for _ in 0..20 {
        assert_eq!(lines.take(&piece), None);
        assert!(lines.begun.len() <= MAX_LINE);
    }
    assert_eq!(lines.take(b"xx\n{}\n{"), Some(b"{}\n".to_vec()));
}

/// 3.7: an engine that comes again is asked from behind the last event on; one that comes first, from the beginning.
#[test]
fn a_stream_is_resumed_without_a_gap_or_a_repetition() {
    let begun = Duration::new(7, 5);
    let table = [
        ("/events", None, "/events?since=7.000000005"),
        ("/v1.44/events?filters=%7B%7D", None, "/v1.44/events?filters=%7B%7D&since=7.000000005"),
        ("/events?since=3&until=9", None, "/events?since=3&until=9"),
        ("/events?since=3&until=9", Some(4_999_999_999), "/events?until=9&since=5.000000000"),
    ];
    for (target, last, expected) in table {
        assert_eq!(Wanted::new(target, None, begun).resumed(last), expected);
    }
}

/// 3.7: the time of an event is that of the last whole line, in both of the API's notations.
#[test]
fn the_newest_event_is_known() {
    assert_eq!(newest(b"{\"timeNano\":5}\n{\"timeNano\":8}\n"), Some(8));
    assert_eq!(newest(b"\x1e{\"timeNano\":8}\n"), Some(8));
    assert_eq!(newest(b"no event\n"), None);
}

/// 3.7: `until` is a time; what is none keeps nobody waiting.
#[test]
fn until_is_read_as_seconds() {
    let until = |target| Wanted::new(target, None, Duration::ZERO).until;
    assert_eq!(until("/events?until=12.5"), Some(12.5));
    assert_eq!(until("/events?until=2026-11-22T09%3A00%3A00Z"), Some(0.0));
    assert_eq!(until("/events?until="), None);
}
