//! A client of the guest's agent, through the hub of its machine's supervisor.

use std::time::Duration;

use dhow_channel::Dialer;
use dhow_home::MachineDir;
use dhow_model::{MachineName, Port};
use dhow_proto::MESSAGE_LIMIT;
use dhow_proto::agent::agent_client::AgentClient;
use hyper_util::rt::TokioIo;
use tokio::time::error::Elapsed;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use crate::{Error, Result};

/// For one dial. A machine that sleeps is woken by it.
const DIAL: Duration = Duration::from_secs(30);

/// A client that dials when it is first asked.
pub(crate) fn client(dir: &MachineDir) -> AgentClient<Channel> {
    let dialer = Dialer::hub(dir.channel_socket());
    let connector = tower::service_fn(move |_| {
        let dialer = dialer.clone();
        async move { dialer.dial(Port::AGENT, DIAL).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://agent").connect_with_connector_lazy(connector);
    AgentClient::new(channel)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT)
}

/// The agent's answer to a question that was asked with a time limit.
///
/// # Errors
/// When it did not come, or the agent could not do what was asked.
pub(crate) fn said<T>(
    machine: &MachineName,
    question: &'static str,
    asked: Result<Result<Response<T>, Status>, Elapsed>,
) -> Result<T> {
    let guest = |why: String| Error::Guest { machine: machine.clone(), why };
    match asked {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(guest(status.message().to_owned())),
        Err(_) => Err(guest(format!("no answer to {question} in time"))),
    }
}
