use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

use dhow_model::Role;
use dhow_testkit::{run, wait};

use crate::common::pair::{IMAGE, LIMIT, Pair, next_second};

/// `docker events`, with its lines as they come: "web create".
struct Events {
    child: Child,
    lines: Receiver<String>,
}

impl Events {
    /// Once this many engines have been asked.
    fn of(pair: &Pair, engines: u64) -> Self {
        let before = listeners(pair);
        let mut command = pair.docker.command();
        command.args(["events", "--filter", "type=container", "--filter", "event=create", "--format"]);
        command.arg("{{.Actor.Attributes.name}} {{.Action}}").stdout(Stdio::piped());
        let mut child = run::spawn(&mut command).unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let all = || (listeners(pair) >= before + engines).then_some(());
        wait::until("the events to be listened to", LIMIT, all).unwrap();
        Self { child, lines }
    }

    fn next(&self) -> String {
        self.lines.recv_timeout(LIMIT).unwrap()
    }
}

/// How many listen to the engines' events.
fn listeners(pair: &Pair) -> u64 {
    let of = |role| pair.at(role, ["info", "--format", "{{.NEventsListener}}"]).parse::<u64>().unwrap();
    Role::ALL.map(of).iter().sum()
}

impl Drop for Events {
    fn drop(&mut self) {
        run::kill(&mut self.child);
    }
}

/// 3.7: events of both machines come as they happen, through one engine's death and after it, and the client's end ends them.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn events_of_both_machines_are_one_stream() {
    let mut pair = Pair::new();
    let events = Events::of(&pair, 2);
    for (role, name) in [(Role::Foreign, "aa"), (Role::Native, "bb"), (Role::Foreign, "cc")] {
        pair.at(role, ["create", "--name", name, IMAGE, "true"]);
        assert_eq!(events.next(), format!("{name} create"));
    }
    pair.foreign.kill().unwrap();
    pair.at(Role::Native, ["create", "--name", "dd", IMAGE, "true"]);
    assert_eq!(events.next(), "dd create");
    pair.at(Role::Foreign, ["create", "--name", "ee", IMAGE, "true"]);
    assert_eq!(events.next(), "ee create");
    drop(events);
    let over = || (pair.serving.face.stats().in_flight == 0).then_some(());
    wait::until("the stream to end", LIMIT, over).unwrap();
}

/// 3.7: what has happened in both machines is told with `--since`, and ends with `--until`.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn past_events_of_both_machines_come_to_an_end() {
    let pair = Pair::new();
    for role in Role::ALL {
        pair.at(role, ["create", "--name", role.as_str(), IMAGE, "true"]);
    }
    // The client asks for events until a whole second.
    next_second();
    let args = [
        "events",
        "--since",
        "10m",
        "--until",
        "0s",
        "--filter",
        "event=create",
        "--format",
        "{{.Actor.Attributes.name}}",
    ];
    let said = pair.docker.run(args).limit(LIMIT).ok().unwrap().text();
    let mut names: Vec<&str> = said.lines().collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, ["foreign", "native"]);
}

/// 3.7, 6.7: while one machine is off its engine is not asked for; when it starts its events come in.
#[test]
#[ignore = "needs root, fetches packages: ./dev test face"]
fn a_machine_that_starts_later_joins_the_stream() {
    let dir = tempfile::tempdir().unwrap();
    let later = dir.path().join("docker.sock");
    let pair = Pair::with_foreign_at(Some(&later));
    let events = Events::of(&pair, 1);
    pair.at(Role::Native, ["create", "--name", "alone", IMAGE, "true"]);
    assert_eq!(events.next(), "alone create");
    std::os::unix::fs::symlink(pair.foreign.socket(), &later).unwrap();
    pair.at(Role::Foreign, ["create", "--name", "joined", IMAGE, "true"]);
    assert_eq!(events.next(), "joined create");
}
