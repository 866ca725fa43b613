//! The multiplexer between a host and a guest in one process.

mod common;

use common::{DEAF, DISCARD, ECHO, FLOOD, Guest, LIMIT, echo, eventually, pattern};
use dhow_channel::{Ended, Error, Mux};
use dhow_model::Port;
use sha2::{Digest as _, Sha256};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Spec 8.3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_streams_one_after_the_other_leave_nothing() {
    let before = tasks();
    let guest = Guest::start();
    let mux = guest.connect().await;
    let start = Instant::now();
    for number in 0..5000 {
        echo(&mux.dialer(), &pattern(number, number % 300)).await;
    }
    println!("5000 streams, {:?} each", start.elapsed() / 5000);
    eventually("streams are left", || mux.streams() == 0).await;
    mux.close().await;
    guest.stop().await;
    eventually("tasks are left", || tasks() == before).await;
}
