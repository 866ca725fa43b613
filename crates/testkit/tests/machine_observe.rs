//! Promise: one can watch. Logs, events, stats, top, lists.

mod common;

use std::fs;

use common::{busybox, scene};
use dhow_testkit::{Error, Result, run, wait};
use serde_json::Value;

/// Issue 2: `logs -f`.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn followed_logs_have_every_line_in_order_and_end_with_the_container() -> Result<()> {
    let scene = scene()?;
    let name = scene.name("logs");
    let script =
        "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); [ $((i % 100)) -ne 0 ] || sleep 1; done";
    scene.run(["-d", "--name", &name, busybox(), "sh", "-c", script]).ok()?;
    let said = scene.docker().run(["logs", "-f", &name]).ok()?.text();
    let wanted: Vec<String> = (0..500).map(|number| format!("line {number}")).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), wanted);
    Ok(())
}

/// Logs keep both streams apart.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn logs_keep_both_streams_apart() -> Result<()> {
    let scene = scene()?;
    let name = scene.name("streams");
    scene.run(["--name", &name, busybox(), "sh", "-c", "echo out; echo err >&2"]).ok()?;
    let logs = scene.docker().run(["logs", &name]).ok()?;
    assert_eq!((logs.text(), logs.complaint()), ("out".into(), "err".into()));
    Ok(())
}

/// Issue 2: `events`, heard while they happen.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn events_tell_a_containers_life_as_it_happens() -> Result<()> {
    let scene = scene()?;
    let heard = tempfile::NamedTempFile::new().map_err(Error::io("create file in", "/tmp"))?;
    let mut events = scene.docker().command();
    let format = "{{.Actor.Attributes.name}} {{.Action}}";
    events.args(["events", "--filter", &format!("label={}", scene.mark()), "--format", format]);
    events.stdout(heard.reopen().map_err(Error::io("open", heard.path()))?);
    let mut events = run::spawn(&mut events)?;
    // What was told of one container: those before it may still have something to say.
    let told = |name: &str| -> Vec<String> {
        let heard = fs::read_to_string(heard.path()).unwrap_or_default();
        let actions = heard.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let life = ["create", "start", "die", "destroy"];
        actions.filter(|action| life.contains(action)).map(str::to_owned).collect()
    };
    let ended = |name: &str| told(name).last().is_some_and(|last| last == "destroy");
    // The subscription has no answer of its own: it stands when something is heard of a container.
    let mut tries = 0;
    let stands = wait::until("the subscription to stand", common::PATIENCE, || {
        tries += 1;
        let name = scene.name(&format!("first-{tries}"));
        scene.run(["--rm", "--name", &name, busybox(), "true"]).ok().ok()?;
        (!told(&name).is_empty()).then_some(())
    });
    let name = scene.name("heard");
    let ran = stands.and_then(|()| scene.run(["--rm", "--name", &name, busybox(), "false"]).outcome());
    let end = wait::until("the container's end to be told", common::PATIENCE, || ended(&name).then_some(()));
    run::kill(&mut events);
    ran?;
    end?;
    let life = told(&name);
    assert_eq!(life, ["create", "start", "die", "destroy"]);
    Ok(())
}

/// Issue 2: `stats`.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn stats_show_what_a_running_container_uses() -> Result<()> {
    let scene = scene()?;
    let name = scene.name("stats");
    scene.run(["-d", "--name", &name, busybox(), "sh", "-c", "while true; do :; done"]).ok()?;
    let stats = wait::until("the container to have used the processor", common::PATIENCE, || {
        let said = scene.docker().ok(["stats", "--no-stream", "--format", "json", &name]).ok()?;
        let stats: Value = serde_json::from_str(&said).ok()?;
        stats["CPUPerc"].as_str().is_some_and(|share| share != "0.00%").then_some(stats)
    })?;
    assert_eq!(stats["Name"].as_str(), Some(&*name));
    assert!(stats["PIDs"].as_str().is_some_and(|pids| pids != "0"), "{stats}");
    Ok(())
}

/// A list shows each container once.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_container_is_listed_once_and_inspected_by_name_and_id() -> Result<()> {
    let scene = scene()?;
    let name = scene.name("listed");
    let id = scene.run(["-d", "--name", &name, busybox(), "sleep", "300"]).ok()?.text();
    let filter = format!("label={}", scene.mark());
    let listed =
        scene.docker().ok(["ps", "--no-trunc", "--filter", &filter, "--format", "{{.ID}} {{.Names}}"])?;
    assert_eq!(listed, format!("{id} {name}"));
    for alias in [&*name, &*id, &id[..12]] {
        assert_eq!(scene.docker().ok(["inspect", "-f", "{{.Id}}", alias])?, id);
    }
    Ok(())
}

/// Rule 2.1 names `top`: the engine's own `ps` is asked, not the container's.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn top_lists_a_containers_processes() -> Result<()> {
    let scene = scene()?;
    let name = scene.name("top");
    scene.run(["-d", "--name", &name, busybox(), "sleep", "300"]).ok()?;
    let listed = scene.docker().ok(["top", &name])?;
    assert!(listed.contains("PID") && listed.contains("sleep 300"), "{listed}");
    Ok(())
}

/// Rule 3.3: an unknown container is Docker's 404.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn an_unknown_container_is_dockers_own_error() -> Result<()> {
    let outcome = scene()?.docker().outcome(["inspect", "--type", "container", "no-such-container"])?;
    assert_eq!(outcome.code(), Some(1), "{outcome}");
    assert!(outcome.complaint().contains("No such container: no-such-container"), "{outcome}");
    Ok(())
}
