//! What the daemon wants to know about the calls that pass.

use crate::route::Action;
use crate::trace::TraceId;

/// A call that makes a container or changes its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleCall {
    /// What is done.
    pub action: Action,
    /// The container's canonical ID, resolved before the call is forwarded (of a create: taken from its answer).
    pub id: String,
    /// The container as the client named it: ID, short ID or name.
    pub reference: String,
    /// The request's trace ID.
    pub trace: TraceId,
}

/// Told about every lifecycle call on a container that exists. Calls for one container may overlap.
#[async_trait::async_trait]
pub trait Hooks: Send + Sync + 'static {
    /// Before the call is forwarded; the call waits for it. Not for a create, which has no ID yet.
    async fn before(&self, call: &LifecycleCall);

    /// After the engine has answered; the answer waits for it on its way to the client, so that what the client does
    /// next finds it done. Not called if the engine never answered.
    async fn after(&self, call: &LifecycleCall, status: u16);
}

/// Logs each call in one line.
#[derive(Debug, Default, Clone, Copy)]
pub struct LogHooks;

#[async_trait::async_trait]
impl Hooks for LogHooks {
    async fn before(&self, call: &LifecycleCall) {
        tracing::debug!(container = %call.id, action = call.action.as_str(), trace = %call.trace, "forwarding");
    }

    async fn after(&self, call: &LifecycleCall, status: u16) {
        tracing::info!(
            container = %call.id, reference = %call.reference, action = call.action.as_str(), trace = %call.trace,
            status, "container {}", call.action.as_str()
        );
    }
}
