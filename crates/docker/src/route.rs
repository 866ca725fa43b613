//! What a request is, told from its method and path alone: a pure function, so that the table of Docker's endpoints
//! can be tested as one. The patterns are those of dockerd's own router, which matches the decoded path.

use std::borrow::Cow;

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// One container. The reference is its ID, short ID or name, decoded.
    Container {
        /// As the path names it.
        reference: String,
        /// What is done to it.
        action: Action,
    },
    /// `POST /commit`: an image of the container that the query names.
    Commit,
    /// One exec that was made before.
    Exec {
        /// As the path names it.
        id: String,
        /// What is done to it.
        action: ExecAction,
    },
    /// `POST /containers/create`: the ID comes with the answer.
    Create,
    /// `POST /build`, by either builder.
    Build,
    /// `POST /build/cancel`: the build that the query names.
    BuildCancel,
    /// `POST /session`: a client of BuildKit offers its files and secrets.
    Session,
    /// `POST /grpc`: a client of BuildKit talks to its API.
    Grpc,
    /// `POST /images/create`: a pull, or an import.
    Pull,
    /// `POST /images/load`.
    Load,
    /// `GET /images/get`: several images as one archive, named by the query.
    Save,
    /// One image.
    Image {
        /// As the path names it.
        reference: String,
        /// What is done to it.
        action: ImageAction,
    },
    /// `POST /volumes/create`.
    VolumeCreate,
    /// One volume.
    Volume {
        /// As the path names it.
        name: String,
    },
    /// `POST /networks/create`.
    NetworkCreate,
    /// One network.
    Network {
        /// As the path names it.
        reference: String,
        /// What is done to it.
        action: NetworkAction,
    },
    /// What every engine has a part of.
    Whole(Whole),
    /// Everything else: the native engine's.
    Other,
}

/// What is done to a container.
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
    Inspect,
    Logs,
    Top,
    Stats,
    Changes,
    Wait,
    Attach,
    AttachWebSocket,
    Archive,
    Copy,
    Resize,
    Exec,
    Export,
    Checkpoints,
}

/// What is done to an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of Docker's endpoints")]
pub enum ExecAction {
    Start,
    Resize,
    Inspect,
}

/// What is done to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of Docker's endpoints")]
pub enum ImageAction {
    Inspect,
    History,
    Save,
    Push,
    Tag,
    Remove,
}

/// What is done to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of Docker's endpoints")]
pub enum NetworkAction {
    Inspect,
    Remove,
    Connect,
    Disconnect,
}

/// What is whole only with the answers of all engines (spec 3.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of Docker's endpoints")]
pub enum Whole {
    Containers,
    Images,
    Volumes,
    Networks,
    Events,
    DiskUsage,
    Info,
    PruneContainers,
    PruneImages,
    PruneVolumes,
    PruneNetworks,
    PruneBuilds,
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
            Self::Inspect => "inspect",
            Self::Logs => "logs",
            Self::Top => "top",
            Self::Stats => "stats",
            Self::Changes => "changes",
            Self::Wait => "wait",
            Self::Attach | Self::AttachWebSocket => "attach",
            Self::Archive => "archive",
            Self::Copy => "copy",
            Self::Resize => "resize",
            Self::Exec => "exec",
            Self::Export => "export",
            Self::Checkpoints => "checkpoints",
        }
    }

    /// Changes the state of the container: its canonical ID is resolved before the call is forwarded (spec 3.4).
    #[must_use]
    pub fn is_lifecycle(self) -> bool {
        use Action::{Create, Kill, Pause, Remove, Rename, Restart, Start, Stop, Unpause, Update};
        matches!(self, Create | Start | Stop | Kill | Restart | Pause | Unpause | Rename | Update | Remove)
    }
}

impl Route {
    /// May turn into a two-way stream by a plain `200` without framing, as dockerd answers a client that does not ask
    /// for an upgrade.
    #[must_use]
    pub fn may_hijack(&self) -> bool {
        matches!(
            self,
            Self::Container { action: Action::Attach, .. } | Self::Exec { action: ExecAction::Start, .. }
        )
    }
}

/// Decides what a request is. `target` is the request target as it was sent, with its query.
#[must_use]
pub fn route(method: &str, target: &str) -> Route {
    let found = decoded_path(target).and_then(|path| of_path(method, unversioned(&path)?));
    found.unwrap_or(Route::Other)
}

/// The query of a request target, undecoded: what stands behind the first question mark.
#[must_use]
pub fn query(target: &str) -> &str {
    target.split_once('?').map_or("", |(_, query)| query)
}

/// Whether the target names an API version before this one. Without a version it is dockerd's newest.
#[must_use]
pub fn is_before(target: &str, version: (u32, u32)) -> bool {
    let named = decoded_path(target).and_then(|path| {
        let numbers =
            versioned(&path)?.split('/').next().filter(|part| is_version(part))?.strip_prefix('v')?;
        let mut numbers = numbers.split('.').map(|number| number.parse::<u32>().unwrap_or_default());
        Some((numbers.next()?, numbers.next().unwrap_or_default()))
    });
    named.is_some_and(|named| named < version)
}

/// The decoded path; `None` for what dockerd answers with an error or a redirect of its own.
fn decoded_path(target: &str) -> Option<Cow<'_, str>> {
    let target = target.split_once('?').map_or(target, |(path, _)| path);
    let path = match target.split_once("://") {
        _ if target.starts_with('/') => target,
        Some((scheme, rest)) if !scheme.contains('/') => &rest[rest.find('/')?..],
        _ => target,
    };
    decoded(path)
}

/// A decoded path without its first slash; `None` for one that Go's router cleans by a redirect.
fn versioned(path: &str) -> Option<&str> {
    let path = path.strip_prefix('/')?;
    let mut rest = path;
    while let Some((part, after)) = rest.split_once('/') {
        if matches!(part, "" | "." | "..") {
            return None;
        }
        rest = after;
    }
    (!matches!(rest, "." | "..")).then_some(path)
}

/// The same without the API version.
fn unversioned(path: &str) -> Option<&str> {
    let path = versioned(path)?;
    Some(match path.split_once('/') {
        Some((first, rest)) if is_version(first) => rest,
        _ => path,
    })
}

fn of_path(method: &str, path: &str) -> Option<Route> {
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    match first {
        "containers" => containers(method, rest),
        "exec" => exec(method, rest),
        "images" => images(method, rest),
        "volumes" => volumes(method, path, rest),
        "networks" => networks(method, rest),
        _ => Some(match (method, path) {
            ("POST", "commit") => Route::Commit,
            ("POST", "build") => Route::Build,
            ("POST", "build/cancel") => Route::BuildCancel,
            ("POST", "build/prune") => Route::Whole(Whole::PruneBuilds),
            ("POST", "session") => Route::Session,
            ("POST", "grpc") => Route::Grpc,
            ("GET", "events") => Route::Whole(Whole::Events),
            ("GET", "info") => Route::Whole(Whole::Info),
            ("GET", "system/df") => Route::Whole(Whole::DiskUsage),
            _ => return None,
        }),
    }
}

fn containers(method: &str, rest: &str) -> Option<Route> {
    match (method, rest) {
        ("GET", "json") => return Some(Route::Whole(Whole::Containers)),
        ("POST", "create") => return Some(Route::Create),
        ("POST", "prune") => return Some(Route::Whole(Whole::PruneContainers)),
        _ => {}
    }
    let of = |reference: &str, action| {
        (!reference.is_empty()).then(|| Route::Container { reference: reference.to_owned(), action })
    };
    if let Some(reference) = rest.strip_suffix("/attach/ws").filter(|_| method == "GET") {
        return of(reference, Action::AttachWebSocket);
    }
    if method == "DELETE" {
        // `{name}/checkpoints/{checkpoint}`: neither has a slash.
        let parts: Vec<&str> = rest.split('/').collect();
        return match parts.as_slice() {
            [reference, "checkpoints", checkpoint] if !checkpoint.is_empty() => {
                of(reference, Action::Checkpoints)
            }
            _ => of(rest, Action::Remove),
        };
    }
    let (reference, verb) = rest.rsplit_once('/')?;
    let action = match (method, verb) {
        ("GET", "json") => Action::Inspect,
        ("GET", "logs") => Action::Logs,
        ("GET", "top") => Action::Top,
        ("GET", "stats") => Action::Stats,
        ("GET", "changes") => Action::Changes,
        ("GET", "export") => Action::Export,
        ("GET" | "HEAD" | "PUT", "archive") => Action::Archive,
        ("GET" | "POST", "checkpoints") => Action::Checkpoints,
        ("POST", "start") => Action::Start,
        ("POST", "stop") => Action::Stop,
        ("POST", "kill") => Action::Kill,
        ("POST", "restart") => Action::Restart,
        ("POST", "pause") => Action::Pause,
        ("POST", "unpause") => Action::Unpause,
        ("POST", "rename") => Action::Rename,
        ("POST", "update") => Action::Update,
        ("POST", "wait") => Action::Wait,
        ("POST", "attach") => Action::Attach,
        ("POST", "resize") => Action::Resize,
        ("POST", "exec") => Action::Exec,
        ("POST", "copy") => Action::Copy,
        _ => return None,
    };
    of(reference, action)
}

fn exec(method: &str, rest: &str) -> Option<Route> {
    let (id, verb) = rest.rsplit_once('/')?;
    let action = match (method, verb) {
        ("POST", "start") => ExecAction::Start,
        ("POST", "resize") => ExecAction::Resize,
        ("GET", "json") => ExecAction::Inspect,
        _ => return None,
    };
    (!id.is_empty()).then(|| Route::Exec { id: id.to_owned(), action })
}

fn images(method: &str, rest: &str) -> Option<Route> {
    match (method, rest) {
        ("GET", "json") => return Some(Route::Whole(Whole::Images)),
        ("GET", "get") => return Some(Route::Save),
        ("POST", "create") => return Some(Route::Pull),
        ("POST", "load") => return Some(Route::Load),
        ("POST", "prune") => return Some(Route::Whole(Whole::PruneImages)),
        _ => {}
    }
    let (reference, action) = match (method, rest.rsplit_once('/')) {
        ("DELETE", _) => (rest, ImageAction::Remove),
        ("GET", Some((reference, "json"))) => (reference, ImageAction::Inspect),
        ("GET", Some((reference, "history"))) => (reference, ImageAction::History),
        ("GET", Some((reference, "get"))) => (reference, ImageAction::Save),
        ("POST", Some((reference, "push"))) => (reference, ImageAction::Push),
        ("POST", Some((reference, "tag"))) => (reference, ImageAction::Tag),
        _ => return None,
    };
    (!reference.is_empty()).then(|| Route::Image { reference: reference.to_owned(), action })
}

fn volumes(method: &str, path: &str, rest: &str) -> Option<Route> {
    match (method, rest) {
        ("GET", "") if path == "volumes" => Some(Route::Whole(Whole::Volumes)),
        ("POST", "create") => Some(Route::VolumeCreate),
        ("POST", "prune") => Some(Route::Whole(Whole::PruneVolumes)),
        (_, "") => None,
        ("GET" | "PUT" | "DELETE", name) => Some(Route::Volume { name: name.to_owned() }),
        _ => None,
    }
}

fn networks(method: &str, rest: &str) -> Option<Route> {
    match (method, rest) {
        ("GET", "") => return Some(Route::Whole(Whole::Networks)),
        ("POST", "create") => return Some(Route::NetworkCreate),
        ("POST", "prune") => return Some(Route::Whole(Whole::PruneNetworks)),
        _ => {}
    }
    let (reference, action) = match (method, rest.rsplit_once('/')) {
        ("GET", _) => (rest, NetworkAction::Inspect),
        ("DELETE", _) => (rest, NetworkAction::Remove),
        ("POST", Some((reference, "connect"))) => (reference, NetworkAction::Connect),
        ("POST", Some((reference, "disconnect"))) => (reference, NetworkAction::Disconnect),
        _ => return None,
    };
    (!reference.is_empty()).then(|| Route::Network { reference: reference.to_owned(), action })
}

/// `v1.44`: dockerd's routes take `/v{version:[0-9.]+}` before each path.
fn is_version(part: &str) -> bool {
    part.strip_prefix('v').is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    })
}

/// Resolves percent escapes; `None` for a bad one, or for what is not text.
fn decoded(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains('%') {
        return Some(Cow::Borrowed(path));
    }
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => digit(rest.next())? << 4 | digit(rest.next())?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

/// Escapes what cannot stand in a path (RFC 3986, 3.3); a slash stays one.
#[must_use]
pub fn encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _written = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
