//! The guest's memory as the hypervisor shares it, and which of its pages were written.

pub(super) use dhow_vhost::{Log, Memory};
