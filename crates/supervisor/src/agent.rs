//! Asks the guest's agent: greets it, follows its boot, and then asks for its health for as long as the machine lives.
//! What is heard goes to the one task that owns the machine.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dhow_channel::Dialer;
use dhow_model::Port;
use dhow_proto::agent::agent_client::AgentClient;
use dhow_proto::agent::{
    AdmitHostRequest, AwakeReply, AwakeRequest, BootRequest, BootStep, HealthReply, HealthRequest,
    HelloReply, HelloRequest, PortsAnswer, PortsRequest, QuiesceReply, QuiesceRequest, SetClockRequest,
    ShareChange, ShutdownRequest, ShutdownStep, TellChangesReply, TellChangesRequest, TranslatorFile,
    TranslatorPart, Translators, UseTranslatorsRequest,
};
use dhow_proto::{AGENT_PROTOCOL, MESSAGE_LIMIT};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::turns::{Turn, Turns};

/// For one question to the agent. Under software emulation a busy guest answers late and is well.
const QUESTION: Duration = Duration::from_secs(10);
/// For a translator's file to be handed over, and for the guest to try it: it may be booting, and starts programs for it.
const TRANSLATORS: Duration = Duration::from_secs(60);
/// For the guest to get ready to sleep beyond what it was given, and to get fit after it.
const SLEEP: Duration = Duration::from_secs(5);
/// Between two questions for health.
const BETWEEN: Duration = Duration::from_secs(2);
/// Between two attempts to greet an agent that is not up yet.
const AGAIN: Duration = Duration::from_millis(50);
/// There and back, a clock that was set is as right as it need be; a busy host takes longer at times.
const CLOCK_WAY: Duration = Duration::from_millis(80);
const CLOCK_ATTEMPTS: u32 = 4;
/// How far the guest's clock may be off before it is set.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(500);

/// What was heard of the guest.
#[derive(Debug)]
pub enum Heard {
    /// The agent is there.
    Hello(HelloReply),
    /// A step of its boot ended.
    Step(BootStep),
    /// What is true in the guest.
    Health(HealthReply),
    /// The guest took these translators; what the host could not hand over is said in words.
    Translators(Translators, Vec<String>),
    /// The guest did not take a change of its translators.
    TranslatorsLate(String),
    /// A question was not answered.
    Nothing(String),
}

/// A client of the agent whose connections are streams of the channel. What is asked by ourselves waits while the machine sleeps.
#[derive(Debug, Clone)]
pub struct Agent {
    client: AgentClient<Channel>,
    turns: Turns,
}

/// Where the guest is when we begin to follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// It boots.
    Boot,
    /// It booted long ago, and woke.
    Wake,
}

impl Agent {
    /// A client that dials when it is first asked.
    #[must_use]
    pub fn new(dialer: Dialer, turns: Turns) -> Self {
        let connector = tower::service_fn(move |_| {
            let dialer = dialer.clone();
            async move { dialer.dial(Port::AGENT, QUESTION).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://agent").connect_with_connector_lazy(connector);
        let client = AgentClient::new(channel)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT);
        Self { client, turns }
    }

    /// Waits until the guest may be asked something.
    pub async fn turn(&self) -> Turn {
        self.turns.question().await
    }

    /// Greets, follows the boot and asks for health until the receiver is gone.
    pub async fn follow(mut self, heard: mpsc::Sender<Heard>, beginning: Beginning) {
        let hello = loop {
            match self.hello().await {
                Ok(hello) => break hello,
                Err(why) => {
                    if heard.send(Heard::Nothing(why)).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        };
        if heard.send(Heard::Hello(hello)).await.is_err() {
            return;
        }
        if beginning == Beginning::Boot
            && let Err(why) = self.boot(&heard).await
            && heard.send(Heard::Nothing(why)).await.is_err()
        {
            return;
        }
        loop {
            let next = match self.health().await {
                Ok(health) => Heard::Health(health),
                Err(why) => Heard::Nothing(why),
            };
            if heard.send(next).await.is_err() {
                return;
            }
            tokio::time::sleep(BETWEEN).await;
        }
    }

    /// Asks the guest to stop in order within `limit`; the steps that it reported until the machine was off.
    ///
    /// # Errors
    /// When the agent could not be asked.
    pub async fn shutdown(&mut self, limit: Duration) -> Result<Vec<ShutdownStep>, String> {
        let limit_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        let question = tokio::time::timeout(QUESTION, self.client.shutdown(ShutdownRequest { limit_ms }));
        let mut steps = question.await.map_err(|_| late("shutdown"))?.map_err(|s| words(&s))?.into_inner();
        let mut done = Vec::new();
        // The stream breaks when the machine is off: that is its end, and no error.
        while let Ok(Some(step)) = steps.message().await {
            done.push(step);
        }
        Ok(done)
    }

    /// Has the guest get ready to sleep, within `limit`. Whoever asks has silenced all others.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub async fn quiesce(&mut self, limit: Duration) -> Result<QuiesceReply, String> {
        let limit_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        let question = tokio::time::timeout(limit + SLEEP, self.client.quiesce(QuiesceRequest { limit_ms }));
        let late = |_| format!("it did not get ready within {} s", (limit + SLEEP).as_secs());
        Ok(question.await.map_err(late)?.map_err(|s| words(&s))?.into_inner())
    }

    /// Tells the guest that it has slept. Whoever asks has silenced all others.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub async fn awake(&mut self, entropy: Vec<u8>) -> Result<AwakeReply, String> {
        let asked = Instant::now();
        let request = AwakeRequest { unix_nanos: unix_nanos(), entropy };
        let question = tokio::time::timeout(SLEEP, self.client.awake(request));
        let late = |_| format!("no answer to awake within {} s", SLEEP.as_secs());
        let awake = question.await.map_err(late)?.map_err(|s| words(&s))?.into_inner();
        if asked.elapsed() > CLOCK_WAY {
            self.set_clock().await?;
        }
        Ok(awake)
    }

    /// Sets the guest's clock: as often as it takes for an answer that comes so soon that the time was right on arrival, within
    /// reason. Answers by how much it was moved in all.
    async fn set_clock(&mut self) -> Result<i64, String> {
        let mut moved = 0;
        for _ in 0..CLOCK_ATTEMPTS {
            let asked = Instant::now();
            let set = self.client.set_clock(SetClockRequest { unix_nanos: unix_nanos() });
            let set = tokio::time::timeout(QUESTION, set).await.map_err(|_| late("set-clock"))?;
            moved += set.map_err(|s| words(&s))?.into_inner().moved_nanos;
            if asked.elapsed() <= CLOCK_WAY {
                break;
            }
        }
        Ok(moved)
    }

    /// Lets the agent ask for ports: its requests, to which `answers` are given.
    ///
    /// # Errors
    /// When the agent is not there.
    pub async fn ports(
        &mut self,
        answers: impl Stream<Item = PortsAnswer> + Send + 'static,
    ) -> Result<Streaming<PortsRequest>, String> {
        let _turn = self.turn().await;
        let question = tokio::time::timeout(QUESTION, self.client.ports(answers));
        Ok(question.await.map_err(|_| late("ports"))?.map_err(|s| words(&s))?.into_inner())
    }

    /// Tells the guest's programs of what the host changed in shared directories. Without changes: which thread tells.
    ///
    /// # Errors
    /// When the agent is not there, or is an older one.
    pub async fn tell_changes(&mut self, changes: Vec<ShareChange>) -> Result<TellChangesReply, String> {
        let _turn = self.turn().await;
        let question =
            tokio::time::timeout(QUESTION, self.client.tell_changes(TellChangesRequest { changes }));
        Ok(question.await.map_err(|_| late("tell_changes"))?.map_err(|s| words(&s))?.into_inner())
    }

    /// Lets the host's own interface reach every container.
    ///
    /// # Errors
    /// When the agent is not there, or the guest's filter cannot be changed.
    pub async fn admit_host(&mut self) -> Result<(), String> {
        let _turn = self.turn().await;
        let question = tokio::time::timeout(QUESTION, self.client.admit_host(AdmitHostRequest {}));
        question.await.map_err(|_| late("admit_host"))?.map_err(|s| words(&s)).map(drop)
    }

    /// Hands a translator's file to the guest.
    ///
    /// # Errors
    /// When the agent is not there, or does not keep it.
    pub async fn put_translator(
        &mut self,
        parts: impl Iterator<Item = TranslatorPart> + Send + 'static,
    ) -> Result<(), String> {
        let _turn = self.turn().await;
        let question =
            tokio::time::timeout(TRANSLATORS, self.client.put_translator(tokio_stream::iter(parts)));
        question.await.map_err(|_| late("put_translator"))?.map_err(|s| words(&s)).map(drop)
    }

    /// Has the guest use exactly these translators, and says what came of it.
    ///
    /// # Errors
    /// When the agent is not there, or cannot make sense of them.
    pub async fn use_translators(&mut self, translators: Vec<TranslatorFile>) -> Result<Translators, String> {
        let _turn = self.turn().await;
        let request = UseTranslatorsRequest { translators };
        let question = tokio::time::timeout(TRANSLATORS, self.client.use_translators(request));
        Ok(question.await.map_err(|_| late("use_translators"))?.map_err(|s| words(&s))?.into_inner())
    }

    async fn hello(&mut self) -> Result<HelloReply, String> {
        let _turn = self.turn().await;
        let request =
            HelloRequest { protocol: AGENT_PROTOCOL, capabilities: Vec::new(), unix_nanos: unix_nanos() };
        let question = tokio::time::timeout(QUESTION, self.client.hello(request));
        Ok(question.await.map_err(|_| late("hello"))?.map_err(|s| words(&s))?.into_inner())
    }

    async fn boot(&mut self, heard: &mpsc::Sender<Heard>) -> Result<(), String> {
        let _turn = self.turn().await;
        let question = tokio::time::timeout(QUESTION, self.client.boot(BootRequest {}));
        let mut steps = question.await.map_err(|_| late("boot"))?.map_err(|s| words(&s))?.into_inner();
        while let Some(step) = steps.message().await.map_err(|s| words(&s))? {
            if heard.send(Heard::Step(step)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn health(&mut self) -> Result<HealthReply, String> {
        let _turn = self.turn().await;
        let question = tokio::time::timeout(QUESTION, self.client.health(HealthRequest {}));
        let health = question.await.map_err(|_| late("health"))?.map_err(|s| words(&s))?.into_inner();
        let ours = unix_nanos();
        if ours.abs_diff(health.unix_nanos) > u64::try_from(CLOCK_TOLERANCE.as_nanos()).unwrap_or(u64::MAX) {
            let moved = self.set_clock().await?;
            tracing::info!(milliseconds = moved / 1_000_000, "the guest's clock was off and has been set");
        }
        Ok(health)
    }
}

pub(crate) fn unix_nanos() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}

fn late(question: &str) -> String {
    format!("no answer to {question} within {} s", QUESTION.as_secs())
}

fn words(status: &tonic::Status) -> String {
    format!("{}: {}", status.code(), status.message())
}
