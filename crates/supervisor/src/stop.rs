//! How a machine that runs is stopped: in order by its agent, or at once.

use std::time::Duration;

use dhow_proto::supervisor::{Phase, StopReply};
use tokio::sync::oneshot;

use crate::inbox::{Inbox, Stop};
use crate::status::Status;
use crate::watch::Machine;

/// For the hypervisor to flush and end when the guest is not asked.
pub const QUIT: Duration = Duration::from_secs(5);

/// Stops the machine. A second request that forces cuts a graceful one short.
pub async fn stop(mut machine: Machine, status: &Status, asked: Stop, inbox: &mut Inbox) {
    if asked.force {
        return force(machine, status, asked).await;
    }
    status.phase(Phase::Stopping, "");
    machine.session.listening.cancel();
    let mut replies = vec![asked.reply];
    let mut errors = Vec::new();
    let mut forced = false;
    let graceful = async {
        let steps = machine.session.agent.shutdown(asked.limit).await?;
        let exit = machine.running.wait().await;
        Ok::<_, String>((steps, exit))
    };
    tokio::select! {
        ended = tokio::time::timeout(asked.limit, graceful) => match ended {
            Ok(Ok((steps, exit))) => {
                let failed = steps.into_iter().filter(|s| !s.error.is_empty());
                errors.extend(failed.map(|s| format!("{}: {}", s.name, s.error)));
                if !exit.is_clean() {
                    errors.push(format!("the hypervisor {exit}"));
                }
            }
            Ok(Err(why)) => {
                errors.push(format!("the guest could not be asked to stop: {why}"));
                forced = true;
            }
            Err(_) => {
                errors.push(format!("the guest did not stop within {} s", asked.limit.as_secs()));
                forced = true;
            }
        },
        second = inbox.forced() => {
            replies.push(second.reply);
            forced = true;
        }
    }
    if forced {
        end(&mut machine, &mut errors).await;
    }
    replies.extend(inbox.stops().into_iter().map(|also| also.reply));
    tell(status, replies, &StopReply { errors, forced });
}

/// Ends the machine without asking its guest.
pub async fn force(mut machine: Machine, status: &Status, asked: Stop) {
    status.phase(Phase::Stopping, "");
    let mut errors = Vec::new();
    end(&mut machine, &mut errors).await;
    tell(status, vec![asked.reply], &StopReply { errors, forced: false });
}

/// Answers a request to stop. Whoever asked may have gone; the machine is off all the same.
pub fn answer(asked: Stop, reply: &StopReply) {
    send(asked.reply, reply);
}

async fn end(machine: &mut Machine, errors: &mut Vec<String>) {
    if let Err(error) = machine.running.quit(QUIT).await {
        errors.push(error.to_string());
    }
    machine.running.wait().await;
}

fn tell(status: &Status, replies: Vec<oneshot::Sender<StopReply>>, reply: &StopReply) {
    for error in &reply.errors {
        tracing::warn!(%error, "while stopping");
    }
    status.phase(Phase::Stopped, "");
    for to in replies {
        send(to, reply);
    }
}

fn send(to: oneshot::Sender<StopReply>, reply: &StopReply) {
    if to.send(reply.clone()).is_err() {
        tracing::debug!("whoever asked to stop did not wait for the answer");
    }
}
