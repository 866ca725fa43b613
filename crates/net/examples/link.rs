//! A gateway for a guest in a hypervisor of one's own, for measuring and trying by hand:
//!
//! ```text
//! cargo run --release -p dhow-net --example link -- vhost /tmp/net.sock 127.0.0.1:5300 198.19.68.2:5201
//! ```
//!
//! The first argument is the link, `stream` or `vhost`, the second its socket; a third and fourth are an address to publish
//! and a target in the guest. It ends when its standard input does, and prints what the gateway counted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a tool for measuring: a panic is its report"
)]

use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;

use dhow_model::egress::Policy;
use dhow_net::dns::{Dns, Names, Upstreams};
use dhow_net::gateway::{Gateway, Limits, Listener, Options};
use dhow_net::policy::Egress;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::DEBUG).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, socket, publish @ ..] = arguments.as_slice() else {
        return eprintln!("usage: link stream|vhost SOCKET [PUBLISHED TARGET]");
    };
    let listener = UnixListener::bind(socket).expect("the socket's path is free");
    let listener = match kind.as_str() {
        #[cfg(target_os = "linux")]
        "vhost" => Listener::VhostUser(listener),
        _ => Listener::Stream(listener),
    };
    let policy = Egress::new(Policy::default()).expect("the default policy can be enforced");
    let dns = Dns::new(Names::new(), Upstreams::fixed(Vec::new()), policy.clone());
    let options = Options { host_loopback: true, policy, dns, limits: Limits::default() };
    let gateway = Gateway::start(listener, options).expect("the gateway starts");
    if let [published, target] = publish {
        let target: SocketAddr = target.parse().expect("TARGET is an address and a port");
        let listener = tokio::net::TcpListener::bind(published).await.expect("the published address is free");
        let handle = gateway.handle();
        tokio::spawn(async move {
            while let Ok((client, from)) = listener.accept().await {
                if let Ok(client) = client.into_std() {
                    handle.tcp(client, from, target).await;
                }
            }
        });
    }
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await;
    println!("{ended:?}\n{:#?}", gateway.handle().metrics());
    gateway.stop().await;
}
