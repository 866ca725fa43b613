//! One client's connection: request after request, until it ends or stops being HTTP.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use dhow_model::Role;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::answer;
use crate::engines::{ByteStream, Engines, Unavailable};
use crate::error::Broken;
use crate::hooks::{Hooks, LifecycleCall};
use crate::pool::{Connection, Pools};
use crate::resolve;
use crate::route::{Action, Route, route};
use crate::stats::{Counters, Gauge};
use crate::trace::TraceId;
use crate::wire::buffer::Buffer;
use crate::wire::client::{Client, Incoming};
use crate::wire::exchange::{Exchange, Hold, Rest, Upload};
use crate::wire::head::Request;
use crate::wire::outgoing::Outgoing;
use crate::wire::tunnel::Tunnel;

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) engines: Arc<dyn Engines>,
    pub(crate) pools: Pools,
    pub(crate) hooks: Arc<dyn Hooks>,
    pub(crate) counters: Counters,
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
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let route = route(&request.method, &request.target);
        let mut call = self.announce(&route, &request.trace).await;
        let mut body = request.body;
        let head = std::mem::take(&mut request.forward);
        let out = match Outgoing::new(head, &mut body, &mut client.buffer) {
            Ok(out) => out,
            Err(bad) => {
                refuse(client, &bad.into(), &request.trace).await;
                return Next::Close;
            }
        };
        let mut upload = Upload { out, body };
        let mut connection = match self.pools.of(Role::Native).take().await {
            Ok(connection) => connection,
            Err(why) => return self.unavailable(client, &why, &request.trace).await,
        };
        loop {
            let ended = self
                .exchange(&mut client, spare, &mut connection, &request, &mut upload, &route, &mut call)
                .await;
            match ended {
                Ended::Done { reuse_engine, keep_client } => {
                    if reuse_engine {
                        self.pools.of(Role::Native).put(connection);
                    }
                    client.buffer.shrink();
                    spare.shrink();
                    return if keep_client { Next::Request(client) } else { Next::close(client).await };
                }
                Ended::Stale => {
                    tracing::debug!("a pooled connection was dead; the request is sent again");
                    upload.out.rewind();
                    connection = match self.pools.of(Role::Native).dial().await {
                        Ok(connection) => connection,
                        Err(why) => return self.unavailable(client, &why, &request.trace).await,
                    };
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

    /// Resolves the container of a lifecycle call and tells the hooks.
    async fn announce(&self, route: &Route, trace: &TraceId) -> Option<LifecycleCall> {
        match route {
            Route::Container { action, reference } if action.is_lifecycle() => {
                let id = resolve::canonical_id(self.pools.of(Role::Native), reference, trace).await?;
                let call =
                    LifecycleCall { action: *action, id, reference: reference.clone(), trace: trace.clone() };
                self.hooks.before(&call).await;
                Some(call)
            }
            Route::Create => Some(LifecycleCall {
                action: Action::Create,
                id: String::new(),
                reference: String::new(),
                trace: trace.clone(),
            }),
            _ => None,
        }
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
        call: &mut Option<LifecycleCall>,
    ) -> Ended {
        let hold = match (route, &call) {
            (_, None) => Hold::Nothing,
            (Route::Create, _) => Hold::Content,
            _ => Hold::Head,
        };
        let sent_before = upload.out.written();
        let mut exchange = Exchange::new(
            client,
            connection.stream.as_mut(),
            connection.reused,
            request,
            upload,
            std::mem::take(spare),
        )
        .hold(hold)
        .may_hijack(route.may_hijack());
        let ended = loop {
            match exchange.run().await {
                Ok(Rest::Held { status, content }) => self.report(call, status, &content).await,
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
        ended
    }

    /// Tells the hooks how a call ended. A create has its ID only now, and only if it succeeded.
    async fn report(&self, call: &mut Option<LifecycleCall>, status: u16, content: &[u8]) {
        let Some(mut call) = call.take() else { return };
        if call.action == Action::Create {
            match resolve::id_in(content).filter(|_| status == 201) {
                Some(id) => call.id = id,
                None => return,
            }
        }
        self.hooks.after(&call, status).await;
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

    async fn http2(&self, client: Client) {
        let _in_flight = Gauge::new(&self.counters.in_flight);
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
