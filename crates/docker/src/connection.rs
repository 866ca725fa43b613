//! One client's connection: request after request, until it ends or stops being HTTP.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dhow_model::{Placement, Role};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::answer;
use crate::buildkit;
use crate::compose::Projects;
use crate::decisions::{self, Decisions};
use crate::engines::{ByteStream, Engines, Unavailable};
use crate::error::Broken;
use crate::hooks::Hooks;
use crate::merge;
use crate::place::{Plan, Stop};
use crate::pool::{Connection, Pools};
use crate::registry::Workloads;
use crate::route::{Route, Whole, route};
use crate::session::Sessions;
use crate::stats::{Counters, Gauge, InUse};
use crate::trace::TraceId;
use crate::wire::body::Body;
use crate::wire::buffer::Buffer;
use crate::wire::client::{Client, Incoming};
use crate::wire::exchange::{Exchange, Rest, Upload};
use crate::wire::head::{self, Request};
use crate::wire::outgoing::Outgoing;
use crate::wire::tunnel::Tunnel;

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) engines: Arc<dyn Engines>,
    pub(crate) pools: Pools,
    pub(crate) hooks: Arc<dyn Hooks>,
    pub(crate) counters: Counters,
    pub(crate) workloads: Workloads,
    pub(crate) decisions: Decisions,
    pub(crate) sessions: Sessions,
    pub(crate) projects: Projects,
}

/// What becomes of the connection after a request.
enum Next {
    Request(Client),
    Close,
}

/// Serves one client until it has nothing more to ask; `stop` lets the request that is going on end, and no other begin.
pub(crate) async fn serve(shared: Arc<Shared>, mut client: Client, stop: CancellationToken) {
    let mut spare = Buffer::default();
    loop {
        match client.next(&stop).await {
            Ok(Incoming::Request(request)) => {
                let span = tracing::debug_span!("docker", trace = %request.trace, method = %request.method,
                                                target = %request.target);
                match shared.handle(client, &mut spare, *request).instrument(span).await {
                    Next::Request(same) if !stop.is_cancelled() => client = same,
                    Next::Request(_) | Next::Close => return,
                }
            }
            Ok(Incoming::Http2) => return shared.http2(client).await,
            Ok(Incoming::End) => return,
            Err(broken) => return refuse(client, &broken, &TraceId::random()).await,
        }
    }
}

impl Shared {
    async fn handle(&self, mut client: Client, spare: &mut Buffer, mut request: Request) -> Next {
        let _in_flight = Gauge::new(&self.counters.in_flight);
        let mut in_use = InUse::none(&self.counters);
        if self.engines.placement() == Placement::NativeMachine {
            in_use.of(Role::Native);
        }
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let route = self.current(route(&request.method, &request.target), &mut request);
        if let Route::Whole(whole) = &route
            && self.is_merged(*whole)
        {
            self.engines.running().into_iter().for_each(|role| in_use.of(role));
            return self.whole(client, &request, *whole).await;
        }
        let mut plan = match self.place(&mut client, &request, &route).await {
            Ok(plan) => plan,
            Err(stop) => return self.stop(client, &request, stop).await,
        };
        in_use.of(plan.role);
        let mut head = std::mem::take(&mut request.forward);
        if let Some(instead) = plan.body.take()
            && client.discard(request.body)
        {
            head = head::with_body(&head, &instead);
            request.body = Body::NONE;
        }
        let mut body = request.body;
        let out = match Outgoing::new(head, &mut body, &mut client.buffer) {
            Ok(out) => out,
            Err(bad) => {
                refuse(client, &bad.into(), &request.trace).await;
                return Next::Close;
            }
        };
        let mut upload = Upload { out, body };
        let pool = self.pools.of(plan.role);
        let mut connection = match pool.take().await {
            Ok(connection) => connection,
            Err(why) => return self.unavailable(client, &why, &request.trace).await,
        };
        loop {
            let ended = self
                .exchange(&mut client, spare, &mut connection, &request, &mut upload, &route, &mut plan)
                .await;
            match ended {
                Ended::Done { reuse_engine, keep_client } => {
                    if reuse_engine {
                        pool.put(connection);
                    }
                    client.buffer.shrink();
                    spare.shrink();
                    return if keep_client { Next::Request(client) } else { Next::close(client).await };
                }
                Ended::Stale => {
                    tracing::debug!("a pooled connection was dead; the request is sent again");
                    upload.out.rewind();
                    connection = match pool.dial().await {
                        Ok(connection) => connection,
                        Err(why) => return self.unavailable(client, &why, &request.trace).await,
                    };
                }
                Ended::Upgraded(back) if route == Route::Grpc => {
                    // Its builds go to either engine.
                    in_use.of_all();
                    self.buildkit(client, connection.stream, back, std::mem::take(spare), &request.trace)
                        .await;
                    return Next::Close;
                }
                Ended::Upgraded(back) => {
                    self.tunnel(client, connection.stream, upload.out, back, std::mem::take(spare)).await;
                    return Next::Close;
                }
                Ended::Broken(broken, begun) => {
                    tracing::debug!(why = %broken, begun, "the exchange broke");
                    drop(connection);
                    if !begun {
                        refuse(client, &broken, &request.trace).await;
                    }
                    return Next::Close;
                }
            }
        }
    }

    /// A network that was made again in the foreign engine is meant by its former ID too.
    fn current(&self, route: Route, request: &mut Request) -> Route {
        let Route::Network { reference, action } = &route else { return route };
        let Some(now) = self.projects.renamed(reference) else { return route };
        request.forward = head::retargeted(&request.forward, reference, &now);
        Route::Network { reference: now, action: *action }
    }

    /// Answers what is whole only with both engines' parts.
    async fn whole(&self, mut client: Client, request: &Request, whole: Whole) -> Next {
        let machines = self.machines(&request.trace);
        let keep = client.discard(request.body) && request.keep_alive;
        if whole == Whole::Events {
            let keep = merge::events(&mut client, request, machines).await && keep;
            return if keep { Next::Request(client) } else { Next::close(client).await };
        }
        let answer = merge::answer(whole, request, machines).await;
        self.answered(client, keep, &answer).await
    }

    /// Sends an answer of the face's own.
    async fn answered(&self, mut client: Client, keep: bool, answer: &[u8]) -> Next {
        if !keep {
            client.finish(answer).await;
            return Next::Close;
        }
        match client.say(answer).await {
            Ok(()) => {
                self.counters.bytes.fetch_add(answer.len() as u64, Ordering::Relaxed);
                client.buffer.shrink();
                Next::Request(client)
            }
            Err(_) => Next::Close,
        }
    }

    /// Tells the client why its request goes nowhere.
    async fn stop(&self, mut client: Client, request: &Request, stop: Stop) -> Next {
        match stop {
            Stop::Said(said) => {
                tracing::info!(status = said.status, why = %said.message, "refused");
                let keep = client.discard(request.body) && request.keep_alive;
                let answer = said.bytes(keep, &request.trace);
                self.answered(client, keep, &answer).await
            }
            Stop::Unavailable(why) => self.unavailable(client, &why, &request.trace).await,
            Stop::Broken(broken) => {
                refuse(client, &broken, &request.trace).await;
                Next::Close
            }
        }
    }

    /// Whether more than one engine has a part in this. Events go on when the second machine starts, so they always have.
    fn is_merged(&self, whole: Whole) -> bool {
        self.engines.placement() == Placement::ForeignMachine
            && (whole == Whole::Events || self.engines.running().len() == Role::ALL.len())
    }

    #[allow(clippy::too_many_arguments, reason = "they are the locals of `handle`, lent for one attempt")]
    async fn exchange(
        &self,
        client: &mut Client,
        spare: &mut Buffer,
        connection: &mut Connection,
        request: &Request,
        upload: &mut Upload,
        route: &Route,
        plan: &mut Plan,
    ) -> Ended {
        let label = plan.label.take();
        let sent_before = upload.out.written();
        let mut exchange = Exchange::new(
            client,
            connection.stream.as_mut(),
            connection.reused,
            request,
            upload,
            std::mem::take(spare),
        )
        .hold(plan.hold())
        .may_hijack(route.may_hijack())
        .was_continued(plan.continued)
        .label(label.as_deref().map(|label| (decisions::HEADER, label)));
        let ended = loop {
            match exchange.run().await {
                Ok(Rest::Held { status, content }) => self.report(plan, status, &content).await,
                Ok(Rest::Done { reuse_engine, keep_client }) => {
                    break Ended::Done { reuse_engine, keep_client };
                }
                Ok(Rest::Stale) => break Ended::Stale,
                Ok(Rest::Upgraded) => break Ended::Upgraded(std::mem::take(&mut exchange.back)),
                Err(broken) => break Ended::Broken(broken, exchange.has_begun()),
            }
        };
        let received = exchange.back.written();
        *spare = std::mem::take(&mut exchange.buffer);
        self.counters.bytes.fetch_add(upload.out.written() - sent_before + received, Ordering::Relaxed);
        plan.label = label;
        ended
    }

    async fn tunnel(
        &self,
        client: Client,
        engine: Box<dyn ByteStream>,
        out: Outgoing,
        back: Outgoing,
        buffer: Buffer,
    ) {
        let _upgraded = Gauge::new(&self.counters.upgraded);
        let before = out.written() + back.written();
        let moved = Tunnel::new(client, engine, out, back, buffer).run().await;
        self.counters.bytes.fetch_add(moved - before, Ordering::Relaxed);
    }

    /// BuildKit's API: its builds are placed one by one.
    async fn buildkit(
        &self,
        mut client: Client,
        engine: Box<dyn ByteStream>,
        mut back: Outgoing,
        mut ahead: Buffer,
        trace: &TraceId,
    ) {
        let _upgraded = Gauge::new(&self.counters.upgraded);
        // What the engine has sent after its answer's head is HTTP/2, and stays.
        back.clear(0);
        let answered = std::future::poll_fn(|cx| back.poll_write(cx, &mut client.stream, &mut ahead)).await;
        if answered.is_err() {
            return;
        }
        let engine = buildkit::Read::new(ahead.filled().to_vec(), engine);
        let client = buildkit::Read::new(client.buffer.filled().to_vec(), client.stream);
        let machines = buildkit::Machines { shared: self, trace };
        if let Err(why) = buildkit::serve(client, engine, &machines).await {
            tracing::debug!(%why, "a connection to BuildKit's API broke");
        }
    }

    async fn http2(&self, client: Client) {
        let _in_flight = Gauge::new(&self.counters.in_flight);
        let mut in_use = InUse::none(&self.counters);
        in_use.of(Role::Native);
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        match self.pools.of(Role::Native).dial().await {
            Ok(connection) => {
                let none = (Outgoing::default(), Outgoing::default());
                self.tunnel(client, connection.stream, none.0, none.1, Buffer::default()).await;
            }
            Err(why) => tracing::warn!(%why, "an HTTP/2 client could not be connected"),
        }
    }

    async fn unavailable(&self, client: Client, why: &Unavailable, trace: &TraceId) -> Next {
        tracing::warn!(%why, "the engine cannot be reached");
        client.finish(&answer::unavailable(why, trace)).await;
        Next::Close
    }
}

/// How one attempt at an exchange ended.
enum Ended {
    Done {
        reuse_engine: bool,
        keep_client: bool,
    },
    Upgraded(Outgoing),
    Stale,
    /// With whether the client has been sent a part of the answer.
    Broken(Broken, bool),
}

impl Next {
    /// Closes after a whole answer, so that a client that is still sending can read it.
    async fn close(client: Client) -> Self {
        client.finish(b"").await;
        Self::Close
    }
}

async fn refuse(client: Client, broken: &Broken, trace: &TraceId) {
    if let Some(last) = answer::broken(broken, trace) {
        tracing::debug!(%trace, why = %broken, "refused");
        client.finish(&last).await;
    }
}
