//! One call, carried over to the machine that it belongs to.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dhow_model::Role;
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Request, Uri, Version};
use tokio::time::timeout;

use super::Builder;
use super::builds::{Build, Builds};
use super::channels::Channels;
use super::message::{self, Asked, Bad, Call};
use super::refusal::{Code, Refusal};
use super::wire::{self, Unread};

/// How long a call waits for the build that it is about.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long whoever follows a build's progress waits for it to be opened: the two calls are made at once.
const OPENED: Duration = Duration::from_secs(2);
/// How long a build's own machine may take to know it; BuildKit itself gives up on an unknown build after three seconds.
const KNOWN: Duration = Duration::from_secs(20);
/// Asks within a build what BuildKit can do; answered once the build is known.
const PING: &str = "/moby.buildkit.v1.frontend.LLBBridge/Ping";

/// Why a call did not come to its own end.
enum Stop {
    /// We answer it.
    Refused(Refusal),
    /// It was reset, by one side or the other; both know.
    Reset,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Bad> for Stop {
    fn from(bad: Bad) -> Self {
        let code = if bad == Bad::Compressed { Code::Unimplemented } else { Code::InvalidArgument };
        Self::Refused(Refusal::new(code, bad.to_string()))
    }
}

impl From<h2::Error> for Stop {
    fn from(_: h2::Error) -> Self {
        Self::Reset
    }
}

/// What a call is carried with.
struct Carrier<'a, B: Builder> {
    builder: &'a B,
    builds: &'a Builds<B::Guard>,
    channels: &'a Channels<'a, B>,
}

/// Carries one call over and its answer back.
pub(super) async fn carry<B: Builder>(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    builder: &B,
    builds: &Builds<B::Guard>,
    channels: &Channels<'_, B>,
) {
    let carrier = Carrier { builder, builds, channels };
    let (parts, body) = request.into_parts();
    tracing::trace!(path = parts.uri.path(), "a call of BuildKit's");
    let head = Head { method: parts.method, uri: parts.uri, headers: parts.headers };
    let refusal = match carrier.call(&head, body, &mut respond).await {
        Ok(()) => return,
        Err(Stop::Refused(refusal)) => refusal,
        Err(Stop::Reset) => return respond.send_reset(Reason::CANCEL),
    };
    if refusal.send(&mut respond).is_err() {
        // Its answer had begun.
        respond.send_reset(Reason::INTERNAL_ERROR);
    }
}

/// A request's head, to be sent once or again.
struct Head {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Head {
    fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers.clone();
        let mut uri = self.uri.clone().into_parts();
        // HTTP/2 wants both; a client that names no authority means the one that it is connected to.
        uri.scheme = uri.scheme.or(Some(http::uri::Scheme::HTTP));
        uri.authority = uri.authority.or_else(|| Some(http::uri::Authority::from_static("localhost")));
        if let Ok(uri) = Uri::from_parts(uri) {
            *request.uri_mut() = uri;
        }
        request
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl<B: Builder> Carrier<'_, B> {
    async fn call(
        &self,
        head: &Head,
        mut body: RecvStream,
        respond: &mut SendResponse<Bytes>,
    ) -> Result<(), Stop> {
        match message::call(head.uri.path()) {
            Call::Solve => {
                let body = whole(&mut body).await?;
                let asked = message::solve(&body)?;
                let build = self.builds.named(&asked.build);
                self.builds.opened(&build, &asked.session);
                if asked.work {
                    self.place(&build, &asked).await?;
                }
                let done = self.follow(head, body, &build, respond).await;
                // One that has asked for nothing until its end was at home.
                self.builds.placed(&build, Role::Native, |session| self.builder.place(session, Role::Native));
                self.builds.ended(build);
                done
            }
            Call::BridgeSolve => {
                let body = whole(&mut body).await?;
                let asked = message::bridge_solve(&body)?;
                let build = self.builds.named(head.header(message::BUILD));
                let role = match asked.work {
                    true => self.place(&build, &asked).await?,
                    false => build.place().unwrap_or(Role::Native),
                };
                self.known(head, role).await?;
                self.once(head, body, role, respond).await
            }
            Call::Status => {
                let body = whole(&mut body).await?;
                let build = self.builds.named(&message::status(&body)?);
                let role = self.placed(&build).await;
                self.once(head, body, role, respond).await
            }
            Call::Session => {
                let role = self.of_session(head.header(message::SESSION)).await?;
                self.stream(head, body, role, respond).await
            }
            Call::Bridge => {
                let build = self.builds.named(head.header(message::BUILD));
                self.stream(head, body, build.place().unwrap_or(Role::Native), respond).await
            }
            Call::Other => self.stream(head, body, Role::Native, respond).await,
        }
    }

    /// Decides where a build goes, or whether what it asks now agrees with where it is.
    async fn place(&self, build: &Build<B::Guard>, asked: &Asked) -> Result<Role, Refusal> {
        let role = self.builder.admit(&asked.platforms).await?;
        self.builds.placed(build, role, |session| self.builder.place(session, role));
        match build.place() {
            Some(place) if place != role && !asked.platforms.is_empty() => Err(Refusal::new(
                Code::FailedPrecondition,
                format!(
                    "this build is under way in machine {place}, and {} is built in machine {role}: build them one after the other",
                    asked.platforms.join(", ")
                ),
            )),
            place => Ok(place.unwrap_or(role)),
        }
    }

    /// Where a build goes whose progress is followed. It is opened in these moments; one that never was is at home.
    async fn placed(&self, build: &Build<B::Guard>) -> Role {
        if !self.builder.chooses() {
            return Role::Native;
        }
        let mut place = build.follow();
        let decided = async { place.wait_for(Option::is_some).await.map_or(None, |place| *place) };
        // Work that does not come in this time is reported from where the build is open.
        timeout(OPENED, decided).await.ok().flatten().unwrap_or(Role::Native)
    }

    async fn of_session(&self, session: &str) -> Result<Role, Refusal> {
        if !self.builder.chooses() {
            return Ok(Role::Native);
        }
        timeout(PATIENCE, self.builds.of_session(session)).await.map_err(|_| {
            let seconds = PATIENCE.as_secs();
            let message = format!("no build named session {session} within {seconds} s, so it is not known which machine it is for");
            Refusal::new(Code::InvalidArgument, message)
        })
    }

    /// Waits until the machine to which a build was moved knows it.
    async fn known(&self, head: &Head, role: Role) -> Result<(), Refusal> {
        if role == Role::Native {
            return Ok(());
        }
        let mut ping =
            Head { method: Method::POST, uri: Uri::from_static(PING), headers: head.headers.clone() };
        ping.headers.remove("content-length");
        let empty = Bytes::from_static(&[0; 5]);
        let asked = async {
            loop {
                let answer = begin(&mut self.channels.of(role).await?, &ping, empty.clone())
                    .map_err(Refusal::unavailable)?;
                let answer = answer.await.map_err(Refusal::unavailable)?;
                let refused =
                    |headers: &HeaderMap| headers.get("grpc-status").is_some_and(|status| status != "0");
                let mut body = answer.into_parts();
                let read = wire::read(&mut body.1, message::LARGEST).await.is_ok();
                let trailers = body.1.trailers().await.ok().flatten().unwrap_or_default();
                if read && !refused(&body.0.headers) && !refused(&trailers) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(KNOWN, asked).await.unwrap_or_else(|_| {
            Err(Refusal::unavailable(format!(
                "the machine {role} did not begin the build within {} s",
                KNOWN.as_secs()
            )))
        })
    }

    /// Carries a unary request that stays where its build is, and begins again where the build moves to.
    async fn follow(
        &self,
        head: &Head,
        body: Bytes,
        build: &Arc<Build<B::Guard>>,
        respond: &mut SendResponse<Bytes>,
    ) -> Result<(), Stop> {
        let mut place = build.follow();
        loop {
            let role = place.borrow_and_update().unwrap_or(Role::Native);
            let answer = begin(&mut self.channels.of(role).await?, head, body.clone())?;
            tokio::select! {
                biased;
                // The request is reset there when its answer is given up.
                () = moved(&mut place, role) => {}
                done = back(answer, respond) => return done,
            }
        }
    }

    /// Carries a unary request.
    async fn once(
        &self,
        head: &Head,
        body: Bytes,
        role: Role,
        respond: &mut SendResponse<Bytes>,
    ) -> Result<(), Stop> {
        let answer = begin(&mut self.channels.of(role).await?, head, body)?;
        back(answer, respond).await
    }

    /// Carries a request of any number of messages: it and its answer move at once, until the answer has ended or the client
    /// has given up.
    async fn stream(
        &self,
        head: &Head,
        body: RecvStream,
        role: Role,
        respond: &mut SendResponse<Bytes>,
    ) -> Result<(), Stop> {
        let (answer, mut up) = self.channels.of(role).await?.send_request(head.request(), false)?;
        let mut sending = std::pin::pin!(wire::pass(body, &mut up));
        let mut sent = false;
        let mut answering = std::pin::pin!(back(answer, respond));
        loop {
            tokio::select! {
                done = &mut answering => return done,
                // Whoever answers before the request has ended may want no more of it (RFC 9113, 8.1): its answer is what counts. A
                // client that gave up ends its answer, too.
                _ended = &mut sending, if !sent => sent = true,
            }
        }
    }
}

/// The body of a unary request.
async fn whole(body: &mut RecvStream) -> Result<Bytes, Stop> {
    wire::read(body, message::LARGEST).await.map_err(|why| match why {
        Unread::TooLarge => Stop::Refused(Refusal::new(
            Code::ResourceExhausted,
            format!("a build request of more than {} MiB", message::LARGEST >> 20),
        )),
        Unread::Broken => Stop::Reset,
    })
}

/// Sends a unary request.
fn begin(
    send: &mut h2::client::SendRequest<Bytes>,
    head: &Head,
    body: Bytes,
) -> Result<ResponseFuture, h2::Error> {
    let (answer, mut up) = send.send_request(head.request(), false)?;
    up.send_data(body, true)?;
    Ok(answer)
}

/// Moves an answer to the client. Ends early when the client resets the call.
async fn back(answer: ResponseFuture, respond: &mut SendResponse<Bytes>) -> Result<(), Stop> {
    let answer = tokio::select! {
        answer = answer => answer,
        _reset = gone(respond) => return Err(Stop::Reset),
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) if error.is_reset() => {
            respond.send_reset(error.reason().unwrap_or(Reason::CANCEL));
            return Ok(());
        }
        Err(error) => return Err(Refusal::unavailable(error).into()),
    };
    let (parts, body) = answer.into_parts();
    let mut head = http::Response::new(());
    (*head.status_mut(), *head.headers_mut()) = (parts.status, parts.headers);
    if body.is_end_stream() {
        respond.send_response(head, true)?;
        return Ok(());
    }
    let mut down = respond.send_response(head, false)?;
    wire::pass(body, &mut down).await?;
    Ok(())
}

/// Waits until the client resets the call.
async fn gone(respond: &mut SendResponse<Bytes>) -> Reason {
    poll_fn(|cx| respond.poll_reset(cx)).await.unwrap_or(Reason::CANCEL)
}

/// Waits until the build is placed anywhere but at `role`.
async fn moved(place: &mut tokio::sync::watch::Receiver<Option<Role>>, role: Role) {
    let never = place.wait_for(|place| place.is_some_and(|place| place != role)).await.is_err();
    if never {
        // The build is held by whoever waits here.
        std::future::pending().await
    }
}
