//! Promise: a program in a container behaves as it does under Docker. Exit statuses, streams, terminals, exec, attach.

mod common;

use std::collections::BTreeSet;
use std::process::Command;

use common::gateway::nightly;
use common::{busybox, scene};
use dhow_testkit::{Outcome, Result, Run, run, wait};

fn exit_code_of(script: &str) -> Result<Outcome> {
    scene()?.run(["--rm", busybox(), "sh", "-c", script]).outcome()
}

/// Issue 2: run with exit code 0.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_program_that_ends_well_ends_docker_run_with_0() -> Result<()> {
    let outcome = exit_code_of("echo out; echo err >&2")?;
    assert_eq!((outcome.code(), outcome.text(), outcome.complaint()), (Some(0), "out".into(), "err".into()));
    Ok(())
}

/// Issue 2: run with exit code 3.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_programs_exit_status_is_docker_runs() -> Result<()> {
    let outcome = exit_code_of("exit 3")?;
    assert_eq!(outcome.code(), Some(3), "{outcome}");
    Ok(())
}

/// Issue 2: run with exit code 137.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_killed_container_ends_docker_run_with_137() -> Result<()> {
    let scene = scene()?;
    let name = scene.name("killed");
    let mut attached = scene.run(["--name", &name, busybox(), "sh", "-c", "echo up; sleep 300"]).start()?;
    wait::until("the container to run", common::PATIENCE, || {
        scene.docker().ok(["logs", &name]).ok().filter(|said| said == "up")
    })?;
    scene.docker().ok(["kill", &name])?;
    let status = run::wait_within(&mut attached, common::PATIENCE);
    assert_eq!(status.and_then(|status| status.code()), Some(137));
    Ok(())
}

/// Rule 3.3: errors are Docker's.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_program_that_is_not_there_is_docker_s_own_error() -> Result<()> {
    let outcome = scene()?.run(["--rm", busybox(), "no-such-program"]).outcome()?;
    assert_eq!(outcome.code(), Some(127), "{outcome}");
    assert!(outcome.complaint().contains("executable file not found"), "{outcome}");
    Ok(())
}

/// Issue 2: stdin piped.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn what_is_piped_in_arrives_whole() -> Result<()> {
    let input: Vec<u8> =
        (0..5_000_000_u32).map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let outcome = scene()?.run(["--rm", "-i", busybox(), "cat"]).input(input.clone()).ok()?;
    assert!(outcome.stdout == input, "5 MB through `cat` came back as {} bytes", outcome.stdout.len());
    Ok(())
}

/// Issue 2: a TTY.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_terminal_is_one_inside_too_and_has_the_size_of_the_outer_one() -> Result<()> {
    let scene = scene()?;
    let inside = "stty size; test -t 0 && test -t 1 && echo terminal; exit 5";
    let docker = scene.run(["--rm", "-it", busybox(), "sh", "-c"]);
    let outcome = in_terminal(&format!("stty rows 33 cols 77; {} '{inside}'", docker.line()), &scene)?;
    assert!(outcome.text().contains("33 77") && outcome.text().contains("terminal"), "{outcome}");
    assert_eq!(outcome.code(), Some(5), "{outcome}");
    Ok(())
}

/// Issue 2: a TTY. Typed characters are echoed, control characters are signals.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn an_interrupt_typed_at_the_terminal_reaches_the_program() -> Result<()> {
    let scene = scene()?;
    let name = scene.name("tty");
    let line = scene.run(["--rm", "-it", "--name", &name, busybox(), "sh", "-c"]).line();
    let script = "trap 'echo caught; exit 9' INT; echo ready; while true; do sleep 1; done";
    let typed = format!("{line} \"{script}\"");
    // The interrupt is typed when the program has said that it is ready for it.
    let type_later = "while ! grep -q ready \"$0\"; do sleep 0.2; done; printf '\\003'; while ! grep -q caught \"$0\"; do sleep 0.2; done";
    let seen = tempfile::NamedTempFile::new().expect("a file for the terminal's output");
    let outcome = Run::new("sh")
        .arg("-c")
        .arg(format!("sh -c '{}' \"$0\" | script -qefc \"$1\" \"$0\"", type_later.replace('\'', "'\\''")))
        .arg(seen.path())
        .arg(&typed)
        .env("DOCKER_HOST", format!("unix://{}", scene.docker().socket().display()))
        .env("DOCKER_CONFIG", &scene.docker().tools().config)
        .outcome()?;
    assert!(outcome.text().contains("caught"), "{outcome}");
    Ok(())
}

/// Issue 2: `exec`.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn exec_runs_beside_the_program_with_its_own_streams_and_status() -> Result<()> {
    let scene = scene()?;
    let name = scene.name("exec");
    scene.run(["-d", "--name", &name, busybox(), "sleep", "300"]).ok()?;
    let script = "cat; echo $MARK; echo err >&2; exit 4";
    let exec = ["exec", "-i", "-e", "MARK=mark", "-w", "/tmp", &name, "sh", "-c", script];
    let outcome = scene.docker().run(exec).input("in\n").outcome()?;
    assert_eq!(
        (outcome.code(), outcome.text(), outcome.complaint()),
        (Some(4), "in\nmark".into(), "err".into())
    );
    Ok(())
}

/// Issue 2 and rule 3.2: `attach` with half-close. What comes after our end of input is still heard.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn attach_hears_the_answer_after_its_own_input_has_ended() -> Result<()> {
    let scene = scene()?;
    let name = scene.name("attach");
    // Created for one attached client, as `docker run -i` does: the program's input ends with that client's.
    scene.create(["-i", "--name", &name, busybox(), "sh", "-c", "wc -c; sleep 1; echo after; exit 6"])?;
    scene.docker().ok(["start", &name])?;
    let outcome = scene.docker().run(["attach", &name]).input(vec![b'x'; 1_000_000]).outcome()?;
    assert_eq!((outcome.code(), outcome.text()), (Some(6), "1000000\nafter".into()), "{outcome}");
    Ok(())
}

/// Rule 3.2: half-close on exec, too.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn exec_hears_the_answer_after_its_own_input_has_ended() -> Result<()> {
    let scene = scene()?;
    let name = scene.name("half");
    scene.run(["-d", "--name", &name, busybox(), "sleep", "300"]).ok()?;
    let exec = ["exec", "-i", &name, "sh", "-c", "wc -c; sleep 1; echo after"];
    let outcome = scene.docker().run(exec).input(vec![b'x'; 1_000_000]).ok()?;
    assert_eq!(outcome.text(), "1000000\nafter");
    Ok(())
}

/// Issue 2: 50 containers started at once, by night; 16 by day.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn many_containers_started_at_once_all_run() -> Result<()> {
    let (scene, count) = (scene()?, if nightly() { 50 } else { 16 });
    let run = |number: usize| {
        scene.run(["-d", busybox(), "sh", "-c"]).arg(format!("echo {number}; exec sleep 600")).start()
    };
    let mut clients = (0..count).map(run).collect::<Result<Vec<_>>>()?;
    for client in &mut clients {
        let status = run::wait_within(client, common::PATIENCE).expect("docker run ends in its time");
        assert!(status.success(), "{status}");
    }
    let filter = format!("label={}", scene.mark());
    let running = scene.docker().ok(["ps", "-q", "--filter", &filter])?;
    assert_eq!(running.lines().count(), count);
    let said: BTreeSet<String> =
        running.lines().map(|id| scene.docker().ok(["logs", id])).collect::<Result<BTreeSet<_>>>()?;
    assert_eq!(said.len(), count, "every container said its own number");
    let all = running.lines().map(str::to_owned);
    scene.docker().run(["rm", "-f"]).args(all).limit(common::PATIENCE).ok()?;
    Ok(())
}

/// Rule 2.5 and 16.3: `--rm` leaves nothing.
#[test]
#[ignore = "needs a booted engine: ./dev test machine"]
fn a_container_run_with_rm_is_gone_when_it_ends() -> Result<()> {
    let scene = scene()?;
    scene.run(["--rm", busybox(), "true"]).ok()?;
    let filter = format!("label={}", scene.mark());
    wait::until("the container to go", common::PATIENCE, || {
        scene.docker().ok(["ps", "-aq", "--filter", &filter]).ok().filter(String::is_empty)
    })?;
    Ok(())
}

/// Runs a shell line in a terminal of its own.
fn in_terminal(line: &str, scene: &dhow_testkit::Scene) -> Result<Outcome> {
    let mut command = Command::new("script");
    command
        .args(["-qefc", line, "/dev/null"])
        .env("DOCKER_HOST", format!("unix://{}", scene.docker().socket().display()))
        .env("DOCKER_CONFIG", &scene.docker().tools().config);
    Run::from(command).outcome()
}
