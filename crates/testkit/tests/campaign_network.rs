//! Promise: what passes a published port passes whole, however much and however often, and leaves nothing behind (issue 3).

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use common::gateway::{held, supervisor, tcp_flows, wait_flows};
use common::ports::free;
use common::{PATIENCE, debian};
use dhow_testkit::{Engine, Error, Image, Result, Run, wait};

/// For flows and descriptors to be given back.
const SOON: Duration = Duration::from_secs(60);
/// Clients side by side, and connections of each.
const CLIENTS: usize = 8;
const EACH: usize = 1250;
/// A file of 2^30 bytes that nothing compresses, its digest, and a page that is said at once.
const SERVE: &str = "mkdir -p /srv/web && head -c 1073741824 /dev/urandom > /srv/web/body && \
                     sha256sum < /srv/web/body > /srv/web/digest && \
                     echo 'server { listen 8080; root /srv/web; location = /ok { return 200 ok; } }' \
                     > /etc/nginx/conf.d/web.conf && exec nginx -g 'daemon off;'";

fn ask(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(b"GET /ok HTTP/1.0\r\n\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

/// Issue 3: `curl` of 1 GB with a digest check, and 10,000 short connections, through a published port of a booted machine.
#[test]
#[ignore = "boots an engine: ./dev test campaign"]
fn a_gigabyte_and_ten_thousand_connections_pass_a_published_port() -> Result<()> {
    let engine = Engine::start()?;
    Image::Debian.ensure(engine.docker())?;
    let port = free();
    let publish = format!("127.0.0.1:{port}:8080");
    let web = ["run", "-d", "--name", "web", "-p", &publish, debian(), "sh", "-c", SERVE];
    engine.docker().run(web).limit(PATIENCE).ok()?;
    wait::until("the web server to answer", PATIENCE, || ask(port).ok().filter(|said| said.ends_with("ok")))?;

    let digest = engine.docker().ok(["exec", "web", "cat", "/srv/web/digest"])?;
    let fetch = format!("curl -sSf http://127.0.0.1:{port}/body | sha256sum");
    let fetched = Run::new("bash").args(["-o", "pipefail", "-c", &fetch]).limit(PATIENCE).ok()?.text();
    assert_eq!(fetched, digest);

    let (flows, pid) = (tcp_flows(&engine)?, supervisor(&engine)?);
    let (_, descriptors) = held(pid);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            std::thread::spawn(move || -> std::io::Result<usize> {
                let mut served = 0;
                for _ in 0..EACH {
                    served += usize::from(ask(port)?.ends_with("ok"));
                }
                Ok(served)
            })
        })
        .collect();
    let mut served = 0;
    for client in clients {
        let answered = client.join().expect("a client does not panic");
        served += answered.map_err(Error::io("ask", format!("127.0.0.1:{port}")))?;
    }
    assert_eq!(served, CLIENTS * EACH);
    wait_flows(&engine, flows, SOON)?;
    wait::until("the descriptors to be given back", SOON, || (held(pid).1 <= descriptors + 16).then_some(()))
}
