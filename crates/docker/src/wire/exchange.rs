//! One request and its answer, both streaming at once, driven by the task of the client's connection alone:
//!
//! ```text
//!            ┌─ sending ───┐  client.buffer   ┌──────────┐
//!   client ──┤ Open → Sent ├────────────────► │  engine  │     Sent: the client is watched, for its end
//!            └─────────────┘                  │          │     and for what it sends ahead
//!            ┌─ receiving ─────────────┐      │          │
//!   client ◄─┤ Done ← Body ← Held ← Head ◄────┤          │     Head: also passes 1xx; Held: hooks run
//!            └─────────────────────────┘      └──────────┘
//! ```

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::engines::ByteStream;
use crate::error::Broken;
use crate::wire::body::Body;
use crate::wire::buffer::Buffer;
use crate::wire::client::Client;
use crate::wire::head::{self, Answer, MAX_HEAD, Request};
use crate::wire::outgoing::Outgoing;

/// How far ahead of an unanswered request a client is read.
const AHEAD: usize = 64 * 1024;

/// The request on its way: what is needed to send it, and to send it again.
pub(crate) struct Upload {
    pub(crate) out: Outgoing,
    pub(crate) body: Body,
}

/// What the face must see before the client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    Nothing,
    /// The answer's status.
    Head,
    /// The answer's content too, if it is small.
    Content,
}

/// How an exchange came to rest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// The answer is held as asked; go on with another [`Exchange::run`].
    Held { status: u16, content: Vec<u8> },
    /// Both messages went through.
    Done { reuse_engine: bool, keep_client: bool },
    /// The connection is no longer HTTP.
    Upgraded,
    /// The connection was dead before the engine saw the request; it can be sent again.
    Stale,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Open,
    Sent,
    /// The engine takes no more, or the client has no more to give: only the answer is waited for.
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiving {
    Head,
    Held,
    Body,
    Done,
}

/// One request and its answer.
pub(crate) struct Exchange<'a> {
    client: &'a mut Client,
    engine: &'a mut dyn ByteStream,
    request: &'a Request,
    upload: &'a mut Upload,
    sending: Sending,
    /// Our half towards the engine: closed once the client has closed its own.
    half_closed: bool,
    receiving: Receiving,
    hold: Hold,
    hijack: bool,
    /// The client has had its `100 Continue` from the face; the engine's own is dropped.
    continued: bool,
    /// A header that the answer gets.
    label: Option<(&'static str, &'a str)>,
    reused: bool,
    /// From the engine, not yet sent to the client.
    pub(crate) buffer: Buffer,
    pub(crate) back: Outgoing,
    answer: Option<Answer>,
    answer_body: Body,
    engine_ended: bool,
    received: bool,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(
        client: &'a mut Client,
        engine: &'a mut dyn ByteStream,
        reused: bool,
        request: &'a Request,
        upload: &'a mut Upload,
        buffer: Buffer,
    ) -> Self {
        Self {
            client,
            engine,
            request,
            upload,
            sending: Sending::Open,
            half_closed: false,
            receiving: Receiving::Head,
            hold: Hold::Nothing,
            hijack: false,
            continued: false,
            label: None,
            reused,
            buffer,
            back: Outgoing::default(),
            answer: None,
            answer_body: Body::NONE,
            engine_ended: false,
            received: false,
        }
    }

    /// What to hold back until the hooks have run.
    pub(crate) fn hold(mut self, hold: Hold) -> Self {
        self.hold = hold;
        self
    }

    /// An answer `200` without framing turns the connection into a two-way stream.
    pub(crate) fn may_hijack(mut self, hijack: bool) -> Self {
        self.hijack = hijack;
        self
    }

    /// The face has sent `100 Continue` already, so that it could read the body.
    pub(crate) fn was_continued(mut self, continued: bool) -> Self {
        self.continued = continued;
        self
    }

    /// A header to add to the answer.
    pub(crate) fn label(mut self, label: Option<(&'static str, &'a str)>) -> Self {
        self.label = label;
        self
    }

    /// Whether the client has been sent anything that cannot be taken back.
    pub(crate) fn has_begun(&self) -> bool {
        self.back.written() > 0
    }

    /// The answer's status, once known.
    pub(crate) fn status(&self) -> Option<u16> {
        self.answer.as_ref().map(|answer| answer.status)
    }

    /// Goes on until something is to be decided.
    pub(crate) async fn run(&mut self) -> Result<Rest, Broken> {
        if self.receiving == Receiving::Held {
            self.release()?;
        }
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Rest, Broken>> {
        self.send(cx)?;
        self.receive(cx)
    }

    /// Moves the request as far as it goes now, then watches the client.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        while self.sending == Sending::Open {
            match self.upload.out.poll_write(cx, self.engine, &mut self.client.buffer) {
                Poll::Pending => return Ok(()),
                // It may have answered before it closed: the answer decides.
                Poll::Ready(Err(_)) => self.sending = Sending::Broken,
                Poll::Ready(Ok(())) if self.upload.body.is_done() => self.sending = Sending::Sent,
                Poll::Ready(Ok(())) if !self.client.buffer.is_empty() => {
                    let n = self.upload.body.scan(self.client.buffer.filled(), |_| {})?;
                    self.upload.out.clear(n);
                }
                Poll::Ready(Ok(())) if self.client.ended => self.sending = Sending::Broken,
                Poll::Ready(Ok(())) => match self.client.poll_read(cx, Buffer::STREAM) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(_)) => return Err(Broken::ClientGone),
                },
            }
        }
        self.watch(cx)
    }

    /// After the request: notices a client that goes away, and passes on that it has closed its half. A client that
    /// has sent further requests ahead still wants their answers, as dockerd sees it.
    fn watch(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        while self.sending == Sending::Sent && !self.client.ended && self.client.buffer.has_room(AHEAD) {
            match self.client.poll_read(cx, AHEAD) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Err(Broken::ClientGone),
            }
        }
        if self.client.ended && self.client.buffer.is_empty() && !self.half_closed {
            if self.client.is_gone() {
                return Err(Broken::ClientGone);
            }
            if Pin::new(&mut *self.engine).poll_shutdown(cx).is_ready() {
                self.half_closed = true;
            }
        }
        Ok(())
    }

    /// Moves the answer as far as it goes now.
    fn receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Rest, Broken>> {
        loop {
            let step = match self.receiving {
                Receiving::Head => self.receive_head(cx),
                Receiving::Held => self.receive_held(cx),
                Receiving::Body => self.receive_body(cx),
                Receiving::Done => return self.rest(),
            };
            match step {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
                Poll::Ready(Ok(Some(rest))) => return Poll::Ready(Ok(rest)),
                Poll::Ready(Ok(None)) => {}
            }
        }
    }

    fn receive_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Rest>, Broken>> {
        if self.write_back(cx)?.is_pending() {
            return Poll::Pending;
        }
        let to_head = self.request.method == "HEAD";
        let parsed = match self.buffer.is_empty() {
            true => None,
            false => head::answer(self.buffer.filled(), to_head, &self.request.trace)?,
        };
        let Some(mut answer) = parsed else {
            if !self.buffer.has_room(MAX_HEAD) {
                return Poll::Ready(Err(Broken::BadAnswer("its headers are larger than 1 MiB")));
            }
            return match self.read_engine(cx, MAX_HEAD) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(true) => Poll::Ready(Ok(None)),
                Poll::Ready(false) => Poll::Ready(self.no_answer()),
            };
        };
        self.buffer.consume(answer.len);
        if answer.status == 100 && std::mem::take(&mut self.continued) {
            return Poll::Ready(Ok(None));
        }
        if answer.is_informational() {
            self.back = Outgoing::raw(answer.forward);
            return Poll::Ready(Ok(None));
        }
        if let Some((name, value)) = self.label {
            answer.add(name, value);
        }
        self.answer_body = answer.body;
        let succeeded = matches!(answer.status, 200..=299);
        if answer.status == 101 || (self.hijack && succeeded && answer.body == Body::UntilClose) {
            self.back = Outgoing::raw(std::mem::take(&mut answer.forward));
            self.answer = Some(answer);
            return Poll::Ready(Ok(Some(Rest::Upgraded)));
        }
        self.answer = Some(answer);
        if self.hold == Hold::Nothing {
            self.release()?;
        } else {
            self.receiving = Receiving::Held;
        }
        Poll::Ready(Ok(None))
    }

    /// The engine closed before it answered.
    fn no_answer(&self) -> Result<Option<Rest>, Broken> {
        if self.received {
            return Err(Broken::BadAnswer("it ends within its headers"));
        }
        let out = &self.upload.out;
        let unseen = out.is_untouched() || (self.request.is_repeatable() && out.is_replayable());
        if self.reused && unseen { Ok(Some(Rest::Stale)) } else { Err(Broken::NoAnswer) }
    }

    /// Waits until what the hooks need is there; then the exchange rests until the next `run`.
    fn receive_held(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Rest>, Broken>> {
        let status = self.status().unwrap_or_default();
        let mut content = Vec::new();
        if self.hold == Hold::Content {
            let mut body = self.answer_body;
            body.scan(self.buffer.filled(), |data| content.extend_from_slice(data))
                .map_err(|_| Broken::BadAnswer("bad chunk"))?;
            if !body.is_done() && !self.engine_ended && self.buffer.has_room(AHEAD) {
                return self.read_engine(cx, AHEAD).map(|_| Ok(None));
            }
        }
        Poll::Ready(Ok(Some(Rest::Held { status, content })))
    }

    /// Lets the answer go to the client.
    fn release(&mut self) -> Result<(), Broken> {
        self.hold = Hold::Nothing;
        self.receiving = Receiving::Body;
        let head = self.answer.as_mut().map(|answer| std::mem::take(&mut answer.forward));
        self.back = Outgoing::new(head.unwrap_or_default(), &mut self.answer_body, &mut self.buffer)
            .map_err(|_| Broken::BadAnswer("bad chunk"))?;
        Ok(())
    }

    fn receive_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Rest>, Broken>> {
        if self.write_back(cx)?.is_pending() {
            return Poll::Pending;
        }
        let ends_with_engine = self.answer_body == Body::UntilClose;
        if self.answer_body.is_done() || (self.engine_ended && ends_with_engine && self.buffer.is_empty()) {
            self.receiving = Receiving::Done;
        } else if !self.buffer.is_empty() {
            let n = self.answer_body.scan(self.buffer.filled(), |_| {}).map_err(|_| Broken::Truncated)?;
            self.back.clear(n);
        } else if self.engine_ended {
            return Poll::Ready(Err(Broken::Truncated));
        } else if self.read_engine(cx, Buffer::STREAM).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(Ok(None))
    }

    fn write_back(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Broken> {
        match self.back.poll_write(cx, &mut self.client.stream, &mut self.buffer) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
            Poll::Ready(Err(_)) => Err(Broken::ClientGone),
        }
    }

    /// Reads from the engine; `false` when it has closed.
    fn read_engine(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<bool> {
        self.buffer.poll_fill(cx, self.engine, limit).map(|read| {
            let more = matches!(read, Ok(n) if n > 0);
            self.received |= more;
            self.engine_ended |= !more;
            more
        })
    }

    /// The answer is through. The request may still be on its way: dockerd says whether it wants the rest.
    fn rest(&self) -> Poll<Result<Rest, Broken>> {
        let keep = self.answer.as_ref().is_some_and(|answer| answer.keep_alive);
        if self.sending == Sending::Open && keep {
            return Poll::Pending;
        }
        let clean = keep && self.sending == Sending::Sent && !self.engine_ended;
        Poll::Ready(Ok(Rest::Done {
            reuse_engine: clean && !self.half_closed && self.buffer.is_empty(),
            keep_client: clean && self.request.keep_alive,
        }))
    }
}
