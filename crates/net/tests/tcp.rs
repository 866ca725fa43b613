//! TCP through the gateway, with a real kernel on the guest's side.
#![cfg(target_os = "linux")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use common::{Setup, run};

/// Issue 3: "TCP with back-pressure end to end".
#[test]
fn a_guest_talks_to_the_host_s_loopback() {
    run(Setup::default(), async |net| {
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let client = net.guest.spawn(|| {
            let mut stream = TcpStream::connect("198.19.68.254:8080").unwrap();
            stream.write_all(b"hello").unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        let (mut served, _) = listener.accept().unwrap();
        let mut said = String::new();
        served.read_to_string(&mut said).unwrap();
        served.write_all(b"hello yourself").unwrap();
        drop(served);
        assert_eq!((said.as_str(), client.join().unwrap().as_str()), ("hello", "hello yourself"));
        common::until("the flow is gone", Duration::from_secs(5), || net.flows() == 0).await;
    });
}
