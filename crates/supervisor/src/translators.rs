//! Keeps the guest's translators equal to the host's directory and the configuration's lists (spec 1.3, 1.5): the first that is
//! provisioned serves its architecture. There is no file share yet, so that the files go over the channel.
//!
//! The directory is looked at every second instead of watched: five names whose times are compared cost nothing, it is the same on
//! every host and every file system, and no event can be lost. The lists are read here and not from the machine's description, so
//! that changing them needs no new machine.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use dhow_home::Home;
use dhow_model::translator::{TABLE, Translator};
use dhow_model::{Arch, Config};
use dhow_proto::agent::{self as proto, TranslatorFile, TranslatorPart, translator_part};
use tokio::sync::mpsc;

use crate::agent::{Agent, Heard};

/// Between two looks at the directory.
const LOOK: Duration = Duration::from_secs(1);
/// Between two attempts while the agent is not up yet.
const AGAIN: Duration = Duration::from_millis(50);
/// Bytes of one part of a file, well below what a message may have.
const PART: usize = 256 << 10;

/// What the guest is handed, and what stood in the way.
#[derive(Debug, Default)]
struct Choice {
    files: Vec<(TranslatorFile, Vec<u8>)>,
    warnings: Vec<String>,
}

/// Follows the directory until the receiver is gone.
pub async fn follow(home: Home, guest: Arch, mut agent: Agent, heard: mpsc::Sender<Heard>) {
    let mut seen = None;
    let mut held: Vec<TranslatorFile> = Vec::new();
    let mut complained = String::new();
    loop {
        // Not while the machine sleeps.
        drop(agent.turn().await);
        let now = signature(&home, guest);
        if seen.as_ref() == Some(&now) {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => continue,
                () = heard.closed() => return,
            }
        }
        let told = match hand_over(&home, guest, &mut agent, &mut held, seen.is_none()).await {
            Ok((translators, warnings)) => {
                seen = Some(now);
                complained.clear();
                Heard::Translators(translators, warnings)
            }
            // An agent that boots is asked again at once: its dockerd waits for this.
            Err(why) => {
                if why != complained {
                    tracing::debug!(%why, "the guest has not taken its translators");
                    complained.clone_from(&why);
                }
                let wait = if seen.is_none() { AGAIN } else { LOOK };
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = heard.closed() => return,
                }
                if seen.is_none() {
                    continue;
                }
                Heard::TranslatorsLate(format!("the guest has not taken a change of its translators: {why}"))
            }
        };
        if heard.send(told).await.is_err() {
            return;
        }
    }
}

async fn hand_over(
    home: &Home,
    guest: Arch,
    agent: &mut Agent,
    held: &mut Vec<TranslatorFile>,
    first: bool,
) -> Result<(proto::Translators, Vec<String>), String> {
    let Choice { files, warnings } = match home.read_config() {
        Ok(config) => {
            let directory = home.runtime_bin();
            let chosen = tokio::task::spawn_blocking(move || choose(&directory, guest, &config)).await;
            chosen.map_err(|error| error.to_string())?
        }
        // The guest waits for an answer, and nobody knows a list; later, what it has stays.
        Err(failure) if first => Choice { warnings: vec![failure.message], ..Choice::default() },
        Err(failure) => return Err(failure.message),
    };
    let mut wanted = Vec::new();
    for (file, content) in files {
        // The guest keeps it under its name: the same file may be another translator's, too.
        if !held.contains(&file) {
            tracing::info!(translator = %file.name, serves = %file.serves, bytes = file.size, "handing a translator to the guest");
            agent.put_translator(parts(file.clone(), content)).await?;
        }
        wanted.push(file);
    }
    // What is not used is not kept there.
    held.clear();
    held.extend(wanted.iter().cloned());
    match agent.use_translators(wanted).await {
        Ok(translators) => Ok((translators, warnings)),
        Err(why) => {
            held.clear();
            Err(why)
        }
    }
}

/// The first provisioned translator of each list, read whole. What is wrong with the others is told by those who look at the
/// directory themselves; only what went wrong here is a warning.
fn choose(directory: &Path, guest: Arch, config: &Config) -> Choice {
    let mut choice = Choice::default();
    for serves in Arch::ALL.into_iter().filter(|arch| *arch != guest) {
        let rows = config.translators.list(serves).iter().filter_map(|name| name.translator(guest, serves));
        let Some(row) = rows
            .into_iter()
            .find(|row| dhow_assets::translator::state(directory, row.name, guest, serves).is_ok())
        else {
            continue;
        };
        match read(directory, row) {
            Ok(read) => choice.files.push(read),
            Err(why) => choice.warnings.push(format!("{} was not handed to the guest: {why}", row.name)),
        }
    }
    choice
}

fn read(directory: &Path, row: &Translator) -> Result<(TranslatorFile, Vec<u8>), String> {
    let path = directory.join(row.file);
    let opened =
        dhow_assets::translator::open(&path, row.guest).map_err(|why| format!("{} {why}", path.display()))?;
    let mut content = Vec::new();
    opened.file.take(opened.length).read_to_end(&mut content).map_err(|error| error.to_string())?;
    if content.len() as u64 != opened.length {
        return Err(format!("{} became shorter while it was read", path.display()));
    }
    let file = TranslatorFile {
        name: row.name.to_string(),
        serves: row.serves.to_string(),
        sha256: dhow_assets::hash::bytes(&content),
        size: opened.length,
    };
    Ok((file, content))
}

fn parts(file: TranslatorFile, content: Vec<u8>) -> impl Iterator<Item = TranslatorPart> + Send + 'static {
    let count = content.len().div_ceil(PART);
    let part = |what| TranslatorPart { what: Some(what) };
    let slices = (0..count).map(move |index| {
        let end = content.len().min((index + 1) * PART);
        content.get(index * PART..end).map(<[u8]>::to_vec).unwrap_or_default()
    });
    std::iter::once(part(translator_part::What::File(file)))
        .chain(slices.map(move |slice| part(translator_part::What::Content(slice))))
}

/// Changes whenever the configuration or a file that may matter does.
fn signature(home: &Home, guest: Arch) -> Vec<Option<[i64; 6]>> {
    let directory = home.runtime_bin();
    let files = TABLE.iter().filter(|row| row.guest == guest).map(|row| directory.join(row.file));
    files
        .chain([home.config_file()])
        .map(|path| {
            let it = path.symlink_metadata().ok()?;
            let number = |value: u64| i64::from_ne_bytes(value.to_ne_bytes());
            Some([
                number(it.ino()),
                number(it.len()),
                it.mtime(),
                it.mtime_nsec(),
                it.ctime(),
                it.ctime_nsec(),
            ])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program of an architecture that loads itself.
    fn program(arch: Arch) -> Vec<u8> {
        dhow_model::translator::probe::program(arch)
    }

    fn directory(files: &[(&str, Arch)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, arch) in files {
            dhow_home::atomic::write(&directory.path().join(name), &program(*arch), 0o755).unwrap();
        }
        directory
    }

    fn chosen(directory: &Path, guest: Arch, config: &str) -> Vec<String> {
        let choice = choose(directory, guest, &Config::parse(config).unwrap());
        assert!(choice.warnings.is_empty(), "{:?}", choice.warnings);
        choice.files.into_iter().map(|(file, _)| format!("{} for {}", file.name, file.serves)).collect()
    }

    /// Spec 1.3: in the user's order, the first that is provisioned, and none that is not named.
    #[test]
    fn the_first_provisioned_translator_of_each_list_is_handed_over() {
        use Arch::{Amd64, Arm64};
        let both = directory(&[("FEX", Arm64), ("qemu-x86_64", Arm64), ("qemu-aarch64", Amd64)]);
        let seen = |guest, config| chosen(both.path(), guest, config);
        assert_eq!(seen(Amd64, ""), ["qemu for arm64"]);
        assert_eq!(seen(Arm64, ""), ["fex for amd64"]);
        assert_eq!(seen(Arm64, "[translators]\namd64 = ['box64', 'qemu', 'fex']"), ["qemu for amd64"]);
        assert_eq!(seen(Amd64, "[translators]\narm64 = []"), [""; 0]);
        // Of the wrong architecture: the same name in a guest of the other kind.
        let wrong = directory(&[("qemu-aarch64", Arm64)]);
        assert_eq!(chosen(wrong.path(), Amd64, ""), [""; 0]);
    }

    #[test]
    fn a_file_goes_over_in_parts_behind_its_description() {
        let content: Vec<u8> = (0..PART + 5).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let parts: Vec<_> = parts(TranslatorFile::default(), content.clone()).collect();
        assert_eq!(parts.len(), 3);
        assert!(matches!(parts[0].what, Some(translator_part::What::File(_))));
        let sent: Vec<u8> = parts
            .into_iter()
            .filter_map(|part| match part.what {
                Some(translator_part::What::Content(content)) => Some(content),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(sent, content);
    }

    /// Issue 6: a change takes effect while the machine runs.
    #[test]
    fn every_change_of_the_directory_and_the_configuration_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path().join("home")).unwrap();
        home.create().unwrap();
        let path = home.runtime_bin().join("qemu-aarch64");
        let mut seen = vec![signature(&home, Arch::Amd64)];
        let mut changed = |what: &str| {
            let now = signature(&home, Arch::Amd64);
            assert_ne!(seen.last(), Some(&now), "{what}");
            seen.push(now);
        };
        dhow_home::atomic::write(&path, b"one", 0o755).unwrap();
        changed("a new file");
        dhow_home::atomic::write(&path, b"two", 0o755).unwrap();
        changed("another file");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        changed("its mode");
        dhow_home::atomic::remove(&path).unwrap();
        changed("its removal");
        std::os::unix::fs::symlink("nothing", &path).unwrap();
        changed("a link");
        dhow_home::atomic::write(&home.config_file(), b"", 0o600).unwrap();
        changed("the configuration");
        assert_eq!(seen.last(), Some(&signature(&home, Arch::Amd64)));
    }
}
