//! HTTP/1.1 on two connections at once: heads are parsed, everything is moved as the bytes that were sent. Nothing here
//! knows what a request is about; that is for `route` and what builds on it.

pub(crate) mod body;
pub(crate) mod buffer;
pub(crate) mod client;
pub(crate) mod exchange;
pub(crate) mod head;
pub(crate) mod outgoing;
pub(crate) mod tunnel;
