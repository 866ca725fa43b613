//! `dhow rescue`: what can be saved from a machine whose data disk cannot be used.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dhow_model::{Failure, MachineName};
use dhow_proto::control::{RescueExportRequest, RescueThing};
use serde::Serialize;

use super::args::RescueVerb;
use crate::client::{Daemon, Deadline};
use crate::command::Caller;
use crate::error::{Error, Result};
use crate::house::Report as _;
use crate::progress::Progress;
use crate::{exit, text};

/// For a list.
const LIST: Duration = Duration::from_secs(130);
/// For everything that can be saved.
const EXPORT: Duration = Duration::from_secs(24 * 3600);

/// A thing that can be saved, or was.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Thing {
    /// image, volume, container.
    kind: String,
    name: String,
    /// Null where it is not known.
    bytes: Option<u64>,
    /// Where it was saved; null where it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    /// Why it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Lists or saves.
///
/// # Errors
/// When the machine is not in rescue, or nothing could be saved.
pub async fn rescue(caller: &Caller, verb: &RescueVerb) -> Result<u8> {
    match verb {
        RescueVerb::List { whose } => list(caller, &whose.machine).await,
        RescueVerb::Export { directory, image, volume, container, whose } => {
            let named = [("image", image), ("volume", volume), ("container", container)];
            let wanted: Vec<(String, String)> = named
                .into_iter()
                .flat_map(|(kind, names)| names.iter().map(move |name| (kind.to_owned(), name.clone())))
                .collect();
            export(caller, &whose.machine, directory, wanted).await
        }
    }
}

async fn daemon(caller: &Caller, machine: &MachineName, deadline: Deadline) -> Result<Daemon> {
    let daemon = Daemon::reach(&caller.home.control_socket(), deadline).await?;
    daemon.ok_or_else(|| {
        let message =
            format!("machine {machine} is off; one whose data disk cannot be used starts in rescue");
        Error::Failed(Failure::new("engine-off", message, "dhow up"))
    })
}

async fn list(caller: &Caller, machine: &MachineName) -> Result<u8> {
    let deadline = Deadline::after(caller.time_limit.unwrap_or(LIST));
    let things = daemon(caller, machine, deadline).await?.rescue_list(machine.as_str(), deadline).await?;
    let things: Vec<Thing> = things.into_iter().map(thing).collect();
    caller.output.answer(&render(&things), &things)?;
    Ok(exit::OK)
}

/// Saves what is wanted, or everything; goes on after something that cannot be saved.
async fn export(
    caller: &Caller,
    machine: &MachineName,
    directory: &Path,
    wanted: Vec<(String, String)>,
) -> Result<u8> {
    let deadline = Deadline::after(caller.time_limit.unwrap_or(EXPORT));
    let mut daemon = daemon(caller, machine, deadline).await?;
    let all = daemon.rescue_list(machine.as_str(), deadline).await?;
    let wanted = match wanted.as_slice() {
        [] => all.into_iter().map(|thing| (thing.kind, thing.name)).collect(),
        _ => wanted,
    };
    fs::create_dir_all(directory).map_err(|source| unwritable(directory, &source))?;
    let mut progress = Progress::new(&caller.output);
    let mut things = Vec::new();
    for (kind, name) in wanted {
        progress.step(&format!("saving {kind} {}", text::one_line(&name)));
        let file = directory.join(file_name(&kind, &name));
        let request =
            RescueExportRequest { machine: machine.to_string(), kind: kind.clone(), name: name.clone() };
        let saved = save(&mut daemon, request, &file, &mut progress, deadline).await;
        let problem = saved.as_ref().err().map(ToString::to_string);
        let file = saved.is_ok().then_some(file);
        things.push(Thing { kind, name, bytes: saved.ok(), file, problem });
    }
    progress.finish();
    for thing in things.iter().filter(|thing| thing.problem.is_some()) {
        let problem = thing.problem.as_deref().unwrap_or_default();
        caller.output.warn(&format!("{} {} was not saved: {problem}", thing.kind, thing.name));
    }
    caller.output.answer(&render(&things), &things)?;
    Ok(if things.iter().all(|thing| thing.problem.is_none()) { exit::OK } else { exit::FAILED })
}

/// Writes an archive beside its place and puts it there when it is whole.
async fn save(
    daemon: &mut Daemon,
    request: RescueExportRequest,
    file: &Path,
    progress: &mut Progress,
    deadline: Deadline,
) -> Result<u64> {
    let part = file.with_extension("tar.part");
    let io = |source: std::io::Error| unwritable(&part, &source);
    let mut archive = daemon.rescue_export(request, deadline).await?;
    let mut target = File::create(&part).map_err(io)?;
    let mut bytes = 0;
    loop {
        match archive.next(deadline).await {
            Ok(Some(content)) => {
                target.write_all(&content).map_err(io)?;
                bytes += content.len() as u64;
                progress.bytes(bytes, None);
            }
            Ok(None) => break,
            Err(error) => {
                fs::remove_file(&part).map_err(io)?;
                return Err(error);
            }
        }
    }
    target.sync_all().map_err(io)?;
    fs::rename(&part, file).map_err(io)?;
    Ok(bytes)
}

fn unwritable(path: &Path, source: &std::io::Error) -> Error {
    let message = format!("{} cannot be written: {source}", path.display());
    Error::Failed(Failure::new("files", message, "choose another place, with more room"))
}

/// `image-a_b_1.tar`: a name of a guest's that cannot lead anywhere else.
fn file_name(kind: &str, name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = name.chars().map(plain).take(180).collect();
    format!("{kind}-{name}.tar")
}

fn thing(thing: RescueThing) -> Thing {
    Thing {
        kind: text::one_line(&thing.kind),
        name: text::one_line(&thing.name),
        bytes: Some(thing.bytes).filter(|bytes| *bytes > 0),
        file: None,
        problem: None,
    }
}

fn render(things: &[Thing]) -> String {
    if things.is_empty() {
        return "nothing is left that could be saved; `dhow disk export FILE` copies the disk as it is\n"
            .to_owned();
    }
    let line = |thing: &Thing| {
        let bytes = thing.bytes.map(|bytes| format!(", {}", text::bytes(bytes))).unwrap_or_default();
        let file = thing.file.as_ref().map(|file| format!(" → {}", file.display())).unwrap_or_default();
        format!("{:<10} {}{bytes}{file}\n", thing.kind, thing.name)
    };
    things.iter().filter(|thing| thing.problem.is_none()).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guest's names are hostile: a file is written where the user said and nowhere else.
    #[test]
    fn an_archive_is_named_for_what_it_holds_and_stays_in_its_directory() {
        for (name, file) in [
            ("a/b:1", "image-a_b_1.tar"),
            ("../../etc/passwd", "image-.._.._etc_passwd.tar"),
            ("sha256:00ff", "image-sha256_00ff.tar"),
        ] {
            assert_eq!(file_name("image", name), file);
            assert!(!file_name("image", name).contains('/'));
        }
        assert!(file_name("volume", &"x".repeat(999)).len() < 255);
    }

    /// Spec 7.6.
    #[test]
    fn what_can_be_saved_is_listed_and_an_empty_list_says_what_is_left_to_do() {
        let named = |kind: &str, name: &str, bytes| {
            thing(RescueThing { kind: kind.into(), name: name.into(), bytes })
        };
        let things = [named("image", "a:1", 1 << 20), named("volume", "v", 0)];
        insta::assert_snapshot!(render(&things), @r"
        image      a:1, 1 MiB
        volume     v
        ");
        assert!(render(&[]).contains("dhow disk export"));
    }
}
