use dhow_model::Role;

use super::fake::{Fake, request};
use super::{Holders, Thing, answer, holders};
use crate::route::Whole;

/// Head and content of the answer.
async fn ask(fake: &Fake, what: Whole, method: &str, target: &str) -> (String, String) {
    let answer = answer(what, &request(method, target), fake.machines()).await;
    let text = String::from_utf8(answer).unwrap();
    let (head, content) = text.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), content.to_owned())
}

/// 3.7, 3.1: the answer has dockerd's headers, from native's engine, around what both listed.
#[tokio::test]
async fn a_list_has_natives_headers_and_what_both_listed() {
    let fake = Fake::new(|role, _, _| (200, format!("[{{\"Id\":\"{role}\",\"Created\":1}}]\n")));
    let (head, content) = ask(&fake, Whole::Containers, "GET", "/v1.45/containers/json?all=1").await;
    assert_eq!(content, "[{\"Id\":\"native\",\"Created\":1},{\"Id\":\"foreign\",\"Created\":1}]\n");
    let expected = format!(
        "HTTP/1.1 200 OK\r\nApi-Version: 1.45\r\nContent-Type: application/json\r\nServer: native\r\nX-Trace-Id: test\r\n\
         Content-Length: {}",
        content.len()
    );
    assert_eq!(head, expected);
    let mut asked = fake.asked();
    asked.sort();
    assert_eq!(
        asked,
        ["foreign GET /v1.45/containers/json?all=1", "native GET /v1.45/containers/json?all=1"]
    );
}

/// 3.3, 3.7: an engine's refusal is the answer, native's before the other's.
#[tokio::test]
async fn a_refusal_is_passed_on_natives_first() {
    let fake = Fake::new(|role, _, target| match (role, target.contains("both")) {
        (Role::Native, false) => (200, "[]\n".to_owned()),
        _ => (400, format!("{{\"message\":\"invalid filter, says {role}\"}}\n")),
    });
    let (head, content) = ask(&fake, Whole::Images, "GET", "/images/json?filters=x").await;
    assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n") && head.contains("Server: foreign"), "{head}");
    assert_eq!(content, "{\"message\":\"invalid filter, says foreign\"}\n");
    let (_, content) = ask(&fake, Whole::Images, "GET", "/images/json?filters=both").await;
    assert_eq!(content, "{\"message\":\"invalid filter, says native\"}\n");
}

/// 3.3, 3.7: a machine that runs and does not answer is named; half a list is never given.
#[tokio::test]
async fn an_engine_that_cannot_be_reached_is_named() {
    for role in Role::ALL {
        let fake = Fake::new(|_, _, _| (200, "[]\n".to_owned()));
        fake.break_down(role);
        let (head, content) = ask(&fake, Whole::Networks, "GET", "/networks").await;
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
        assert!(
            content.contains(&format!("machine `{role}`")) && content.contains("run `dhow up`"),
            "{content}"
        );
    }
}

/// 3.7: what an engine says that is no JSON is not taken for an empty list.
#[tokio::test]
async fn an_answer_that_cannot_be_read_is_an_error() {
    let fake = Fake::new(|role, _, _| (200, if role == Role::Native { "[]" } else { "[{" }.to_owned()));
    let (head, content) = ask(&fake, Whole::Containers, "GET", "/containers/json").await;
    assert!(head.starts_with("HTTP/1.1 502 ") && content.contains("machine `foreign`"), "{head} {content}");
}

/// 3.7: when one engine's prune fails, what the other has deleted is told, since it is gone.
#[tokio::test]
async fn a_prune_that_fails_in_one_machine_tells_what_the_other_did() {
    let fake = Fake::new(|role, _, _| match role {
        Role::Native => (200, "{\"VolumesDeleted\":[\"a\",\"b\"],\"SpaceReclaimed\":7}\n".to_owned()),
        Role::Foreign => (409, "{\"message\":\"a prune operation is already running\"}\n".to_owned()),
    });
    let (head, content) = ask(&fake, Whole::PruneVolumes, "POST", "/volumes/prune").await;
    assert!(head.starts_with("HTTP/1.1 409 Conflict\r\n"), "{head}");
    assert_eq!(
        content,
        "{\"message\":\"machine `foreign`: a prune operation is already running; the other machine has deleted 2 \
         objects and reclaimed 7 bytes\"}\n"
    );
    fake.break_down(Role::Native);
    let (head, content) = ask(&fake, Whole::PruneVolumes, "POST", "/volumes/prune").await;
    assert!(head.starts_with("HTTP/1.1 503 ") && content.contains("machine `native`"), "{head} {content}");
}

/// 2.6, 3.7: a thing is looked for in the machines that run, and a machine that cannot be asked is not taken for empty.
#[tokio::test]
async fn a_thing_is_found_in_the_machines_that_run() {
    let fake = Fake::new(|role, _, target| {
        let has = match role {
            Role::Native => ["/networks/both", "/images/a/b:1@x/json"].contains(&target),
            Role::Foreign => ["/networks/both", "/volumes/a%20b"].contains(&target),
        };
        (if has { 200 } else { 404 }, "{}".to_owned())
    });
    let table = [
        (Thing::Network, "both", Holders::Both),
        (Thing::Volume, "a b", Holders::One(Role::Foreign)),
        (Thing::Image, "a/b:1@x", Holders::One(Role::Native)),
        (Thing::Network, "none", Holders::None),
    ];
    for (thing, reference, expected) in table {
        assert_eq!(holders(thing, reference, fake.machines()).await.unwrap(), expected, "{reference}");
    }
    fake.turn_off(Role::Foreign, None);
    assert_eq!(holders(Thing::Volume, "a b", fake.machines()).await.unwrap(), Holders::None);
    fake.break_down(Role::Native);
    let (role, _) = holders(Thing::Network, "both", fake.machines()).await.unwrap_err();
    assert_eq!(role, Role::Native);
}

/// 3.7: a list since or before a thing is whole although only one engine knows the thing.
#[tokio::test]
async fn a_list_around_a_thing_of_one_engine_is_whole() {
    let fake = Fake::new(|role, _, target| match (role, target) {
        (Role::Foreign, "/containers/mark/json") => {
            (200, r#"{"Created":"1970-01-01T00:00:05.5Z"}"#.to_owned())
        }
        (Role::Foreign, _) => (200, r#"[{"Id":"f7","Created":7}]"#.to_owned()),
        (_, target) if target.contains("mark") => {
            (404, r#"{"message":"No such container: mark"}"#.to_owned())
        }
        _ => (200, r#"[{"Id":"n9","Created":9},{"Id":"n5","Created":5},{"Id":"n4","Created":4}]"#.to_owned()),
    });
    let since = "/containers/json?filters=%7B%22since%22%3A%5B%22mark%22%5D%7D";
    let (_, content) = ask(&fake, Whole::Containers, "GET", since).await;
    assert_eq!(
        content,
        "[{\"Id\":\"n9\",\"Created\":9},{\"Id\":\"f7\",\"Created\":7},{\"Id\":\"n5\",\"Created\":5}]\n"
    );
    let (_, content) = ask(&fake, Whole::Containers, "GET", &format!("{since}&limit=2")).await;
    assert!(content.contains("n9") && content.contains("f7") && !content.contains("n5"), "{content}");
}
