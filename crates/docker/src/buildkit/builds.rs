//! The builds of one connection to BuildKit's API, and where each of them goes.
//!
//! ```text
//!   Control/Solve ──► Open (at home) ──┬─ work for the native machine ──► Placed(native)
//!                                      └─ work for the foreign one ─────► Placed(foreign): the Solve is sent again there
//! ```
//!
//! Buildx opens a build, asks what BuildKit can do, and only then says for which platform: until then the build is open in the
//! native machine, where nothing is done for it yet. Some builds never say, since all they want is to ask; they end at home.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use dhow_model::Role;
use tokio::sync::watch;

/// Builds that have ended and are remembered, since a session may come after its build is over.
const REMEMBERED: usize = 64;

/// One build. What it holds for its session lasts as long as it does.
pub(super) struct Build<G> {
    place: watch::Sender<Option<Role>>,
    held: Mutex<Held<G>>,
}

struct Held<G> {
    session: String,
    guard: Option<G>,
}

/// All builds that some call is about now.
pub(super) struct Builds<G> {
    all: Mutex<HashMap<String, Weak<Build<G>>>>,
    over: Mutex<VecDeque<Arc<Build<G>>>>,
    /// Counts what happens to any of them, for those who wait for one that they cannot name.
    changed: watch::Sender<u64>,
}

impl<G> Default for Builds<G> {
    fn default() -> Self {
        Self { all: Mutex::default(), over: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl<G> Builds<G> {
    /// The build with this ID, which lives as long as anybody holds it.
    pub(super) fn named(&self, id: &str) -> Arc<Build<G>> {
        let mut all = lock(&self.all);
        if let Some(build) = all.get(id).and_then(Weak::upgrade) {
            return build;
        }
        all.retain(|_, build| build.strong_count() > 0);
        let held = Mutex::new(Held { session: String::new(), guard: None });
        let build = Arc::new(Build { place: watch::Sender::new(None), held });
        all.insert(id.to_owned(), Arc::downgrade(&build));
        build
    }

    /// A build has said which session is its own.
    pub(super) fn opened(&self, build: &Build<G>, session: &str) {
        session.clone_into(&mut lock(&build.held).session);
        self.tell();
    }

    /// A build goes to `role`; `guard` is held for its session until it ends. The first decision stands.
    pub(super) fn placed(&self, build: &Build<G>, role: Role, guard: impl FnOnce(&str) -> Option<G>) {
        let mut held = lock(&build.held);
        let first =
            build.place.send_if_modified(|place| place.is_none().then(|| *place = Some(role)).is_some());
        if first && !held.session.is_empty() {
            held.guard = guard(&held.session);
        }
        drop(held);
        self.tell();
    }

    /// A build has ended. It is remembered for a while, until the connection ends at the latest.
    pub(super) fn ended(&self, build: Arc<Build<G>>) {
        let mut over = lock(&self.over);
        over.push_back(build);
        if over.len() > REMEMBERED {
            over.pop_front();
        }
    }

    /// Waits until a build of this session is placed.
    pub(super) async fn of_session(&self, session: &str) -> Role {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let found = lock(&self.all).values().filter_map(Weak::upgrade).find_map(|build| {
                let place = *build.place.borrow();
                place.filter(|_| lock(&build.held).session == session)
            });
            match found {
                Some(role) => return role,
                // The sender is ours: it is there as long as we are.
                None if changed.changed().await.is_err() => std::future::pending().await,
                None => {}
            }
        }
    }

    fn tell(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

impl<G> Build<G> {
    /// Where it goes; `None` while that is open.
    pub(super) fn place(&self) -> Option<Role> {
        *self.place.borrow()
    }

    /// Follows where it goes.
    pub(super) fn follow(&self) -> watch::Receiver<Option<Role>> {
        self.place.subscribe()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3.5: a session goes where the first build that names it goes, and the build stays there.
    #[tokio::test]
    async fn a_builds_first_place_stands_and_its_session_follows() {
        let builds = Builds::<Role>::default();
        let build = builds.named("b");
        builds.opened(&build, "s");
        let waiting = builds.of_session("s");
        builds.placed(&builds.named("b"), Role::Foreign, |_| Some(Role::Foreign));
        builds.placed(&build, Role::Native, |_| Some(Role::Native));
        assert_eq!(waiting.await, Role::Foreign);
        assert_eq!(build.place(), Some(Role::Foreign));
        assert_eq!(lock(&build.held).guard, Some(Role::Foreign));
    }

    #[test]
    fn a_build_that_nobody_holds_is_forgotten() {
        let builds = Builds::<Role>::default();
        builds.placed(&builds.named("b"), Role::Foreign, |_| None);
        assert_eq!(builds.named("b").place(), None);
        for number in 0..1000 {
            drop(builds.named(&number.to_string()));
        }
        assert!(lock(&builds.all).len() <= 2);
    }

    /// 3.5: what only asks and ends releases its session too, even if that comes late.
    #[test]
    fn builds_that_have_ended_are_remembered_up_to_a_bound() {
        let builds = Builds::<Role>::default();
        for number in 0..1000 {
            builds.ended(builds.named(&number.to_string()));
        }
        assert_eq!(lock(&builds.over).len(), REMEMBERED);
    }
}
