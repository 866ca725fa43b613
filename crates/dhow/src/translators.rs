//! `dhow translator`: the command line's words for what `dhow_assets::translator` does.

use dhow_assets::translator::{self, From};
use dhow_assets::{BuildOptions, Store, hash};
use dhow_cli::{Report, TranslatorCommand, TranslatorFrom, TranslatorProbe, TranslatorRow, TranslatorsDone};
use dhow_engine::assets_failure;
use dhow_home::Home;
use dhow_model::translator::{Source, TABLE, Translator};
use dhow_model::{Arch, Config, Failure, TranslatorName};

use crate::assets::told;

type Result<T, E = Failure> = std::result::Result<T, E>;

/// Does what was asked.
pub fn run(
    home: &Home,
    config: &Config,
    command: &TranslatorCommand,
    report: &mut dyn Report,
) -> Result<TranslatorsDone> {
    home.create().map_err(|error| {
        let hint = error.hint();
        Failure::new("directory", error.to_string(), hint)
    })?;
    match command {
        TranslatorCommand::List { guest } => Ok(list(home, config, *guest)),
        TranslatorCommand::Provision { guest, name, from } => {
            provision(home, config, find(*guest, *name)?, from, report)
        }
        TranslatorCommand::Remove { guest, name } => {
            let translator = find(*guest, *name)?;
            let removed = translator::remove(&home.runtime_bin(), translator)
                .map_err(|error| failure(translator, error))?;
            let words = if removed { "was removed" } else { "was not there" };
            Ok(TranslatorsDone {
                summary: format!("{} {words}", home.runtime_bin().join(translator.file).display()),
                translators: vec![row(home, config, translator)],
            })
        }
        TranslatorCommand::Probe { guest, name } => probe(home, config, *guest, *name),
    }
}

fn list(home: &Home, config: &Config, guest: Arch) -> TranslatorsDone {
    let rows = TABLE.iter().filter(|translator| translator.guest == guest);
    let mut rows: Vec<TranslatorRow> = rows.map(|translator| row(home, config, translator)).collect();
    // Those of the list come first, in its order.
    rows.sort_by_key(|row| {
        let place = config.translators.list(row.serves).iter().position(|name| *name == row.name);
        (row.serves, place.unwrap_or(usize::MAX))
    });
    TranslatorsDone { summary: String::new(), translators: rows }
}

fn provision(
    home: &Home,
    config: &Config,
    translator: &'static Translator,
    from: &TranslatorFrom,
    report: &mut dyn Report,
) -> Result<TranslatorsDone> {
    let failure = |error| failure(translator, error);
    let mut progress = told(report);
    let directory = home.runtime_bin();
    let placed = match from {
        TranslatorFrom::File(path) => {
            translator::provision(&directory, translator, &From::File(path), &mut progress)
        }
        TranslatorFrom::Address { url, sha256 } => {
            translator::provision(&directory, translator, &From::Address { url, sha256 }, &mut progress)
        }
        TranslatorFrom::Package { mirror, refresh } => {
            let store = Store::open(home.asset_store()).map_err(failure)?;
            let mut options = BuildOptions::new(translator.guest, std::path::PathBuf::new());
            let configured = Some(config.assets.mirror.clone()).filter(|mirror| !mirror.is_empty());
            options.mirror = mirror.clone().or(configured).or(options.mirror);
            options.refresh = *refresh;
            translator::provision(&directory, translator, &From::Package(&store, &options), &mut progress)
        }
    }
    .map_err(failure)?;
    let digest = placed.sha256.get(..12).unwrap_or(&placed.sha256);
    Ok(TranslatorsDone {
        summary: format!("{} is provisioned from {} (SHA-256 {digest})", translator.name, placed.origin),
        translators: vec![row(home, config, translator)],
    })
}

fn probe(home: &Home, config: &Config, guest: Arch, name: Option<TranslatorName>) -> Result<TranslatorsDone> {
    let rows: Vec<&Translator> = match name {
        Some(name) => vec![find(guest, name)?],
        None => TABLE.iter().filter(|translator| translator.guest == guest).collect(),
    };
    let mut done = TranslatorsDone::default();
    for translator in rows {
        let mut row = row(home, config, translator);
        if !row.provisioned && name.is_none() {
            continue;
        }
        row.probe = Some(outcome(home, translator, row.provisioned));
        done.translators.push(row);
    }
    if done.translators.is_empty() {
        done.summary = format!("no translator for {guest} guests is provisioned");
    }
    Ok(done)
}

fn outcome(home: &Home, translator: &Translator, provisioned: bool) -> TranslatorProbe {
    if !provisioned {
        return TranslatorProbe { failed: true, words: "it is not provisioned".to_owned() };
    }
    match translator::probe::run(&home.runtime_bin(), translator) {
        Ok(took) => {
            let words = format!("ran a program of {} in {} ms", translator.serves, took.as_millis());
            TranslatorProbe { failed: false, words }
        }
        // Nothing is wrong with a translator that runs on another kind of host.
        Err(words) => TranslatorProbe { failed: Some(translator.guest) == Arch::host(), words },
    }
}

fn row(home: &Home, config: &Config, translator: &Translator) -> TranslatorRow {
    let directory = home.runtime_bin();
    let Translator { name, guest, serves, .. } = *translator;
    let list = config.translators.list(serves);
    let state = |name| translator::state(&directory, name, guest, serves);
    let file = directory.join(translator.file);
    let (reason, provisioned) = match state(name) {
        Ok(()) => (String::new(), true),
        Err(unprovisioned) => (unprovisioned.why.to_string(), false),
    };
    let hint = match translator.source {
        Source::Package { .. } => format!("`dhow translator provision {name}`"),
        Source::User => format!("`dhow translator provision {name} --from FILE`"),
        Source::MacOs => "it comes with macOS".to_owned(),
    };
    let (sha256, size) = if provisioned { hash::file(&file).ok().unzip() } else { (None, None) };
    TranslatorRow {
        name,
        guest,
        serves,
        listed: list.contains(&name),
        chosen: list.iter().find(|name| state(**name).is_ok()) == Some(&name),
        file,
        provisioned,
        reason,
        hint,
        sha256,
        size,
        gaps: translator.gaps.iter().map(|gap| (*gap).to_owned()).collect(),
        probe: None,
    }
}

/// The error as a person reads it: what is common to all work with packages has its code and its advice from there.
fn failure(translator: &Translator, error: dhow_assets::Error) -> Failure {
    use dhow_assets::Error as A;
    let words = error.to_string();
    let static_build =
        format!("dhow translator provision {} --from FILE, with a static build", translator.name);
    match &error {
        A::NoTranslator { .. } => Failure::new("translator-unfit", words, static_build),
        A::NotPackaged { .. } => Failure::new("translator-not-packaged", words, static_build),
        A::WrongHash { .. } => Failure::new(
            "translator-digest",
            words,
            "compare the address and the digest with their publisher's",
        ),
        A::Io { .. } => Failure::new("files", words, "check that the file is there and may be read"),
        _ => {
            let Failure { code, hint, .. } = assets_failure(translator.guest, error);
            Failure::new(code, words, hint)
        }
    }
}

/// The translator of this name in guests of this architecture.
fn find(guest: Arch, name: TranslatorName) -> Result<&'static Translator> {
    TABLE.iter().find(|row| row.name == name && row.guest == guest).ok_or_else(|| {
        Failure::new(
            "translator-unknown",
            format!("there is no {name} for {guest} guests"),
            "list those that there are with `dhow translator list`",
        )
    })
}
