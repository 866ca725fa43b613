//! What a request is, told from its method and path alone: a pure function, so that the table of Docker's endpoints
//! can be tested as one. Placement and the workload registry (spec 1 and 2) will decide here as well.

/// How a request is handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Forwarded as it is.
    Plain,
    /// May turn into a two-way stream by a plain `200` without framing, as dockerd answers a client that does not ask
    /// for an upgrade.
    Hijack,
    /// Changes the state of one container: its canonical ID is resolved before the call is forwarded (spec 3.4).
    Lifecycle {
        /// What is done to the container.
        action: Action,
        /// The container as the path names it: ID, short ID or name, still percent-encoded.
        reference: String,
    },
    /// Makes a container; its ID comes with the answer.
    Create,
}

/// What a lifecycle call does to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of Docker's endpoints")]
pub enum Action {
    Create,
    Start,
    Stop,
    Kill,
    Restart,
    Pause,
    Unpause,
    Rename,
    Update,
    Remove,
}

impl Action {
    /// The word for logs: Docker's own for the endpoint.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Pause => "pause",
            Self::Unpause => "unpause",
            Self::Rename => "rename",
            Self::Update => "update",
            Self::Remove => "remove",
        }
    }
}

/// Decides what a request is. `target` is the request target as it was sent, with its query.
#[must_use]
pub fn route(method: &str, target: &str) -> Route {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let mut parts = path.strip_prefix('/').unwrap_or_default().split('/');
    let mut next = || parts.next();
    let mut first = next();
    if first.is_some_and(is_version) {
        first = next();
    }
    match (method, first, next(), next(), next()) {
        ("POST", Some("containers"), Some(_), Some("attach"), None)
        | ("POST", Some("exec"), Some(_), Some("start"), None) => Route::Hijack,
        ("POST", Some("containers"), Some("create"), None, None) => Route::Create,
        ("POST", Some("containers"), Some(reference), Some(verb), None) => match action(verb) {
            Some(action) => Route::Lifecycle { action, reference: reference.to_owned() },
            None => Route::Plain,
        },
        ("DELETE", Some("containers"), Some(reference), None, None) => {
            Route::Lifecycle { action: Action::Remove, reference: reference.to_owned() }
        }
        _ => Route::Plain,
    }
}

/// `v1.44`: dockerd's routes take `/v{version:[0-9.]+}` before each path.
fn is_version(part: &str) -> bool {
    part.strip_prefix('v').is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    })
}

fn action(verb: &str) -> Option<Action> {
    Some(match verb {
        "start" => Action::Start,
        "stop" => Action::Stop,
        "kill" => Action::Kill,
        "restart" => Action::Restart,
        "pause" => Action::Pause,
        "unpause" => Action::Unpause,
        "rename" => Action::Rename,
        "update" => Action::Update,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 3.2, 3.4: the endpoints that hijack and those that change a container's state.
    #[test]
    fn endpoints_are_told_by_method_and_path() {
        let life = |action, reference: &str| Route::Lifecycle { action, reference: reference.to_owned() };
        let table = [
            ("GET", "/_ping", Route::Plain),
            ("POST", "/v1.44/containers/web/attach?stream=1&stdin=1", Route::Hijack),
            ("GET", "/v1.44/containers/web/attach/ws", Route::Plain),
            ("POST", "/containers/web/attach", Route::Hijack),
            ("POST", "/v1.44/exec/8f2c/start", Route::Hijack),
            ("POST", "/v1.44/exec/8f2c/resize?h=1", Route::Plain),
            ("POST", "/session", Route::Plain),
            ("POST", "/v1.44/containers/create?name=start", Route::Create),
            ("POST", "/v1.44/containers/prune", Route::Plain),
            ("POST", "/v1.44/containers/web/start", life(Action::Start, "web")),
            ("POST", "/containers/a%20b/stop?t=3", life(Action::Stop, "a%20b")),
            ("POST", "/v1.44/containers/web/rename?name=db", life(Action::Rename, "web")),
            ("POST", "/v1.44/containers/web/wait", Route::Plain),
            ("POST", "/v1.44/containers/web/start/", Route::Plain),
            ("POST", "/v1.44/containers/web/start/x", Route::Plain),
            ("DELETE", "/v1.44/containers/web?force=1", life(Action::Remove, "web")),
            ("DELETE", "/v1.44/images/web", Route::Plain),
            ("DELETE", "/volumes/containers/web", Route::Plain),
            ("POST", "/vx/containers/web/start", Route::Plain),
            ("OPTIONS", "*", Route::Plain),
        ];
        for (method, target, expected) in table {
            assert_eq!(route(method, target), expected, "{method} {target}");
        }
    }
}
