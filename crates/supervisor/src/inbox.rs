//! What is asked of the machine's owner, in order. A request that cannot be taken yet is kept and not refused; one that forces an end
//! comes before all others.

use std::collections::VecDeque;
use std::time::Duration;

use dhow_proto::supervisor::{ResumeReply, StopReply, SuspendReply};
use tokio::sync::{mpsc, oneshot};

use crate::Result;

/// Requests that wait for the owner to take them.
const WAITING: usize = 16;

/// A request to the machine's owner.
#[derive(Debug)]
pub enum Request {
    /// Stop the machine.
    Stop(Stop),
    /// Make its data disk larger.
    Grow(Grow),
    /// Limit its memory.
    Limit(Limit),
    /// Put it to sleep.
    Suspend(Suspend),
    /// Wake it.
    Resume(Resume),
}

/// A request to stop, answered when the machine is off.
#[derive(Debug)]
pub struct Stop {
    /// Without asking the guest.
    pub force: bool,
    /// A machine that sleeps is left asleep: the supervisor is to end, and whoever says so does not mean the guest.
    pub leave: bool,
    /// For a graceful stop.
    pub limit: Duration,
    /// Where the answer goes.
    pub reply: oneshot::Sender<StopReply>,
}

/// A request to make the data disk larger, answered when the guest can see it.
#[derive(Debug)]
pub struct Grow {
    /// Its new size.
    pub bytes: u64,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<()>>,
}

/// A request to let the guest use so much of its memory, answered when the hypervisor has taken it.
#[derive(Debug)]
pub struct Limit {
    /// At most what it booted with.
    pub bytes: u64,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<()>>,
}

/// A request to put the machine to sleep, answered when it sleeps, or with why it does not.
#[derive(Debug)]
pub struct Suspend {
    /// In a person's words.
    pub why: String,
    /// The supervisor ends when the machine sleeps.
    pub leave: bool,
    /// Not while a container runs or a client of a published port is connected.
    pub unless_busy: bool,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<SuspendReply, String>>,
}

/// A request to wake the machine, answered when it is awake.
#[derive(Debug)]
pub struct Resume {
    /// In a person's words.
    pub why: String,
    /// Where the answer goes.
    pub reply: oneshot::Sender<ResumeReply>,
}

/// What was asked and not taken yet.
#[derive(Debug)]
pub struct Inbox {
    requests: mpsc::Receiver<Request>,
    kept: VecDeque<Request>,
}

impl Inbox {
    /// An empty one, and the way into it.
    #[must_use]
    pub fn new() -> (mpsc::Sender<Request>, Self) {
        let (sender, requests) = mpsc::channel(WAITING);
        (sender, Self { requests, kept: VecDeque::new() })
    }

    /// The next request. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Request {
        match self.kept.pop_front() {
            Some(request) => request,
            None => self.fresh().await,
        }
    }

    /// The next request to stop by force; all others are kept. Cancelling it loses nothing.
    pub async fn forced(&mut self) -> Stop {
        loop {
            let at = self.kept.iter().position(|kept| matches!(kept, Request::Stop(stop) if stop.force));
            if let Some(Request::Stop(stop)) = at.and_then(|at| self.kept.remove(at)) {
                return stop;
            }
            let request = self.fresh().await;
            self.kept.push_back(request);
        }
    }

    /// Keeps a request for later, before all others.
    pub fn put_back(&mut self, request: Request) {
        self.kept.push_front(request);
    }

    /// Keeps a request for later, behind those that are kept already.
    pub fn keep(&mut self, request: Request) {
        self.kept.push_back(request);
    }

    /// The next request that was never kept.
    pub async fn fresh(&mut self) -> Request {
        match self.requests.recv().await {
            Some(request) => request,
            // Nobody can ask any more.
            None => std::future::pending().await,
        }
    }

    /// Every request to stop that waits.
    pub fn stops(&mut self) -> Vec<Stop> {
        while let Ok(request) = self.requests.try_recv() {
            self.kept.push_back(request);
        }
        let (stops, kept): (VecDeque<_>, VecDeque<_>) =
            self.kept.drain(..).partition(|kept| matches!(kept, Request::Stop(_)));
        self.kept = kept;
        let stop = |request| if let Request::Stop(stop) = request { Some(stop) } else { None };
        stops.into_iter().filter_map(stop).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(force: bool) -> Request {
        let (reply, _) = oneshot::channel();
        Request::Stop(Stop { force, leave: false, limit: Duration::from_secs(1), reply })
    }

    fn grow(bytes: u64) -> Request {
        let (reply, _) = oneshot::channel();
        Request::Grow(Grow { bytes, reply })
    }

    fn name(request: &Request) -> String {
        match request {
            Request::Stop(stop) if stop.force => "force".to_owned(),
            Request::Stop(_) => "stop".to_owned(),
            Request::Grow(grow) => format!("grow {}", grow.bytes),
            Request::Limit(limit) => format!("limit {}", limit.bytes),
            Request::Suspend(_) => "suspend".to_owned(),
            Request::Resume(_) => "resume".to_owned(),
        }
    }

    /// Spec 6.6: a second request forces, whatever else was asked; nothing of the rest is lost or changes places.
    #[tokio::test]
    async fn a_forced_stop_comes_first_and_the_rest_keeps_its_order() {
        let (sender, mut inbox) = Inbox::new();
        for request in [grow(1), stop(false), grow(2), stop(true), grow(3)] {
            sender.send(request).await.unwrap();
        }
        assert!(inbox.forced().await.force);
        let mut rest = Vec::new();
        for _ in 0..4 {
            rest.push(name(&inbox.next().await));
        }
        assert_eq!(rest, ["grow 1", "stop", "grow 2", "grow 3"]);
    }

    #[tokio::test]
    async fn what_is_put_back_is_next_and_what_waits_for_a_stop_is_found() {
        let (sender, mut inbox) = Inbox::new();
        for request in [grow(1), stop(false)] {
            sender.send(request).await.unwrap();
        }
        let first = inbox.next().await;
        inbox.put_back(first);
        assert_eq!(inbox.stops().len(), 1);
        assert_eq!(name(&inbox.next().await), "grow 1");
        assert!(inbox.stops().is_empty());
    }
}
