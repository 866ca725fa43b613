//! `dhow assets`: the command line's words for what `dhow_assets` does.

use std::path::Path;

use dhow_assets::{BuildOptions, Bundle, Progress, Step, Store};
use dhow_cli::{Asset, AssetsCommand, AssetsDone, Problem, Report};
use dhow_engine::{agent_file, assets_failure};
use dhow_home::Home;
use dhow_model::{Arch, Config, Failure};

type Result<T, E = Failure> = std::result::Result<T, E>;

/// Does what was asked.
pub fn run(
    home: &Home,
    config: &Config,
    command: &AssetsCommand,
    report: &mut dyn Report,
) -> Result<AssetsDone> {
    let store = Store::open(home.asset_store()).map_err(|e| failure(None, e))?;
    let mirror = |typed: &Option<String>| {
        typed.clone().or_else(|| Some(config.assets.mirror.clone()).filter(|m| !m.is_empty()))
    };
    match command {
        AssetsCommand::List => list(&store),
        AssetsCommand::Fetch { arch, mirror: typed } => {
            let options = options(*arch, agent_file(*arch), mirror(typed));
            let mut progress = told(report);
            let lock =
                dhow_assets::fetch(&store, &options, &mut progress).map_err(|e| failure(Some(*arch), e))?;
            let mib = lock.total_size() >> 20;
            Ok(summary(format!("{} packages for {arch} are there, {mib} MiB", lock.packages.len())))
        }
        AssetsCommand::Verify { arch } => verify(&store, *arch, report),
        AssetsCommand::Build { arch, lock, mirror: typed, agent } => {
            let agent = agent.clone().unwrap_or_else(|| agent_file(*arch));
            let mut options = options(*arch, agent, mirror(typed));
            options.refresh = lock.is_none();
            match lock {
                Some(path) if path.exists() => options.lock = Some(path.clone()),
                other => options.write_lock.clone_from(other),
            }
            let mut progress = told(report);
            let bundle =
                dhow_assets::build(&store, &options, &mut progress).map_err(|e| failure(Some(*arch), e))?;
            Ok(AssetsDone {
                summary: format!("boot assets for {arch} are built: {}", bundle.id),
                assets: rows(&bundle, "ready"),
                problems: Vec::new(),
            })
        }
        AssetsCommand::Export { arch, file } => export(&store, *arch, file, report),
        AssetsCommand::Import { file } => {
            let mut progress = told(report);
            let bundle = store.import(file, &mut progress).map_err(|e| failure(None, e))?;
            let summary = format!("boot assets for {} were read from {}", bundle.arch, file.display());
            Ok(AssetsDone { summary, assets: rows(&bundle, "ready"), problems: Vec::new() })
        }
        AssetsCommand::Clean { dry_run } => {
            let removed = store.clean(*dry_run).map_err(|e| failure(None, e))?;
            let bytes: u64 = removed.iter().map(|r| r.size).sum();
            let verb = if *dry_run { "would be removed" } else { "were removed" };
            Ok(summary(format!("{} files of {} MiB {verb}", removed.len(), bytes >> 20)))
        }
    }
}

fn list(store: &Store) -> Result<AssetsDone> {
    let bundles = store.list().map_err(|e| failure(None, e))?;
    let mut assets = Vec::new();
    for bundle in &bundles {
        let current = store.current(bundle.arch).map_err(|e| failure(Some(bundle.arch), e))?;
        let state = if current.is_some_and(|c| c.id == bundle.id) { "ready" } else { "older" };
        assets.extend(rows(bundle, state));
    }
    let summary = if bundles.is_empty() {
        "no boot assets; `dhow assets build` makes them".to_owned()
    } else {
        String::new()
    };
    Ok(AssetsDone { summary, assets, problems: Vec::new() })
}

fn verify(store: &Store, arch: Option<Arch>, report: &mut dyn Report) -> Result<AssetsDone> {
    let mut done = AssetsDone::default();
    let mut bundles = store.list().map_err(|e| failure(arch, e))?;
    bundles.retain(|bundle| arch.is_none_or(|arch| bundle.arch == arch));
    for bundle in &bundles {
        let mut progress = told(report);
        let verified = store.verify(bundle, &mut progress);
        done.assets.extend(rows(bundle, if verified.is_ok() { "good" } else { "damaged" }));
        if let Err(error) = verified {
            let path = match &error {
                dhow_assets::Error::WrongHash { name, .. } | dhow_assets::Error::WrongSize { name, .. } => {
                    name.into()
                }
                _ => store.path().to_owned(),
            };
            let hint = format!("dhow assets build --arch {}", bundle.arch);
            done.problems.push(Problem { path, message: error.to_string(), hint });
        }
    }
    done.summary = format!("{} of {} sets are good", bundles.len() - done.problems.len(), bundles.len());
    Ok(done)
}

fn export(store: &Store, arch: Arch, file: &Path, report: &mut dyn Report) -> Result<AssetsDone> {
    let bundle = store.current(arch).map_err(|e| failure(Some(arch), e))?.ok_or_else(|| {
        let hint = format!("dhow assets build --arch {arch}");
        Failure::new("assets-missing", format!("there are no boot assets for {arch}"), hint)
    })?;
    let mut progress = told(report);
    store.export(&bundle, file, &mut progress).map_err(|e| failure(Some(arch), e))?;
    let summary = format!("boot assets for {arch} were written to {}", file.display());
    Ok(AssetsDone { summary, assets: rows(&bundle, "ready"), problems: Vec::new() })
}

fn options(arch: Arch, agent: std::path::PathBuf, mirror: Option<String>) -> BuildOptions {
    let mut options = BuildOptions::new(arch, agent);
    options.mirror = mirror.or(options.mirror);
    options
}

fn rows(bundle: &Bundle, state: &str) -> Vec<Asset> {
    let manifest = &bundle.manifest;
    [
        ("kernel", &bundle.kernel, &manifest.kernel),
        ("initrd", &bundle.initrd, &manifest.initrd),
        ("root", &bundle.root, &manifest.root),
    ]
    .map(|(name, input, output)| Asset {
        set: bundle.id.clone(),
        name: name.to_owned(),
        version: manifest.kernel_version.clone(),
        arch: bundle.arch,
        path: input.path.clone(),
        bytes: output.size,
        sha256: input.sha256.clone(),
        state: state.to_owned(),
    })
    .to_vec()
}

/// Tells the command line how far it is: each new kind of work is a step.
pub fn told(report: &mut dyn Report) -> impl FnMut(Progress) {
    let mut last: Option<Step> = None;
    move |progress| match progress {
        Progress::Begin { step, detail } | Progress::Bytes { step, detail, .. } if last != Some(step) => {
            last = Some(step);
            report.step(step.verb());
            report.detail(&detail);
        }
        Progress::Begin { detail, .. } => report.detail(&detail),
        Progress::Bytes { detail, done, total, .. } => {
            report.detail(&detail);
            report.bytes(done, Some(total));
        }
        Progress::Note { text } => report.note(&text),
    }
}

fn summary(summary: String) -> AssetsDone {
    AssetsDone { summary, ..AssetsDone::default() }
}

fn failure(arch: Option<Arch>, error: dhow_assets::Error) -> Failure {
    let arch = arch.or(Arch::host()).unwrap_or(Arch::Amd64);
    assets_failure(arch, error)
}
