//! What calls of BuildKit's API ask, as far as placement is concerned: pure functions over the bytes of a gRPC request.
//!
//! Sources: gRPC over HTTP/2 (PROTOCOL-HTTP2.md, "Length-Prefixed-Message"); BuildKit's `control.proto`, `gateway.proto` and
//! `ops.proto`, of which the published Rust types are used.

use bollard_buildkit_proto::moby::buildkit::v1::frontend::SolveRequest as BridgeSolve;
use bollard_buildkit_proto::moby::buildkit::v1::{SolveRequest, StatusRequest};
use bollard_buildkit_proto::pb::{Definition, Op, op};
use prost::Message;

/// Largest request that is read; BuildKit itself takes no larger messages.
pub(super) const LARGEST: usize = 16 << 20;
/// Most platforms of one build.
const MOST_PLATFORMS: usize = 32;
/// Names the build of a call that is made within one.
pub(super) const BUILD: &str = "buildkit-controlapi-buildid";
/// Names the session of a stream that carries one.
pub(super) const SESSION: &str = "x-docker-expose-session-uuid";

/// A call, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// Begins a build, and ends when that ends.
    Solve,
    /// Follows a build's progress.
    Status,
    /// Carries a session within this connection (`buildctl`'s way).
    Session,
    /// Asks for a result within a build: with a frontend's options, this is where Buildx says the platform.
    BridgeSolve,
    /// Anything else within a build.
    Bridge,
    /// About no build.
    Other,
}

/// What a solve asks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Asked {
    /// The build.
    pub(super) build: String,
    /// Its session; empty: none.
    pub(super) session: String,
    /// Whether there is something to be done, so that it is known where; otherwise it comes with a later call.
    pub(super) work: bool,
    /// The platforms that are named, as they are written.
    pub(super) platforms: Vec<String>,
}

/// Why a request was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Bad {
    #[error("a compressed build request cannot be placed: send it uncompressed")]
    Compressed,
    #[error("the build request is not whole: its length does not agree with its bytes")]
    Torn,
    #[error("the build request names more than {MOST_PLATFORMS} platforms")]
    TooMany,
    #[error("the build request is not one of BuildKit's")]
    Foreign,
}

/// Tells a call by its path.
pub(super) fn call(path: &str) -> Call {
    match path {
        "/moby.buildkit.v1.Control/Solve" => Call::Solve,
        "/moby.buildkit.v1.Control/Status" => Call::Status,
        "/moby.buildkit.v1.Control/Session" => Call::Session,
        "/moby.buildkit.v1.frontend.LLBBridge/Solve" => Call::BridgeSolve,
        path if path.starts_with("/moby.buildkit.v1.frontend.LLBBridge/") => Call::Bridge,
        _ => Call::Other,
    }
}

/// Reads the body of `Control/Solve`.
pub(super) fn solve(body: &[u8]) -> Result<Asked, Bad> {
    let read = SolveRequest::decode(one(body)?).map_err(|_| Bad::Foreign)?;
    let definitions = read.definition.iter().chain(read.frontend_inputs.values());
    let mut asked = asked(&read.frontend, read.frontend_attrs.get("platform"), definitions)?;
    (asked.build, asked.session) = (read.r#ref, read.session);
    Ok(asked)
}

/// Reads the body of `LLBBridge/Solve`; the build is in the call's head.
pub(super) fn bridge_solve(body: &[u8]) -> Result<Asked, Bad> {
    let read = BridgeSolve::decode(one(body)?).map_err(|_| Bad::Foreign)?;
    let definitions = read.definition.iter().chain(read.frontend_inputs.values());
    asked(&read.frontend, read.frontend_opt.get("platform"), definitions)
}

/// Reads the body of `Control/Status`: which build it follows.
pub(super) fn status(body: &[u8]) -> Result<String, Bad> {
    StatusRequest::decode(one(body)?).map(|read| read.r#ref).map_err(|_| Bad::Foreign)
}

fn asked<'a>(
    frontend: &str,
    platforms: Option<&String>,
    definitions: impl Iterator<Item = &'a Definition>,
) -> Result<Asked, Bad> {
    let mut asked = Asked { work: !frontend.is_empty(), ..Asked::default() };
    let listed = platforms.map(String::as_str).unwrap_or_default().split(',').map(str::trim);
    for name in listed.filter(|name| !name.is_empty()) {
        asked.name(name)?;
    }
    for step in definitions.flat_map(|definition| &definition.def) {
        asked.work = true;
        let step = Op::decode(step.as_slice()).map_err(|_| Bad::Foreign)?;
        // Only what is executed needs a processor; files of any architecture may be moved about.
        let Op { platform: Some(platform), op: Some(op::Op::Exec(_)), .. } = step else { continue };
        let words = [platform.os, platform.architecture, platform.variant];
        let name = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join("/");
        if !name.is_empty() {
            asked.name(&name)?;
        }
    }
    Ok(asked)
}

impl Asked {
    /// A platform is asked for, once or again.
    fn name(&mut self, platform: &str) -> Result<(), Bad> {
        if !self.platforms.iter().any(|other| other == platform) {
            self.platforms.push(platform.to_owned());
        }
        if self.platforms.len() > MOST_PLATFORMS { Err(Bad::TooMany) } else { Ok(()) }
    }
}

/// For `fuzz/`: reads one body as every call that has one.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz(body: &[u8]) {
    for asked in [solve(body), bridge_solve(body)].into_iter().flatten() {
        assert!(asked.platforms.len() <= MOST_PLATFORMS && !asked.platforms.iter().any(String::is_empty));
    }
    assert!(status(body).is_ok_and(|build| build.len() <= body.len()) || status(body).is_err());
}

/// The one message of a unary request.
fn one(body: &[u8]) -> Result<&[u8], Bad> {
    let (prefix, message) = body.split_first_chunk::<5>().ok_or(Bad::Torn)?;
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 {
        return Err(Bad::Compressed);
    }
    let whole = usize::try_from(u32::from_be_bytes(length)).is_ok_and(|length| length == message.len());
    if whole { Ok(message) } else { Err(Bad::Torn) }
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::pb::{ExecOp, FileOp, Platform};
    use proptest::prelude::*;

    use super::*;

    fn framed(message: &impl Message) -> Vec<u8> {
        let content = message.encode_to_vec();
        let mut body = vec![0];
        body.extend_from_slice(&u32::try_from(content.len()).unwrap().to_be_bytes());
        body.extend_from_slice(&content);
        body
    }

    fn step(op: op::Op, architecture: &str) -> Vec<u8> {
        let platform =
            Platform { os: "linux".into(), architecture: architecture.into(), ..Platform::default() };
        Op { platform: Some(platform), op: Some(op), ..Op::default() }.encode_to_vec()
    }

    /// 1.2: what Buildx sends first names a build and its session, and nothing to be done yet.
    #[test]
    fn a_solve_without_a_frontend_only_opens_a_build() {
        let request = SolveRequest { r#ref: "b".into(), session: "s".into(), ..SolveRequest::default() };
        let expected = Asked { build: "b".into(), session: "s".into(), ..Asked::default() };
        assert_eq!(solve(&framed(&request)), Ok(expected));
    }

    /// 1.2: the `platform` list of a build.
    #[test]
    fn a_frontends_platforms_are_those_of_its_options() {
        let mut request = BridgeSolve { frontend: "dockerfile.v0".into(), ..BridgeSolve::default() };
        request.frontend_opt.insert("platform".into(), "linux/amd64, linux/arm64".into());
        let asked = bridge_solve(&framed(&request)).unwrap();
        assert!(asked.work);
        assert_eq!(asked.platforms, ["linux/amd64", "linux/arm64"]);
    }

    /// 1.4: only what is executed needs a processor.
    #[test]
    fn a_definitions_platforms_are_those_of_what_it_executes() {
        let def = vec![
            step(op::Op::File(FileOp::default()), "s390x"),
            step(op::Op::Exec(ExecOp::default()), "arm64"),
            step(op::Op::Exec(ExecOp::default()), "arm64"),
        ];
        let definition = Some(Definition { def, ..Definition::default() });
        let request = SolveRequest { r#ref: "b".into(), definition, ..SolveRequest::default() };
        assert_eq!(solve(&framed(&request)).unwrap().platforms, ["linux/arm64"]);
    }

    /// 3.3: what a client names is bounded before it is told again.
    #[test]
    fn more_platforms_than_any_build_has_are_refused() {
        let list = |count: usize| (0..count).map(|n| format!("linux/cpu{n}")).collect::<Vec<_>>().join(",");
        let mut request = BridgeSolve { frontend: "dockerfile.v0".into(), ..BridgeSolve::default() };
        for (platforms, expected) in
            [(list(32), Ok(32)), (list(33), Err(Bad::TooMany)), (["linux"; 99].join(","), Ok(1))]
        {
            request.frontend_opt.insert("platform".into(), platforms);
            assert_eq!(bridge_solve(&framed(&request)).map(|asked| asked.platforms.len()), expected);
        }
    }

    #[test]
    fn what_is_not_whole_or_not_plain_is_an_error() {
        let mut body = framed(&StatusRequest { r#ref: "b".into() });
        assert_eq!(status(&body), Ok("b".into()));
        body[0] = 1;
        assert_eq!(status(&body), Err(Bad::Compressed));
        body[0] = 0;
        body.pop();
        assert_eq!(status(&body), Err(Bad::Torn));
        assert_eq!(status(&[0, 0]), Err(Bad::Torn));
        assert_eq!(solve(&[0, 0, 0, 0, 1, 0xff]), Err(Bad::Foreign));
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(body: Vec<u8>) {
            fuzz(&body);
        }
    }
}
