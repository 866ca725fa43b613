//! Data disks, as the control API tells of them: usage, compaction, growth, checks, and what a rescue gives out.

use std::time::{Duration, Instant};

use dhow_engine::{Engine, Kind, Progress as Working, Reporter, Thing};
use dhow_home::Home;
use dhow_model::{Failure, Role};
use dhow_proto::agent;
use dhow_proto::control::progress::What;
use dhow_proto::control::rescue_part::What as Part;
use dhow_proto::control::{
    self, DiskCheckRequest, DiskCompactReply, DiskGrowReply, DiskInside, DiskUsageReply, DockerShare, Done,
    Progress, RescueExportRequest, RescueListReply, RescuePart, RescueThing, TimedStep,
};
use tokio::sync::mpsc;
use tonic::Status;

/// Parts of an archive that wait for a slow reader.
const PARTS: usize = 8;

/// What is streamed to a caller.
pub type Sent<T> = mpsc::Sender<Result<T, Status>>;

/// What a data disk takes.
pub async fn usage(engine: &Engine, machine: &str) -> DiskUsageReply {
    let role = match role(machine) {
        Ok(role) => role,
        Err(failure) => return DiskUsageReply { failed: Some(told(failure)), ..DiskUsageReply::default() },
    };
    let usage = engine.disk_usage(role).await;
    DiskUsageReply {
        logical_bytes: usage.logical,
        allocated_bytes: usage.allocated,
        inside: usage.inside.map(inside),
        warning: usage.warning.unwrap_or_default(),
        failed: None,
    }
}

/// Gives back what is free.
pub async fn compact(engine: &Engine, machine: &str) -> DiskCompactReply {
    let work = async { engine.disk_compact(role(machine)?).await.map_err(|e| e.failure()) };
    match work.await {
        Ok(done) => DiskCompactReply { before_bytes: done.before, after_bytes: done.after, failed: None },
        Err(failure) => DiskCompactReply { failed: Some(told(failure)), ..DiskCompactReply::default() },
    }
}

/// Makes a disk as large as the configuration asks.
pub async fn grow(home: &Home, engine: &Engine, machine: &str) -> DiskGrowReply {
    let work = async {
        let config = home.read_config()?;
        engine.disk_grow(role(machine)?, &config).await.map_err(|e| e.failure())
    };
    match work.await {
        Ok(grown) => DiskGrowReply {
            logical_bytes: grown.logical,
            total_bytes: grown.filesystem.unwrap_or(0),
            failed: None,
        },
        Err(failure) => DiskGrowReply { failed: Some(told(failure)), ..DiskGrowReply::default() },
    }
}

/// Checks a disk, and tells how it goes.
pub async fn check(home: Home, engine: Engine, request: DiskCheckRequest, sent: Sent<Progress>) {
    let (progress, mut heard) = mpsc::unbounded_channel();
    let reporter = Reporter::to(progress);
    let began = Instant::now();
    let work = async {
        let config = home.read_config()?;
        let checked = engine.disk_check(role(&request.machine)?, &config, request.repair, &reporter).await;
        drop(reporter);
        checked.map_err(|e| e.failure())
    };
    let forward = async {
        while let Some(working) = heard.recv().await {
            let what = match working {
                Working::Step(text) => What::Step(text),
                Working::Detail(text) => What::Detail(text),
                Working::Note(text) => What::Note(text),
            };
            tell(&sent, Progress { what: Some(what) }).await;
        }
    };
    let (checked, ()) = tokio::join!(work, forward);
    let last = match checked {
        Ok(checked) => What::Done(done(checked, began.elapsed())),
        Err(failure) => What::Failed(told(failure)),
    };
    tell(&sent, Progress { what: Some(last) }).await;
}

fn done(checked: agent::CheckDataReply, took: Duration) -> Done {
    let verdict = match (checked.sound, checked.repaired) {
        (true, false) => "sound",
        (true, true) => "repaired",
        (false, _) => "damaged",
    };
    let step = TimedStep {
        r#where: "guest".to_owned(),
        name: verdict.to_owned(),
        took_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        detail: checked.said,
        ..TimedStep::default()
    };
    Done { changed: checked.repaired, timeline: vec![step], warnings: Vec::new() }
}

/// What can be had from a machine in rescue.
pub async fn list(engine: &Engine, machine: &str) -> RescueListReply {
    let work = async { engine.rescue_list(role(machine)?).await.map_err(|e| e.failure()) };
    match work.await {
        Ok(things) => RescueListReply { things: things.into_iter().map(thing).collect(), failed: None },
        Err(failure) => RescueListReply { things: Vec::new(), failed: Some(told(failure)) },
    }
}

fn thing(thing: Thing) -> RescueThing {
    RescueThing { kind: thing.kind.as_str().to_owned(), name: thing.name, bytes: thing.bytes }
}

/// Sends one of them. Whoever reads slowly holds up the guest and nothing else.
pub async fn export(engine: Engine, request: RescueExportRequest, sent: Sent<RescuePart>) {
    let (parts, mut read) = mpsc::channel(PARTS);
    let work = async {
        let role = role(&request.machine)?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == request.kind);
        let unknown =
            || Failure::new("usage", format!("{} is no kind of thing", request.kind), "dhow rescue list");
        let kind = kind.ok_or_else(unknown)?;
        let exported = engine.rescue_export(role, kind, &request.name, &parts).await;
        drop(parts);
        exported.map_err(|e| e.failure())
    };
    let forward = async {
        while let Some(part) = read.recv().await {
            // Below the limit of a message, whatever dockerd sends at once.
            for piece in part.chunks(256 << 10) {
                let part = RescuePart { what: Some(Part::Content(piece.to_vec())) };
                if sent.send(Ok(part)).await.is_err() {
                    return;
                }
            }
        }
    };
    let (exported, ()) = tokio::join!(work, forward);
    let last = match exported {
        Ok(()) => Part::End(true),
        Err(failure) => Part::Failed(told(failure)),
    };
    tell(&sent, RescuePart { what: Some(last) }).await;
}

fn inside(inside: agent::DiskUsageReply) -> DiskInside {
    let share = |share: agent::DockerShare| DockerShare {
        kind: share.kind,
        count: share.count,
        active: share.active,
        bytes: share.bytes,
        reclaimable_bytes: share.reclaimable_bytes,
    };
    DiskInside {
        total_bytes: inside.total_bytes,
        free_bytes: inside.free_bytes,
        docker: inside.docker.into_iter().map(share).collect(),
    }
}

fn role(machine: &str) -> Result<Role, Failure> {
    let found = Role::ALL.into_iter().find(|role| role.machine().as_str() == machine);
    found.ok_or_else(|| {
        Failure::new(
            "no-machine",
            format!("there is no machine {machine}"),
            "the machines are native and foreign",
        )
    })
}

fn told(failure: Failure) -> control::Failure {
    let Failure { code, message, hint } = failure;
    control::Failure { code, message, hint }
}

async fn tell<T>(sent: &Sent<T>, what: T) {
    if sent.send(Ok(what)).await.is_err() {
        tracing::debug!("the caller went away");
    }
}
