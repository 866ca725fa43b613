//! The machine's one owner, awake and asleep: it alone moves the phase and talks to the hypervisor.
//!
//! ```text
//!             ┌────────────────────────── cold boot: nothing saved, or set aside ◀──────────────────┐
//!             ▼                                                                                     │
//!  starting ─▶ booting ──▶ ready ⇄ degraded             suspended ── asked, or somebody ──▶ resuming
//!             [one hypervisor runs: watch]               ▲     │     wants the guest           │
//!                           ▲   │                        │     └─ leave: the supervisor ends,  │
//!                           │   └── suspend ──▶ suspending         the next one wakes it       │
//!                           │                        │                                         │
//!                           ├── called off: refused, wanted meanwhile, disk full               │
//!                           └───────────────────────────── awake ◀─────────────────────────────┘
//!
//!  asked in      suspend                resume             stop                         stop, forced
//!  starting      refused                answered at once   ends the start               ends the start
//!  booting       refused                answered at once   in order                     the hypervisor ends
//!  ready         saves                  answered at once   in order                     the hypervisor ends
//!  degraded      refused                answered at once   in order                     the hypervisor ends
//!  suspending    waits, then answered   waits, then wakes  waits, then as suspended     ends, nothing is saved
//!  suspended     answered at once       wakes              wakes, then in order; by a   the state is dropped
//!                                                          signal: ends, state is kept
//!  resuming      waits, then saves      waits, answered    waits, then in order         ends, the state is dropped
//!  stopping      told that it ends      told that it ends  answered with the first      the hypervisor ends
//! ```
//!
//! A hypervisor that dies takes the machine with it in every phase but `suspended`, which has none.

use std::time::Duration;

use dhow_home::Code;
use dhow_proto::supervisor::{Phase, ResumeReply, StopReply, SuspendReply};

use crate::agent::Beginning;
use crate::inbox::{Inbox, Request, Resume, Stop, Suspend};
use crate::saved::Unusable;
use crate::sleep::Files;
use crate::start::{Ground, Place};
use crate::status::Status;
use crate::stopwatch::Stopwatch;
use crate::suspend::{NotSaved, Rest};
use crate::wake::Line;
use crate::watch::{Machine, Watched};
use crate::{Error, Result, stop};

/// After a machine fell asleep, for what that leads to.
const REST: Duration = Duration::from_secs(2);

/// How the machine's time under this supervisor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It is off.
    Off,
    /// It sleeps, and the next supervisor wakes it.
    Asleep,
}

/// Where the machine is between two decisions.
enum State {
    /// A hypervisor runs.
    Awake(Box<Machine>),
    /// Its state is on disk.
    Asleep(Box<Rest>),
    /// Nothing is to be done any more.
    Ended(Ended),
}

/// Owns the machine until it is off, or sleeps with nobody to own it.
///
/// # Errors
/// Why the machine ended or had to be ended otherwise; its hypervisor is gone then.
pub async fn live(place: Place<'_>, status: &mut Status, inbox: &mut Inbox) -> Result<Ended> {
    let starting = async {
        let mut ground = Ground::find(place, status).await?;
        let state = first(&mut ground, status).await?;
        Ok::<_, Error>((ground, state))
    };
    let (mut ground, mut state) = tokio::select! {
        started = starting => started?,
        stop = refuse_to_sleep(inbox) => {
            tracing::info!("asked to stop before the guest ran");
            stop::answer(stop, &StopReply::default());
            return Ok(Ended::Off);
        }
    };
    loop {
        state = match state {
            State::Awake(mut machine) => {
                match machine.watch(&ground.place, ground.shares_end(), status, inbox).await? {
                    Watched::Stop(asked) => {
                        stop::stop(*machine, status, asked, inbox).await;
                        State::Ended(Ended::Off)
                    }
                    Watched::Suspend(asked) => suspend(&mut ground, machine, asked, status, inbox).await?,
                }
            }
            State::Asleep(rest) => sleep(&mut ground, rest, status, inbox).await?,
            State::Ended(ended) => return Ok(ended),
        }
    }
}

/// Waits for a request to stop while the machine starts. What must wait for it to run is kept.
async fn refuse_to_sleep(inbox: &mut Inbox) -> Stop {
    loop {
        match inbox.fresh().await {
            Request::Stop(stop) => return stop,
            Request::Suspend(asked) => refuse(asked, "the machine is still starting"),
            Request::Resume(asked) => resumed(asked, ResumeReply::default()),
            later @ (Request::Grow(_) | Request::Limit(_)) => inbox.keep(later),
        }
    }
}

/// The machine's first state: from what the last supervisor saved, or from its disks.
async fn first(ground: &mut Ground<'_>, status: &mut Status) -> Result<State> {
    if ground.place.purpose == dhow_model::Purpose::Serve {
        if let Some(why) = Files::tidy(&ground.place.dir)? {
            tracing::warn!("the machine boots anew: {why}");
            status.set_aside(&why);
        }
        if let Some(files) = Files::take(&ground.place.dir)? {
            status.phase(Phase::Resuming, "");
            let mut steps = Stopwatch::begin();
            match ground.raise(&files, Line::Gone, status, &mut steps).await {
                Ok((started, mux)) => {
                    let session = ground.follow(Beginning::Wake);
                    let machine = Machine::new(started, Some(mux), session);
                    return Ok(awake(ground, machine, files, "its supervisor started", steps, status).await);
                }
                Err(why) => set_aside(files, &why, status)?,
            }
        }
    } else {
        // Whatever the disk's check or rescue finds, a memory of before has nothing to do with it.
        Files::tidy(&ground.place.dir)?;
    }
    ground.boot(status).await.map(|machine| State::Awake(Box::new(machine)))
}

/// Puts the machine to sleep, or says why not.
async fn suspend(
    ground: &mut Ground<'_>,
    mut machine: Box<Machine>,
    asked: Suspend,
    status: &mut Status,
    inbox: &mut Inbox,
) -> Result<State> {
    let before = status.current_phase();
    if before != Phase::Ready {
        refuse(asked, &status.not_ready());
        return Ok(State::Awake(machine));
    }
    let mut steps = Stopwatch::begin();
    status.phase(Phase::Suspending, "");
    let saved = tokio::select! {
        saved = ground.save(&mut machine, &asked, status, &mut steps) => saved,
        stop = inbox.forced() => {
            refuse(asked, "the machine was ended by force meanwhile");
            stop::force(*machine, status, stop).await;
            Files::tidy(&ground.place.dir)?;
            Files::drop_whole(&ground.place.dir)?;
            return Ok(State::Ended(Ended::Off));
        }
    };
    match saved {
        Ok(slept) => {
            let Suspend { why, leave, reply, .. } = asked;
            let rest = Rest::new(*machine, slept);
            tracing::info!(%why, bytes = rest.bytes, "the machine sleeps: {steps}");
            status.slept(&why, rest.bytes, rest.since_unix_nanos, steps.steps());
            dhow_home::give_memory_back();
            // Whoever asked may have gone.
            drop(reply.send(Ok(SuspendReply { bytes: rest.bytes, took_us: steps.total_us() })));
            Ok(if leave { State::Ended(Ended::Asleep) } else { State::Asleep(Box::new(rest)) })
        }
        Err(NotSaved::CalledOff(why)) => {
            tracing::info!(%why, "the machine was not put to sleep: {steps}");
            status.phase(Phase::Ready, "");
            refuse(asked, &why);
            Ok(State::Awake(machine))
        }
        Err(NotSaved::Lost(why)) => {
            refuse(asked, &format!("the machine could neither be saved nor go on, and boots anew: {why}"));
            let why = Unusable::Failed(why);
            tracing::error!("the machine boots anew: {why}");
            status.set_aside(&why);
            drop(machine);
            boot_anew(ground, status, inbox).await
        }
        Err(NotSaved::Died(error)) => {
            refuse(asked, &error.to_string());
            Err(error)
        }
    }
}

/// Watches over a machine that sleeps until somebody wants it.
async fn sleep(
    ground: &mut Ground<'_>,
    rest: Box<Rest>,
    status: &mut Status,
    inbox: &mut Inbox,
) -> Result<State> {
    let mut rested = std::pin::pin!(tokio::time::sleep(REST));
    let mut rests = false;
    let (why, asked) = loop {
        let request = tokio::select! {
            request = inbox.next() => request,
            () = &mut rested, if !rests => {
                rests = true;
                // What is left to do while it sleeps takes little of the code.
                if let Err(error) = Code::find().give_back() {
                    tracing::debug!(%error, "the memory of the code was not given back");
                }
                continue;
            }
            () = ground.place.gate.wanted() => break ("a stream to the guest".to_owned(), None),
            () = rest.parked.wants_to_send() => break ("bytes on an open stream".to_owned(), None),
            () = ground.place.network.wanted() => break ("traffic from outside".to_owned(), None),
            () = ground.place.network.ended() => {
                // The next supervisor has another one, and wakes it.
                tracing::error!("the network of the machine that sleeps has failed; its supervisor ends");
                return Ok(State::Ended(Ended::Asleep));
            }
        };
        match request {
            Request::Suspend(asked) => {
                let reply = SuspendReply { bytes: rest.bytes, took_us: 0 };
                drop(asked.reply.send(Ok(reply)));
                if asked.leave {
                    return Ok(State::Ended(Ended::Asleep));
                }
            }
            Request::Resume(asked) => break (asked.why.clone(), Some(asked)),
            Request::Stop(asked) if asked.force => {
                // It is off either way; what stays would be woken from later.
                let dropped = Files::drop_whole(&ground.place.dir);
                let errors = dropped.err().map(|error| error.to_string()).into_iter().collect();
                stop::answer(asked, &StopReply { errors, forced: false });
                return Ok(State::Ended(Ended::Off));
            }
            Request::Stop(asked) if asked.leave => {
                stop::answer(asked, &StopReply::default());
                return Ok(State::Ended(Ended::Asleep));
            }
            other @ Request::Stop(_) => {
                inbox.put_back(other);
                break ("to be stopped in order".to_owned(), None);
            }
            other @ Request::Grow(_) => {
                inbox.put_back(other);
                break ("its disk grows".to_owned(), None);
            }
            other @ Request::Limit(_) => {
                inbox.put_back(other);
                break ("the limit of its memory changes".to_owned(), None);
            }
        }
    };
    tracing::info!(%why, "the machine is woken");
    wake(ground, *rest, &why, asked, status, inbox).await
}

/// Wakes a machine that sleeps, or boots it anew when its state is of no use.
async fn wake(
    ground: &mut Ground<'_>,
    rest: Rest,
    why: &str,
    asked: Option<Resume>,
    status: &mut Status,
    inbox: &mut Inbox,
) -> Result<State> {
    status.phase(Phase::Resuming, "");
    let (began, mut steps) = (Stopwatch::begin(), Stopwatch::begin());
    let Rest { mux, parked, session, silence, .. } = rest;
    let Some(files) = Files::take(&ground.place.dir)? else {
        let why = Unusable::Failed("its saved state was removed while it slept".to_owned());
        return lost(ground, &why, asked, status, inbox).await;
    };
    ground.serve_shares().await?;
    let raised = tokio::select! {
        raised = ground.raise(&files, Line::Parked(mux, parked), status, &mut steps) => raised,
        stop = inbox.forced() => {
            // The hypervisor is killed with what was dropped.
            files.discard()?;
            stop::answer(stop, &StopReply::default());
            return Ok(State::Ended(Ended::Off));
        }
    };
    match raised {
        Ok((started, mux)) => {
            let machine = Machine::new(started, Some(mux), session);
            let state = awake(ground, machine, files, why, steps, status).await;
            drop(silence);
            if let Some(asked) = asked {
                resumed(asked, ResumeReply { took_us: began.total_us(), set_aside: String::new() });
            }
            Ok(state)
        }
        Err(why) => {
            drop((session, silence));
            set_aside(files, &why, status)?;
            lost(ground, &why, asked, status, inbox).await
        }
    }
}

/// The guest runs again: it is told so, and everybody is let through to it.
async fn awake(
    ground: &Ground<'_>,
    mut machine: Machine,
    files: Files,
    why: &str,
    mut steps: Stopwatch,
    status: &mut Status,
) -> State {
    ground.open(&machine);
    match machine.tell_awake().await {
        Ok(detail) => steps.step("awake", detail),
        // It runs; if it does not get well by itself, its health tells.
        Err(error) => tracing::warn!(%error, "the guest was not told that it slept"),
    }
    tracing::info!(%why, "the machine is awake: {steps}");
    status.woke(why, steps.steps());
    // It takes a while, and nobody waits for it. One that stays is set aside by the next supervisor.
    tokio::task::spawn_blocking(move || {
        if let Err(error) = files.discard() {
            tracing::warn!(%error, "a state that was used could not be removed");
        }
    });
    State::Awake(Box::new(machine))
}

/// The guest that slept will not go on: its connections end, and another boots, unless it was only woken to be stopped.
async fn lost(
    ground: &mut Ground<'_>,
    why: &Unusable,
    asked: Option<Resume>,
    status: &mut Status,
    inbox: &mut Inbox,
) -> Result<State> {
    status.set_aside(why);
    if let Some(asked) = asked {
        resumed(asked, ResumeReply { took_us: 0, set_aside: why.to_string() });
    }
    boot_anew(ground, status, inbox).await
}

async fn boot_anew(ground: &mut Ground<'_>, status: &mut Status, inbox: &mut Inbox) -> Result<State> {
    ground.place.network.end_flows().await;
    let stops = inbox.stops();
    if !stops.is_empty() {
        for asked in stops {
            stop::answer(asked, &StopReply::default());
        }
        return Ok(State::Ended(Ended::Off));
    }
    let booting = ground.boot(status);
    tokio::select! {
        machine = booting => Ok(State::Awake(Box::new(machine?))),
        stop = refuse_to_sleep(inbox) => {
            stop::answer(stop, &StopReply::default());
            Ok(State::Ended(Ended::Off))
        }
    }
}

/// Keeps a state that is of no use where nobody uses it.
fn set_aside(files: Files, why: &Unusable, status: &Status) -> Result<()> {
    tracing::warn!("the machine boots anew: {why}");
    status.set_aside(why);
    files.set_aside(why)
}

/// Whoever asked may have gone.
fn refuse(asked: Suspend, why: &str) {
    drop(asked.reply.send(Err(why.to_owned())));
}

fn resumed(asked: Resume, reply: ResumeReply) {
    drop(asked.reply.send(reply));
}
