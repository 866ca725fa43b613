//! The whole station with a series of frames, without any way out: everything is denied but what the gateway answers itself.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use dhow_model::egress::{Action, Policy};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use super::clock::Clock;
use super::context::Context;
use super::counters::Counters;
use super::limits::Limits;
use super::outbound::Outbound;
use super::station::Station;
use crate::dns::{Dns, Names, Open, Upstreams};
use crate::packet::word;
use crate::policy::Egress;

thread_local! {
    /// One for all runs: to make it costs more than a run.
    static RUNTIME: Option<Runtime> = Builder::new_current_thread().enable_all().build().ok();
}

/// Takes frames that follow their length, 16 bits each, and lets the tasks go on between them.
pub(crate) fn station(mut bytes: &[u8]) {
    let policy = Policy { default: Action::Deny, ..Policy::default() };
    let Ok(policy) = Egress::new(policy) else { return };
    let counters = Arc::new(Counters::default());
    let context = Rc::new(Context {
        outbound: Outbound::new(counters.clone(), Clock::new(Arc::default())),
        counters,
        policy,
        dns: Dns::new(Names::new(), Upstreams::fixed(Vec::new()), Arc::new(Open)),
        host_loopback: false,
        limits: Limits { tcp: 8, half_open: 4, udp: 8, tcp_memory: 8 << 20 },
        link_sums: false,
        guest_networks: RefCell::default(),
    });
    RUNTIME.with(|runtime| {
        let Some(runtime) = runtime else { return };
        LocalSet::new().block_on(runtime, async {
            let station = Station::new(context.clone(), Arc::new(Semaphore::new(8)));
            context.outbound.set_linked(true);
            while let Some(length) = word(bytes, 0) {
                bytes = &bytes[2..];
                let (frame, rest) = bytes.split_at(bytes.len().min(length.into()));
                station.frame(frame);
                bytes = rest;
                tokio::task::yield_now().await;
            }
            station.end_all();
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
        });
    });
}
