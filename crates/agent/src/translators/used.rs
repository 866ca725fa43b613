//! One translator that the host wants used: registered, read back, and proved by a test program.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use dhow_model::Arch;
use dhow_model::translator::{Pattern, Said, Translator, TranslatorName, UNIDENTIFIED, probe};
use dhow_proto::agent::{self as proto, TranslatorFile};

use super::binfmt::Binfmt;
use super::orphans::Withdrawn;
use super::{probe_file, receive};
use crate::reaper::Reaper;
use crate::{Error, Result, console, tool};

/// For a translator to run the test program, or to say its version.
const PROBE: Duration = Duration::from_secs(10);

/// A translator, as it was asked for and what came of it.
#[derive(Debug, Clone)]
pub(super) struct Used {
    /// Its row of the table.
    pub translator: &'static Translator,
    /// As the host describes it.
    pub file: TranslatorFile,
    /// Where its file is.
    pub path: PathBuf,
    /// The name of its entry.
    pub entry: String,
    /// Why it could not be registered, or does not run programs; empty: it does.
    pub problem: String,
    /// As it says itself.
    pub version: String,
}

/// What the host asks for, checked: translators of the table, one for an architecture.
pub(super) fn understood(
    files: &Path,
    guest: Option<Arch>,
    wanted: Vec<TranslatorFile>,
) -> Result<Vec<Used>> {
    let mut all: Vec<Used> = Vec::new();
    for file in wanted {
        let translator = row(guest, &file)?;
        if all.iter().any(|one| one.translator.serves == translator.serves) {
            return Err(Error::Translator(format!("two translators for {} were asked for", file.serves)));
        }
        let path = receive::place(files, translator, &file.sha256);
        let entry = translator.entry(&file.sha256);
        all.push(Used { translator, file, path, entry, problem: String::new(), version: String::new() });
    }
    Ok(all)
}

/// The row of the table that a description names.
pub(super) fn row(guest: Option<Arch>, file: &TranslatorFile) -> Result<&'static Translator> {
    let unknown = || Error::Translator(format!("{} for {} is not known", file.name, file.serves));
    let (name, serves) = (file.name.parse::<TranslatorName>(), file.serves.parse::<Arch>());
    let (Ok(name), Ok(serves), Some(guest)) = (name, serves, guest) else { return Err(unknown()) };
    let translator = name.translator(guest, serves).ok_or_else(unknown)?;
    let digest =
        file.sha256.len() == 64 && file.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if digest { Ok(translator) } else { Err(Error::Translator(format!("{:?} is no digest", file.sha256))) }
}

impl Used {
    /// Registers it and has it run the test program. What goes wrong is kept as its problem.
    pub fn register(&mut self, binfmt: &Binfmt, files: &Path, reaper: &Reaper) {
        let tried = self
            .try_register(binfmt)
            .and_then(|()| prove(files, self.translator, reaper))
            .and_then(|()| version(self.translator, &self.path, reaper));
        self.problem = match tried {
            Ok(version) => {
                self.version = version;
                String::new()
            }
            // Whoever reads it knows that it is about translators.
            Err(Error::Translator(why)) => why,
            Err(error) => error.to_string(),
        };
        let name = self.translator.name;
        if self.problem.is_empty() {
            console::line(format!("dhow: {name} {} serves {}", self.version, self.translator.serves));
        } else {
            console::line(format!(
                "dhow: {name} does not serve {}: {}",
                self.translator.serves, self.problem
            ));
        }
    }

    fn try_register(&self, binfmt: &Binfmt) -> Result<()> {
        if !self.path.is_file() {
            return Err(Error::Translator("its file is not in the guest".to_owned()));
        }
        binfmt.mount()?;
        let refused = |error: std::io::Error| {
            Error::Translator(format!(
                "the kernel refused the registration of {}: {error}",
                self.path.display()
            ))
        };
        // What a failed attempt may have left.
        binfmt.remove(&self.entry).map_err(refused)?;
        binfmt.register(&self.translator.registration(&self.entry, &self.path)).map_err(refused)
    }

    /// Takes its entry away; answers its file's identity, by which its processes are known.
    pub fn withdraw(&self, binfmt: &Binfmt) -> Option<Withdrawn> {
        let Translator { name, serves, .. } = self.translator;
        match binfmt.remove(&self.entry) {
            Ok(()) => console::line(format!("dhow: {name} no longer serves {serves}")),
            Err(error) => {
                console::line(format!("dhow: the entry {} could not be removed: {error}", self.entry))
            }
        }
        Withdrawn::of(&self.path, *name, *serves)
    }

    /// What the kernel says of it now.
    pub fn report(&self, binfmt: &Binfmt) -> proto::Translator {
        let entry = binfmt.read(&self.entry);
        let mut report = proto::Translator {
            file: Some(self.file.clone()),
            problem: self.problem.clone(),
            entry: entry.as_ref().map(|_| self.entry.clone()).unwrap_or_default(),
            version: self.version.clone(),
            ..proto::Translator::default()
        };
        let problem = match entry {
            None => Some("its entry in binfmt_misc is gone".to_owned()),
            Some(entry) => {
                let problem = if !entry.enabled {
                    Some("its entry in binfmt_misc is disabled".to_owned())
                } else if Path::new(&entry.interpreter) != self.path || !entry.flags.contains('F') {
                    Some(format!("its entry was changed: {} with flags {}", entry.interpreter, entry.flags))
                } else {
                    binfmt.rivals(&self.entry, &Pattern::of(self.translator.serves)).into_iter().next()
                };
                (report.interpreter, report.flags) = (entry.interpreter, entry.flags);
                problem
            }
        };
        if report.problem.is_empty() {
            report.problem = problem.unwrap_or_default();
        }
        report
    }
}

/// Has the kernel run a program of the architecture: the one proof that it is served.
fn prove(files: &Path, translator: &Translator, reaper: &Reaper) -> Result<()> {
    let (path, program) = probe_file(files, translator.serves);
    let wrong = |why: String| Error::Translator(format!("it did not run a test program: {why}"));
    fs::File::create(&path)
        .and_then(|mut file| file.write_all(&program))
        .map_err(Error::file("write", &path))?;
    fs::set_permissions(&path, Permissions::from_mode(0o755))
        .map_err(Error::file("make executable", &path))?;
    match tool::run(reaper, Command::new(&path).envs(translator.environment.iter().copied()), PROBE) {
        Ok((probe::STATUS, _)) => Ok(()),
        Ok((status, tail)) => Err(wrong(format!("it ended with status {status} {tail}"))),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// The version that a translator tells. A file that says that it is another one of the table is not used under this name (spec 1.9).
fn version(translator: &Translator, path: &Path, reaper: &Reaper) -> Result<String> {
    let environment = translator.environment.iter().copied();
    let said = tool::run(reaper, Command::new(path).arg("--version").envs(environment), PROBE)
        .map_or_else(|_| String::new(), |(_, said)| said);
    // Of complaints that begin with its own path nothing is to be concluded.
    match Said::of(translator, &said.replace(&*path.to_string_lossy(), "")) {
        Said::Itself(version) => Ok(version),
        Said::Nothing => Ok(UNIDENTIFIED.to_owned()),
        Said::Another(other) => {
            let name = translator.name;
            Err(Error::Translator(format!("its file says that it is {other}, not {name}")))
        }
    }
}

/// Removes the files of translators that are not used any more.
pub(super) fn forget_files(files: &Path, used: &[Used]) {
    let directories = fs::read_dir(files).into_iter().flatten().flatten();
    for directory in directories.map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let kept = used.iter().any(|one| one.path.starts_with(&directory));
        if !kept && let Err(error) = fs::remove_dir_all(&directory) {
            console::line(format!("dhow: {} could not be removed: {error}", directory.display()));
        }
    }
}
